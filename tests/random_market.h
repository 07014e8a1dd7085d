// A market of random walks with gaps, for the tests of evaluation/.
#pragma once

#include <ATen/ops/empty.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "env/layout.h"
#include "env/market.h"
#include "env/step.h"

namespace ristretto::tests {

inline constexpr std::int64_t kMarketStart = 1640995200;  // 2022-01-01
inline constexpr std::int64_t kGapHours = 7;

// Segments of these lengths, kGapHours apart; hourly log returns of mean `drift` and deviation 1 %. The features are
// the close and the last return, which a model needs not compute again: no warm-up rows.
inline env::Market random_market(std::vector<std::int64_t> lengths, int assets = 3, double drift = 0,
                                 unsigned seed = 1) {
  env::Market market;
  for (int i = 0; i < assets; ++i) market.assets.push_back(env::default_assets().at(static_cast<std::size_t>(i)));
  market.features = {"close", "volume"};
  std::int64_t rows = 0, time = kMarketStart;
  for (const std::int64_t length : lengths) {
    market.segments.push_back({rows, rows + length});
    rows += length;
    for (std::int64_t k = 0; k < length; ++k, time += 3600) market.time.push_back(time);
    time += (kGapHours - 1) * 3600;
  }
  market.price = at::empty({rows, assets}, at::kDouble);
  market.tech = at::empty({rows, 2 * assets}, at::kFloat);
  std::mt19937 random(seed);
  std::normal_distribution<double> step(drift, 0.01), volume(0, 1);
  for (std::int64_t i = 0; i < assets; ++i) {
    double price = 20.0 * static_cast<double>(i + 1);
    for (std::int64_t row = 0; row < rows; ++row) {
      price *= std::exp(step(random));
      market.price.mutable_data_ptr<double>()[row * assets + i] = price;
      market.tech.mutable_data_ptr<float>()[(row * assets + i) * 2] = static_cast<float>(price);
      market.tech.mutable_data_ptr<float>()[(row * assets + i) * 2 + 1] = static_cast<float>(volume(random));
    }
  }
  return market;
}

inline env::Layout layout_of(const env::Market& market, int lookback = 1) {
  return {market.assets, market.features, lookback, {}};
}

inline env::Rules rules_of(const env::Market& market, int lookback = 1) {
  env::Rules rules;
  rules.assets = static_cast<int>(market.assets.size());
  rules.lookback = lookback;
  for (std::size_t i = 0; i < market.assets.size(); ++i) rules.min_qty[i] = env::minimum_quantity(market.assets[i]);
  return rules;
}

}  // namespace ristretto::tests
