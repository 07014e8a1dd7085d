// Numbers of one backtest (algorithms.md 3.5; the Sharpe ratio as at the end of environment.md).
#pragma once

#include <cstdint>

#include "evaluation/backtest.h"

namespace ristretto::evaluation {

// Annual numbers are per-bar ones scaled to 365 days of bars: for display, never for a decision.
struct Metrics {
  double total_return = 0;  // last value over the initial capital, minus 1
  double sharpe = 0;        // mean / std (ddof 1) of simple returns per bar; 0 where they do not vary
  double sharpe_annual = 0;
  double sortino_annual = 0;  // mean / root mean square of the losses; 0 where the mean is 0, infinite without a loss
  double max_drawdown = 0;    // largest fall from an earlier peak (or the initial capital), as a fraction of it
  double volatility_annual = 0;  // std (ddof 1)
  double turnover = 0;
  double mean_position = 0;
  double fees = 0;
  std::int64_t orders = 0;
  std::int64_t bars = 0;
};

Metrics metrics_of(const Backtest& backtest);

// Fall of the value below its peak so far, as a fraction of it; one number a bar.
std::vector<double> drawdowns(const Backtest& backtest);

}  // namespace ristretto::evaluation
