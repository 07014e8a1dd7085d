// Each feature a pure function over the bars of one segment (environment.md; TA-Lib's definitions, unstable period 0).
#pragma once

#include <string>
#include <vector>

#include "env/bars.h"

namespace ristretto::env {

// One segment of one asset; all of equal length.
struct BarColumns {
  const double* open;
  const double* high;
  const double* low;
  const double* close;
  const double* volume;
  std::int64_t size;
};

// The feature of that name over the segment, NaN in its warm-up. Throws Error(usage) with the nearest name. Names:
// those of golden/indicators/indicators.json, with "range_breakout_volume_14b" for the intended formula, "atr14" and
// "adx14".
std::vector<double> compute_feature(const std::string& name, const BarColumns& bars);

// Rows at a segment's start in which some feature is undefined: 33 for every set that holds MACD.
std::int64_t warm_up_rows(const std::vector<std::string>& features);

}  // namespace ristretto::env
