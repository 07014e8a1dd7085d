#include "bench/learner.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>

namespace ristretto::bench {

World world_of(const Options& options, const std::string& features, int lookback) {
  static std::map<std::string, env::Market> read;
  if (!read.count(features)) {
    read[features] = env::Market::of(env::read_bars(options.data, env::default_assets()), env::feature_set(features));
  }
  World world;
  world.market = std::make_shared<const env::Market>(read[features].to(options.device, at::kFloat));
  world.layout.assets = world.market->assets;
  world.layout.features = world.market->features;
  world.layout.lookback = lookback;
  world.rules.assets = static_cast<int>(world.market->assets.size());
  world.rules.lookback = lookback;
  world.rules.norm_reward = 1.0 / 512;
  for (int i = 0; i < world.rules.assets; ++i) world.rules.min_qty[i] = env::minimum_quantity(world.market->assets[i]);
  return world;
}

World dense_world(World world, std::int64_t samples) {
  constexpr std::int64_t kEpisodeBars = 1024;
  const env::Segment all = *std::max_element(world.market->segments.begin(), world.market->segments.end(),
                                             [](const auto& a, const auto& b) { return a.size() < b.size(); });
  const std::int64_t bars = samples * 2 / 13 + kEpisodeBars;
  world.market =
      std::make_shared<env::Market>(world.market->with_segments({{all.begin, std::min(all.end, all.begin + bars)}}));
  return world;
}

std::shared_ptr<env::Portfolios> portfolios_of(const World& world, std::int64_t count, std::int64_t first) {
  env::Portfolios::Options options;
  options.portfolios = count;
  options.first_portfolio = first;
  options.seed = kSeed;
  return std::make_shared<env::Portfolios>(world.market, world.layout, world.rules, options);
}

agents::Architecture architecture_of(const World& world, std::int64_t width) {
  agents::Architecture architecture;
  architecture.observation = world.layout.size();
  architecture.width = width;
  architecture.actions = world.rules.assets;
  return architecture;
}

agents::Architecture context_architecture(const World& world, std::int64_t width, ft_transformer::MarketTokens tokens) {
  agents::Architecture architecture = architecture_of(world, width);
  architecture.network = agents::Network::market_context;
  architecture.context.features = static_cast<std::int64_t>(world.layout.features.size());
  architecture.context.lookback = world.layout.lookback;
  architecture.context.tokens = tokens;
  return architecture;
}

Learner::Learner(const World& of, std::int64_t count, const agents::Architecture& architecture,
                 const agents::PpoSettings& settings)
    : world(of),
      portfolios(portfolios_of(world, count)),
      normalizer(*world.market, world.layout,
                 {at::zeros({portfolios->account_size()}, at::kDouble),
                  at::ones({portfolios->account_size()}, at::kDouble), 1},
                 architecture.network),
      policy(agents::make_policy(architecture, {}, world.market->price.device())),
      optimizer(
          [this] {
            std::vector<at::Tensor> all;
            for (const auto* weights : {&policy.actor, &policy.critic}) {
              for (const auto& [name, weight] : *weights) all.push_back(weight);
            }
            return all;
          }(),
          {}),
      rewards(count, settings.gamma),
      ppo(policy, normalizer, optimizer, settings) {}

agents::Rollout Learner::collect(std::int64_t horizon) {
  return agents::collect(*portfolios, policy, normalizer, horizon, kSeed, iteration * horizon, 0, ppo.settings().bf16);
}

agents::UpdateMetrics Learner::update(const agents::Rollout& rollout) {
  const at::Tensor reward = rewards.normalize(rollout.reward, rollout.terminated.logical_or(rollout.truncated));
  return ppo.update(rollout, reward, 3e-4, 0.2, kSeed, iteration++);
}

agents::UpdateMetrics Learner::iterate(std::int64_t horizon) {
  const agents::Rollout rollout = collect(horizon);
  const agents::UpdateMetrics metrics = update(rollout);
  require(metrics.finite, "training left the finite numbers");
  normalizer.update_account(rollout.account, rollout.bar);
  return metrics;
}

}  // namespace ristretto::bench
