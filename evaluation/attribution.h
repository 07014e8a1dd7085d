// Where a backtest's result came from: which assets, which kinds of market, and how much of it costs would eat.
#pragma once

#include <string>
#include <vector>

#include "env/layout.h"
#include "env/step.h"
#include "evaluation/backtest.h"
#include "evaluation/metrics.h"

namespace ristretto::evaluation {

// Parts of the sum of simple returns per bar: what each asset's price did to the share held of it, and the rest, which
// is what trading cost (negative).
struct Attribution {
  std::vector<double> assets;  // [n], as in the market
  double costs = 0;
};
Attribution attribution_of(const Backtest& backtest, const env::Market& market);

inline constexpr std::int64_t kRegimeBars = 168;  // a week of hours
inline constexpr double kRegimeMove = 0.05;       // of the mean log price over them: up above it, down below minus it

struct Regime {
  std::string name;  // "up", "down", "sideways"
  std::int64_t bars = 0;
  double log_gain = 0;         // of the account
  double market_log_gain = 0;  // of the mean log price
  double sharpe = 0;           // of the account's simple returns, per bar; 0 where they do not vary
};
// Every bar belongs to the regime that the bars before it show: no hindsight. Where a segment has not had kRegimeBars
// yet, those that it has had count.
std::vector<Regime> regimes_of(const Backtest& backtest, const env::Market& market);

// The agent, and equal weight bought once and held, at 1, 2 and 3 times the costs.
struct CostStress {
  double costs = 1;
  Metrics agent, equal_weight;
};
std::vector<CostStress> cost_stress(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
                                    const Actor& actor);

}  // namespace ristretto::evaluation
