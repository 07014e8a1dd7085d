#include "env/signature.h"

#include <ATen/ops/empty.h>

#include <cstring>

#include "env/counter_random.h"
#include "env/environment.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr std::uint64_t kSeed = 20210404;  // the first day of the bundled bars
constexpr std::int64_t kBars = 600, kAssets = 5, kPortfolios = 48, kSteps = 400;

double unit(Stream stream, std::uint64_t world, std::uint64_t step) {
  return static_cast<double>(random4(kSeed, stream, world, step, 0).word[0]) / 4294967296.0;
}

void hash_bits(std::uint64_t& hash, const at::Tensor& tensor) {
  const at::Tensor bytes = tensor.to(at::kCPU).contiguous();
  const auto* data = static_cast<const unsigned char*>(bytes.const_data_ptr());
  for (std::size_t i = 0; i < bytes.nbytes(); ++i) hash = (hash ^ data[i]) * 1099511628211ULL;
}

}  // namespace

std::uint64_t signature(c10::Device device, c10::ScalarType type) {
  auto market = std::make_shared<Market>();
  Layout layout;
  layout.lookback = 2;
  layout.features = {"close"};
  for (std::int64_t i = 0; i < kAssets; ++i) layout.assets.push_back(str("asset ", i));
  market->assets = layout.assets;
  market->features = layout.features;
  market->time.resize(kBars);
  market->price = at::empty({kBars, kAssets}, at::TensorOptions().dtype(at::kDouble));
  market->tech = market->price;
  market->segments = {{0, 250}, {250, 257}, {257, kBars}};
  double* price = market->price.data_ptr<double>();
  for (std::int64_t i = 0; i < kAssets; ++i) {
    double p = 2.0 + 50.0 * static_cast<double>(i);
    for (std::int64_t t = 0; t < kBars; ++t) {
      p *= 1.0 + 0.04 * (unit(Stream::uniform, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(t)) - 0.498);
      price[t * kAssets + i] = t % 97 == 50 + i ? 0.0 : p;  // a price of 0 now and then
    }
  }
  market->price = market->price.to(device, type);
  market->tech = market->price;
  Rules rules;
  rules.assets = kAssets;
  rules.lookback = layout.lookback;
  rules.norm_action = 10;
  rules.min_cash_reserve = 0.1;
  rules.trailing_stop_pct = 0.05;
  rules.time_decay_floor = 0.3;
  rules.norm_reward = 1.0 / 512;
  rules.concentration_penalty = 0.05;
  rules.max_drawdown_penalty = 0.05;
  rules.volatility_penalty = 0.02;
  for (std::int64_t i = 0; i < kAssets; ++i) rules.min_qty[i] = 0.01;

  Portfolios::Options options;
  options.portfolios = kPortfolios;
  options.seed = kSeed;
  options.episode_bars = 128;
  Portfolios portfolios(market, layout, rules, options);
  at::Tensor action = at::empty({kPortfolios, kAssets}, at::TensorOptions().dtype(at::kFloat));
  std::uint64_t hash = 14695981039346656037ULL;
  for (std::int64_t t = 0; t < kSteps; ++t) {
    float* a = action.data_ptr<float>();
    for (std::int64_t k = 0; k < kPortfolios * kAssets; ++k) {
      const double u = unit(Stream::action_noise, static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(t));
      a[k] = static_cast<float>(2 * u - 1) * (t % 200 < 60 ? 0.0f : 1.0f);  // quiet stretches let forced sales come
    }
    const Transition transition = portfolios.step(action);
    const Accounts& accounts = portfolios.accounts();
    for (const at::Tensor& part :
         {transition.reward, transition.truncated, accounts.cash, accounts.holding, accounts.peak, accounts.cooldown,
          accounts.bar, accounts.value, accounts.fees, accounts.turnover}) {
      hash_bits(hash, part);
    }
  }
  return hash;
}

}  // namespace ristretto::env
