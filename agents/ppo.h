// One PPO update from one rollout (algorithms.md 2.1; Schulman et al. 2017): minibatches, micro-batches, stopping. The
// loss is ppo_loss.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "agents/mlp_pass.h"
#include "agents/normalizer.h"
#include "agents/optimizer.h"
#include "agents/policy.h"
#include "agents/ppo_loss.h"
#include "agents/rollout.h"

namespace ristretto::agents {

struct PpoSettings : LossSettings {
  std::int64_t batch_size = 2048;  // samples of one minibatch; the last one of an epoch may be smaller
  std::int64_t epochs = 5;
  double gamma = 0.98, lambda = 0.98;  // as agents/hyperparameters.h
  double max_grad_norm = 0.5;
  double kl_target = 0;          // 0: no early stop; else inside the loop, before the step, above 1.5 times it
  std::int64_t micro_batch = 0;  // samples at once on the device; 0: the whole minibatch
  bool bf16 = false;             // autocast of the networks' forward
};

struct UpdateMetrics {
  double policy_loss = 0, value_loss = 0, entropy = 0, approx_kl = 0, clip_fraction = 0;  // means over minibatches
  double gradient_norm = 0;  // before clipping, mean over steps
  double explained_variance =
      0;           // 1 - var(target - value) / var(target) before the update; NaN where targets are all equal
  double std = 0;  // mean over actions after the update; 0 for a categorical
  // Of the first minibatch, 0 but for rounding: max |ratio - 1|, and the mean divergence, which a few samples do not
  // decide.
  double first_ratio_error = 0, first_approx_kl = 0;
  std::int64_t optimizer_steps = 0;
  std::int64_t epochs = 0;  // finished ones
  bool stopped_early = false;
  bool finite = true;  // loss, gradients and weights
};

// One of several processes that learn from the same rollout: its part of each minibatch, and how tensors are summed
// over all of them, in place.
struct Shard {
  int rank = 0, size = 1;
  std::function<void(const at::Tensor&)> sum;
};

// Owned by one trainer; holds references to policy and normalizer. update() is the one that matters.
class Ppo {
 public:
  Ppo(Policy& policy, const Normalizer& normalizer, Optimizer& optimizer, const PpoSettings& settings,
      const Shard& shard = {});
  // reward: [horizon, N] as the learner shall see it (normalised). Reads the device once, at the end (with kl_target,
  // once a minibatch; where work is shared by bar, once at the start). `iteration` numbers the shuffles (counter-based
  // with seed). `keep_going` is asked before each minibatch; false ends the update there. Out of memory halves
  // settings().micro_batch for good and goes on (performance.md, rule 5).
  UpdateMetrics update(const Rollout& rollout, const at::Tensor& reward, double learning_rate, double clip_range,
                       std::uint64_t seed, std::int64_t iteration, const std::function<bool()>& keep_going = {});
  PpoSettings& settings() { return settings_; }

 private:
  struct Samples;
  struct MinibatchMetrics {
    at::Tensor metrics, ratio_error;  // [kMetrics], 0-d
  };
  MinibatchMetrics add_gradients(const Samples& samples, std::optional<MlpPass>& pass, double share);
  MinibatchMetrics accumulate_gradients(const Samples& minibatch);
  MinibatchMetrics gradients_within_memory(const Samples& minibatch);

  Policy& policy_;
  const Normalizer& normalizer_;
  Optimizer& optimizer_;
  PpoSettings settings_;
  Shard shard_;
};

}  // namespace ristretto::agents
