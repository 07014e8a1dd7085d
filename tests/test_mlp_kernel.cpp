// The kernels of small MLPs, forward and backward, against autograd in float64.
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randn.h>
#include <ATen/record_function.h>
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "agents/mlp_kernel.h"
#include "agents/mlp_pass.h"
#include "learning_fixtures.h"
#include "platform/instruction_sets.h"
#include "seeded.h"

namespace ristretto::agents {
namespace {

constexpr double kFloat = 2e-6;  // relative to the largest number, sums of up to 600

struct Set {
  const char* name;
  decltype(&avx2::mlp_forward) forward;
  decltype(&avx2::mlp_backward) backward;
};

std::vector<Set> sets() {
  std::vector<Set> here;
#if defined(__x86_64__)
  if (has_avx2()) here.push_back({"avx2", avx2::mlp_forward, avx2::mlp_backward});
  if (has_avx512()) here.push_back({"avx512", avx512::mlp_forward, avx512::mlp_backward});
#endif
  return here;
}

// x, the gradient of what it gives, and the layers' weights and biases: leaves.
struct Problem {
  explicit Problem(const MlpSizes& sizes) : of(sizes) {
    const at::Generator numbers = tests::generator(3);
    x = at::randn({of.batch, of.inputs}, numbers);
    gradient = at::randn({of.batch, of.outputs}, numbers);
    for (int layer = 0; layer < kMlpLayers; ++layer) {
      const double scale = 1 / std::sqrt(static_cast<double>(of.in(layer)));
      parameters.push_back(at::randn({of.out(layer), of.in(layer)}, numbers) * scale);
      parameters.push_back(at::randn({of.out(layer)}, numbers));
    }
  }
  MlpSizes of;
  at::Tensor x, gradient;
  std::vector<at::Tensor> parameters;
};

// The output and the gradients of all parameters, in float64.
std::vector<at::Tensor> by_autograd(const Problem& problem) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& parameter : problem.parameters)
    leaves.push_back(parameter.to(at::kDouble).requires_grad_(true));
  at::Tensor y = problem.x.to(at::kDouble);
  for (std::size_t layer = 0; layer < kMlpLayers; ++layer) {
    y = at::addmm(leaves[2 * layer + 1], y, leaves[2 * layer].t());
    if (layer + 1 < kMlpLayers) y = y.relu();
  }
  (y * problem.gradient.to(at::kDouble)).sum().backward();
  std::vector<at::Tensor> out{y.detach()};
  for (const at::Tensor& leaf : leaves) out.push_back(leaf.grad());
  return out;
}

// The same of a kernel, its gradients added to `before`.
std::vector<at::Tensor> by_kernel(const Set& set, const Problem& problem, double before) {
  std::vector<at::Tensor> out{at::empty({problem.of.batch, problem.of.outputs})};
  for (const at::Tensor& parameter : problem.parameters) out.push_back(at::full_like(parameter, before));
  Mlp mlp{problem.of, {}, nullptr};
  for (std::size_t layer = 0; layer < kMlpLayers; ++layer) {
    mlp.layers[layer] = {problem.parameters[2 * layer].const_data_ptr<float>(),
                         problem.parameters[2 * layer + 1].const_data_ptr<float>(),
                         out[2 * layer + 1].mutable_data_ptr<float>(), out[2 * layer + 2].mutable_data_ptr<float>()};
  }
  const at::Tensor scratch = at::full_like(at::empty({mlp_scratch(problem.of)}), std::nan(""));
  mlp.scratch = scratch.mutable_data_ptr<float>();
  set.forward(mlp, problem.x.const_data_ptr<float>(), out[0].mutable_data_ptr<float>());
  set.backward(mlp, problem.gradient.const_data_ptr<float>());
  return out;
}

// Of nothing yet.
void give_gradients(Policy& policy) {
  for (auto* weights : {&policy.actor, &policy.critic}) {
    weights->require_grad(true);
    for (const at::Tensor& weight : weights->tensors()) weight.mutable_grad() = at::full_like(weight, 0);
  }
}

double deviation(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace

TEST_CASE("mlp kernel: outputs and gradients are autograd's, whatever the sizes, on every instruction set") {
  for (const Set& set : sets()) {
    for (const MlpSizes& sizes : {MlpSizes{64, 302, 256, 7}, MlpSizes{1, 5, 3, 1}, MlpSizes{63, 129, 65, 6},
                                  MlpSizes{100, 16, 16, 16}, MlpSizes{256, 64, 600, 2}}) {
      CAPTURE(set.name);
      CAPTURE(sizes.batch);
      const Problem problem(sizes);
      const std::vector<at::Tensor> expected = by_autograd(problem), found = by_kernel(set, problem, 0),
                                    added = by_kernel(set, problem, 2);
      CHECK(deviation(found[0], expected[0]) < kFloat);
      for (std::size_t i = 1; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(deviation(found[i], expected[i]) < kFloat);
        CHECK(deviation(added[i], expected[i] + 2) < kFloat);
      }
    }
  }
}

TEST_CASE("mlp kernel: what is not finite in a sample stays so, and does not reach the outputs of others") {
  for (const Set& set : sets()) {
    Problem problem({64, 20, 16, 3});
    const at::Tensor before = by_kernel(set, problem, 0)[0];
    problem.x[5][7].fill_(std::numeric_limits<float>::quiet_NaN());
    const std::vector<at::Tensor> found = by_kernel(set, problem, 0);
    CHECK(found[0][5].isnan().all().item<bool>());
    CHECK(found[0].narrow(0, 0, 5).equal(before.narrow(0, 0, 5)));
    CHECK(found[0].narrow(0, 6, 58).equal(before.narrow(0, 6, 58)));
    for (std::size_t i = 1; i < found.size(); i += 2) CHECK(found[i].isnan().any().item<bool>());  // of weights
  }
}

TEST_CASE("mlp kernel: a pass gives autograd's gradients, in it or without") {
  Architecture architecture;
  architecture.observation = 11;
  architecture.width = 24;
  architecture.actions = 3;
  Initialization initialization;
  initialization.policy_gain = 1;
  const Policy single = make_policy(architecture, initialization, at::kCPU);
  Policy exact = single;
  exact.actor = single.actor.to(at::kCPU, at::kDouble);
  exact.critic = single.critic.to(at::kCPU, at::kDouble);
  const auto gradients = [](Policy policy, const at::Tensor& x) {
    std::vector<at::Tensor> out;
    give_gradients(policy);
    MlpPass(policy, x.size(0), /*bf16=*/false)
        .run(
            x, [](const at::Tensor& mean) { return mean.pow(3); },
            [](const at::Tensor& value) { return value.square(); });
    for (const auto* weights : {&policy.actor, &policy.critic}) {
      for (const at::Tensor& weight : weights->tensors()) out.push_back(weight.grad());
    }
    return out;
  };
  for (const std::int64_t samples : {10, 60, 256, 300}) {
    CAPTURE(samples);
    const at::Tensor x = at::randn({samples, 11}, tests::generator(4));
    const std::vector<at::Tensor> found = gradients(single, x), expected = gradients(exact, x.to(at::kDouble));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (expected[i].numel() == 3 && expected[i].dim() == 2) continue;  // a_std_log has none here
      CHECK(deviation(found[i], expected[i]) < kFloat);
    }
  }
}

TEST_CASE("mlp kernel: runs passes of few samples through narrow networks where most of its columns are samples") {
  static std::atomic<int> products;
  const auto in_it = [](std::int64_t samples, std::int64_t width, Activation activation = Activation::relu) {
    Architecture architecture;
    architecture.observation = 11;
    architecture.width = width;
    architecture.actions = 3;
    architecture.activation = activation;
    Policy policy = make_policy(architecture, {}, at::kCPU);
    give_gradients(policy);
    products = 0;
    const at::CallbackHandle counting =
        at::addGlobalCallback(at::RecordFunctionCallback([](const at::RecordFunction& call) {
                                const std::string_view name = call.name();
                                if (name == "aten::mm" || name.starts_with("aten::addmm")) ++products;
                                return std::unique_ptr<at::ObserverContext>();
                              }).scopes({at::RecordScope::FUNCTION}));
    MlpPass(policy, samples, /*bf16=*/false)
        .run(
            at::randn({samples, 11}), [](const at::Tensor& mean) { return mean; },
            [](const at::Tensor& value) { return value; });
    at::removeCallback(counting);
    return products == 0;
  };
  const bool here = !sets().empty();
  CHECK(in_it(52, 24) == here);
  CHECK(in_it(64, 512) == here);
  CHECK(in_it(256, 24) == here);
  CHECK_FALSE(in_it(51, 24));
  CHECK_FALSE(in_it(257, 24));
  CHECK_FALSE(in_it(64, 513));
  CHECK_FALSE(in_it(64, 24, Activation::tanh));
}

}  // namespace ristretto::agents
