// What one iteration collected, as indices and accounts, never as observations (performance.md, rule 1); advantages.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "agents/normalizer.h"
#include "agents/policy.h"
#include "env/environment.h"

namespace ristretto::agents {

// What a rollout may hold at once.
struct RolloutMemory {
  std::int64_t rows = 0;  // observations that a network sees; 0: no limit
  // The bars that market_context's actor and critic encode once, beforehand; 0: none are.
  std::int64_t context_bytes = std::int64_t{1} << 30;
};

struct Rollout {
  at::Tensor account;          // [horizon, N, 1+n] float32
  at::Tensor bar;              // [horizon, N] int32; undefined without a market
  at::Tensor u;                // [horizon, N, A] float32 raw actions (categorical: [horizon, N] int64)
  at::Tensor log_probability;  // [horizon, N] float32 of u
  at::Tensor value;            // [horizon, N] float32
  at::Tensor reward;           // [horizon, N] float32, raw
  at::Tensor terminated;       // [horizon, N] bool
  at::Tensor truncated;        // [horizon, N] bool
  at::Tensor
      next_value;  // [horizon, N] float32: V of the observation after the step, before any reset; 0 where terminated
  std::int64_t samples() const { return reward.numel(); }
};

// Steps the environment `horizon` times under the policy. first_step numbers the noise (counter-based: seed, world,
// step). No host synchronisation on the way; one at the end, for the truncated worlds' last values. bf16: as the
// update's, or ratios are not 1 on the first minibatch.
Rollout collect(env::Environment& environment, const Policy& policy, const Normalizer& normalizer, std::int64_t horizon,
                std::uint64_t seed, std::int64_t first_step, std::int64_t first_world = 0, bool bf16 = false,
                const RolloutMemory& memory = {});

struct Advantages {
  at::Tensor advantage;  // [horizon, N]
  at::Tensor target;     // [horizon, N] advantage + value
};
// Generalised advantage estimation (Schulman et al. 2016, eq. 16), algorithms.md 2.1: delta_t = r_t + gamma
// next_value_t - value_t with next_value 0 where terminated; the trace stops where a world ended, terminated or
// truncated. All [horizon, N], of one floating type; ended is bool.
Advantages estimate_advantages(const at::Tensor& reward, const at::Tensor& value, const at::Tensor& next_value,
                               const at::Tensor& ended, double gamma, double lambda);

}  // namespace ristretto::agents
