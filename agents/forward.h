// Both networks of an agent over one batch, in float32 or under bf16 autocast (in MlpPass's updates without it).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "agents/packed_linear.h"
#include "agents/policy.h"

namespace ristretto::agents {

struct Outputs {
  at::Tensor mean;   // [B, A] float32 (double where weights and x are)
  at::Tensor value;  // [B], the same type
};

// bf16: matrix products in bfloat16, results as float32 (performance.md, rule 6).
Outputs forward(const Policy& policy, const Input& input, bool bf16);
// What a loss makes of a network's output: its gradient, of the same shape.
using Gradient = std::function<at::Tensor(const at::Tensor& output)>;
// Both networks forward and backward by autograd, on a CPU, where each network's loss needs its own output only: adds
// to the gradients that the weights have. Side by side on two threads, one after the other on more.
void run_networks(const Policy& policy, const Input& input, bool bf16, const Gradient& of_mean,
                  const Gradient& of_value);
// The actor's "a_std_log" [1, A] (of market_context one number for all); undefined for a categorical.
at::Tensor log_std_of(const Policy& policy);

enum class Part { actor, critic };

// One network for many passes without gradients, such as a rollout's: it is what its weights are when it is made, and
// they must not change while it lives. An MLP's are packed (agents/packed_linear.h).
class FrozenNetwork {
 public:
  FrozenNetwork(const ft_transformer::Weights& weights, const Architecture& architecture, Part part, bool bf16);
  // Of market_context: encodes windows [D, n, L, F], `most` at once (0: all), once for all passes to come. These then
  // take inputs without windows, whose `window` says which of them a sample reads.
  void encode(const at::Tensor& windows, std::int64_t most);
  // actor: mean of u [B, A] (categorical: latents); critic: values [B]. In the weights' type.
  at::Tensor operator()(const Input& input) const;

 private:
  ft_transformer::Weights weights_;
  Architecture architecture_;
  Part part_;
  bool bf16_;
  std::vector<PackedLinear> layers_;                      // of an MLP
  std::optional<ft_transformer::MarketContext> context_;  // of encode()
};

}  // namespace ristretto::agents
