// Agents whose order is known before any is trained: what a backtest says of them is a test of the backtest
// (algorithms.md 3.0).
#pragma once

#include <string>
#include <vector>

#include "evaluation/backtest.h"
#include "evaluation/metrics.h"

namespace ristretto::evaluation {

struct Reference {
  std::string name;
  Metrics metrics;
  Backtest backtest;
};

// In this order: "cash", "equal weight", "hold BTC/USD" of each asset, "random", "always buy", "perfect foresight";
// then without any costs "equal weight, no fees", "random, no fees", "always buy, no fees", "perfect foresight, no
// fees". Random is uniform in [-1, 1], the same numbers with and without costs. Equal weight and hold are bought once a
// window, outside the rules of the account (its limits of order and position), as the environment's E is.
std::vector<Reference> ladder(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
                              std::uint64_t seed = 0);
const Reference& find(const std::vector<Reference>& references, const std::string& name);

// Trades by the rules with knowledge of all bars of the market's segments: for each asset the plan of largest orders
// that gains most after fees, as if the cash sufficed (dynamic programming over bars and units held); or nothing, if
// that is better.
Actor perfect_foresight(const env::Market& market, const env::Layout& layout, const env::Rules& rules);

// In words, each way in which the references of ladder() are not in the order that they must be: cash exactly 0 and
// without orders; perfect foresight above all that trade by the same rules; nobody worse off without fees; fees the
// fraction of what was traded. Empty: all is well.
std::vector<std::string> check_ladder(const std::vector<Reference>& references, const env::Rules& rules);

}  // namespace ristretto::evaluation
