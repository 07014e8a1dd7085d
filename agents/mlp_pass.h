// Forward and backward of an agent's two MLPs written out, without autograd's graph: at small batches the graph costs
// more than the products, at large ones the first layer's market columns are computed once a bar (performance.md, rule
// 2 and "What a trial showed").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "agents/forward.h"
#include "agents/packed_linear.h"
#include "agents/policy.h"

namespace ristretto::agents {

// Batches through both networks, one after the other. The weights stay as they are while it lives.
class MlpPass {
 public:
  static bool fits(const Policy& policy) { return policy.architecture.network == agents::Network::mlp; }

  // rows: of all its batches together. bf16: products of bfloat16 numbers, as forward() under autocast makes them;
  // outputs, gradients and weights stay what they are.
  MlpPass(const Policy& policy, std::int64_t rows, bool bf16);
  // The input's x [B, S], or, not in bf16, its account, windows and window. mean [B, A] and value [B]: leaves, whose
  // gradients a loss may leave behind.
  Outputs forward(const Input& input);
  // The gradients of what forward() gave last: adds the weights' to those that the weights have, which must be defined
  // (Optimizer::zero_gradients).
  void backward(const at::Tensor& mean, const at::Tensor& value);
  // forward() and backward() in one, where each network's loss needs its own output only: `of_mean` makes of mean [B,
  // A] its gradient, `of_value` of value [B]. Each may run on a thread of its own.
  void run(const Input& input, const Gradient& of_mean, const Gradient& of_value);

 private:
  struct Network {
    const ft_transformer::Weights* weights;
    std::vector<PackedLinear> layers, back;  // y of x, and dx of dy, of which the first layer's is not asked
    at::Tensor first, second, out;           // activations [B, W], [B, W] and outputs [B, A] or [B, 1]
  };
  void set_input(const Input& input);
  void pack(Network& network) const;
  at::Tensor first_layer(const Network& network) const;
  void first_layer_back(const Network& network, const at::Tensor& dz) const;
  at::Tensor hidden(const PackedLinear& layer, const at::Tensor& x) const;
  // Also adds what it gives to the gradient of the bias. Takes the gradient's memory.
  at::Tensor before_activation(const at::Tensor& gradient, const at::Tensor& activation, const at::Tensor& bias) const;
  // From the outputs' gradient [B, .] to that of what the last ReLU or tanh took, whose activation it may take the
  // place of; adds to the gradients of the last weight and the bias below it.
  at::Tensor output_back(const Network& network, const at::Tensor& gradient) const;
  void run_forward(Network& network) const;
  void run_back(Network& network, const at::Tensor& of_out);

  Architecture architecture_;
  std::int64_t rows_;
  bool bf16_;
  Input input_;
  Network actor_, critic_;
};

}  // namespace ristretto::agents
