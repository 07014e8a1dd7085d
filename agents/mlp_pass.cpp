#include "agents/mlp_pass.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/record_function.h>

namespace ristretto::agents {
namespace {

constexpr std::int64_t kMostRows = 256;

// Both at once: within a parallel region the products are of one thread each.
template <class First, class Second>
void at_once(const First& first, const Second& second) {
  at::parallel_for(0, 2, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (std::int64_t i = begin; i < end; ++i) i == 0 ? first() : second();
  });
}

at::Tensor linear(const ft_transformer::Weights& weights, const char* layer, const at::Tensor& x) {
  return at::addmm(weights.at(std::string(layer) + ".bias"), x, weights.at(std::string(layer) + ".weight").t());
}

// dy [B, out] and x [B, in] of y = x W^T + b.
void add_gradients(const ft_transformer::Weights& weights, const char* layer, const at::Tensor& dy,
                   const at::Tensor& x) {
  weights.at(std::string(layer) + ".weight").mutable_grad().addmm_(dy.t(), x);
  weights.at(std::string(layer) + ".bias").mutable_grad().add_(dy.sum(0));
}

}  // namespace

bool MlpPass::pays(const Policy& policy, const at::Tensor& x) {
  return policy.architecture.network == agents::Network::mlp && x.is_cpu() && x.size(0) <= kMostRows;
}

MlpPass::MlpPass(const Policy& policy, const at::Tensor& x)
    : activation_(policy.architecture.activation),
      x_(x),
      actor_{&policy.actor, {}, {}, {}},
      critic_{&policy.critic, {}, {}, {}} {
  RECORD_USER_SCOPE("trunk");
  at_once([&] { run(actor_); }, [&] { run(critic_); });
  outputs_.mean = actor_.out.detach().set_requires_grad(true);
  outputs_.value = critic_.out.squeeze(1).detach().set_requires_grad(true);
}

at::Tensor MlpPass::activate(at::Tensor z) const { return activation_ == Activation::relu ? z.relu_() : z.tanh_(); }

at::Tensor MlpPass::back_through(const at::Tensor& gradient, const at::Tensor& activation) const {
  return activation_ == Activation::relu ? at::threshold_backward(gradient, activation, 0)
                                         : at::tanh_backward(gradient, activation);
}

void MlpPass::run(Network& network) const {
  network.first = activate(linear(*network.weights, "net.0", x_));
  network.second = activate(linear(*network.weights, "net.2", network.first));
  network.out = linear(*network.weights, "net.4", network.second);
}

void MlpPass::run_back(const Network& network, const at::Tensor& gradient) const {
  const ft_transformer::Weights& weights = *network.weights;
  add_gradients(weights, "net.4", gradient, network.second);
  const at::Tensor second = back_through(at::mm(gradient, weights.at("net.4.weight")), network.second);
  add_gradients(weights, "net.2", second, network.first);
  const at::Tensor first = back_through(at::mm(second, weights.at("net.2.weight")), network.first);
  add_gradients(weights, "net.0", first, x_);
}

void MlpPass::backward() const {
  RECORD_USER_SCOPE("trunk");
  const at::Tensor mean = outputs_.mean.grad(), value = outputs_.value.grad().unsqueeze(1);
  at_once([&] { run_back(actor_, mean); }, [&] { run_back(critic_, value); });
}

}  // namespace ristretto::agents
