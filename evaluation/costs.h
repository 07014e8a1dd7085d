// What trading costs: fee, slippage and half of the spread, as one fraction of a trade's value (env/step.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "env/step.h"

namespace ristretto::evaluation {

// All of them multiplied.
env::Rules with_costs(env::Rules rules, double factor);
// Those of `other` in place of its own.
env::Rules with_costs_of(env::Rules rules, const env::Rules& other);

// "0.25 % of its value (the fee)", or "0.31 % of its value (fee 0.25 %, slippage 0.05 %, half of a spread of 0.02 %)".
std::string costs_in_words(const env::Rules& rules);
// The three settings, and "cost_fraction", which is what a trade costs.
nlohmann::ordered_json costs_json(const env::Rules& rules);

}  // namespace ristretto::evaluation
