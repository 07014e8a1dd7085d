#include "ft_transformer/pretrain.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

#include "ft_transformer/blocks.h"

namespace ristretto::ft_transformer {

void add_reconstruction_weights(Weights& weights, const MarketContextShape& shape, at::Generator generator) {
  Builder build(weights, shape.d_token, /*published=*/false, std::move(generator));
  build.add("mask.value", {shape.features});
  if (shape.tokens == MarketTokens::asset) {
    build.linear("reconstruct", shape.d_token, shape.features, 1, true);
  } else {
    build.xavier("reconstruct.weight", {shape.lookback * shape.features, shape.d_token});
    build.add("reconstruct.bias", {shape.lookback * shape.features});
  }
}

at::Tensor reconstruction_loss(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows,
                               const at::Tensor& hidden) {
  const at::Tensor seen = at::where(hidden, weights.at("mask.value"), windows);
  const at::Tensor tokens = encode_market(weights, shape, seen);
  const std::int64_t count = windows.size(0), assets = windows.size(1);
  at::Tensor filled;
  if (shape.tokens == MarketTokens::asset) {
    filled = linear(weights, "reconstruct", tokens.view({count, assets, shape.lookback, shape.d_token}));
  } else {
    const at::Tensor each = tokens.view({count, assets, shape.lookback * shape.features, shape.d_token});
    filled = ((each * weights.at("reconstruct.weight")).sum(-1) + weights.at("reconstruct.bias")).view(windows.sizes());
  }
  const at::Tensor counts = hidden.to(windows.scalar_type());
  return ((filled - windows).square() * counts).sum() / counts.sum().clamp_min(1.0);
}

}  // namespace ristretto::ft_transformer
