#include "agents/ppo.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/std_mean.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
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

constexpr std::int64_t kManySamples = 4096;     // of a minibatch: fewer seldom share bars
constexpr std::int64_t kGatheredAtOnce = 1024;  // samples: 1.2 MB of 302 numbers, which the caches hold

at::Tensor rows(const at::Tensor& tensor, const at::Tensor& index) {
  return tensor.defined() ? tensor.index_select(0, index) : tensor;
}

at::Tensor rows(const at::Tensor& tensor, std::int64_t begin, std::int64_t count) {
  return tensor.defined() ? tensor.narrow(0, begin, count) : tensor;
}

// Minibatches of `size` samples, the last one of what is left, each to mean 0 and standard deviation 1; a sample that
// is alone stays as it is.
at::Tensor normalized_in_minibatches(const at::Tensor& advantage, std::int64_t size) {
  const auto normalized = [](const at::Tensor& minibatches) {  // [., B]
    if (minibatches.size(1) < 2) return minibatches.flatten();
    const auto [std, mean] = at::std_mean(minibatches, at::IntArrayRef{1}, at::Scalar(1), /*keepdim=*/true);
    return ((minibatches - mean) / (std + 1e-8)).flatten();
  };
  const std::int64_t all = advantage.size(0), whole = all / size * size;
  std::vector<at::Tensor> parts;
  if (whole > 0) parts.push_back(normalized(advantage.narrow(0, 0, whole).view({-1, size})));
  if (whole < all) parts.push_back(normalized(advantage.narrow(0, whole, all - whole).unsqueeze(0)));
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

}  // namespace

// A rollout without its two axes: [B, ...].
struct Ppo::Samples {
  at::Tensor account, bar, u, log_probability, value, advantage, target;
  at::Tensor squashed = {}, log_jacobian = {};  // of u, for a loss written out
  at::Tensor x = {};                       // [B, S] what the networks read, where it was made for several minibatches
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
            rows(squashed, index),
            rows(log_jacobian, index),
            {},
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
            rows(squashed, begin, count),
            rows(log_jacobian, begin, count),
            rows(x, begin, count),
            order,
            first + begin};
  }
};

Ppo::Ppo(Policy& policy, const Normalizer& normalizer, Optimizer& optimizer, const PpoSettings& settings,
         const Shard& shard)
    : policy_(policy), normalizer_(normalizer), optimizer_(optimizer), settings_(settings), shard_(shard) {}

// Adds the gradient of the samples' mean loss times `share`, through `pass` if the networks are MLPs; what they tell.
Ppo::MinibatchMetrics Ppo::add_gradients(const Samples& samples, std::optional<MlpPass>& pass, double share) {
  std::optional<DistinctBars> distinct;
  if (samples.order) distinct = samples.order->run(samples.first, samples.size());
  const Input input = samples.x.defined()
                          ? Input(samples.x)
                          : normalizer_.input({samples.account, samples.bar}, distinct ? &*distinct : nullptr);
  const at::Tensor log_std = log_std_of(policy_);
  if (has_written_out_loss(policy_.architecture, samples.value)) {
    const LossSamples of{samples.u,      samples.log_probability, samples.advantage,   samples.value,
                         samples.target, samples.squashed,        samples.log_jacobian};
    PolicyGradients policy;
    ValueGradients value;
    const auto of_mean = [&](const at::Tensor& mean) {
      policy = policy_gradients(policy_.architecture, mean, log_std, of, settings_, share);
      return policy.mean;
    };
    const auto of_value = [&](const at::Tensor& out) {
      value = value_gradients(out, of, settings_, share);
      return value.value;
    };
    if (pass) {
      pass->run(input, of_mean, of_value);
    } else {
      run_networks(policy_, input, settings_.bf16, of_mean, of_value);
    }
    const at::Tensor& of_log_std = policy_.actor.at("a_std_log").mutable_grad();
    of_log_std.add_(policy.log_std.sum_to_size(of_log_std.sizes()));
    return {at::tensor({policy.loss, value.loss, policy.entropy, policy.approx_kl, policy.clip_fraction},
                       samples.value.options()),
            at::scalar_tensor(policy.ratio_error, samples.value.options())};
  }
  const Outputs outputs = pass ? pass->forward(input) : forward(policy_, input, settings_.bf16);
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
  std::optional<MlpPass> pass;
  if (MlpPass::fits(policy_)) pass.emplace(policy_, last - first, settings_.bf16);
  if (most >= size && shard_.size == 1) return add_gradients(minibatch, pass, 1);
  MinibatchMetrics all{at::zeros({kMetrics}, minibatch.value.options()), at::zeros({}, minibatch.value.options())};
  for (std::int64_t begin = first; begin < last; begin += most) {
    const Samples samples = minibatch.narrow(begin, std::min(most, last - begin));
    const double share = static_cast<double>(samples.size()) / static_cast<double>(size);
    const MinibatchMetrics part = add_gradients(samples, pass, share);
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
  Samples all{rollout.account.flatten(0, 1),
              rollout.bar.defined() ? rollout.bar.flatten() : rollout.bar,
              rollout.u.flatten(0, 1),
              rollout.log_probability.flatten(),
              value,
              estimate.advantage.flatten(),
              estimate.target.flatten()};
  if (policy_.architecture.distribution == Distribution::tanh_gaussian &&
      has_written_out_loss(policy_.architecture, value)) {
    all.squashed = at::tanh(all.u);
    all.log_jacobian = tanh_log_jacobian(all.u);
  }
  const at::Device device = value.device();
  const bool whole_bars = normalizer_.shares_by_bar();  // an encoder is worth minibatches of fewer bars, a layer is not
  std::optional<BarOrder> by_bar;
  // Not in bf16: the first layer's two parts would be rounded twice, and the first minibatch's ratios not be 1.
  const bool shares_first_layer =
      all.bar.defined() && settings_.batch_size >= kManySamples && MlpPass::fits(policy_) && !settings_.bf16;
  if (whole_bars || shares_first_layer) {
    by_bar.emplace(all.bar);
    if (!by_bar->worthwhile()) by_bar.reset();
  }

  // Observations of small minibatches are made for several at once: an operation costs as much as its few numbers.
  const bool gathers_ahead = !whole_bars && !by_bar && 2 * settings_.batch_size <= kGatheredAtOnce;
  const std::int64_t gathered_samples =
      settings_.batch_size * (gathers_ahead ? kGatheredAtOnce / settings_.batch_size : 1);

  UpdateMetrics out;
  at::Tensor sums = at::zeros({kMetrics}, value.options()), norms = at::zeros({}, value.options());
  at::Tensor first = at::zeros({2}, value.options());  // ratio error and divergence
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
    shuffled.advantage = normalized_in_minibatches(shuffled.advantage, settings_.batch_size);
    at::Tensor gathered;
    for (std::int64_t begin = 0; begin < all.size() && !stop; begin += settings_.batch_size) {
      if (keep_going && !keep_going()) {
        stop = true;
        break;
      }
      const std::int64_t place = begin % gathered_samples;
      if (gathers_ahead && place == 0) {
        const Samples next = shuffled.narrow(begin, std::min(gathered_samples, all.size() - begin));
        gathered = normalizer_.matrix({next.account, next.bar});
      }
      Samples minibatch = shuffled.narrow(begin, std::min(settings_.batch_size, all.size() - begin));
      minibatch.x = rows(gathered, place, minibatch.size());
      const auto [metrics, error] = gradients_within_memory(minibatch);
      if (minibatches++ == 0) first = at::stack({error, metrics.select(0, kApproxKl)});
      sums.add_(metrics);
      if (settings_.kl_target > 0 && metrics.select(0, kApproxKl).item<double>() > 1.5 * settings_.kl_target) {
        stop = out.stopped_early = true;
        break;
      }
      norms.add_(optimizer_.step(learning_rate, settings_.max_grad_norm));
      ++out.optimizer_steps;
    }
    if (!stop) ++out.epochs;
  }

  const at::NoGradGuard no_grad;
  const at::Tensor unexplained = (all.target - all.value).var() / all.target.var();
  const at::Tensor log_std = log_std_of(policy_);
  const at::Tensor std = log_std.defined() ? log_std.exp().mean() : at::zeros_like(norms);
  // A number that is not finite stays so in every sum; infinity is the least or the largest of all, NaN both.
  const auto [least, largest] = at::aminmax(optimizer_.parameters());
  const at::Tensor finite = at::isfinite(at::cat({sums, at::stack({norms, least, largest})})).all();
  const at::Tensor to_read =
      at::cat({sums, first, at::stack({norms, unexplained, std, finite.to(value.scalar_type())})});
  const at::Tensor read = [&] {
    RECORD_USER_SCOPE("waiting");
    return to_read.to(at::kCPU, at::kDouble);
  }();
  const auto seen = static_cast<double>(std::max<std::int64_t>(minibatches, 1));
  const auto steps = static_cast<double>(std::max<std::int64_t>(out.optimizer_steps, 1));
  const double* number = read.const_data_ptr<double>();
  out.policy_loss = number[kPolicyLoss] / seen;
  out.value_loss = number[kValueLoss] / seen;
  out.entropy = number[kEntropy] / seen;
  out.approx_kl = number[kApproxKl] / seen;
  out.clip_fraction = number[kClipFraction] / seen;
  number += kMetrics;
  out.first_ratio_error = number[0];
  out.first_approx_kl = number[1];
  out.gradient_norm = number[2] / steps;
  out.explained_variance = 1 - number[3];
  out.std = number[4];
  out.finite = number[5] != 0;
  return out;
}

}  // namespace ristretto::agents
