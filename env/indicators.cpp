#include "env/indicators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

using Column = std::vector<double>;

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr double kTalibZero = 1e-14;   // TA-Lib's TA_EPSILON: smaller than this it takes for 0
constexpr double kDenominator = 1e-8;  // the existing system's guard against division by 0
constexpr std::int64_t kPeriod = 14;
constexpr std::int64_t kBreakoutBars = 20;
constexpr std::int64_t kRegimeBars = 50;

bool is_zero(double x) { return std::abs(x) < kTalibZero; }

Column undefined(std::int64_t size) { return Column(static_cast<std::size_t>(size), kUndefined); }

// TA-Lib's EMA, seeded with the mean of rows [first, first + period): defined from row first + period - 1.
Column exponential_mean(const double* values, std::int64_t size, std::int64_t first, std::int64_t period) {
  Column out = undefined(size);
  const std::int64_t seeded = first + period - 1;
  if (seeded >= size) return out;
  double mean = 0;
  for (std::int64_t i = first; i <= seeded; ++i) mean += values[i];
  mean /= static_cast<double>(period);
  out[seeded] = mean;
  const double weight = 2.0 / static_cast<double>(period + 1);
  for (std::int64_t i = seeded + 1; i < size; ++i) {
    mean = (values[i] - mean) * weight + mean;
    out[i] = mean;
  }
  return out;
}

struct Macd {
  Column line, signal;  // both from row 33, where the signal starts
};

// MACD(12, 26, 9). The fast mean is seeded late, so that it starts on the slow one's row.
Macd macd(const BarColumns& bars) {
  constexpr std::int64_t kFast = 12, kSlow = 26, kSignal = 9, kFirst = kSlow - 1;
  Macd out;
  out.line = exponential_mean(bars.close, bars.size, kSlow - kFast, kFast);
  const Column slow = exponential_mean(bars.close, bars.size, 0, kSlow);
  for (std::int64_t i = kFirst; i < bars.size; ++i) out.line[i] -= slow[i];
  out.signal = exponential_mean(out.line.data(), bars.size, kFirst, kSignal);
  std::fill_n(out.line.begin(), std::min(bars.size, kFirst + kSignal - 1), kUndefined);
  return out;
}

Column macd_line(const BarColumns& bars) { return macd(bars).line; }
Column macd_signal(const BarColumns& bars) { return macd(bars).signal; }
Column macd_histogram(const BarColumns& bars) {
  Macd both = macd(bars);
  for (std::int64_t i = 0; i < bars.size; ++i) both.line[i] -= both.signal[i];
  return both.line;
}

// RSI(14) with Wilder's smoothing.
Column relative_strength(const BarColumns& bars) {
  Column out = undefined(bars.size);
  double gain = 0, loss = 0;
  for (std::int64_t i = 1; i < bars.size; ++i) {
    const double change = bars.close[i] - bars.close[i - 1];
    if (i > kPeriod) {
      gain *= kPeriod - 1;
      loss *= kPeriod - 1;
    }
    (change < 0 ? loss : gain) += std::abs(change);
    if (i < kPeriod) continue;
    gain /= kPeriod;
    loss /= kPeriod;
    out[i] = is_zero(gain + loss) ? 0.0 : 100 * (gain / (gain + loss));
  }
  return out;
}

// CCI(14). Summed in the order of TA-Lib's ring: a flat market's mean deviation is a rounding error, and its sign is
// the result.
Column channel_index(const BarColumns& bars) {
  Column out = undefined(bars.size);
  std::array<double, kPeriod> ring{};
  for (std::int64_t i = 0; i < bars.size; ++i) {
    const double typical = (bars.high[i] + bars.low[i] + bars.close[i]) / 3;
    ring[i % kPeriod] = typical;
    if (i < kPeriod - 1) continue;
    double mean = 0, deviation = 0;
    for (const double x : ring) mean += x;
    mean /= kPeriod;
    for (const double x : ring) deviation += std::abs(x - mean);
    const double distance = typical - mean;
    out[i] = distance != 0 && deviation != 0 ? distance / (0.015 * (deviation / kPeriod)) : 0.0;
  }
  return out;
}

double true_range(const BarColumns& bars, std::int64_t i) {
  const double before = bars.close[i - 1];
  return std::max({bars.high[i] - bars.low[i], std::abs(before - bars.high[i]), std::abs(before - bars.low[i])});
}

// 100 |DI+ - DI-| / (DI+ + DI-) from row 14, NaN where the market did not move (dx and adx14 treat that differently).
Column directional_movement(const BarColumns& bars) {
  Column out = undefined(bars.size);
  double plus = 0, minus = 0, range = 0;
  for (std::int64_t i = 1; i < bars.size; ++i) {
    const double up = bars.high[i] - bars.high[i - 1], down = bars.low[i - 1] - bars.low[i];
    if (i >= kPeriod) {
      plus -= plus / kPeriod;
      minus -= minus / kPeriod;
      range -= range / kPeriod;
    }
    if (down > 0 && up < down) {
      minus += down;
    } else if (up > 0 && up > down) {
      plus += up;
    }
    range += true_range(bars, i);
    if (i < kPeriod || is_zero(range)) continue;
    const double plus_index = 100 * (plus / range), minus_index = 100 * (minus / range);
    const double sum = plus_index + minus_index;
    if (!is_zero(sum)) out[i] = 100 * (std::abs(minus_index - plus_index) / sum);
  }
  return out;
}

// DX(14): a row without movement repeats the last one.
Column directional_index(const BarColumns& bars) {
  Column out = directional_movement(bars);
  for (std::int64_t i = kPeriod; i < bars.size; ++i) {
    if (std::isnan(out[i])) out[i] = i == kPeriod ? 0.0 : out[i - 1];
  }
  return out;
}

// ADX(14): Wilder's mean of DX, seeded with 14 rows; rows without movement do not count.
Column average_directional_index(const BarColumns& bars) {
  constexpr std::int64_t kSeeded = 2 * kPeriod - 1;
  const Column movement = directional_movement(bars);
  Column out = undefined(bars.size);
  double mean = 0;
  for (std::int64_t i = kPeriod; i < bars.size; ++i) {
    const bool moved = !std::isnan(movement[i]);
    if (i <= kSeeded) {
      if (moved) mean += movement[i];
      if (i < kSeeded) continue;
      mean /= kPeriod;
    } else if (moved) {
      mean = (mean * (kPeriod - 1) + movement[i]) / kPeriod;
    }
    out[i] = mean;
  }
  return out;
}

// Second difference of ADX(14), as a difference of differences.
Column trend_reacceleration(const BarColumns& bars) {
  const Column strength = average_directional_index(bars);
  Column out = undefined(bars.size);
  for (std::int64_t i = 2; i < bars.size; ++i) {
    out[i] = (strength[i] - strength[i - 1]) - (strength[i - 1] - strength[i - 2]);
  }
  return out;
}

// ATR(14).
Column average_true_range(const BarColumns& bars) {
  Column out = undefined(bars.size);
  double mean = 0;
  for (std::int64_t i = 1; i < bars.size; ++i) {
    if (i > kPeriod) mean *= kPeriod - 1;
    mean += true_range(bars, i);
    if (i < kPeriod) continue;
    mean /= kPeriod;
    out[i] = mean;
  }
  return out;
}

// Mean of the rows [first, last]. Summed anew: a running sum would carry the rounding of all rows before.
double mean_of(const double* values, std::int64_t first, std::int64_t last) {
  double sum = 0;
  for (std::int64_t i = first; i <= last; ++i) sum += values[i];
  return sum / static_cast<double>(last - first + 1);
}

Column atr_regime_shift(const BarColumns& bars) {
  const Column range = average_true_range(bars);
  Column out = undefined(bars.size);
  for (std::int64_t i = kPeriod; i < bars.size; ++i) {
    const double mean = mean_of(range.data(), std::max(kPeriod, i - kRegimeBars + 1), i);
    out[i] = (range[i] - mean) / (mean + kDenominator);
  }
  return out;
}

// sign * volume / mean volume; the sign compares the close with the 20 bars that end `bars_before` bars ago.
Column breakout_volume(const BarColumns& bars, std::int64_t bars_before) {
  Column out(static_cast<std::size_t>(bars.size), 0.0);
  for (std::int64_t i = bars_before; i < bars.size; ++i) {
    const std::int64_t end = i - bars_before + 1, begin = std::max<std::int64_t>(0, end - kBreakoutBars);
    const double highest = *std::max_element(bars.high + begin, bars.high + end);
    const double lowest = *std::min_element(bars.low + begin, bars.low + end);
    if (bars.close[i] <= highest && bars.close[i] >= lowest) continue;
    const double mean = mean_of(bars.volume, std::max<std::int64_t>(0, i - kBreakoutBars + 1), i);
    out[i] = (bars.close[i] > highest ? 1.0 : -1.0) * bars.volume[i] / (mean + kDenominator);
  }
  return out;
}

Column copy_of(const double* values, const BarColumns& bars) { return Column(values, values + bars.size); }

struct Feature {
  const char* name;
  std::int64_t warm_up;  // rows
  Column (*compute)(const BarColumns&);
};

constexpr Feature kFeatures[] = {
    {"open", 0, [](const BarColumns& bars) { return copy_of(bars.open, bars); }},
    {"high", 0, [](const BarColumns& bars) { return copy_of(bars.high, bars); }},
    {"low", 0, [](const BarColumns& bars) { return copy_of(bars.low, bars); }},
    {"close", 0, [](const BarColumns& bars) { return copy_of(bars.close, bars); }},
    {"volume", 0, [](const BarColumns& bars) { return copy_of(bars.volume, bars); }},
    {"macd", 33, macd_line},
    {"macd_signal", 33, macd_signal},
    {"macd_hist", 33, macd_histogram},
    {"rsi", 14, relative_strength},
    {"cci", 13, channel_index},
    {"dx", 14, directional_index},
    {"atr_regime_shift", 14, atr_regime_shift},
    {"range_breakout_volume", 0, [](const BarColumns& bars) { return breakout_volume(bars, 0); }},
    {"range_breakout_volume_14b", 0, [](const BarColumns& bars) { return breakout_volume(bars, 1); }},
    {"trend_reacceleration", 29, trend_reacceleration},
    {"atr14", 14, average_true_range},
    {"adx14", 27, average_directional_index},
};

const Feature& feature_named(const std::string& name) {
  std::vector<std::string> names;
  for (const Feature& feature : kFeatures) {
    if (name == feature.name) return feature;
    names.emplace_back(feature.name);
  }
  throw Error(Fault::usage, str("feature \"", name, "\" is unknown; the nearest is \"", nearest_name(name, names), '"'),
              str("known: ", join(names, ", ")));
}

}  // namespace

std::vector<double> compute_feature(const std::string& name, const BarColumns& bars) {
  return feature_named(name).compute(bars);
}

std::int64_t warm_up_rows(const std::vector<std::string>& features) {
  std::int64_t rows = 0;
  for (const std::string& name : features) rows = std::max(rows, feature_named(name).warm_up);
  return rows;
}

}  // namespace ristretto::env
