// A loaded model as an agent in a backtest: the observation that its consumer would build, the action that it would
// get.
#pragma once

#include <optional>

#include "env/layout.h"
#include "env/market.h"
#include "evaluation/backtest.h"
#include "release/deployment.h"

namespace ristretto::release {

// The layout that the model is served in: its manifest's, or for an MLP without one what today's paper trader makes of
// the dimension (tests/golden/deployments/README.md): the default assets, alpaca-14, lookback (S - 1 - n) / (14 n),
// scales of its trial. Nothing where neither is known.
std::optional<env::Layout> served_layout(const Model& model);

// The rules that it is served by: its manifest's, or the defaults that today's paper trader fixes, with the layout's
// assets and lookback.
env::Rules served_rules(const Model& model, const env::Layout& layout);

// layout's features are the market's. The market must outlive the actor.
evaluation::Actor actor_of(const Model& model, const env::Layout& layout, const env::Market& market);
// The same of weights that fit the layout.
evaluation::Actor actor_of(const ft_transformer::Weights& actor, const agents::Architecture& architecture,
                           const env::Layout& layout, const env::Market& market);

}  // namespace ristretto::release
