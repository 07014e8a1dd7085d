#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "env/counter_random.h"
#include "env/environment.h"
#include "env/observation_rows.h"
#include "env/random.h"
#include "env/rows_kernel.h"
#include "env/signature.h"
#include "env/step_launch.h"
#include "platform/error.h"
#include "platform/instruction_sets.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

// Sums of a few doubles of about 500: rounding is below 1e-12 of that.
constexpr double kRounding = 1e-9;

// n assets at constant prices 10, 20, 30 ... over `bars` bars.
std::shared_ptr<Market> flat_market(std::int64_t bars, std::int64_t n, at::ScalarType real = at::kDouble) {
  auto market = std::make_shared<Market>();
  market->features = {"close"};
  market->time.resize(static_cast<std::size_t>(bars));
  for (std::int64_t i = 0; i < n; ++i) market->assets.push_back(str("A", i));
  market->price = at::zeros({bars, n}, at::TensorOptions().dtype(at::kDouble));
  for (std::int64_t i = 0; i < n; ++i) market->price.select(1, i).fill_(10.0 * static_cast<double>(i + 1));
  market->price = market->price.to(real);
  market->tech = market->price;
  market->segments = {{0, bars}};
  return market;
}

// The same with prices that move.
std::shared_ptr<Market> moving_market(std::int64_t bars, std::int64_t n, at::ScalarType real = at::kDouble) {
  auto market = flat_market(bars, n);
  double* price = market->price.data_ptr<double>();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t t = 1; t < bars; ++t) {
      const double u =
          random4(1, Stream::uniform, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(t), 0).word[0] /
          4294967296.0;
      price[t * n + i] = price[(t - 1) * n + i] * (1 + 0.04 * (u - 0.5));
    }
  }
  market->price = market->price.to(real);
  return market;
}

Layout layout_of(const Market& market, int lookback = 1) {
  Layout layout;
  layout.assets = market.assets;
  layout.features = market.features;
  layout.lookback = lookback;
  return layout;
}

Rules plain_rules(const Market& market, int lookback = 1) {
  Rules rules;
  rules.assets = static_cast<int>(market.assets.size());
  rules.lookback = lookback;
  rules.norm_action = 10;
  rules.max_position_fraction = 0;
  for (int i = 0; i < rules.assets; ++i) rules.min_qty[i] = 0.01;
  return rules;
}

Portfolios one_account(const std::shared_ptr<Market>& market, const Rules& rules) {
  Portfolios::Options options;
  options.windows = {market->segments[0]};
  return Portfolios(market, layout_of(*market, rules.lookback), rules, options);
}

at::Tensor actions(std::vector<float> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return at::tensor(values).reshape({1, n});
}

double cash(const Portfolios& p) { return p.accounts().cash[0].item<double>(); }
double holding(const Portfolios& p, std::int64_t i) { return p.accounts().holding[i][0].item<double>(); }

at::Tensor random_actions(std::int64_t worlds, std::int64_t n, std::int64_t step) {
  return uniform(worlds, n, 7, step, at::kCPU) * 2 - 1;
}

}  // namespace

TEST_CASE("step: an order is the action times capital over first price and norm_action, with the fee on top") {
  auto market = flat_market(20, 2);
  Portfolios p = one_account(market, plain_rules(*market));
  p.step(actions({0.5f, 0.0f}));
  CHECK(holding(p, 0) == doctest::Approx(0.5 * 500 / (10 * 10)));  // 2.5 units of 10
  CHECK(cash(p) == doctest::Approx(500 - 25 * 1.0025).epsilon(kRounding));
  p.step(actions({-0.2f, 0.0f}));
  CHECK(holding(p, 0) == doctest::Approx(1.5).epsilon(1e-6));
  CHECK(cash(p) == doctest::Approx(500 - 25 * 1.0025 + 10 * 0.9975).epsilon(1e-6));
  CHECK(p.accounts().orders[0].item<int>() == 2);
  CHECK(p.accounts().fees[0].item<double>() == doctest::Approx(0.0025 * 35).epsilon(1e-6));
  CHECK(p.accounts().turnover[0].item<double>() == doctest::Approx(35).epsilon(1e-6));
}

TEST_CASE("step: an order at or below the minimum quantity does nothing") {
  auto market = flat_market(20, 1);
  Rules rules = plain_rules(*market);
  rules.min_qty[0] = 2.5;
  Portfolios p = one_account(market, rules);
  p.step(actions({0.5f}));
  CHECK(holding(p, 0) == 0);
  p.step(actions({0.51f}));
  CHECK(holding(p, 0) > 2.5);
  const double held = holding(p, 0);
  p.step(actions({-0.49f}));
  CHECK(holding(p, 0) == held);
}

TEST_CASE("step: buys take 99 % of the available cash at most, in asset order, and the reserve is kept") {
  auto market = flat_market(20, 2);
  Rules rules = plain_rules(*market);
  rules.norm_action = 1;  // one order may ask for all of the capital
  rules.min_cash_reserve = 0.2;
  Portfolios p = one_account(market, rules);
  p.step(actions({1.0f, 1.0f}));
  const double first = 0.99 * 400 / 1.0025 / 10;
  CHECK(holding(p, 0) == doctest::Approx(first).epsilon(kRounding));
  const double left = 500 - first * 10 * 1.0025;
  CHECK(holding(p, 1) == doctest::Approx(0.99 * (left - 100) / 1.0025 / 20).epsilon(kRounding));
  CHECK(cash(p) >= 100);
}

TEST_CASE("step: a holding of 48 bars without a sale sells 5 %, also where the price is 0") {
  auto market = flat_market(120, 1);
  Portfolios p = one_account(market, plain_rules(*market));
  p.step(actions({1.0f}));
  const double held = holding(p, 0);
  for (int bar = 0; bar < 47; ++bar) p.step(actions({0.0f}));
  CHECK(holding(p, 0) == held);
  const double before = cash(p);
  p.step(actions({0.0f}));
  CHECK(holding(p, 0) == doctest::Approx(0.95 * held).epsilon(kRounding));
  CHECK(cash(p) == doctest::Approx(before + 0.05 * held * 10 * 0.9975).epsilon(kRounding));
  market->price.select(0, 49 + 48).fill_(0.0);
  for (int bar = 0; bar < 47; ++bar) p.step(actions({0.0f}));
  const double cash_then = cash(p), held_then = holding(p, 0);
  p.step(actions({0.0f}));
  CHECK(holding(p, 0) == doctest::Approx(0.95 * held_then).epsilon(kRounding));
  CHECK(cash(p) == cash_then);
}

TEST_CASE("step: a trailing stop sells the whole holding below its peak") {
  auto market = flat_market(20, 1);
  market->price[3].fill_(12.0);
  market->price.narrow(0, 4, 16).fill_(10.9);
  Rules rules = plain_rules(*market);
  rules.trailing_stop_pct = 0.1;  // 12 * 0.9 = 10.8 < 10.9: holds
  Portfolios p = one_account(market, rules);
  for (int bar = 0; bar < 5; ++bar) p.step(actions({bar == 0 ? 1.0f : 0.0f}));
  CHECK(holding(p, 0) > 0);
  market->price.narrow(0, 6, 14).fill_(10.7);
  p.step(actions({0.0f}));
  CHECK(holding(p, 0) == 0);
}

TEST_CASE("step: the position limit cuts an order so that no position passes its share of the value") {
  auto market = flat_market(20, 2);
  Rules rules = plain_rules(*market);
  rules.norm_action = 1;
  rules.max_position_fraction = 0.3;
  Portfolios p = one_account(market, rules);
  p.step(actions({1.0f, 0.0f}));
  CHECK(holding(p, 0) * 10 == doctest::Approx(150).epsilon(kRounding));
  p.step(actions({1.0f, 0.0f}));
  CHECK(holding(p, 0) * 10 <= 150 + 1e-9);
}

TEST_CASE("step: an account that cannot hold more than its cash never goes negative under random orders") {
  auto market = moving_market(400, 7, at::kFloat);
  Rules rules = plain_rules(*market);
  rules.norm_action = 2;
  Portfolios::Options options;
  options.portfolios = 40;
  Portfolios p(market, layout_of(*market), rules, options);
  for (int t = 0; t < 300; ++t) {
    p.step(random_actions(40, 7, t) * 3);
    REQUIRE(p.accounts().cash.min().item<double>() >= 0);
    REQUIRE(p.accounts().holding.min().item<double>() >= 0);
  }
}

TEST_CASE("step: all instruction sets and the scalar text give equal bits") {
  constexpr std::int64_t kN = 37, kBars = 200;
  const auto run = [&](auto real, std::int64_t assets, auto step_range) {
    using R = decltype(real);
    auto market = moving_market(kBars, assets, std::is_same_v<R, double> ? at::kDouble : at::kFloat);
    std::vector<R> cash(kN), value(kN), benchmark(kN), fees(kN), turnover(kN), value_peak(kN), sum(kN);
    const auto held_numbers = static_cast<std::size_t>(assets * kN), seen_numbers = held_numbers + kN;
    std::vector<R> held(held_numbers), peak(held_numbers), units(held_numbers), returns(kVolatilityBars * kN);
    std::vector<std::uint8_t> cooldown(held_numbers);
    std::vector<std::int32_t> orders(kN), bar(kN), begin(kN), rows(kN), before(kN);
    std::vector<std::int64_t> episode(kN);
    std::vector<float> reward(kN), account_before(seen_numbers), account_now(seen_numbers);
    std::vector<char> terminated(kN), truncated(kN);
    std::vector<float> rewards;
    const std::int32_t segment_begin = 0, segment_end = kBars;
    const std::int64_t cumulative = kBars - 64 + 1;
    std::int32_t bad = 0;
    Batch<R> b{};
    b.portfolios = kN;
    b.rules = plain_rules(*market, 2);
    b.rules.min_cash_reserve = 0.1;
    b.rules.concentration_penalty = 0.05;
    b.rules.trailing_stop_pct = 0.02;
    b.rules.max_position_fraction = 0.3;
    b.rules.max_drawdown_penalty = 0.1;
    b.rules.volatility_penalty = 0.1;
    b.rules.time_decay_floor = 0.2;
    b.seed = 3;
    b.price = market->price.template data_ptr<R>();
    b.segment_begin = &segment_begin;
    b.segment_end = &segment_end;
    b.starts_cumulative = &cumulative;
    b.segments = 1;
    b.episode_bars = 64;
    b.cash = cash.data(), b.value = value.data(), b.benchmark = benchmark.data(), b.fees = fees.data();
    b.turnover = turnover.data(), b.value_peak = value_peak.data(), b.discounted_sum = sum.data();
    b.holding = held.data(), b.peak = peak.data(), b.capital_units = units.data(), b.returns = returns.data();
    b.cooldown = cooldown.data(), b.orders = orders.data(), b.bar_from = b.bar = bar.data();
    b.window_begin = begin.data(), b.window_rows = rows.data(), b.episode = episode.data();
    b.reward = reward.data(), b.bar_before_reset = before.data();
    b.account_before_reset = account_before.data(), b.account_now = account_now.data();
    b.terminated = reinterpret_cast<bool*>(terminated.data()), b.truncated = reinterpret_cast<bool*>(truncated.data());
    b.bad_action = &bad;
    for (std::int64_t k = 0; k < kN; ++k) begin_episode<R>(b, k);
    for (int t = 0; t < 150; ++t) {
      at::Tensor action = random_actions(kN, assets, t).contiguous();
      if (t % 10 == 3) action.masked_fill_(action > 0.5, std::numeric_limits<float>::quiet_NaN());
      b.action = action.template data_ptr<float>();
      b.past_caches = t % 2 == 0;
      step_range(b, 0, kN);
      rewards.insert(rewards.end(), reward.begin(), reward.end());
      rewards.insert(rewards.end(), account_now.begin(), account_now.end());
    }
    return rewards;
  };
  const auto scalar = [](const auto& b, std::int64_t begin, std::int64_t end) {
    using R = std::remove_const_t<std::remove_pointer_t<decltype(b.price)>>;
    for (std::int64_t k = begin; k < end; ++k) step_lanes<R, R, 1>(b, k);
  };
  const auto check_all = [&](auto real, std::int64_t assets) {
    CAPTURE(assets);
    const std::vector<float> reference = run(real, assets, scalar);
    CHECK(run(real, assets, [](const auto& b, std::int64_t s, std::int64_t e) { baseline::step_range(b, s, e); }) ==
          reference);
#if defined(__x86_64__)
    if (has_avx2()) {
      CHECK(run(real, assets, [](const auto& b, std::int64_t s, std::int64_t e) { avx2::step_range(b, s, e); }) ==
            reference);
    }
    if (has_avx512()) {
      CHECK(run(real, assets, [](const auto& b, std::int64_t s, std::int64_t e) { avx512::step_range(b, s, e); }) ==
            reference);
    }
#endif
  };
  for (const std::int64_t assets : {1, 3, 4, 6, 7, 8, 32}) {
    check_all(0.0f, assets);
    check_all(0.0, assets);
  }
}

TEST_CASE("environment: results do not depend on threads or on how portfolios are batched") {
  auto market = moving_market(3000, 3, at::kFloat);
  const Rules rules = plain_rules(*market);
  Portfolios::Options whole;
  whole.portfolios = 10000;
  whole.episode_bars = 100;
  Portfolios::Options half = whole;
  half.portfolios = 5000;
  half.first_portfolio = 5000;
  const int threads = at::get_num_threads();
  Portfolios a(market, layout_of(*market), rules, whole), b(market, layout_of(*market), rules, half);
  for (int t = 0; t < 120; ++t) {
    const at::Tensor action = random_actions(10000, 3, t);
    at::set_num_threads(t % 2 == 0 ? 1 : 2);
    const Transition all = a.step(action);
    const Transition upper = b.step(action.narrow(0, 5000, 5000));
    REQUIRE(at::equal(all.reward.narrow(0, 5000, 5000), upper.reward));
    REQUIRE(at::equal(all.truncated.narrow(0, 5000, 5000), upper.truncated));
  }
  at::set_num_threads(threads);
}

TEST_CASE("environment: an episode's end is a truncation, and the next observation is the new episode's") {
  auto market = moving_market(500, 2);
  const Rules rules = plain_rules(*market, 3);
  Portfolios::Options options;
  options.portfolios = 20;
  options.episode_bars = 50;
  Portfolios p(market, layout_of(*market, 3), rules, options);
  std::vector<int> length(20, 0);
  int whole_episodes = 0;
  std::vector<bool> begun(20, false);
  for (int t = 0; t < 200; ++t) {
    const Transition step = p.step(random_actions(20, 2, t));
    for (std::int64_t k = 0; k < 20; ++k) {
      ++length[k];
      CHECK_FALSE(step.terminated[k].item<bool>());
      if (!step.truncated[k].item<bool>()) {
        CHECK(step.last.bar[k].item<int>() == p.observe().bar[k].item<int>());
        continue;
      }
      if (begun[k]) {
        CHECK(length[k] == 50 - 2 * 3);  // from t = L-1 to T-L-1
        ++whole_episodes;
      }
      begun[k] = true;
      length[k] = 0;
      CHECK(p.observe().account[k][0].item<float>() == 500.0f);
      CHECK(p.observe().account[k][1].item<float>() == 0.0f);
      CHECK(step.last.account[k][0].item<float>() != 500.0f);
    }
  }
  CHECK(whole_episodes > 20);
}

TEST_CASE("environment: no episode crosses a gap") {
  auto market = moving_market(300, 2);
  market->segments = {{0, 90}, {90, 110}, {110, 300}};
  const Rules rules = plain_rules(*market, 2);
  Portfolios::Options options;
  options.portfolios = 200;
  options.episode_bars = 64;
  Portfolios p(market, layout_of(*market, 2), rules, options);
  at::Tensor before = p.observe().bar.clone();
  bool visited_short = false;
  for (int t = 0; t < 150; ++t) {
    const Transition step = p.step(random_actions(200, 2, t));
    for (std::int64_t k = 0; k < 200; ++k) {
      const int from = before[k].item<int>(), to = step.last.bar[k].item<int>();
      CHECK(to == from + 1);
      const auto part = [](int row) { return row < 90 ? 0 : row < 110 ? 1 : 2; };
      CHECK(part(from) == part(to));
      CHECK(part(from - 1) == part(from));  // the lookback's rows too
      visited_short = visited_short || part(to) == 1;
    }
    before = p.observe().bar.clone();
  }
  CHECK(visited_short);
}

TEST_CASE("environment: episodes longer than the market are its segments, however many bars they ask for") {
  auto market = moving_market(2000, 2);
  market->segments = {{0, 300}, {300, 2000}};
  const Rules rules = plain_rules(*market, 2);
  const auto windows = [&](std::int64_t episode_bars) {
    Portfolios::Options options;
    options.portfolios = 50;
    options.episode_bars = episode_bars;
    Portfolios p(market, layout_of(*market, 2), rules, options);
    for (int t = 0; t < 300; ++t) p.step(random_actions(50, 2, t));
    return p.state();
  };
  const auto expected = windows(market->rows());
  for (const std::int64_t bars : {std::int64_t{2001}, std::int64_t{3'000'000'000}, std::int64_t{4'294'968'320},
                                  std::numeric_limits<std::int64_t>::max()}) {
    CAPTURE(bars);
    const auto found = windows(bars);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(found[i].first);
      CHECK(at::equal(found[i].second, expected[i].second));
    }
  }
}

TEST_CASE("environment: a fixed window stands still once it has ended") {
  auto market = moving_market(60, 2);
  Portfolios::Options options;
  options.windows = {{0, 60}, {0, 30}};
  Portfolios p(market, layout_of(*market), plain_rules(*market), options);
  for (int t = 0; t < 40; ++t) p.step(at::full({2, 2}, 0.5f));
  CHECK(p.active()[0].item<bool>());
  CHECK_FALSE(p.active()[1].item<bool>());
  const double value = p.accounts().value[1].item<double>();
  const Transition step = p.step(at::full({2, 2}, -1.0f));
  CHECK(step.reward[1].item<float>() == 0.0f);
  CHECK_FALSE(step.truncated[1].item<bool>());
  CHECK(p.accounts().value[1].item<double>() == value);
}

TEST_CASE("environment: state and restore go on bit by bit") {
  auto market = moving_market(500, 3, at::kFloat);
  Rules rules = plain_rules(*market);
  rules.volatility_penalty = 0.1;
  Portfolios::Options options;
  options.portfolios = 33;
  options.episode_bars = 40;
  Portfolios a(market, layout_of(*market), rules, options), b(market, layout_of(*market), rules, options);
  for (int t = 0; t < 57; ++t) a.step(random_actions(33, 3, t));
  b.restore(a.state());
  for (int t = 57; t < 120; ++t) {
    REQUIRE(at::equal(a.step(random_actions(33, 3, t)).reward, b.step(random_actions(33, 3, t)).reward));
  }
  CHECK(at::equal(a.observe().account, b.observe().account));
  options.portfolios = 32;
  Portfolios other(market, layout_of(*market), rules, options);
  CHECK_THROWS_AS(other.restore(a.state()), Error);
}

TEST_CASE("environment: an action that is not finite is reported and does not trade") {
  auto market = flat_market(20, 1);
  Portfolios p = one_account(market, plain_rules(*market));
  p.step(actions({0.1f}));
  CHECK_FALSE(p.take_bad_action());
  const double before = holding(p, 0);
  p.step(actions({std::numeric_limits<float>::quiet_NaN()}));
  CHECK(holding(p, 0) == before);
  CHECK(p.take_bad_action());
  CHECK_FALSE(p.take_bad_action());
}

TEST_CASE("environment: impossible settings are refused in words") {
  auto market = flat_market(20, 2);
  Rules rules = plain_rules(*market);
  CHECK_THROWS_AS(Portfolios(market, layout_of(*market, 2), rules, {}), Error);
  Portfolios::Options options;
  options.windows = {{5, 25}};
  CHECK_THROWS_AS(Portfolios(market, layout_of(*market), rules, options), Error);
  market->segments = {{0, 2}};
  CHECK_THROWS_AS(Portfolios(market, layout_of(*market), rules, {}), Error);
  for (const int lookback : {-5, 0, 21, 1'000'000'000, std::numeric_limits<int>::max()}) {
    CHECK_THROWS_WITH_AS(Portfolios(market, layout_of(*market, lookback), plain_rules(*market, lookback), {}),
                         doctest::Contains(str("lookback is ", lookback, ", expected 1 to").c_str()), Error);
  }
}

TEST_CASE("observation: newest row first, scaled by powers of two") {
  auto market = moving_market(20, 2);
  Layout layout = layout_of(*market, 3);
  layout.scales = {-1, -2, -3};
  Portfolios::Options options;
  options.windows = {{0, 20}};
  Portfolios p(market, layout, plain_rules(*market, 3), options);
  p.step(at::full({1, 2}, 0.5f));
  const at::Tensor x = materialize(p.observe(), market->tech, layout);
  CHECK(x.size(1) == layout.size());
  CHECK(x[0][0].item<double>() == doctest::Approx(cash(p) / 2));
  CHECK(x[0][2].item<double>() == doctest::Approx(holding(p, 1) / 4));
  for (int lag = 0; lag < 3; ++lag) {
    CHECK(x[0][3 + 2 * lag].item<double>() == doctest::Approx(market->tech[3 - lag][0].item<double>() / 8));
  }
}

TEST_CASE("observation: gathered rows equal the materialized ones, small and streamed") {
  for (const std::int64_t assets : {7LL, 20LL}) {  // whose account fits a cache line, and does not
    for (const std::int64_t batch : {5LL, 60000LL}) {
      auto market = moving_market(300, assets, at::kFloat);
      Layout layout = layout_of(*market, 11);
      layout.scales = {0, 0, 0};
      Observation observation;
      observation.account = uniform(batch, 1 + assets, 1, 1, at::kCPU);
      observation.bar = (uniform(batch, 1, 1, 2, at::kCPU).squeeze(1) * 289 + 10).to(at::kInt);
      const ObservationRows rows(market->tech, layout.lookback);
      const at::Tensor shift = uniform(1, 1 + assets, 1, 3, at::kCPU).squeeze(0), scale = shift + 2;
      Observation seen = observation;
      seen.account = (observation.account - shift) * scale;
      const at::Tensor expected = materialize(seen, market->tech, layout);
      const at::Tensor gathered = rows.gather(observation.account, shift, scale, observation.bar);
      CHECK(at::equal(gathered, expected));
      gathered.zero_();
      rows.gather_into(gathered, observation.account, shift, scale, observation.bar);
      CHECK(at::equal(gathered, expected));
      for (const int none : {9, 300}) {  // of 11 to the 300th
        observation.bar[batch - 1] = none;
        CHECK_THROWS(rows.gather(observation.account, shift, scale, observation.bar));
      }
    }
  }
}

TEST_CASE("observation: rows of all instruction sets are equal, in whatever order they are written") {
  constexpr std::int64_t kRows = 50, kBars = 40, kGuard = 16;
  struct Shape {
    std::int64_t head, columns, lookback;
  };
  for (const auto& [head, columns, lookback] : {Shape{18, 5, 7}, {18, 3, 1}, {16, 16, 3}, {2, 3, 2}}) {
    const std::int64_t width = head + columns * lookback, padded = (width + 15) / 16 * 16;
    std::vector<float> table(static_cast<std::size_t>(kBars * columns + kLineFloats)), account(kRows * head);
    const std::vector<float> shift(head, 2), scale(head, 0.5f);
    std::vector<std::int32_t> bar(kRows), backwards(kRows);
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i);
    for (std::size_t i = 0; i < account.size(); ++i) account[i] = -static_cast<float>(i);
    for (std::size_t k = 0; k < kRows; ++k) {
      bar[k] = static_cast<std::int32_t>(lookback - 1 + static_cast<std::int64_t>(k) * 7 % (kBars - lookback + 1));
      backwards[k] = static_cast<std::int32_t>(kRows - 1 - k);
    }
    const auto check = [&, head = head, columns = columns, lookback = lookback](auto write_rows) {
      for (const bool past_caches : {false, true}) {
        const std::int64_t stride = past_caches ? padded : width;
        const at::Tensor out = at::full({kRows * stride + kGuard}, -1.0, at::kFloat);  // begins a line of the caches
        const float* const of = out.const_data_ptr<float>();
        const RowsToWrite rows{.to = out.data_ptr<float>(),
                               .stride = stride,
                               .account = account.data(),
                               .shift = shift.data(),
                               .scale = scale.data(),
                               .head = head,
                               .newest_first = table.data(),
                               .bars = kBars,
                               .columns = columns,
                               .lookback = lookback,
                               .bar = bar.data(),
                               .order = past_caches ? backwards.data() : nullptr,
                               .past_caches = past_caches};
        write_rows(rows, 0, kRows);
        std::int64_t wrong = 0;
        for (std::int64_t k = 0; k < kRows; ++k) {
          for (std::int64_t i = 0; i < head; ++i) wrong += of[k * stride + i] != (account[k * head + i] - 2) * 0.5f;
          for (std::int64_t i = 0; i < columns * lookback; ++i) {
            wrong += of[k * stride + head + i] != table[(kBars - 1 - bar[k]) * columns + i];
          }
        }
        for (std::int64_t i = 0; i < kGuard; ++i) wrong += of[kRows * stride + i] != -1;
        CHECK(wrong == 0);
      }
    };
    check(baseline::write_rows);
#if defined(__x86_64__)
    if (has_avx2()) check(avx2::write_rows);
    if (has_avx512()) check(avx512::write_rows);
#endif
  }
}

TEST_CASE("random: numbers depend on seed, world and step alone, and look like what they are called") {
  const at::Tensor all = standard_normal(20000, 7, 5, 11, at::kCPU);
  CHECK(at::equal(all.narrow(0, 100, 50), standard_normal(50, 7, 5, 11, at::kCPU, 100)));
  CHECK_FALSE(at::equal(all, standard_normal(20000, 7, 5, 12, at::kCPU)));
  CHECK_FALSE(at::equal(all, standard_normal(20000, 7, 6, 11, at::kCPU)));
  CHECK(std::abs(all.mean().item<double>()) < 0.01);  // 140,000 numbers: 4 standard errors
  CHECK(std::abs(all.std().item<double>() - 1) < 0.01);
  const at::Tensor flat = uniform(20000, 7, 5, 11, at::kCPU);
  CHECK(flat.min().item<double>() >= 0);
  CHECK(flat.max().item<double>() < 1);
  CHECK(std::abs(flat.mean().item<double>() - 0.5) < 0.005);
  const at::Tensor order = permutation(1000, 1, 2, at::kCPU);
  CHECK(std::get<0>(order.sort()).equal(std::get<0>(permutation(1000, 3, 4, at::kCPU).sort())));
  CHECK_FALSE(order.equal(permutation(1000, 1, 3, at::kCPU)));
}

TEST_CASE("random: philox gives the reference's numbers") {
  // Known answers of Random123 1.14 (kat_vectors, philox4x32 10): counter and key all ones; counter 0, key 0.
  const Random4 zero = philox({{0, 0, 0, 0}}, 0);
  CHECK(zero.word[0] == 0x6627e8d5u);
  CHECK(zero.word[1] == 0xe169c58du);
  CHECK(zero.word[2] == 0xbc57ac4cu);
  CHECK(zero.word[3] == 0x9b00dbd8u);
  const Random4 ones = philox({{~0u, ~0u, ~0u, ~0u}}, ~0ull);
  CHECK(ones.word[0] == 0x408f276du);
  CHECK(ones.word[1] == 0x41c83b0eu);
  CHECK(ones.word[2] == 0xa20bc7c6u);
  CHECK(ones.word[3] == 0x6d5451fdu);
}

TEST_CASE("signature: the environment behaves as the number says") {
  // Changed by every change of the rules, and by nothing else: a commit that changes it says so.
  CHECK(signature() == 0x183d5e67d19b80cbULL);
}

}  // namespace ristretto::env
