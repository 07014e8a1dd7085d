#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "agents/forward.h"
#include "agents/mlp_pass.h"
#include "platform/clock.h"
#include "train/device.h"
#include "train/memory_budget.h"
#include "train/trainer.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kContextPart = 4;  // of the memory budget, at most, for bars that are encoded beforehand

// Multiplications and additions of one sample's forward through actor and critic.
double forward_flops(const agents::Architecture& a) {
  const auto s = static_cast<double>(a.observation), w = static_cast<double>(a.width);
  double flops = 2 * w * w + 2 * w * static_cast<double>(a.actions + 1) / 2;
  if (a.network == agents::Network::ft_transformer) {
    const auto d = static_cast<double>(a.encoder.d_token);
    const double block = s * (4 * 2 * d * d + 2 * 2 * d * 4 * d) + 2 * 2 * s * s * d;
    flops += static_cast<double>(a.encoder.blocks) * block + 2 * s * d * w;
  } else if (a.network == agents::Network::market_context) {
    // The encoder as if nothing were shared: how many bars a rollout meets is not known before it.
    const ft_transformer::MarketContextShape& c = a.context;
    const auto d = static_cast<double>(c.d_token), queries = static_cast<double>(1 + a.actions);
    const auto tokens = static_cast<double>(c.tokens_of(a.actions));
    const double block = tokens * 24 * d * d + 4 * tokens * tokens * d;
    flops += static_cast<double>(c.blocks) * block + (tokens * 4 + queries * 20) * d * d + 4 * queries * tokens * d;
    flops += 2 * 2 * d * w + 2 * 4 * d * (w + d * queries);
  } else {
    flops += 2 * s * w;
  }
  return 2 * flops;
}

// Both networks forward and backward, as an update takes them.
void pass(const agents::Policy& policy, const agents::Input& input, bool bf16) {
  const auto ones = [](const at::Tensor& out) { return at::ones_like(out); };
  if (agents::MlpPass::fits(policy)) {
    for (const ft_transformer::Weights* weights : {&policy.actor, &policy.critic}) {
      for (const at::Tensor& weight : weights->tensors()) weight.mutable_grad() = at::zeros_like(weight);
    }
    agents::MlpPass(policy, input.samples().size(0), bf16).run(input, ones, ones);
  } else if (input.samples().is_cpu()) {
    agents::run_networks(policy, input, bf16, ones, ones);
  } else {
    const agents::Outputs outputs = agents::forward(policy, input, bf16);
    (outputs.mean.sum() + outputs.value.sum()).backward();
  }
}

// Flops a second that the networks themselves reach, forward and backward: small tokens and layers a fraction of what a
// wide product does.
double measure_rate(const agents::Architecture& architecture, std::int64_t most_rows, c10::Device device, bool bf16) {
  const bool encoder = architecture.network != agents::Network::mlp;
  // Enough to fill the device: on a GPU few rows are bound by their launches.
  const std::int64_t rows = std::min<std::int64_t>(most_rows, !device.is_cpu() ? 4096 : encoder ? 256 : 2048);
  const auto filled = [&](at::IntArrayRef sizes) {
    return at::full(sizes, 0.5, at::TensorOptions().dtype(at::kFloat).device(device));
  };
  agents::Input input;
  if (architecture.network == agents::Network::market_context) {
    const ft_transformer::MarketContextShape& shape = architecture.context;
    input.account = filled({rows, 1 + architecture.actions});
    input.windows = filled({rows, architecture.actions, shape.lookback, shape.features});
  } else {
    input.x = filled({rows, architecture.observation});
  }
  const agents::Policy policy = agents::make_policy(architecture, {}, device);
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {  // the first one loads libraries, and takes the memory
    const Stopwatch watch;
    pass(policy, input, bf16);
    synchronize(device);
    seconds = watch.seconds();
  }
  return 3 * forward_flops(architecture) * static_cast<double>(rows) / seconds;
}

}  // namespace

std::int64_t Plan::affordable_iterations(double used_seconds) const {
  if (budget_seconds <= 0) return iterations;
  const double left = std::max(0.0, budget_seconds - used_seconds);
  return std::min(iterations, static_cast<std::int64_t>(left / predicted_seconds));
}

Plan make_plan(const Settings& settings, c10::Device device, bool predict) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  const agents::Architecture architecture = architecture_of(settings);
  Plan plan;
  plan.portfolios = portfolios_of(settings);
  plan.horizon = hp.base_target_step;
  plan.samples = plan.portfolios * plan.horizon;
  plan.optimizer_steps = hp.ppo_epochs * ((plan.samples + hp.batch_size - 1) / hp.batch_size);
  plan.steps = steps_of(settings);
  plan.iterations = std::max<std::int64_t>(1, (plan.steps + plan.samples - 1) / plan.samples);
  if (!settings.run.time_budget.empty()) plan.budget_seconds = *parse_duration(settings.run.time_budget);
  const std::int64_t budget = budget_bytes(settings.run.memory_budget, device);
  plan.micro_batch = micro_batch_of(architecture, std::min(hp.batch_size, plan.samples), budget, device);
  plan.rollout.rows = micro_batch_of(architecture, plan.samples, budget, device);
  plan.rollout.context_bytes = std::min(plan.rollout.context_bytes, budget / kContextPart);
  // One forward to act, and in each epoch one forward and a backward of twice its work.
  plan.flops = forward_flops(architecture) * static_cast<double>(plan.samples) *
               (1.0 + 3.0 * static_cast<double>(hp.ppo_epochs));
  if (predict) {
    plan.rate = measure_rate(architecture, plan.micro_batch, device, settings.run.precision == "bf16");
    plan.predicted_seconds = plan.flops / plan.rate;
  }
  return plan;
}

}  // namespace ristretto::train
