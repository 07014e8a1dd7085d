// How the returns of a backtest are distributed, by bar and by day.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "evaluation/backtest.h"

namespace ristretto::evaluation {

struct Returns {
  std::vector<std::int64_t> time;  // [K] seconds since 1970, UTC: of the bar, or the day's beginning
  std::vector<double> simple;      // [K]
};
Returns returns_by_bar(const Backtest& backtest);
// Each UTC day's bars together, as many as there are of it: what lies in a gap is not in any.
Returns returns_by_day(const Backtest& backtest);

struct Distribution {
  std::int64_t count = 0;
  double mean = 0, deviation = 0;     // ddof 1
  double skewness = 0, kurtosis = 3;  // central moments over K, not the excess; 0 and 3 where they do not vary
  double worst = 0, best = 0;
  double fifth_percentile = 0;            // the largest return that at least 5 % do not exceed
  double above_zero = 0, below_zero = 0;  // shares
  std::int64_t worst_time = 0;
};
Distribution distribution_of(const Returns& returns);  // of at least one

nlohmann::ordered_json json_of(const Distribution& distribution);

}  // namespace ristretto::evaluation
