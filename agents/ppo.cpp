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

constexpr std::int64_t kManySamples = 4096;  // of a minibatch: fewer seldom share bars

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

Ppo::Ppo(Policy& policy, const Normalizer& normalizer, Optimizer& optimizer, const PpoSettings& settings,
         const Shard& shard)
    : policy_(policy), normalizer_(normalizer), optimizer_(optimizer), settings_(settings), shard_(shard) {}

// Adds the gradient of the samples' mean loss times `share`; what they tell.
Ppo::MinibatchMetrics Ppo::add_gradients(const Samples& samples, double share) {
  std::optional<DistinctBars> distinct;
  if (samples.order) distinct = samples.order->run(samples.first, samples.size());
  const Input input = normalizer_.input({samples.account, samples.bar}, distinct ? &*distinct : nullptr);
  std::optional<MlpPass> pass;
  if (MlpPass::fits(policy_, settings_.bf16)) pass.emplace(policy_, input);
  const Outputs outputs = pass ? pass->outputs() : forward(policy_, input, settings_.bf16);
  const at::Tensor log_std = log_std_of(policy_);
  if (pass) {
    const auto written = loss_gradients(
        policy_.architecture, outputs, log_std,
        {samples.u, samples.log_probability, samples.advantage, samples.value, samples.target}, settings_, share);
    if (written) {
      pass->backward(written->mean, written->value);
      policy_.actor.at("a_std_log").mutable_grad().add_(written->log_std);
      return {written->metrics, written->ratio_error};
    }
  }
  const Evaluation now = evaluate(policy_.architecture, outputs.mean, log_std, samples.u);
  const PpoLoss loss = ppo_loss(now.log_probability, samples.log_probability, now.entropy, samples.advantage,
                                outputs.value, samples.value, samples.target, settings_);
  (share == 1 ? loss.total : loss.total * share).backward();
  if (pass) pass->backward(outputs.mean.grad(), outputs.value.grad());
  const at::NoGradGuard no_grad;
  return {at::stack({loss.policy, loss.value, loss.entropy, loss.approx_kl, loss.clip_fraction}),
          ((now.log_probability - samples.log_probability).exp() - 1).abs().max()};
}

// Leaves the gradient of the minibatch's loss in the optimizer, whatever the micro-batch and the processes: a mean over
// the minibatch is the sum of its parts' means, each weighted with its share. What it tells is of this process's part.
Ppo::MinibatchMetrics Ppo::accumulate_gradients(const Samples& minibatch) {
  optimizer_.zero_gradients();
  const std::int64_t size = minibatch.size();
  const std::int64_t most = settings_.micro_batch > 0 ? settings_.micro_batch : size;
  const std::int64_t first = size * shard_.rank / shard_.size, last = size * (shard_.rank + 1) / shard_.size;
  MinibatchMetrics all{at::zeros({kMetrics}, minibatch.value.options()), at::zeros({}, minibatch.value.options())};
  for (std::int64_t begin = first; begin < last; begin += most) {
    const Samples samples = minibatch.narrow(begin, std::min(most, last - begin));
    const double share = static_cast<double>(samples.size()) / static_cast<double>(size);
    const MinibatchMetrics part = add_gradients(samples, share);
    all.metrics.add_(part.metrics, share);
    all.ratio_error = at::maximum(all.ratio_error, part.ratio_error);
  }
  return all;
}

// accumulate_gradients() with ever smaller micro-batches until one fits the memory.
Ppo::MinibatchMetrics Ppo::gradients_within_memory(const Samples& minibatch) {
  for (;;) {
    try {
      const MinibatchMetrics seen = accumulate_gradients(minibatch);
      if (shard_.size > 1) {
        shard_.sum(optimizer_.gradients());
        shard_.sum(seen.metrics);
      }
      return seen;
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
  const bool whole_bars = normalizer_.shares_by_bar();  // an encoder is worth minibatches of fewer bars, a layer is not
  std::optional<BarOrder> by_bar;
  if (whole_bars ||
      (all.bar.defined() && settings_.batch_size >= kManySamples && MlpPass::fits(policy_, settings_.bf16))) {
    by_bar.emplace(all.bar);
    if (!by_bar->worthwhile()) by_bar.reset();
  }

  UpdateMetrics out;
  at::Tensor sums = at::zeros({kMetrics}, value.options()), norms = at::zeros({}, value.options());
  at::Tensor ratio_error = at::zeros({}, value.options());
  std::int64_t minibatches = 0;
  bool stop = false;
  for (std::int64_t epoch = 0; epoch < settings_.epochs && !stop; ++epoch) {
    const std::int64_t number = iteration * settings_.epochs + epoch;
    std::optional<BarOrder::Epoch> order;
    if (by_bar && whole_bars) order = by_bar->whole_bars(seed, number);
    if (by_bar && !whole_bars) order = by_bar->sorted_minibatches(seed, number, settings_.batch_size);
    if (!order) by_bar.reset();  // the next epoch's minibatches would share as little
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
      const auto [metrics, error] = gradients_within_memory(minibatch);
      if (minibatches++ == 0) ratio_error = error;
      sums.add_(metrics);
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
