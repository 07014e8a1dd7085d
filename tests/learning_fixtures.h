// Small markets, policies and rollouts of random numbers for the tests of agents/.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <numeric>
#include <string>
#include <vector>

#include "agents/normalizer.h"
#include "agents/policy.h"
#include "agents/rollout.h"

namespace ristretto::tests {

inline at::Generator generator(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

// The largest error, of the largest number expected.
inline double deviation(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor exact = expected.detach().to(at::kDouble);
  return (found.detach().to(at::kDouble) - exact).abs().max().item<double>() / exact.abs().max().item<double>();
}

inline env::Layout small_layout(int lookback) {
  return {{"BTC/USD", "ETH/USD"}, {"close", "rsi", "volume"}, lookback, {}};
}

// Prices in ten thousands, an oscillator around 50, a small volume; asset-major.
inline env::Market small_market(const env::Layout& layout, std::int64_t rows, std::uint64_t seed) {
  const at::Tensor noise = at::randn({rows, 3 * layout.assets_count()}, generator(seed));
  const std::vector<double> center{40000, 50, 7}, width{9000, 15, 2};
  std::vector<double> mean, std;
  for (std::int64_t asset = 0; asset < layout.assets_count(); ++asset) {
    mean.insert(mean.end(), center.begin(), center.end());
    std.insert(std.end(), width.begin(), width.end());
  }
  env::Market market;
  market.assets = layout.assets;
  market.features = layout.features;
  market.time.resize(rows);
  std::iota(market.time.begin(), market.time.end(), 0);
  market.tech = noise * at::tensor(std, at::kFloat) + at::tensor(mean, at::kFloat);
  market.price = market.tech.to(at::kDouble).slice(1, 0, {}, 3).abs() + 1;
  market.segments = {{0, rows}};
  return market;
}

inline agents::RunningMoments account_prior(const env::Layout& layout) {
  const std::int64_t size = 1 + layout.assets_count();
  return {at::zeros({size}, at::kDouble), at::ones({size}, at::kDouble), 1};
}

inline at::Tensor random_accounts(std::int64_t count, const env::Layout& layout, std::uint64_t seed) {
  const at::Generator numbers = generator(seed);
  return at::cat({at::rand({count, 1}, numbers) * 1e5, at::rand({count, layout.assets_count()}, numbers) * 3}, 1);
}

inline agents::Architecture small_architecture(agents::Network network, const env::Layout& layout) {
  agents::Architecture architecture;
  architecture.network = network;
  architecture.observation = layout.size();
  architecture.width = 24;
  architecture.actions = layout.assets_count();
  architecture.encoder.d_token = 16;
  architecture.encoder.blocks = 2;
  architecture.encoder.heads = 4;
  architecture.context.features = static_cast<std::int64_t>(layout.features.size());
  architecture.context.lookback = layout.lookback;
  architecture.context.d_token = 16;
  architecture.context.heads = 4;
  return architecture;
}

inline std::vector<at::Tensor> parameters_of(const agents::Policy& policy) {
  std::vector<at::Tensor> out = policy.actor.tensors();
  for (const at::Tensor& tensor : policy.critic.tensors()) out.push_back(tensor);
  return out;
}

}  // namespace ristretto::tests
