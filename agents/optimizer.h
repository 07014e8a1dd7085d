// Adam and AdamW with state in plain tensors: on a GPU by at::_fused_adam(w)_, with clipping that never waits for it;
// on a CPU, of float32 and float64, by agents/adam_kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "agents/normalizer.h"

namespace ristretto::agents {

// Moves all parameters into one run of memory, and their gradients into another, so that zeroing, norm and clipped
// step are one operation each however small the network (and a data-parallel run sums one tensor). The parameters stay
// the tensors they are, as views: who shares them shares them on; a tensor taken by detach() before does not.
class Optimizer {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.999;
    double epsilon = 1e-5;    // algorithms.md 2.1
    double weight_decay = 0;  // > 0: AdamW
  };
  // parameters: leaves of one floating type on one device. A leaf with gradients off (a frozen encoder) is left alone.
  Optimizer(const std::vector<at::Tensor>& parameters, const Options& options);

  // Before each backward pass, or the first of an accumulated gradient.
  void zero_gradients();
  // One step of Adam with all gradients scaled by min(1, max_norm / (norm + 1e-6)), by nothing where max_norm <= 0.
  // Returns the norm before, a 0-d tensor on the device. Gradients are then of no use.
  at::Tensor step(double learning_rate, double max_norm);

  // [P] all parameters or gradients, in order, each padded with zeros to 16 numbers.
  const at::Tensor& parameters() const { return flat_; }
  const at::Tensor& gradients() const { return flat_gradient_; }

  NamedTensors state() const;
  // The pieces of a flat tensor of state() or of parameters() that belong to parameters of these shapes, as views, in
  // order. Throws Error(incompatible) where it is of others.
  static std::vector<at::Tensor> pieces(const at::Tensor& flat, const std::vector<at::Tensor>& parameters);
  // Throws Error(incompatible) where the state is of other parameters.
  void restore(const NamedTensors& state);

 private:
  template <class R>
  at::Tensor step_on_cpu(double learning_rate, double max_norm);

  std::vector<at::Tensor> leaves_, leaf_gradients_;
  at::Tensor flat_, flat_gradient_, first_moment_, second_moment_, steps_;
  Options options_;
};

}  // namespace ristretto::agents
