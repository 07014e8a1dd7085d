#include "agents/ppo_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace ristretto::agents {
namespace {

// ln(1 + exp(x)) for any x.
template <class R>
R softplus(R x) {
  return std::max(x, R(0)) + std::log1p(std::exp(-std::abs(x)));
}

template <class R>
void write_out(bool tanh, const Outputs& outputs, const at::Tensor& log_std_tensor, const LossSamples& samples,
               const LossSettings& settings, double share, const LossGradients& out) {
  const std::int64_t size = outputs.mean.size(0), actions = outputs.mean.size(1);
  const at::Tensor mean_rows = outputs.mean.contiguous(), u_rows = samples.u.contiguous();
  const at::Tensor value_rows = outputs.value.contiguous(), old_rows = samples.old_log_probability.contiguous(),
                   advantage_rows = samples.advantage.contiguous(), old_value_rows = samples.old_value.contiguous(),
                   target_rows = samples.target.contiguous(), log_std_row = log_std_tensor.contiguous();
  const R* mean = mean_rows.const_data_ptr<R>();
  const R* u = u_rows.const_data_ptr<R>();
  const R* value = value_rows.const_data_ptr<R>();
  const R* old = old_rows.const_data_ptr<R>();
  const R* advantage = advantage_rows.const_data_ptr<R>();
  const R* old_value = old_value_rows.const_data_ptr<R>();
  const R* target = target_rows.const_data_ptr<R>();
  const R* log_std = log_std_row.const_data_ptr<R>();
  R* mean_gradient = out.mean.mutable_data_ptr<R>();
  R* value_gradient = out.value.mutable_data_ptr<R>();

  const R low = static_cast<R>(1 - settings.clip_range), high = static_cast<R>(1 + settings.clip_range);
  const R clip = static_cast<R>(settings.clip_range);
  const R weight = static_cast<R>(share / static_cast<double>(size));
  const R of_entropy = static_cast<R>(-settings.entropy_coef) * weight;
  const R of_value = static_cast<R>(settings.value_loss_coef) * weight;
  const R half_log_two_pi = static_cast<R>(0.5 * std::log(2 * std::numbers::pi));
  const auto columns = static_cast<std::size_t>(actions);
  std::vector<R> inverse_std(columns), z(columns);
  std::vector<double> log_std_gradient(columns);
  double gaussian_entropy = 0;
  for (std::size_t j = 0; j < columns; ++j) {
    inverse_std[j] = std::exp(-log_std[j]);
    gaussian_entropy += static_cast<double>(log_std[j] + half_log_two_pi) + 0.5;
  }
  double sums[kMetrics] = {};
  R error = 0;
  for (std::int64_t i = 0; i < size; ++i, mean += actions, u += actions, mean_gradient += actions) {
    R log_probability = 0;
    for (std::size_t j = 0; j < columns; ++j) {
      z[j] = (u[j] - mean[j]) * inverse_std[j];
      log_probability += R(-0.5) * z[j] * z[j] - (log_std[j] + half_log_two_pi);
    }
    const R log_ratio = log_probability - old[i], ratio = std::exp(log_ratio), change = ratio - 1;
    const R plain = -advantage[i] * ratio, clipped = -advantage[i] * std::clamp(ratio, low, high);
    const R of_probability = plain >= clipped ? plain * weight : R(0);  // d loss / d log_probability
    R jacobian = 0;
    for (std::size_t j = 0; j < columns; ++j) {
      R to_mean = of_probability * z[j] * inverse_std[j];
      R to_log_std = of_probability * (z[j] * z[j] - 1) + of_entropy;
      if (tanh) {  // H(u) + tanh_log_jacobian(mean + std * z), z held
        jacobian += 2 * (static_cast<R>(std::numbers::ln2) - u[j] - softplus(-2 * u[j]));
        const R slope = -2 * std::tanh(u[j]) * of_entropy;
        to_mean += slope;
        to_log_std += slope * (u[j] - mean[j]);
      }
      mean_gradient[j] = to_mean;
      log_std_gradient[j] += static_cast<double>(to_log_std);
    }
    R error_of_value = value[i] - target[i], loss = error_of_value * error_of_value, slope = 2 * error_of_value;
    if (settings.clipped_value_loss) {
      const R moved = value[i] - old_value[i];
      const R near = old_value[i] + std::clamp(moved, -clip, clip) - target[i];
      const R near_slope = std::abs(moved) <= clip ? near : R(0);
      slope = loss > near * near ? error_of_value : loss < near * near ? near_slope : (error_of_value + near_slope) / 2;
      loss = R(0.5) * std::max(loss, near * near);
    }
    value_gradient[i] = slope * of_value;
    sums[kPolicyLoss] += static_cast<double>(std::max(plain, clipped));
    sums[kValueLoss] += static_cast<double>(loss);
    sums[kEntropy] += gaussian_entropy + static_cast<double>(jacobian);
    sums[kApproxKl] += static_cast<double>(change - log_ratio);
    sums[kClipFraction] += std::abs(change) > clip;
    if (!(std::abs(change) <= error)) error = std::isnan(error) ? error : std::abs(change);  // NaN stays
  }
  std::copy(log_std_gradient.begin(), log_std_gradient.end(), out.log_std.mutable_data_ptr<R>());
  for (int i = 0; i < kMetrics; ++i)
    out.metrics.mutable_data_ptr<R>()[i] = static_cast<R>(sums[i] / static_cast<double>(size));
  *out.ratio_error.mutable_data_ptr<R>() = error;
}

}  // namespace

PpoLoss ppo_loss(const at::Tensor& log_probability, const at::Tensor& old_log_probability, const at::Tensor& entropy,
                 const at::Tensor& advantage, const at::Tensor& value, const at::Tensor& old_value,
                 const at::Tensor& target, const LossSettings& settings) {
  RECORD_USER_SCOPE("loss");
  const double clip = settings.clip_range;
  const at::Tensor log_ratio = log_probability - old_log_probability;
  const at::Tensor ratio = log_ratio.exp();
  PpoLoss loss;
  loss.policy = at::maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean();
  const at::Tensor squares = (value - target).square();
  if (settings.clipped_value_loss) {
    const at::Tensor near_old = old_value + (value - old_value).clamp(-clip, clip);
    loss.value = 0.5 * at::maximum(squares, (near_old - target).square()).mean();
  } else {
    loss.value = squares.mean();
  }
  loss.entropy = entropy.mean();
  loss.total = loss.policy + settings.value_loss_coef * loss.value;
  if (settings.entropy_coef != 0) loss.total = loss.total - settings.entropy_coef * loss.entropy;
  const at::NoGradGuard no_grad;
  const at::Tensor change = ratio.detach() - 1;
  loss.approx_kl = (change - log_ratio.detach()).mean();
  loss.clip_fraction = (change.abs() > clip).to(change.scalar_type()).mean();
  return loss;
}

std::optional<LossGradients> loss_gradients(const Architecture& architecture, const Outputs& outputs,
                                            const at::Tensor& log_std, const LossSamples& samples,
                                            const LossSettings& settings, double share) {
  const at::ScalarType type = outputs.mean.scalar_type();
  if (architecture.distribution == Distribution::categorical || !outputs.mean.is_cpu() ||
      (type != at::kFloat && type != at::kDouble)) {
    return {};
  }
  RECORD_USER_SCOPE("loss");
  const at::NoGradGuard no_grad;
  const at::TensorOptions options = outputs.value.options().requires_grad(false);
  const LossGradients out{at::empty(outputs.mean.sizes(), options), at::empty(outputs.value.sizes(), options),
                          at::empty(log_std.sizes(), options), at::empty({kMetrics}, options), at::empty({}, options)};
  const bool tanh = architecture.distribution == Distribution::tanh_gaussian;
  if (type == at::kFloat) {
    write_out<float>(tanh, outputs, log_std, samples, settings, share, out);
  } else {
    write_out<double>(tanh, outputs, log_std, samples, settings, share, out);
  }
  return out;
}

}  // namespace ristretto::agents
