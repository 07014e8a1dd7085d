// Both networks of an agent over one batch, in float32 or under bf16 autocast (in MlpPass's updates without it).
#pragma once

#include <ATen/core/Tensor.h>

#include "agents/policy.h"

namespace ristretto::agents {

struct Outputs {
  at::Tensor mean;   // [B, A] float32 (double where weights and x are)
  at::Tensor value;  // [B], the same type
};

// bf16: matrix products in bfloat16, results as float32 (performance.md, rule 6).
Outputs forward(const Policy& policy, const Input& input, bool bf16);
at::Tensor forward_mean(const Policy& policy, const Input& input, bool bf16);
at::Tensor forward_value(const Policy& policy, const Input& input, bool bf16);
// The actor's "a_std_log" [1, A] (of market_context one number for all); undefined for a categorical.
at::Tensor log_std_of(const Policy& policy);

}  // namespace ristretto::agents
