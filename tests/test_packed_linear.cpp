// Products with packed weights against LibTorch's own, and networks that are frozen against those that learn.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include <algorithm>

#include "agents/forward.h"
#include "agents/mlp_pass.h"
#include "agents/packed_linear.h"

namespace ristretto::agents {
namespace {

constexpr double kRounding = 1e-5;    // float32, a few hundred products
constexpr double kGate = 1e-4;        // of a gradient: a ReLU may open for z = 1e-8 where it does not for -1e-8
constexpr double kBfloat = 1.0 / 64;  // bfloat16 has 8 bits

// Root of the mean square, of b's; below a thousandth of 1 the difference itself.
double deviation(const at::Tensor& a, const at::Tensor& b) {
  const auto size = [](const at::Tensor& x) { return x.square().mean().sqrt().to(at::kDouble).item<double>(); };
  return size(a - b) / std::max(size(b), 1e-3);
}

at::Tensor numbers(at::IntArrayRef sizes) {
  static const auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  return at::randn(sizes, generator);
}

Policy policy_of(Activation activation) {
  Architecture architecture;
  architecture.observation = 302;
  architecture.width = 1024;  // wide enough to be packed for few rows
  architecture.actions = 7;
  architecture.activation = activation;
  Initialization initialization;
  initialization.policy_gain = 1;
  return make_policy(architecture, initialization, at::kCPU);
}

}  // namespace

TEST_CASE("packed linear: is LibTorch's linear, for few rows and many, with a bias and without") {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble})
    for (const auto& [in, out] : {std::pair{512, 512}, std::pair{300, 256}, std::pair{40, 48}, std::pair{512, 9}})
      for (const std::int64_t rows : {1, 8, 600, 2050}) {
        CAPTURE(in);
        CAPTURE(rows);
        const at::Tensor x = numbers({rows, in}).to(type), weight = numbers({out, in}).to(type);
        const at::Tensor bias = numbers({out}).to(type);
        const double most = type == at::kBFloat16 ? kBfloat : kRounding;
        const at::Tensor expected = at::linear(x, weight, bias);
        CHECK(deviation(PackedLinear(weight, bias)(x, false), expected) < most);
        CHECK(deviation(PackedLinear(weight, bias)(x, true), at::relu(expected)) < most);
        CHECK(deviation(PackedLinear(weight, {})(x, false), at::linear(x, weight)) < most);
        CHECK(deviation(PackedLinear(weight, bias, rows)(x, true), at::relu(expected)) < most);
        CHECK(deviation(PackedLinear(weight.t().contiguous().t(), {})(x, false), at::linear(x, weight)) < most);
      }
}

TEST_CASE("packed linear: a weight that changes later changes nothing") {
  const at::NoGradGuard no_grad;
  const at::Tensor weight = numbers({512, 512}), x = numbers({8, 512});
  const at::Tensor expected = at::linear(x, weight);
  const PackedLinear packed(weight, {});
  packed(x, false);
  weight.zero_();
  // With the plain product it would: LibTorch of the wheels has oneDNN's, and this test sees to it that it is found.
  CHECK(deviation(packed(x, false), expected) < kRounding);
}

TEST_CASE("frozen network: gives what the learning network gives") {
  for (const Activation activation : {Activation::relu, Activation::tanh})
    for (const bool bf16 : {false, true}) {
      const Policy policy = policy_of(activation);
      const FrozenNetwork actor(policy.actor, policy.architecture, Part::actor, bf16);
      const FrozenNetwork critic(policy.critic, policy.architecture, Part::critic, bf16);
      for (const std::int64_t rows : {5, 8, 700}) {
        const at::Tensor x = numbers({rows, 302});
        const Outputs expected = forward(policy, x, bf16);
        const double most = bf16 ? kBfloat : kRounding;
        CHECK(actor(x).dtype() == at::kFloat);
        CHECK_FALSE(actor(x).requires_grad());
        CHECK(deviation(actor(x), expected.mean.detach()) < most);
        CHECK(critic(x).sizes().equals(expected.value.sizes()));
        CHECK(deviation(critic(x), expected.value.detach()) < most);
      }
    }
}

TEST_CASE("mlp pass: with rows enough to pack weights, gradients of one batch and another are autograd's of both") {
  for (const Activation activation : {Activation::relu, Activation::tanh}) {
    Policy policy = policy_of(activation);
    const at::Tensor x = numbers({2100, 302});
    const auto loss = [](const Outputs& outputs) { return outputs.mean.square().sum() + outputs.value.square().sum(); };
    loss(forward(policy, x, false)).backward();
    std::vector<at::Tensor> expected;
    for (const auto* weights : {&policy.actor, &policy.critic}) {
      for (const at::Tensor& weight : weights->tensors()) {
        expected.push_back(weight.grad().defined() ? weight.grad().clone() : at::Tensor());
        weight.mutable_grad() = at::zeros_like(weight);
      }
    }
    MlpPass pass(policy, PackedLinear::kWithoutEnd, false);
    for (const at::Tensor& batch : {x.narrow(0, 0, 1800), x.narrow(0, 1800, 300)}) {
      const Outputs outputs = pass.forward(batch);
      loss(outputs).backward();
      pass.backward(outputs.mean.grad(), outputs.value.grad());
    }
    std::size_t i = 0;
    for (const auto* weights : {&policy.actor, &policy.critic}) {
      for (const auto& [name, weight] : *weights) {
        CAPTURE(name);
        if (expected[i].defined()) CHECK(deviation(weight.grad(), expected[i]) < kGate);
        ++i;
      }
    }
  }
}

}  // namespace ristretto::agents
