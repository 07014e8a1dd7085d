// An agent's decisions over past bars, and what became of the account (environment.md, "Episodes").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "env/environment.h"

namespace ristretto::evaluation {

// Observation of B worlds -> actions [B, n] in [-1, 1], on the market's device. Called without gradients, once a bar.
using Actor = std::function<at::Tensor(const env::Observation&)>;

// One window a segment, concatenated in order of time; no return spans a gap. Each window starts with the initial
// capital in cash. T counts the bars decided in all windows.
struct Backtest {
  std::int64_t bar_seconds = 3600;
  double initial_capital = 0;
  std::vector<env::Segment> windows;     // [W] rows of the market
  std::vector<std::int64_t> first_bar;   // [W] where a window's bars begin in the vectors of length T
  std::vector<std::int64_t> start_time;  // [W] the bar of its first observation, when the account is all cash
  std::int64_t skipped_segments = 0;     // too short for one step
  std::vector<std::int64_t> time;        // [T] the bar at whose close the order was executed and the account valued
  std::vector<double> value;             // [T] V there, windows chained: each one starts with what the last one left
  std::vector<double> simple_returns;    // [T]
  std::vector<double> log_returns;       // [T]
  double fees_paid = 0;     // with slippage and spread; over all windows, in money of accounts that are not chained
  double traded_value = 0;  // sum of |quantity * price|, in the same money
  double turnover = 0;      // traded value over the mean value of the account
  std::int64_t orders = 0;
  double mean_position = 0;  // share of V that is invested, mean over the bars
  at::Tensor shares;         // [T, n] float64, CPU: holding * price / V at the end of each bar
  at::Tensor actions;        // [T, n] float32, CPU; only if kept
  at::Tensor holdings;       // [T, n] float64, CPU: units; only if kept
};

// Steps all windows together, in float64 whatever the market's prices are. Throws Error(usage) where no segment is long
// enough for a step, Error(failed) for an action that is not finite, Error(incompatible) where an account is worth
// nothing.
Backtest backtest(const env::Market& market, const env::Layout& layout, const env::Rules& rules, const Actor& actor,
                  bool keep_actions = false);

// When what is held was bought: when an agent first decides, so that both have the same bars, or, as the environment's
// E, at a window's first price, so that the first return has the prices' way through the first lookback too.
enum class Purchase { first_decision, first_price };

// `weights` of the initial capital put into each asset, with costs, and held. Its first return holds the costs. Same
// windows as backtest().
Backtest hold(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
              const std::vector<double>& weights, Purchase purchase = Purchase::first_decision);

}  // namespace ristretto::evaluation
