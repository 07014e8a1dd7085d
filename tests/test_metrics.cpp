#include <doctest/doctest.h>

#include <cmath>

#include "evaluation/metrics.h"

using namespace ristretto::evaluation;

namespace {

constexpr double kRounding = 1e-13;  // a handful of float64 operations

Backtest returns_of(const std::vector<double>& returns) {
  Backtest out;
  out.initial_capital = 100;
  double value = 100;
  for (const double r : returns) {
    value *= 1 + r;
    out.value.push_back(value);
    out.simple_returns.push_back(r);
  }
  return out;
}

}  // namespace

TEST_CASE("metrics: worked by hand") {
  // Mean 0.01, deviations 0.09 -0.21 0.19 -0.07, squares 0.0081 + 0.0441 + 0.0361 + 0.0049 = 0.0932.
  const Metrics m = metrics_of(returns_of({0.10, -0.20, 0.20, -0.06}));
  const double deviation = std::sqrt(0.0932 / 3), year = std::sqrt(8760.0);
  CHECK(std::abs(m.total_return - (1.1 * 0.8 * 1.2 * 0.94 - 1)) < kRounding);
  CHECK(std::abs(m.sharpe - 0.01 / deviation) < kRounding);
  CHECK(std::abs(m.sharpe_annual - 0.01 / deviation * year) < kRounding * year);
  CHECK(std::abs(m.volatility_annual - deviation * year) < kRounding * year);
  CHECK(std::abs(m.sortino_annual - 0.01 / std::sqrt((0.04 + 0.0036) / 4) * year) < kRounding * year);
  CHECK(std::abs(m.max_drawdown - 0.2) < kRounding);
  CHECK(m.bars == 4);
}

TEST_CASE("metrics: a fall below the initial capital is a drawdown from the first bar on") {
  const Backtest run = returns_of({-0.10, 0.05, -0.50});
  const std::vector<double> falls = drawdowns(run);
  CHECK(std::abs(falls[0] - 0.10) < kRounding);
  CHECK(std::abs(falls[1] - 0.055) < kRounding);
  CHECK(std::abs(metrics_of(run).max_drawdown - (1 - 0.9 * 1.05 * 0.5)) < kRounding);
}

TEST_CASE("metrics: returns that do not vary have no Sharpe ratio, and none lost is an infinite Sortino ratio") {
  const Metrics still = metrics_of(returns_of({0, 0, 0}));
  CHECK(still.sharpe == 0);
  CHECK(still.sortino_annual == 0);
  CHECK(still.total_return == 0);
  CHECK(std::isinf(metrics_of(returns_of({0.1, 0.2})).sortino_annual));
  CHECK(metrics_of(returns_of({0.1})).sharpe == 0);
}

TEST_CASE("metrics: a year has as many bars as their length says") {
  Backtest quarter_hours = returns_of({0.10, -0.20, 0.20});
  const double hourly = metrics_of(quarter_hours).sharpe_annual;
  quarter_hours.bar_seconds = 900;
  CHECK(std::abs(metrics_of(quarter_hours).sharpe_annual - 2 * hourly) < kRounding * std::abs(hourly));
}
