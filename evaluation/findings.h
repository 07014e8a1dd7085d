// Where a backtest's result came from, what its length allows to say of it, and whether its bars had trained the model:
// as text, as JSON and as tables of a report.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/attribution.h"
#include "evaluation/report.h"

namespace ristretto::evaluation {

// What the bars say of a Sharpe ratio above 0 (algorithms.md 3.3).
struct TrackRecord {
  std::int64_t bars = 0;
  std::optional<double> needed;       // minimum track record length at 95 %; none: the ratio is not above 0
  std::optional<double> probability;  // that the true ratio is; none where the returns do not vary
};
TrackRecord track_record_of(const Backtest& backtest);

struct Findings {
  std::optional<std::int64_t> unseen_from;  // the model's training had no bar from here on; none: nothing says
  std::int64_t first_bar = 0, last_bar = 0;
  env::Rules rules;  // whose costs were paid
  Attribution attribution;
  std::vector<Regime> regimes;
  std::vector<CostStress> stress;
  TrackRecord track_record;
  std::vector<std::string> assets;
};
std::string text_of(const Findings& findings);
nlohmann::ordered_json json_of(const Findings& findings);
// As facts and tables of the report.
void add(Report& report, const Findings& findings);

}  // namespace ristretto::evaluation
