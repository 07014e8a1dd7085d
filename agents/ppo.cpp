#include "agents/ppo.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/std_mean.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "agents/bar_order.h"
#include "agents/forward.h"
#include "agents/mlp_pass.h"
#include "env/random.h"
#include "platform/log.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

// What a minibatch tells, in this order.
enum Metric { kPolicyLoss, kValueLoss, kEntropy, kApproxKl, kClipFraction, kMetrics };

at::Tensor rows(const at::Tensor& tensor, const at::Tensor& index) {
  return tensor.defined() ? tensor.index_select(0, index) : tensor;
}

at::Tensor rows(const at::Tensor& tensor, std::int64_t begin, std::int64_t count) {
  return tensor.defined() ? tensor.narrow(0, begin, count) : tensor;
}

}  // namespace

// A rollout without its two axes: [B, ...].
struct Ppo::Samples {
  at::Tensor account, bar, u, log_probability, value, advantage, target;
  const BarOrder::Epoch* order = nullptr;  // where work is shared by bar: the order they stand in
  std::int64_t first = 0;                  // and the place of the first of them in it

  std::int64_t size() const { return value.size(0); }
  Samples at(const at::Tensor& index) const {
    return {rows(account, index),
            rows(bar, index),
            rows(u, index),
            rows(log_probability, index),
            rows(value, index),
            rows(advantage, index),
            rows(target, index),
            order,
            first};
  }
  Samples narrow(std::int64_t begin, std::int64_t count) const {
    return {rows(account, begin, count),
            rows(bar, begin, count),
            rows(u, begin, count),
            rows(log_probability, begin, count),
            rows(value, begin, count),
            rows(advantage, begin, count),
            rows(target, begin, count),
            order,
            first + begin};
  }
};

PpoLoss ppo_loss(const at::Tensor& log_probability, const at::Tensor& old_log_probability, const at::Tensor& entropy,
                 const at::Tensor& advantage, const at::Tensor& value, const at::Tensor& old_value,
                 const at::Tensor& target, const PpoSettings& settings) {
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

Ppo::Ppo(Policy& policy, const Normalizer& normalizer, Optimizer& optimizer, const PpoSettings& settings,
         const Shard& shard)
    : policy_(policy), normalizer_(normalizer), optimizer_(optimizer), settings_(settings), shard_(shard) {}

// Leaves the gradient of the minibatch's loss in the optimizer, whatever the micro-batch and the processes: a mean over
// the minibatch is the sum of its parts' means, each weighted with its share. Returns the metrics [kMetrics];
// ratio_error may be null, and is of this process's part.
at::Tensor Ppo::accumulate_gradients(const Samples& minibatch, at::Tensor* ratio_error) {
  optimizer_.zero_gradients();
  const std::int64_t size = minibatch.size();
  const std::int64_t most = settings_.micro_batch > 0 ? settings_.micro_batch : size;
  const std::int64_t first = size * shard_.rank / shard_.size, last = size * (shard_.rank + 1) / shard_.size;
  at::Tensor metrics = at::zeros({kMetrics}, minibatch.value.options());
  for (std::int64_t begin = first; begin < last; begin += most) {
    const Samples samples = minibatch.narrow(begin, std::min(most, last - begin));
    const double share = static_cast<double>(samples.size()) / static_cast<double>(size);
    std::optional<DistinctBars> distinct;
    if (samples.order) distinct = samples.order->run(samples.first, samples.size());
    const Input input = normalizer_.input({samples.account, samples.bar}, distinct ? &*distinct : nullptr);
    std::optional<MlpPass> pass;
    if (!settings_.bf16 && MlpPass::pays(policy_, input.x)) pass.emplace(policy_, input.x);
    const Outputs outputs = pass ? pass->outputs() : forward(policy_, input, settings_.bf16);
    const Evaluation now = evaluate(policy_.architecture, outputs.mean, log_std_of(policy_), samples.u);
    const PpoLoss loss = ppo_loss(now.log_probability, samples.log_probability, now.entropy, samples.advantage,
                                  outputs.value, samples.value, samples.target, settings_);
    (samples.size() == size ? loss.total : loss.total * share).backward();
    if (pass) pass->backward();

    const at::NoGradGuard no_grad;
    const at::Tensor part = at::stack({loss.policy, loss.value, loss.entropy, loss.approx_kl, loss.clip_fraction});
    metrics.add_(part, share);
    if (ratio_error) {
      const at::Tensor error = ((now.log_probability - samples.log_probability).exp() - 1).abs().max();
      *ratio_error = begin == first ? error : at::maximum(*ratio_error, error);
    }
  }
  return metrics;
}

// accumulate_gradients() with ever smaller micro-batches until one fits the memory.
at::Tensor Ppo::gradients_within_memory(const Samples& minibatch, at::Tensor* ratio_error) {
  for (;;) {
    try {
      const at::Tensor metrics = accumulate_gradients(minibatch, ratio_error);
      if (shard_.size > 1) {
        shard_.sum(optimizer_.gradients());
        shard_.sum(metrics);
      }
      return metrics;
    } catch (const c10::OutOfMemoryError&) {
      const std::int64_t tried =
          settings_.micro_batch > 0 ? std::min(settings_.micro_batch, minibatch.size()) : minibatch.size();
      if (tried <= 1) throw;
      settings_.micro_batch = (tried + 1) / 2;
      log::warning("agents", str("out of memory with ", tried, " samples at once: going on with ",
                                 settings_.micro_batch, " (the gradient is the same)"));
    }
  }
}

UpdateMetrics Ppo::update(const Rollout& rollout, const at::Tensor& reward, double learning_rate, double clip_range,
                          std::uint64_t seed, std::int64_t iteration, const std::function<bool()>& keep_going) {
  settings_.clip_range = clip_range;
  const Advantages estimate =
      estimate_advantages(reward, rollout.value, rollout.next_value, rollout.terminated.logical_or(rollout.truncated),
                          settings_.gamma, settings_.lambda);
  const at::Tensor value = rollout.value.flatten();
  const Samples all{rollout.account.flatten(0, 1),
                    rollout.bar.defined() ? rollout.bar.flatten() : rollout.bar,
                    rollout.u.flatten(0, 1),
                    rollout.log_probability.flatten(),
                    value,
                    estimate.advantage.flatten(),
                    estimate.target.flatten()};
  const at::Device device = value.device();
  std::optional<BarOrder> by_bar;
  if (normalizer_.shares_by_bar()) by_bar.emplace(all.bar);
  if (by_bar && !by_bar->worthwhile()) by_bar.reset();

  UpdateMetrics out;
  at::Tensor sums = at::zeros({kMetrics}, value.options()), norms = at::zeros({}, value.options());
  at::Tensor ratio_error = at::zeros({}, value.options());
  std::int64_t minibatches = 0;
  bool stop = false;
  for (std::int64_t epoch = 0; epoch < settings_.epochs && !stop; ++epoch) {
    const std::int64_t number = iteration * settings_.epochs + epoch;
    std::optional<BarOrder::Epoch> order;
    if (by_bar) order = by_bar->epoch(seed, number);
    Samples shuffled = all.at(order ? order->index : env::permutation(all.size(), seed, number, device));
    if (order) shuffled.order = &*order;
    for (std::int64_t begin = 0; begin < all.size() && !stop; begin += settings_.batch_size) {
      if (keep_going && !keep_going()) {
        stop = true;
        break;
      }
      Samples minibatch = shuffled.narrow(begin, std::min(settings_.batch_size, all.size() - begin));
      if (settings_.normalize_advantages && minibatch.size() > 1) {
        const auto [std, mean] = at::std_mean(minibatch.advantage);
        minibatch.advantage = (minibatch.advantage - mean) / (std + 1e-8);
      }
      const at::Tensor metrics = gradients_within_memory(minibatch, minibatches == 0 ? &ratio_error : nullptr);
      sums.add_(metrics);
      ++minibatches;
      if (settings_.kl_target > 0 && metrics.select(0, kApproxKl).item<double>() > 1.5 * settings_.kl_target) {
        stop = out.stopped_early = true;
        break;
      }
      norms.add_(optimizer_.clip_gradients(settings_.max_grad_norm));
      optimizer_.step(learning_rate);
      ++out.optimizer_steps;
    }
    if (!stop) ++out.epochs;
  }

  const at::NoGradGuard no_grad;
  const at::Tensor unexplained = (all.target - all.value).var() / all.target.var();
  const at::Tensor log_std = log_std_of(policy_);
  const at::Tensor std = log_std.defined() ? log_std.exp().mean() : at::zeros_like(norms);
  // A number that is not finite stays so in every sum.
  const at::Tensor finite = at::isfinite(optimizer_.parameters())
                                .all()
                                .logical_and(at::isfinite(sums).all())
                                .logical_and(at::isfinite(norms));
  const at::Tensor read =
      at::cat({sums, at::stack({norms, ratio_error, unexplained, std, finite.to(value.scalar_type())})})
          .to(at::kCPU, at::kDouble);
  const auto seen = static_cast<double>(std::max<std::int64_t>(minibatches, 1));
  const auto steps = static_cast<double>(std::max<std::int64_t>(out.optimizer_steps, 1));
  const double* number = read.const_data_ptr<double>();
  out.policy_loss = number[kPolicyLoss] / seen;
  out.value_loss = number[kValueLoss] / seen;
  out.entropy = number[kEntropy] / seen;
  out.approx_kl = number[kApproxKl] / seen;
  out.clip_fraction = number[kClipFraction] / seen;
  number += kMetrics;
  out.gradient_norm = number[0] / steps;
  out.first_ratio_error = number[1];
  out.explained_variance = 1 - number[2];
  out.std = number[3];
  out.finite = number[4] != 0;
  return out;
}

}  // namespace ristretto::agents
