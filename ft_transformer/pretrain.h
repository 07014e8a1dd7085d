// Masked features: the encoder of market_context learns to fill in what was hidden from it, on bars alone.
#pragma once

#include <ATen/core/Tensor.h>

#include "ft_transformer/market_context.h"
#include "ft_transformer/weights.h"

namespace ristretto::ft_transformer {

// Behind the encoder's: "mask.value" [F], which stands for a hidden feature, and "reconstruct.*", a linear map from an
// encoded token back to its features. With an undefined generator the values are not set.
void add_reconstruction_weights(Weights& weights, const MarketContextShape& shape, at::Generator generator);

// windows and hidden (bool) [D, n, L, F] -> mean squared error over the hidden features, which are seen as mask.value.
// In units of the features' variance, which is about 1: what always answering their mean would reach.
at::Tensor reconstruction_loss(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows,
                               const at::Tensor& hidden);

}  // namespace ristretto::ft_transformer
