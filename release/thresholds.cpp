#include "release/thresholds.h"

#include <algorithm>
#include <cmath>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
const std::vector<ThresholdRow>& threshold_table() {
  using T = Thresholds;
  static const std::vector<ThresholdRow> rows = {
      {"orders_minimum", &T::orders_minimum, 1, 1e9, true, "orders on the unseen bars"},
      {"turnover_minimum", &T::turnover_minimum, 0, 1e6, false, "value that they traded over the account's mean value"},
      {"trading_bars_minimum", &T::trading_bars_minimum, 0, 1, false, "share of these bars that had an order"},
      {"steps_minimum", &T::steps_minimum, 1, 1e15, true, "steps of the environment that trained it"},
      {"optimizer_steps_minimum", &T::optimizer_steps_minimum, 1, 1e12, true, "of the optimizer"},
      {"weight_change_minimum", &T::weight_change_minimum, 1e-9, 1, false,
       "distance of the weights from those that training began with, over their own length"},
      {"served_distance_minimum", &T::served_distance_minimum, 1e-9, 1, false, "the same from what is served"},
      {"overfitting_maximum", &T::overfitting_maximum, 0, 1, false, "PBO of the trials"},
      {"overfitting_blocks", &T::overfitting_blocks, 2, 20, true, "blocks that the bars are cut into for it; even"},
      {"deflated_sharpe_minimum", &T::deflated_sharpe_minimum, 0, 1, false, "deflated Sharpe ratio"},
      {"confidence", &T::confidence, 0.5, 0.9999, false, "of the two-sided intervals that must lie above 0"},
      {"replicates", &T::replicates, 100, 1e7, true, "of the bootstrap"},
      {"drawdown_ratio_maximum", &T::drawdown_ratio_maximum, 0, 100, false, "largest drawdown over the champion's"},
      {"costs_1x_minimum", &T::costs_1x_minimum, -100, 100, false, "log gain over equal weight"},
      {"costs_2x_minimum", &T::costs_2x_minimum, -100, 100, false, "the same with all costs doubled for both"},
      {"costs_3x_minimum", &T::costs_3x_minimum, -100, 100, false, "the same with three times the costs"},
      {"seeds_minimum", &T::seeds_minimum, 1, 1000, true, "seeds that were trained"},
      {"worst_seeds_minimum", &T::worst_seeds_minimum, -100, 100, false,
       "log gain over equal weight, mean of the worst quarter of the seeds"},
      {"data_age_days_maximum", &T::data_age_days_maximum, 0, 36'500, false, "days since the last bar"},
      {"bars_minimum", &T::bars_minimum, 20, 1e9, true, "bars of each series; of fewer nothing is concluded"},
  };
  return rows;
}

std::string text_of(const Thresholds& thresholds) {
  std::string text;
  for (const ThresholdRow& row : threshold_table()) {
    text += str(row.name, " = ", thresholds.*(row.member), "  ; ", row.help, "; ", row.whole ? "whole, " : "", "from ",
                row.least, " to ", row.most, "\n");
  }
  return text;
}

Thresholds read_thresholds(const std::filesystem::path& gates_ini) {
  if (!std::filesystem::exists(gates_ini) || std::filesystem::is_directory(gates_ini)) {
    throw Error(Fault::usage,
                str("--gates ", gates_ini.string(), " is no file, expected one of lines such as orders_minimum = 10"),
                "ristretto config --gates writes one");
  }
  Thresholds thresholds;
  std::vector<std::string> names, seen;
  for (const ThresholdRow& row : threshold_table()) names.emplace_back(row.name);
  const std::vector<std::string> lines = split(read_file(gates_ini, 1 << 20), '\n');
  for (std::size_t k = 0; k < lines.size(); ++k) {
    const std::string line = trimmed(lines[k].substr(0, lines[k].find_first_of(";#")));
    if (line.empty() || line[0] == '[') continue;
    const std::string place = str(gates_ini.string(), ":", k + 1);
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) {
      throw Error(Fault::usage, str(place, " is '", line, "', expected name = value"));
    }
    const std::string name = trimmed(line.substr(0, equals)), text = trimmed(line.substr(equals + 1));
    const auto& table = threshold_table();
    const auto row = std::find_if(table.begin(), table.end(), [&](const ThresholdRow& r) { return name == r.name; });
    if (row == table.end()) {
      throw Error(Fault::usage, str(place, ": there is no threshold '", name, "'"),
                  str("did you mean '", nearest_name(name, names), "'?"));
    }
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      throw Error(Fault::usage, str(place, ": ", name, " is given a second time"));
    }
    seen.push_back(name);
    const auto value = parse_number<double>(text);
    if (!value || !(*value >= row->least && *value <= row->most) || (row->whole && *value != std::floor(*value))) {
      throw Error(Fault::usage, str(place, ": ", name, " is '", text, "', expected a ", row->whole ? "whole " : "",
                                    "number from ", row->least, " to ", row->most));
    }
    thresholds.*(row->member) = *value;
  }
  if (std::fmod(thresholds.overfitting_blocks, 2) != 0) {
    throw Error(Fault::usage, str(gates_ini.string(), ": overfitting_blocks is ", thresholds.overfitting_blocks,
                                  ", expected an even number"));
  }
  return thresholds;
}

}  // namespace ristretto::release
