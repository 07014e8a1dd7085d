// The way back of Normalizer::folded: deployed weights, which read served observations, as a training that normalises
// them goes on with (algorithms.md 2.2).
#pragma once

#include <ATen/core/Tensor.h>

#include "agents/normalizer.h"
#include "agents/policy.h"
#include "env/layout.h"

namespace ristretto::agents {

// The same function of the normalised observation: w sigma 2^e and b + sum 2^e mu w in double, in net.0 (mlp) or the
// tokenizer (ft_transformer); actor or critic. float32.
ft_transformer::Weights unfolded(const ft_transformer::Weights& weights, const Architecture& architecture,
                                 const env::Layout& layout, const ColumnStatistics& columns);

// Adam's moments of such weights: the gradient of an unfolded weight is g / (sigma 2^e) - g_b mu / sigma, g_b the
// bias's. First moments are linear in it; of second moments, which lack the mixed term, v / (sigma 2^e)^2 + v_b (mu /
// sigma)^2, at least half of what it can be.
struct MomentPair {
  ft_transformer::Weights first, second;
};
MomentPair unfolded_moments(const MomentPair& moments, const Architecture& architecture, const env::Layout& layout,
                            const ColumnStatistics& columns);

}  // namespace ristretto::agents
