// Worlds over the bundled bars, and what learns in them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agents/ppo.h"
#include "bench/measure.h"
#include "env/environment.h"

namespace ristretto::bench {

inline constexpr std::uint64_t kSeed = 1;

struct World {
  std::shared_ptr<const env::Market> market;
  env::Layout layout;
  env::Rules rules;
};
// The bundled bars in float32, and the rules that models are served under.
World world_of(const Options& options, const std::string& features, int lookback);
// So few bars that `samples` are 6.5 a bar, as 131,072 samples of 20,000 bars have: portfolios start anywhere in them.
World dense_world(World world, std::int64_t samples);
// `count` of them, the first of which is number `first` in the counter-based random numbers.
std::shared_ptr<env::Portfolios> portfolios_of(const World& world, std::int64_t count, std::int64_t first = 0);

// An MLP of two hidden layers.
agents::Architecture architecture_of(const World& world, std::int64_t width);
agents::Architecture context_architecture(const World& world, std::int64_t width, ft_transformer::MarketTokens tokens);

// Everything that a trainer owns, over the bundled bars.
struct Learner {
  Learner(const World& of, std::int64_t count, const agents::Architecture& architecture,
          const agents::PpoSettings& settings);
  Learner(const Learner&) = delete;  // its parts refer to each other
  Learner& operator=(const Learner&) = delete;

  agents::Rollout collect(std::int64_t horizon);
  agents::UpdateMetrics update(const agents::Rollout& rollout);
  // Both, and what a trainer does after them.
  agents::UpdateMetrics iterate(std::int64_t horizon);

  World world;
  std::shared_ptr<env::Portfolios> portfolios;
  agents::Normalizer normalizer;
  agents::Policy policy;
  agents::Optimizer optimizer;
  agents::RewardNormalizer rewards;
  agents::Ppo ppo;
  std::int64_t iteration = 0;
};

}  // namespace ristretto::bench
