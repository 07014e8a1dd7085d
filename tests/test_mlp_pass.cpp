// The pass without autograd against autograd.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include <utility>

#include "agents/mlp_pass.h"
#include "learning_fixtures.h"
#include "seeded.h"

namespace ristretto::agents {
namespace {

constexpr double kRounding = 1e-12;  // double precision, sums in another order

at::Tensor loss_of(const Outputs& outputs) {
  return outputs.mean.pow(3).sum() + (outputs.mean.select(1, 0) * outputs.value).sum() + outputs.value.square().mean();
}

void zero(const Policy& policy) {
  for (const auto* weights : {&policy.actor, &policy.critic}) {
    for (const at::Tensor& weight : weights->tensors()) weight.mutable_grad() = at::zeros_like(weight);
  }
}

}  // namespace

TEST_CASE("mlp pass: outputs and gradients are autograd's, added to what is there") {
  struct Batch {
    std::int64_t rows;
    bool by_bar, in_one;
  };
  for (const Activation activation : {Activation::relu, Activation::tanh})
    for (const auto& [rows, by_bar, in_one] :
         {Batch{37, false, false}, Batch{37, true, false}, Batch{300, false, false}, Batch{300, true, false},
          Batch{37, false, true}, Batch{300, true, true}}) {
      Architecture architecture;
      architecture.observation = 11;
      architecture.width = 24;
      architecture.actions = 3;
      architecture.activation = activation;
      Initialization initialization;
      initialization.policy_gain = 1;
      Policy policy = make_policy(architecture, initialization, at::kCPU);
      policy.actor = policy.actor.to(at::kCPU, at::kDouble);
      policy.critic = policy.critic.to(at::kCPU, at::kDouble);
      policy.actor.require_grad(true);
      policy.critic.require_grad(true);
      // 4 columns of account, 7 of a window that four samples in a row share.
      Input input;
      input.account = at::randn({rows, 4}, at::kDouble);
      input.windows = at::randn({(rows + 3) / 4, 7}, at::kDouble);
      input.window = at::arange(rows, at::kLong).div(4, "floor");
      const at::Tensor x = at::cat({input.account, input.windows.index_select(0, input.window)}, 1);
      if (!by_bar) input = x;
      REQUIRE(MlpPass::fits(policy));

      zero(policy);
      const Outputs outputs = forward(policy, x, false);
      for (int i = 0; i < 2; ++i) loss_of(forward(policy, x, false)).backward();
      std::vector<at::Tensor> expected;
      for (const auto* weights : {&policy.actor, &policy.critic}) {
        for (const at::Tensor& weight : weights->tensors()) expected.push_back(weight.grad().clone());
      }

      zero(policy);
      for (int i = 0; i < 2; ++i) {
        MlpPass pass(policy, rows, /*bf16=*/false);
        const Outputs now = pass.forward(input);
        CHECK((now.mean - outputs.mean).abs().max().item<double>() < kRounding);
        CHECK((now.value - outputs.value).abs().max().item<double>() < kRounding);
        loss_of(now).backward();
        if (in_one) {
          pass.run(
              input, [&](const at::Tensor&) { return now.mean.grad(); },
              [&](const at::Tensor&) { return now.value.grad(); });
        } else {
          pass.backward(now.mean.grad(), now.value.grad());
        }
      }
      std::size_t next = 0;
      for (const auto* weights : {&policy.actor, &policy.critic}) {
        for (const at::Tensor& weight : weights->tensors()) {
          const at::Tensor difference = (weight.grad() - expected[next]).abs().max();
          CHECK(difference.item<double>() < kRounding * (1 + expected[next].abs().max().item<double>()));
          if (weight.dim() == 2 && weight.size(0) > 1) CHECK(expected[next].abs().max().item<double>() > 0.01);
          ++next;
        }
      }
    }
}

TEST_CASE("mlp pass: in float32 autograd's gradients, of few outputs and many, of widths that fill no vector") {
  constexpr double kFloat = 1e-5;  // of the largest, sums of 1,100 samples
  for (const std::int64_t actions : {3, 17})
    for (const std::int64_t width : {520, 532}) {
      CAPTURE(actions);
      CAPTURE(width);
      Architecture architecture;
      architecture.observation = 11;
      architecture.width = width;
      architecture.actions = actions;
      Initialization initialization;
      initialization.policy_gain = 1;
      Policy policy = make_policy(architecture, initialization, at::kCPU);
      const at::Tensor of_mean = at::randn({1100, actions}), of_value = at::randn({1100});
      // Eighths: their sums of products are exact, so that rounding does not decide on which side of 0 one is.
      const auto eighths = [](const at::Tensor& of) { return of.mul(8).round() / 8; };
      const at::Tensor x = eighths(at::randn({1100, 11}));
      for (const auto* weights : {&policy.actor, &policy.critic}) {
        for (const at::Tensor& weight : weights->tensors()) weight.detach().copy_(eighths(at::randn_like(weight)));
      }
      Policy exact = policy;
      exact.actor = policy.actor.to(at::kCPU, at::kDouble);
      exact.critic = policy.critic.to(at::kCPU, at::kDouble);
      for (Policy* of : {&policy, &exact}) {
        of->actor.require_grad(true);
        of->critic.require_grad(true);
        zero(*of);
      }
      const Outputs outputs = forward(exact, x.to(at::kDouble), false);
      (outputs.mean * of_mean).sum().backward();
      (outputs.value * of_value).sum().backward();
      MlpPass pass(policy, x.size(0), /*bf16=*/false);
      pass.run(
          x, [&](const at::Tensor&) { return of_mean; }, [&](const at::Tensor&) { return of_value; });
      for (const auto& [found, expected] :
           {std::pair{&policy.actor, &exact.actor}, std::pair{&policy.critic, &exact.critic}}) {
        for (std::size_t i = 0; i < found->tensors().size(); ++i) {
          const at::Tensor of = expected->tensors()[i].grad();
          if (of.abs().max().item<double>() > 0) {
            CHECK(tests::deviation(found->tensors()[i].grad(), of) < kFloat);
          }
        }
      }
    }
}

TEST_CASE("mlp pass: in bf16 what forward() gives under autocast, and autograd's gradients but for their roundings") {
  constexpr double kRoundings = 2e-2;  // of bfloat16's 8 bits, sums of 300 samples
  Architecture architecture;
  architecture.observation = 11;
  architecture.width = 24;
  architecture.actions = 3;
  Initialization initialization;
  initialization.policy_gain = 1;
  Policy policy = make_policy(architecture, initialization, at::kCPU);
  policy.actor.require_grad(true);
  policy.critic.require_grad(true);
  const at::Tensor x = at::randn({300, 11});
  zero(policy);
  const Outputs outputs = forward(policy, x, /*bf16=*/true);
  loss_of(outputs).backward();
  std::vector<at::Tensor> expected;
  for (const auto* weights : {&policy.actor, &policy.critic}) {
    for (const at::Tensor& weight : weights->tensors()) expected.push_back(weight.grad().clone());
  }
  zero(policy);
  MlpPass pass(policy, x.size(0), /*bf16=*/true);
  const Outputs now = pass.forward(x);
  CHECK(now.mean.equal(outputs.mean));
  CHECK(now.value.equal(outputs.value));
  loss_of(now).backward();
  pass.backward(now.mean.grad(), now.value.grad());
  std::size_t next = 0;
  for (const auto* weights : {&policy.actor, &policy.critic}) {
    for (const at::Tensor& weight : weights->tensors()) {
      CHECK((weight.grad().scalar_type() == at::kFloat));
      const double length = expected[next].norm().item<double>();
      CHECK((weight.grad() - expected[next]).norm().item<double>() <= kRoundings * length);
      ++next;
    }
  }
}

}  // namespace ristretto::agents
