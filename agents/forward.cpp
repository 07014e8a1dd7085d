#include "agents/forward.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <string>

namespace ristretto::agents {
namespace {

class Autocast {
 public:
  Autocast(bool on, at::DeviceType device) : on_(on), device_(device) {
    if (!on_) return;
    was_on_ = at::autocast::is_autocast_enabled(device_);
    was_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  }
  ~Autocast() {
    if (!on_) return;
    at::autocast::set_autocast_enabled(device_, was_on_);
    at::autocast::set_autocast_dtype(device_, was_);
    at::autocast::clear_cache();  // the weights' bf16 copies are of this pass; the optimizer will change the weights
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool on_, was_on_ = false;
  at::DeviceType device_;
  at::ScalarType was_ = at::kBFloat16;
};

}  // namespace

Outputs forward(const Policy& policy, const Input& input, bool bf16) {
  const Autocast autocast(bf16, input.samples().device().type());
  return {actor_mean(policy.actor, policy.architecture, input),
          critic_value(policy.critic, policy.architecture, input)};
}

void run_networks(const Policy& policy, const Input& input, bool bf16, const Gradient& of_mean,
                  const Gradient& of_value) {
  const auto through = [&](Part part) {
    const at::AutoGradMode with_graph(true);  // of this thread
    at::Tensor out;
    {
      const Autocast autocast(bf16, input.samples().device().type());
      out = part == Part::actor ? actor_mean(policy.actor, policy.architecture, input)
                                : critic_value(policy.critic, policy.architecture, input);
    }
    out.backward((part == Part::actor ? of_mean : of_value)(out.detach()));
  };
  // One after the other where more threads fill one product; of two each has a network, and waits for no share.
  if (at::get_num_threads() > 2) {
    through(Part::actor);
    through(Part::critic);
    return;
  }
  at::parallel_for(0, 2, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) through(i == 0 ? Part::actor : Part::critic);
  });
}

at::Tensor log_std_of(const Policy& policy) {
  if (policy.architecture.distribution == Distribution::categorical) return {};
  return policy.actor.at("a_std_log").expand({1, policy.architecture.actions});
}

FrozenNetwork::FrozenNetwork(const ft_transformer::Weights& weights, const Architecture& architecture, Part part,
                             bool bf16)
    : weights_(weights), architecture_(architecture), part_(part), bf16_(bf16) {
  if (architecture.network != Network::mlp || !weights.begin()->second.is_cpu()) return;
  const at::NoGradGuard no_grad;
  const auto factor = [&](const std::string& name) {
    const at::Tensor& weight = weights.at(name);
    return bf16 ? weight.to(at::kBFloat16) : weight;
  };
  for (const std::string layer : {"net.0", "net.2", "net.4"}) {
    layers_.emplace_back(factor(layer + ".weight"), factor(layer + ".bias"));
  }
}

void FrozenNetwork::encode(const at::Tensor& windows, std::int64_t most) {
  const at::NoGradGuard no_grad;
  const Autocast autocast(bf16_, windows.device().type());
  const std::int64_t count = windows.size(0), piece = most > 0 ? most : count;
  context_.reset();
  for (std::int64_t begin = 0; begin < count; begin += piece) {
    const std::int64_t rows = std::min(piece, count - begin);
    const ft_transformer::MarketContext part =
        ft_transformer::market_context(weights_, architecture_.context, windows.narrow(0, begin, rows));
    // Into one tensor at once: pieces and what they are joined to would take the room twice.
    if (!context_) {
      const auto room = [&](const at::Tensor& like) {
        std::vector<std::int64_t> sizes = like.sizes().vec();
        sizes[0] = count;
        return at::empty(sizes, like.options());
      };
      context_ = {room(part.keys), room(part.values), room(part.own)};
    }
    context_->keys.narrow(0, begin, rows).copy_(part.keys);
    context_->values.narrow(0, begin, rows).copy_(part.values);
    context_->own.narrow(0, begin, rows).copy_(part.own);
  }
}

at::Tensor FrozenNetwork::operator()(const Input& input) const {
  const at::NoGradGuard no_grad;
  if (context_) {
    RECORD_USER_SCOPE("trunk");
    const Autocast autocast(bf16_, input.account.device().type());
    const bool actor = part_ == Part::actor;
    const at::Tensor out =
        ft_transformer::read_context(weights_, architecture_.context,
                                     actor ? ft_transformer::ContextHead::actor : ft_transformer::ContextHead::critic,
                                     *context_, input.account, input.window)
            .to(input.account.scalar_type());
    return actor ? out : out.squeeze(1);
  }
  if (layers_.empty()) {
    const Autocast autocast(bf16_, input.samples().device().type());
    return part_ == Part::actor ? actor_mean(weights_, architecture_, input)
                                : critic_value(weights_, architecture_, input);
  }
  RECORD_USER_SCOPE("trunk");
  const bool relu = architecture_.activation == Activation::relu;
  at::Tensor y = bf16_ ? input.x.to(at::kBFloat16) : input.x;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const bool last = i + 1 == layers_.size();
    y = layers_[i](y, relu && !last);
    if (!relu && !last) y.tanh_();
  }
  y = y.to(input.x.scalar_type());
  return part_ == Part::actor ? y : y.squeeze(1);
}

}  // namespace ristretto::agents
