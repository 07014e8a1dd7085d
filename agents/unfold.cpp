#include "agents/unfold.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tensor.h>

namespace ristretto::agents {
namespace {

using ft_transformer::Weights;

struct First {
  bool tokens;
  std::string weight, bias;
};

First first_of(const Architecture& architecture) {
  const bool tokens = architecture.network == Network::ft_transformer;
  const std::string name = tokens ? "encoder.tokenizer" : "net.0";
  return {tokens, name + ".weight", name + ".bias"};
}

at::Tensor scales_of(const env::Layout& layout) { return at::tensor(layout.column_scales(), at::kDouble); }

}  // namespace

Weights unfolded(const Weights& weights, const Architecture& architecture, const env::Layout& layout,
                 const ColumnStatistics& columns) {
  const at::NoGradGuard no_gradients;
  const First first = first_of(architecture);
  const at::Tensor scale = scales_of(layout), shift = columns.mean * scale, factor = columns.divisor * scale;
  Weights out = weights.to(at::kCPU, at::kDouble);
  at::Tensor &weight = out.at(first.weight), &bias = out.at(first.bias);
  // A tokenizer's row is an input, a linear layer's column.
  bias = bias + (first.tokens ? weight * shift.unsqueeze(1) : weight.mv(shift));
  weight = weight * (first.tokens ? factor.unsqueeze(1) : factor);
  return out.to(at::kCPU, at::kFloat);
}

MomentPair unfolded_moments(const MomentPair& moments, const Architecture& architecture, const env::Layout& layout,
                            const ColumnStatistics& columns) {
  const at::NoGradGuard no_gradients;
  const First first = first_of(architecture);
  at::Tensor factor = 1.0 / (columns.divisor * scales_of(layout)), shift = columns.mean / columns.divisor;
  if (first.tokens) {
    factor = factor.unsqueeze(1);
    shift = shift.unsqueeze(1);
  }
  // [W, 1] of a linear layer, [S, d] of a tokenizer.
  const auto of_bias = [&](const Weights& all) {
    const at::Tensor& bias = all.at(first.bias);
    return first.tokens ? bias : bias.unsqueeze(1);
  };
  Weights means = moments.first.to(at::kCPU, at::kDouble), squares = moments.second.to(at::kCPU, at::kDouble);
  means.at(first.weight) = means.at(first.weight) * factor - of_bias(means) * shift;
  squares.at(first.weight) = squares.at(first.weight) * factor * factor + of_bias(squares) * shift * shift;
  return {means.to(at::kCPU, at::kFloat), squares.to(at::kCPU, at::kFloat)};
}

}  // namespace ristretto::agents
