// PPO's loss of one minibatch (algorithms.md 2.1; Schulman et al. 2017, eq. 7), as a graph and written out.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "agents/forward.h"
#include "agents/policy.h"

namespace ristretto::agents {

struct LossSettings {
  double clip_range = 0.2;
  double entropy_coef = 0, value_loss_coef = 0.5;
  bool clipped_value_loss = false;  // CleanRL's form, otherwise (V-R)^2
};

struct PpoLoss {
  at::Tensor total, policy, value, entropy, approx_kl, clip_fraction;  // scalars
};
// The loss of one minibatch, advantages already normalised; 0-d tensors, `total` with a graph. B samples.
PpoLoss ppo_loss(const at::Tensor& log_probability, const at::Tensor& old_log_probability, const at::Tensor& entropy,
                 const at::Tensor& advantage, const at::Tensor& value, const at::Tensor& old_value,
                 const at::Tensor& target, const LossSettings& settings);

// What a minibatch tells, in this order.
enum Metric { kPolicyLoss, kValueLoss, kEntropy, kApproxKl, kClipFraction, kMetrics };

// What a loss is of, B samples each: u [B, A], the others [B].
struct LossSamples {
  at::Tensor u, old_log_probability, advantage, old_value, target;
};

// The loss of evaluate(), and its gradients: what ppo_loss() and its backward pass give.
struct LossGradients {
  at::Tensor mean;         // [B, A]
  at::Tensor value;        // [B]
  at::Tensor log_std;      // [1, A]
  at::Tensor metrics;      // [kMetrics] means over the samples
  at::Tensor ratio_error;  // max |ratio - 1|, 0-d
};
// In one pass, times `share`: autograd's hundred operations on a few numbers take as long as a small network's
// products. On the CPU, float32 or float64, of Gaussians; nothing where it does not apply. log_std [1, A].
std::optional<LossGradients> loss_gradients(const Architecture& architecture, const Outputs& outputs,
                                            const at::Tensor& log_std, const LossSamples& samples,
                                            const LossSettings& settings, double share);

}  // namespace ristretto::agents
