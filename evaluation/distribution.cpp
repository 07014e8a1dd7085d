#include "evaluation/distribution.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "evaluation/statistics.h"
#include "platform/clock.h"

namespace ristretto::evaluation {
namespace {

constexpr std::int64_t kDaySeconds = 86400;

}  // namespace

Returns returns_by_bar(const Backtest& backtest) { return {backtest.time, backtest.simple_returns}; }

Returns returns_by_day(const Backtest& backtest) {
  Returns out;
  for (std::size_t k = 0; k < backtest.time.size(); ++k) {
    const std::int64_t day = backtest.time[k] / kDaySeconds * kDaySeconds;
    if (out.time.empty() || out.time.back() != day) {
      out.time.push_back(day);
      out.simple.push_back(0);
    }
    out.simple.back() = (1 + out.simple.back()) * (1 + backtest.simple_returns[k]) - 1;
  }
  return out;
}

Distribution distribution_of(const Returns& returns) {
  assert(!returns.simple.empty());
  Distribution out;
  const double count = static_cast<double>(returns.simple.size());
  out.count = static_cast<std::int64_t>(returns.simple.size());
  std::vector<double> sorted = returns.simple;
  std::sort(sorted.begin(), sorted.end());
  out.worst = sorted.front();
  out.best = sorted.back();
  out.fifth_percentile = sorted[static_cast<std::size_t>(std::ceil(0.05 * count)) - 1];
  const auto worst = std::find(returns.simple.begin(), returns.simple.end(), out.worst);
  out.worst_time = returns.time[static_cast<std::size_t>(worst - returns.simple.begin())];
  double squares = 0;
  for (const double r : returns.simple) {
    out.mean += r / count;
    out.above_zero += r > 0 ? 1 / count : 0;
    out.below_zero += r < 0 ? 1 / count : 0;
  }
  for (const double r : returns.simple) squares += (r - out.mean) * (r - out.mean);
  if (out.count > 1 && out.best > out.worst) {
    out.deviation = std::sqrt(squares / (count - 1));
    const SharpeSample sample = sharpe_sample(returns.simple);
    out.skewness = sample.skewness;
    out.kurtosis = sample.kurtosis;
  }
  return out;
}

nlohmann::ordered_json json_of(const Distribution& distribution) {
  return {{"count", distribution.count},
          {"mean", distribution.mean},
          {"deviation", distribution.deviation},
          {"skewness", distribution.skewness},
          {"kurtosis", distribution.kurtosis},
          {"worst", distribution.worst},
          {"worst_time", iso_utc(distribution.worst_time)},
          {"fifth_percentile", distribution.fifth_percentile},
          {"best", distribution.best},
          {"above_zero", distribution.above_zero},
          {"below_zero", distribution.below_zero}};
}

}  // namespace ristretto::evaluation
