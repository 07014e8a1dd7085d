#include "agents/forward.h"

#include <ATen/autocast_mode.h>

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

at::Tensor forward_mean(const Policy& policy, const Input& input, bool bf16) {
  const Autocast autocast(bf16, input.samples().device().type());
  return actor_mean(policy.actor, policy.architecture, input);
}

at::Tensor forward_value(const Policy& policy, const Input& input, bool bf16) {
  const Autocast autocast(bf16, input.samples().device().type());
  return critic_value(policy.critic, policy.architecture, input);
}

at::Tensor log_std_of(const Policy& policy) {
  if (policy.architecture.distribution == Distribution::categorical) return {};
  return policy.actor.at("a_std_log").expand({1, policy.architecture.actions});
}

}  // namespace ristretto::agents
