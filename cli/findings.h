// Where a backtest's result came from, and whether its bars had trained the model, as text, as JSON and as lines of a
// report.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/attribution.h"

namespace ristretto::cli {

struct Findings {
  std::optional<std::int64_t> unseen_from;  // the model's training had no bar from here on; none: nothing says
  std::int64_t first_bar = 0, last_bar = 0;
  evaluation::Attribution attribution;
  std::vector<evaluation::Regime> regimes;
  std::vector<evaluation::CostStress> stress;
  std::vector<std::string> assets;
};
std::string text_of(const Findings& findings);
nlohmann::ordered_json json_of(const Findings& findings);
std::vector<std::pair<std::string, std::string>> facts_of(const Findings& findings);

}  // namespace ristretto::cli
