// Forward and backward of an agent's two MLPs written out, without autograd's graph: at small batches the graph costs
// more than the products (performance.md, "What a trial showed"). Actor and critic run at the same time, a thread each.
#pragma once

#include <ATen/core/Tensor.h>

#include "agents/forward.h"
#include "agents/policy.h"

namespace ristretto::agents {

// One batch through both networks. The weights stay as they are while it lives.
class MlpPass {
 public:
  // Where it is faster: MLPs on a CPU, at most 256 rows of x.
  static bool pays(const Policy& policy, const at::Tensor& x);

  // x [B, S], normalised.
  MlpPass(const Policy& policy, const at::Tensor& x);
  // mean [B, A] and value [B]: leaves, whose gradients a loss leaves behind.
  const Outputs& outputs() const { return outputs_; }
  // After a loss of outputs() ran backward: adds the weights' gradients to those that the weights have, which must be
  // defined (Optimizer::zero_gradients).
  void backward() const;

 private:
  struct Network {
    const ft_transformer::Weights* weights;
    at::Tensor first, second, out;  // activations [B, W], [B, W] and outputs [B, A] or [B, 1]
  };
  at::Tensor activate(at::Tensor z) const;
  at::Tensor back_through(const at::Tensor& gradient, const at::Tensor& activation) const;
  void run(Network& network) const;
  void run_back(const Network& network, const at::Tensor& gradient) const;

  Activation activation_;
  at::Tensor x_;
  Network actor_, critic_;
  Outputs outputs_;
};

}  // namespace ristretto::agents
