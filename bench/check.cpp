// What a GPU must compute as the CPU does, with LibTorch alone; scripts/gpu-check runs it first on a new machine.
// Prints a line of JSON a check, and ends with 1 where one failed.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <cstdio>

#include "agents/forward.h"
#include "agents/ppo.h"
#include "bench/measure.h"
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

void run(const Options& options) {
  tell("signature", env::signature(options.device) == env::signature(), hexadecimal(env::signature(options.device)),
       hexadecimal(env::signature()));
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
}

}  // namespace
}  // namespace ristretto::bench

int main(int argc, char** argv) {
  ristretto::prepare_to_compute(argv);
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
