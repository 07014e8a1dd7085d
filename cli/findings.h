// Where a backtest's result came from, as text, as JSON and as lines of a report.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/attribution.h"

namespace ristretto::cli {

struct Findings {
  evaluation::Attribution attribution;
  std::vector<evaluation::Regime> regimes;
  std::vector<evaluation::CostStress> stress;
  std::vector<std::string> assets;
};
std::string text_of(const Findings& findings);
nlohmann::ordered_json json_of(const Findings& findings);
std::vector<std::pair<std::string, std::string>> facts_of(const Findings& findings);

}  // namespace ristretto::cli
