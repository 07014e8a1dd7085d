#include "evaluation/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ristretto::evaluation {
namespace {

constexpr double kYearSeconds = 365.0 * 86400;  // 8760 hourly bars

}  // namespace

std::vector<double> drawdowns(const Backtest& backtest) {
  std::vector<double> falls;
  falls.reserve(backtest.value.size());
  double peak = backtest.initial_capital;
  for (const double value : backtest.value) {
    peak = std::max(peak, value);
    falls.push_back(1 - value / peak);
  }
  return falls;
}

Metrics metrics_of(const Backtest& backtest) {
  Metrics out;
  out.turnover = backtest.turnover;
  out.mean_position = backtest.mean_position;
  out.fees = backtest.fees_paid;
  out.orders = backtest.orders;
  out.bars = static_cast<std::int64_t>(backtest.simple_returns.size());
  if (out.bars == 0) return out;
  out.total_return = backtest.value.back() / backtest.initial_capital - 1;
  for (const double fall : drawdowns(backtest)) out.max_drawdown = std::max(out.max_drawdown, fall);

  const double bars = static_cast<double>(out.bars);
  double mean = 0, squares = 0, losses = 0;
  for (const double r : backtest.simple_returns) mean += r / bars;
  for (const double r : backtest.simple_returns) {
    squares += (r - mean) * (r - mean);
    losses += std::min(r, 0.0) * std::min(r, 0.0);
  }
  const double root_year = std::sqrt(kYearSeconds / static_cast<double>(backtest.bar_seconds));
  const double deviation = out.bars > 1 ? std::sqrt(squares / (bars - 1)) : 0;
  if (deviation > 0) out.sharpe = mean / deviation;
  out.sharpe_annual = out.sharpe * root_year;
  out.volatility_annual = deviation * root_year;
  if (losses > 0) {
    out.sortino_annual = mean / std::sqrt(losses / bars) * root_year;
  } else if (mean > 0) {
    out.sortino_annual = std::numeric_limits<double>::infinity();
  }
  return out;
}

}  // namespace ristretto::evaluation
