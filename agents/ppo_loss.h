// PPO's loss of one minibatch (algorithms.md 2.1; Schulman et al. 2017, eq. 7), as a graph and written out.
#pragma once

#include <ATen/core/Tensor.h>

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
  at::Tensor squashed, log_jacobian;  // of tanh_gaussian: tanh(u) [B, A] and tanh_log_jacobian(u) [B]
};

// Whether policy_gradients() and value_gradients() apply: Gaussians on the CPU, float32 or float64 as `numbers`.
bool has_written_out_loss(const Architecture& architecture, const at::Tensor& numbers);

// ppo_loss() and its backward pass written out, in one pass a network: autograd's hundred operations on a few numbers
// take as long as a small network's products. Gradients are times `share`.

struct PolicyGradients {
  at::Tensor mean, log_std;                                        // [B, A] and [1, A], times `share`
  double loss = 0, entropy = 0, approx_kl = 0, clip_fraction = 0;  // means over the samples
  double ratio_error = 0;                                          // max |ratio - 1|
};
// mean [B, A], log_std [1, A].
PolicyGradients policy_gradients(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
                                 const LossSamples& samples, const LossSettings& settings, double share);

struct ValueGradients {
  at::Tensor value;  // [B], times `share`
  double loss = 0;   // mean over the samples, without its coefficient
};
// value [B].
ValueGradients value_gradients(const at::Tensor& value, const LossSamples& samples, const LossSettings& settings,
                               double share);

}  // namespace ristretto::agents
