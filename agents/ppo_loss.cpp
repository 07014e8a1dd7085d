#include "agents/ppo_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace ristretto::agents {
namespace {

// Rows of a contiguous tensor as numbers; the tensor lives as long as they are read.
template <class R>
class Rows {
 public:
  explicit Rows(const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    tensor_ = tensor.contiguous();
    data_ = tensor_.const_data_ptr<R>();
  }
  R operator[](std::int64_t i) const { return data_[i]; }
  const R* operator+(std::int64_t i) const { return data_ + i; }

 private:
  at::Tensor tensor_;
  const R* data_ = nullptr;
};

template <class R>
void write_policy_gradients(bool tanh, const at::Tensor& mean_rows, const at::Tensor& log_std_row,
                            const LossSamples& samples, const LossSettings& settings, double share,
                            PolicyGradients& out) {
  const std::int64_t size = mean_rows.size(0), actions = mean_rows.size(1);
  const Rows<R> means(mean_rows), us(samples.u), old(samples.old_log_probability), advantage(samples.advantage),
      squashed(samples.squashed), log_jacobian(samples.log_jacobian), log_std(log_std_row);
  R* mean_gradient = out.mean.mutable_data_ptr<R>();

  const R low = static_cast<R>(1 - settings.clip_range), high = static_cast<R>(1 + settings.clip_range);
  const R clip = static_cast<R>(settings.clip_range);
  const R weight = static_cast<R>(share / static_cast<double>(size));
  const R of_entropy = static_cast<R>(-settings.entropy_coef) * weight;
  const R half_log_two_pi = static_cast<R>(0.5 * std::log(2 * std::numbers::pi));
  const auto columns = static_cast<std::size_t>(actions);
  std::vector<R> inverse_std(columns), z(columns);
  std::vector<double> log_std_gradient(columns);
  double gaussian_entropy = 0;
  for (std::size_t j = 0; j < columns; ++j) {
    const R log_std_j = log_std[static_cast<std::int64_t>(j)];
    inverse_std[j] = std::exp(-log_std_j);
    gaussian_entropy += static_cast<double>(log_std_j + half_log_two_pi) + 0.5;
  }
  R error = 0;
  for (std::int64_t i = 0; i < size; ++i, mean_gradient += actions) {
    const R *mean = means + i * actions, *u = us + i * actions;
    R log_probability = 0;
    for (std::size_t j = 0; j < columns; ++j) {
      z[j] = (u[j] - mean[j]) * inverse_std[j];
      log_probability += R(-0.5) * z[j] * z[j] - (log_std[static_cast<std::int64_t>(j)] + half_log_two_pi);
    }
    const R log_ratio = log_probability - old[i], ratio = std::exp(log_ratio), change = ratio - 1;
    const R plain = -advantage[i] * ratio, clipped = -advantage[i] * std::clamp(ratio, low, high);
    const R of_probability = plain >= clipped ? plain * weight : R(0);  // d loss / d log_probability
    for (std::size_t j = 0; j < columns; ++j) {
      R to_mean = of_probability * z[j] * inverse_std[j];
      R to_log_std = of_probability * (z[j] * z[j] - 1) + of_entropy;
      if (tanh) {  // the entropy is H(u) + tanh_log_jacobian(mean + std * z), z held
        const R slope = -2 * squashed[i * actions + static_cast<std::int64_t>(j)] * of_entropy;
        to_mean += slope;
        to_log_std += slope * (u[j] - mean[j]);
      }
      mean_gradient[j] = to_mean;
      log_std_gradient[j] += static_cast<double>(to_log_std);
    }
    out.loss += static_cast<double>(std::max(plain, clipped));
    out.entropy += gaussian_entropy + (tanh ? static_cast<double>(log_jacobian[i]) : 0);
    out.approx_kl += static_cast<double>(change - log_ratio);
    out.clip_fraction += std::abs(change) > clip;
    if (!(std::abs(change) <= error)) error = std::isnan(error) ? error : std::abs(change);  // NaN stays
  }
  std::copy(log_std_gradient.begin(), log_std_gradient.end(), out.log_std.mutable_data_ptr<R>());
  for (double* sum : {&out.loss, &out.entropy, &out.approx_kl, &out.clip_fraction}) *sum /= static_cast<double>(size);
  out.ratio_error = static_cast<double>(error);
}

template <class R>
void write_value_gradients(const at::Tensor& values, const LossSamples& samples, const LossSettings& settings,
                           double share, ValueGradients& out) {
  const std::int64_t size = values.size(0);
  const Rows<R> value(values), old_value(samples.old_value), target(samples.target);
  R* gradient = out.value.mutable_data_ptr<R>();
  const R clip = static_cast<R>(settings.clip_range);
  const R weight = static_cast<R>(settings.value_loss_coef) * static_cast<R>(share / static_cast<double>(size));
  for (std::int64_t i = 0; i < size; ++i) {
    const R error = value[i] - target[i];
    R loss = error * error, slope = 2 * error;
    if (settings.clipped_value_loss) {
      const R moved = value[i] - old_value[i];
      const R near = old_value[i] + std::clamp(moved, -clip, clip) - target[i];
      const R near_slope = std::abs(moved) <= clip ? near : R(0);
      slope = loss > near * near ? error : loss < near * near ? near_slope : (error + near_slope) / 2;
      loss = R(0.5) * std::max(loss, near * near);
    }
    gradient[i] = slope * weight;
    out.loss += static_cast<double>(loss);
  }
  out.loss /= static_cast<double>(size);
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

bool has_written_out_loss(const Architecture& architecture, const at::Tensor& numbers) {
  return architecture.distribution != Distribution::categorical && numbers.is_cpu() &&
         (numbers.scalar_type() == at::kFloat || numbers.scalar_type() == at::kDouble);
}

PolicyGradients policy_gradients(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
                                 const LossSamples& samples, const LossSettings& settings, double share) {
  RECORD_USER_SCOPE("loss");
  const at::NoGradGuard no_grad;
  const at::TensorOptions options = mean.options().requires_grad(false);
  PolicyGradients out{at::empty(mean.sizes(), options), at::empty(log_std.sizes(), options)};
  const bool tanh = architecture.distribution == Distribution::tanh_gaussian;
  TORCH_INTERNAL_ASSERT(!tanh || (samples.squashed.defined() && samples.log_jacobian.defined()));
  if (mean.scalar_type() == at::kFloat) {
    write_policy_gradients<float>(tanh, mean, log_std, samples, settings, share, out);
  } else {
    write_policy_gradients<double>(tanh, mean, log_std, samples, settings, share, out);
  }
  return out;
}

ValueGradients value_gradients(const at::Tensor& value, const LossSamples& samples, const LossSettings& settings,
                               double share) {
  RECORD_USER_SCOPE("loss");
  const at::NoGradGuard no_grad;
  ValueGradients out{at::empty(value.sizes(), value.options().requires_grad(false))};
  if (value.scalar_type() == at::kFloat) {
    write_value_gradients<float>(value, samples, settings, share, out);
  } else {
    write_value_gradients<double>(value, samples, settings, share, out);
  }
  return out;
}

}  // namespace ristretto::agents
