// What a GPU must compute as the CPU does, with LibTorch alone; scripts/gpu-check runs it first on a new machine.
// Prints a line of JSON a check, and ends with 1 where one failed.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <cstdio>
#include <memory>
#include <tuple>
#include <utility>

#include "agents/forward.h"
#include "agents/ppo.h"
#include "bench/learner.h"
#include "bench/measure.h"
#include "env/large_blocks.h"
#include "env/random.h"
#include "env/signature.h"
#include "platform/error.h"
#include "platform/process.h"
#include "platform/text.h"

namespace ristretto::bench {
namespace {

// Length of the difference by the gradient's own: float32 sums over 512 samples and 106 tokens.
constexpr double kGradientTolerance = 1e-4;
// Of bfloat16, with 8 bits a number and roundings through every layer, the direction.
constexpr double kBfloatCosine = 0.99;

// Of the way that four steps of Adam went, whose directions are ratios of small numbers.
constexpr double kWayTolerance = 2e-3;

bool failed = false;

void tell(const std::string& name, bool passed, const std::string& found, const std::string& expected) {
  failed = failed || !passed;
  std::printf("{\"check\": \"%s\", \"passed\": %s, \"found\": \"%s\", \"expected\": \"%s\"}\n", name.c_str(),
              passed ? "true" : "false", found.c_str(), expected.c_str());
  std::fflush(stdout);
}

std::string hexadecimal(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// One minibatch, equal on every device.
struct Minibatch {
  at::Tensor x, u, log_probability, advantage, value, target;
};

Minibatch minibatch_of(const agents::Architecture& architecture, std::int64_t rows) {
  const auto normal = [&](std::int64_t columns, std::uint64_t stream) {
    return env::standard_normal(rows, columns, 7, static_cast<std::int64_t>(stream), at::kCPU).to(at::kDouble);
  };
  Minibatch out;
  out.x = normal(architecture.observation, 0);
  out.u = 0.6 * normal(architecture.actions, 1);
  out.log_probability = agents::gaussian_log_probability(0.1 * normal(architecture.actions, 2),
                                                         0.1 * normal(architecture.actions, 3), out.u);
  out.advantage = normal(1, 4).squeeze(1);
  out.value = 0.2 * normal(1, 5).squeeze(1);
  out.target = normal(1, 6).squeeze(1);
  return out;
}

// All gradients of actor and critic in one run of numbers, float64 on the CPU.
at::Tensor gradient(const agents::Architecture& architecture, const Minibatch& batch, at::Device device,
                    at::ScalarType type, bool bf16) {
  agents::Policy policy = agents::make_policy(architecture, {3, -0.5, 1}, at::kCPU);
  policy.actor = policy.actor.to(device, type);
  policy.critic = policy.critic.to(device, type);
  policy.actor.require_grad(true);
  policy.critic.require_grad(true);
  const auto there = [&](const at::Tensor& tensor) { return tensor.to(device, type); };
  const agents::Outputs outputs = agents::forward(policy, there(batch.x), bf16);
  const agents::Evaluation now =
      agents::evaluate(architecture, outputs.mean, agents::log_std_of(policy), there(batch.u));
  agents::PpoSettings settings;
  settings.entropy_coef = 0.01;
  agents::ppo_loss(now.log_probability, there(batch.log_probability), now.entropy, there(batch.advantage),
                   outputs.value, there(batch.value), there(batch.target), settings)
      .total.backward();
  std::vector<at::Tensor> all;
  for (const auto* weights : {&policy.actor, &policy.critic}) {
    for (const at::Tensor& weight : weights->tensors()) {
      all.push_back(weight.grad().to(at::kCPU, at::kDouble).flatten());
    }
  }
  return at::cat(all);
}

void check_gradients(const std::string& name, const agents::Architecture& architecture, std::int64_t rows,
                     at::Device device) {
  const Minibatch batch = minibatch_of(architecture, rows);
  const at::Tensor exact = gradient(architecture, batch, at::kCPU, at::kDouble, false);
  for (const bool bf16 : {false, true}) {
    const at::Tensor found = gradient(architecture, batch, device, at::kFloat, bf16);
    if (bf16) {
      const double cosine = (found.dot(exact) / (found.norm() * exact.norm())).item<double>();
      tell(str("gradient, ", name, ", bf16, cosine"), cosine >= kBfloatCosine, str(cosine),
           str("at least ", kBfloatCosine));
    } else {
      const double error = ((found - exact).norm() / exact.norm()).item<double>();
      tell(str("gradient, ", name, ", fp32, error"), error <= kGradientTolerance, str(error),
           str("at most ", kGradientTolerance));
    }
  }
}

agents::Rollout moved(const agents::Rollout& rollout, at::Device device) {
  agents::Rollout out;
  for (const auto part : {&agents::Rollout::account, &agents::Rollout::bar, &agents::Rollout::u,
                          &agents::Rollout::log_probability, &agents::Rollout::value, &agents::Rollout::reward,
                          &agents::Rollout::terminated, &agents::Rollout::truncated, &agents::Rollout::next_value}) {
    out.*part = (rollout.*part).to(device);
  }
  return out;
}

// What a training does with one rollout of the CPU's, there in fp32 and here on the device: its own passes, sharing by
// bar, optimiser and micro-batches (so that the CPU compared with itself does not do the very same).
void check_update(const std::string& name, const World& here, const World& there, std::int64_t portfolios,
                  std::int64_t horizon, const agents::Architecture& architecture, bool bf16) {
  agents::PpoSettings settings;
  settings.batch_size = portfolios * horizon;
  settings.epochs = 1;
  settings.max_grad_norm = 0;
  const std::string what = str("update, ", name, bf16 ? ", bf16" : ", fp32");
  const auto learn = [&](const World& world, const agents::Rollout* given, const agents::PpoSettings& with) {
    const auto learner = std::make_unique<Learner>(world, portfolios, architecture, with);
    const at::Tensor start = learner->optimizer.parameters().clone();
    const agents::Rollout rollout = given ? *given : learner->collect(horizon);
    const agents::UpdateMetrics metrics = learner->update(rollout);
    const auto on_host = [](const at::Tensor& tensor) { return tensor.to(at::kCPU, at::kDouble); };
    return std::tuple{rollout, on_host(learner->optimizer.gradients()),
                      on_host(learner->optimizer.parameters() - start), metrics};
  };
  const auto [rollout, gradient, step, expected] = learn(here, nullptr, settings);
  const agents::Rollout same = moved(rollout, there.market->price.device());
  agents::PpoSettings device_settings = settings;
  device_settings.micro_batch = settings.batch_size * 2 / 5;
  device_settings.bf16 = bf16;
  const auto [unused, found, found_step, seen] = learn(there, &same, device_settings);
  if (bf16) {
    const double cosine = (found.dot(gradient) / (found.norm() * gradient.norm())).item<double>();
    tell(str(what, ", gradient, cosine"), cosine >= kBfloatCosine, str(cosine), str("at least ", kBfloatCosine));
    return;
  }
  const double error = ((found - gradient).norm() / gradient.norm()).item<double>();
  tell(str(what, ", gradient, error"), error <= kGradientTolerance, str(error), str("at most ", kGradientTolerance));
  for (agents::PpoSettings* several : {&settings, &device_settings}) {
    several->epochs = 2;
    several->max_grad_norm = 0.5;
    several->batch_size = portfolios * horizon / 2;
  }
  const auto [again, of_several, way, metrics] = learn(here, &rollout, settings);
  const auto [there_again, of_device, found_way, seen_there] = learn(there, &same, device_settings);
  const double apart = ((found_way - way).norm() / way.norm()).item<double>();
  tell(str(what, ", four steps, error"), apart <= kWayTolerance && seen_there.finite, str(apart),
       str("at most ", kWayTolerance));
}

void check_updates(const Options& options) {
  constexpr std::int64_t kPortfolios = 128, kHorizon = 64;  // minibatches of 4,096, which share work by bar
  Options cpu = options;
  cpu.device = at::kCPU;
  const auto dense = [&](const Options& of) {
    return dense_world(world_of(of, "alpaca-14", 3), kPortfolios * kHorizon);
  };
  const World here = dense(cpu), there = dense(options);
  for (const bool bf16 : {false, true}) {
    check_update("MLP 302-256-256-7", here, there, kPortfolios, kHorizon, architecture_of(here, 256), bf16);
    agents::Architecture transformer = architecture_of(here, 128);
    transformer.network = agents::Network::ft_transformer;
    transformer.encoder.d_token = 16;
    transformer.encoder.heads = 2;
    transformer.encoder.blocks = 1;
    check_update("FT-Transformer, 302 tokens", here, there, 8, 16, transformer, bf16);
    for (const auto tokens : {ft_transformer::MarketTokens::asset, ft_transformer::MarketTokens::feature}) {
      const bool asset = tokens == ft_transformer::MarketTokens::asset;
      check_update(str("market_context, ", asset ? "asset" : "feature", " tokens"), here, there,
                   asset ? kPortfolios : 16, kHorizon, context_architecture(here, 128, tokens), bf16);
    }
  }
}

void run(const Options& options) {
  for (const auto& [name, type] : {std::pair{"signature", at::kDouble}, {"the same run in fp32", at::kFloat}}) {
    const std::uint64_t found = env::signature(options.device, type), expected = env::signature(at::kCPU, type);
    tell(name, found == expected, hexadecimal(found), hexadecimal(expected));
  }
  agents::Architecture architecture;
  architecture.observation = 106;
  architecture.width = 256;
  architecture.actions = 7;
  check_gradients("MLP 106-256-256-7", architecture, 512, options.device);
  architecture.network = agents::Network::ft_transformer;
  architecture.encoder.d_token = 32;
  architecture.encoder.heads = 4;
  architecture.encoder.blocks = 2;
  check_gradients("FT-Transformer, 106 tokens, d=32, 2 blocks", architecture, 64, options.device);
  check_updates(options);
}

}  // namespace
}  // namespace ristretto::bench

int main(int argc, char** argv) {
  ristretto::prepare_to_compute(argv);
  ristretto::env::keep_large_blocks();
  try {
    std::vector<char*> arguments(argv, argv + argc);
    std::string name = "check";
    arguments.insert(arguments.begin() + 1, name.data());
    ristretto::bench::run(ristretto::bench::parse_options(argc + 1, arguments.data()));
    return ristretto::bench::failed ? 1 : 0;
  } catch (const ristretto::Error& error) {
    std::fprintf(stderr, "bench_check: error: %s\n", error.what());
    return static_cast<int>(error.fault());
  }
}
