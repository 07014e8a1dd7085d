// Small policies to write, and directories to write them to.
#pragma once

#include <ATen/core/Tensor.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "agents/policy.h"
#include "env/layout.h"
#include "release/deployment.h"
#include "release/directories.h"

namespace ristretto::release {

// A directory of its own, removed with all in it.
class Scratch {
 public:
  Scratch() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("ristretto_release_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~Scratch() {
    if (std::filesystem::exists(path_)) remove_tree(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline env::Layout small_layout() { return {{"BTC/USD", "ETH/USD"}, {"close", "rsi", "volume"}, 2, {-11, -8, -14}}; }

// Not symmetric in anything: a transposed weight or an exchanged column changes the answer.
inline at::Tensor some_states(std::int64_t rows, std::int64_t columns) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
  return ft_transformer::tensor_of(formats::Array::of_floats({rows, columns}, values));
}

// tag: the value of a_std_log, by which a loaded version can be told.
inline Content small_content(agents::Network network, double tag = 0.5) {
  Content content;
  content.layout = small_layout();
  content.architecture.network = network;
  content.architecture.observation = content.layout.size();
  content.architecture.width = 8;
  content.architecture.actions = 2;
  content.architecture.encoder.d_token = 4;
  content.architecture.encoder.blocks = 2;
  content.architecture.encoder.heads = 2;
  content.architecture.context.features = static_cast<std::int64_t>(content.layout.features.size());
  content.architecture.context.lookback = content.layout.lookback;
  content.architecture.context.d_token = 8;
  content.architecture.context.heads = 2;
  const agents::Policy policy =
      agents::make_policy(content.architecture, {.seed = 7, .log_std = tag, .policy_gain = 1.0}, at::kCPU);
  content.actor = policy.actor.clone();
  content.critic = policy.critic.clone();
  if (network == agents::Network::market_context) {
    ft_transformer::ContextInput input;
    using ft_transformer::Role;
    input.roles = {Role::reference, Role::plain, Role::log_product};
    input.scales = {0x1p-11, 0x1p-8, 0x1p-14};
    input.account_mean = some_states(1, 2)[0];
    input.account_std = some_states(1, 2)[0].add(700);
    input.market_mean = some_states(1, 3)[0];
    input.market_std = some_states(1, 3)[0].add(900);
    ft_transformer::MarketContextShape shape = content.architecture.context;
    shape.assets = 2;
    content.actor = ft_transformer::with_input(content.actor, shape, input);
    content.critic = ft_transformer::with_input(content.critic, shape, input);
  }
  content.rules.assets = 2;
  content.rules.lookback = 2;
  content.rules.min_qty[0] = env::minimum_quantity("BTC/USD");
  content.rules.min_qty[1] = env::minimum_quantity("ETH/USD");
  content.parameters = {{"learning_rate", 3e-4}, {"gamma", 0.97}, {"batch_size", 2048}, {"use_lr_schedule", true}};
  content.trial_number = 195;
  content.study_name = "a study";
  content.trial_value = 0.125;
  content.user_attributes = {{"sharpe_list_bot", {0.25, -0.5}}, {"timeframe", "1h"}};
  content.manifest_sections = {{"training", {{"seed", 7}}}, {"environment", {{"profile", "cappuccino"}}}};
  content.probe_states = some_states(8, content.layout.size());
  return content;
}

inline double tag_of(const Model& model) { return model.actor.at("a_std_log").const_data_ptr<float>()[0]; }

}  // namespace ristretto::release
