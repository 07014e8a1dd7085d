// Does an agent know what it cannot know? (algorithms.md 3.0)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "evaluation/backtest.h"

namespace ristretto::evaluation {

// The agent on a market: an observation's bars are rows of that market.
using ActorOn = std::function<Actor(const env::Market&)>;

// Runs the agent on `bars` bars in the middle of the market's longest segment, and again on copies of the market in
// which all prices and features after a bar are altered. Describes the first action up to that bar that changes with
// what comes after it; nothing where there is none. Throws as backtest() does.
std::optional<std::string> look_ahead_violation(const env::Market& market, const env::Layout& layout,
                                                const env::Rules& rules, const ActorOn& actor_on,
                                                std::int64_t bars = 64, std::uint64_t seed = 0);

}  // namespace ristretto::evaluation
