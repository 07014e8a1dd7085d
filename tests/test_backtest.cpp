#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "evaluation/backtest.h"
#include "evaluation/ladder.h"
#include "evaluation/look_ahead.h"
#include "platform/error.h"
#include "random_market.h"

using namespace ristretto;
using namespace ristretto::evaluation;
using tests::layout_of;
using tests::random_market;
using tests::rules_of;

namespace {

constexpr double kRounding = 1e-12;  // relative, sums and products in float64

at::Tensor filled(const env::Observation& seen, double value) {
  return at::full({seen.account.size(0), seen.account.size(1) - 1}, value, seen.account.options());
}

// Buys where the newest feature of an asset (its "volume", a random number) is positive, else sells: reads the market
// at `shift` bars after the newest one.
Actor feature_actor(const env::Market& market, int shift) {
  const std::int64_t n = static_cast<std::int64_t>(market.assets.size());
  const at::Tensor feature = market.tech.view({market.rows(), n, 2}).select(2, 1).clone();
  return [feature, shift](const env::Observation& seen) {
    const at::Tensor row = (seen.bar + shift).clamp(0, feature.size(0) - 1);
    return feature.index_select(0, row).tanh();
  };
}

}  // namespace

TEST_CASE("backtest: windows stepped together give what each gives when stepped alone") {
  for (const int lookback : {1, 4}) {
    CAPTURE(lookback);
    const env::Market market = random_market({40, 90, 13, 61});
    const env::Layout layout = layout_of(market, lookback);
    const env::Rules rules = rules_of(market, lookback);
    const Backtest together = backtest(market, layout, rules, feature_actor(market, 0), true);
    REQUIRE((together.windows == market.segments));
    double chained = 1, fees = 0;
    std::int64_t orders = 0;
    std::size_t at = 0;
    for (const env::Segment& segment : market.segments) {
      const Backtest alone = backtest(market.with_segments({segment}), layout, rules, feature_actor(market, 0), true);
      REQUIRE(alone.value.size() == static_cast<std::size_t>(segment.size() - 2 * lookback));
      for (std::size_t k = 0; k < alone.value.size(); ++k, ++at) {
        CHECK(together.time[at] == alone.time[k]);
        CHECK(together.simple_returns[at] == alone.simple_returns[k]);
        CHECK(std::abs(together.value[at] / (chained * alone.value[k]) - 1) < kRounding);
        CHECK(together.actions[static_cast<std::int64_t>(at)].equal(alone.actions[static_cast<std::int64_t>(k)]));
        CHECK(together.holdings[static_cast<std::int64_t>(at)].equal(alone.holdings[static_cast<std::int64_t>(k)]));
      }
      chained *= alone.value.back() / rules.initial_capital;
      fees += alone.fees_paid;
      orders += alone.orders;
    }
    CHECK(at == together.value.size());
    CHECK(std::abs(together.fees_paid - fees) < kRounding * fees);
    CHECK(together.orders == orders);
    CHECK(orders > 50);
  }
}

TEST_CASE("backtest: value, returns, shares and times are the account's, bar by bar") {
  const int lookback = 2;
  const env::Market market = random_market({50});
  const env::Rules rules = rules_of(market, lookback);
  const Backtest run = backtest(market, layout_of(market, lookback), rules, feature_actor(market, 0), true);
  CHECK(run.start_time == std::vector<std::int64_t>{market.time[1]});
  CHECK(run.time.front() == market.time[2]);
  CHECK(run.time.back() == market.time[50 - 2 - 1]);

  env::Portfolios::Options options;
  options.windows = market.segments;
  env::Portfolios portfolios(std::make_shared<env::Market>(market), layout_of(market, lookback), rules, options);
  const Actor actor = feature_actor(market, 0);
  double before = rules.initial_capital, position = 0;
  for (std::size_t k = 0; k < run.value.size(); ++k) {
    REQUIRE(portfolios.active().item<bool>());
    portfolios.step(actor(portfolios.observe()));
    const double value = portfolios.accounts().value.item<double>();
    CHECK(std::abs(run.value[k] / value - 1) < kRounding);
    CHECK(std::abs(run.simple_returns[k] - (value / before - 1)) < kRounding);
    CHECK(std::abs(run.log_returns[k] - std::log(value / before)) < kRounding);
    const double invested = 1 - portfolios.accounts().cash.item<double>() / value;
    CHECK(std::abs(run.shares[static_cast<std::int64_t>(k)].sum().item<double>() - invested) < kRounding);
    position += invested / static_cast<double>(run.value.size());
    before = value;
  }
  CHECK_FALSE(portfolios.active().item<bool>());
  CHECK(std::abs(run.mean_position - position) < kRounding);
  CHECK(run.fees_paid == portfolios.accounts().fees.item<double>());
  CHECK(std::abs(run.fees_paid - rules.fee_fraction * run.traded_value) < kRounding * run.fees_paid);
}

TEST_CASE("backtest: slippage and half of the spread are paid as a fee of their sum would be") {
  const env::Market market = random_market({120});
  env::Rules parts = rules_of(market), sum = parts;
  parts.fee_fraction = 0.001;
  parts.slippage_fraction = 0.0005;
  parts.spread_fraction = 0.002;
  sum.fee_fraction = env::cost_fraction(parts);
  CHECK(sum.fee_fraction == doctest::Approx(0.0025));
  const env::Layout layout = layout_of(market);
  for (const auto& [one, other] :
       {std::pair{backtest(market, layout, parts, feature_actor(market, 0)),
                  backtest(market, layout, sum, feature_actor(market, 0))},
        std::pair{hold(market, layout, parts, {0.5, 0.5, 0}), hold(market, layout, sum, {0.5, 0.5, 0})}}) {
    CHECK(one.orders > 0);
    CHECK(one.value == other.value);
    CHECK(one.fees_paid == other.fees_paid);
  }
  CHECK(check_ladder(ladder(market, layout, parts), parts).empty());
}

TEST_CASE("backtest: equal weights held are the environment's E") {
  for (const int lookback : {1, 3}) {
    const env::Market market = random_market({70, 30});
    const env::Layout layout = layout_of(market, lookback);
    const env::Rules rules = rules_of(market, lookback);
    const Backtest held = hold(market, layout, rules, {1.0 / 3, 1.0 / 3, 1.0 / 3}, Purchase::first_price);
    env::Portfolios::Options options;
    options.windows = market.segments;
    env::Portfolios portfolios(std::make_shared<env::Market>(market), layout, rules, options);
    double chain = 1;
    for (std::size_t w = 0; w < held.windows.size(); ++w) {
      const std::size_t first = static_cast<std::size_t>(held.first_bar[w]);
      const std::size_t end =
          w + 1 < held.windows.size() ? static_cast<std::size_t>(held.first_bar[w + 1]) : held.value.size();
      env::Portfolios::Options one;
      one.windows = {held.windows[w]};
      env::Portfolios window(std::make_shared<env::Market>(market), layout, rules, one);
      double benchmark = 0;
      for (std::size_t k = first; k < end; ++k) {
        window.step(at::zeros({1, 3}));
        benchmark = window.benchmark_value().item<double>();
        CHECK(std::abs(held.value[k] / (chain * benchmark) - 1) < kRounding);
      }
      chain *= benchmark / rules.initial_capital;
    }
    CHECK(held.orders == 6);
    CHECK(std::abs(held.fees_paid - 2 * 500 * 0.0025 / 1.0025) < kRounding);
  }
}

TEST_CASE("backtest: what is held is bought when an agent first decides") {
  env::Market market = random_market({60});
  market.price = market.price.clone();
  market.price.narrow(0, 0, 2).mul_(2);  // halved before the first decision, at row 2
  const env::Layout layout = layout_of(market, 3);
  env::Rules rules = rules_of(market, 3);
  const Backtest held = hold(market, layout, rules, {1, 0, 0});
  const double before = market.price[2][0].item<double>(), after = market.price[3][0].item<double>();
  CHECK(held.simple_returns[0] == doctest::Approx(after / before / (1 + rules.fee_fraction) - 1));
}

TEST_CASE("backtest: no return spans a gap, whatever the price does in it") {
  env::Market market = random_market({30, 30});
  market.price = market.price.clone();
  market.price.narrow(0, 30, 30).mul_(10);
  const env::Layout layout = layout_of(market);
  const env::Rules rules = rules_of(market);
  const Backtest bought = backtest(market, layout, rules, [](const auto& seen) { return filled(seen, 1); });
  const Backtest held = hold(market, layout, rules, {1, 0, 0});
  for (const Backtest& run : {bought, held}) {
    for (const double r : run.simple_returns) CHECK(std::abs(r) < 0.1);
  }
  CHECK(bought.time[28] - bought.time[27] > 3600);
}

TEST_CASE("backtest: segments too short for a step are skipped and counted; none left is an error") {
  const env::Market market = random_market({2, 30, 4});
  const env::Layout layout = layout_of(market, 2);
  const env::Rules rules = rules_of(market, 2);
  const Actor buy = [](const auto& seen) { return filled(seen, 1); };
  const Backtest run = backtest(market, layout, rules, buy);
  CHECK(run.skipped_segments == 2);
  CHECK((run.windows == std::vector<env::Segment>{market.segments[1]}));
  CHECK_THROWS_AS(backtest(market.with_segments({market.segments[0]}), layout, rules, buy), Error);
}

TEST_CASE("backtest: an action that is not finite is an error") {
  const env::Market market = random_market({30});
  CHECK_THROWS_AS(backtest(market, layout_of(market), rules_of(market),
                           [](const auto& seen) { return filled(seen, std::numeric_limits<double>::quiet_NaN()); }),
                  Error);
}

TEST_CASE("backtest: computes in float64 on a market of float32 prices") {
  const env::Market market = random_market({60});
  const Actor buy = [](const auto& seen) { return filled(seen, 1); };
  const double exact = backtest(market, layout_of(market), rules_of(market), buy).value.back();
  const env::Market narrow = market.to(at::kCPU, at::kFloat);
  const double found = backtest(narrow, layout_of(market), rules_of(market), buy).value.back();
  CHECK(std::abs(found / exact - 1) < 1e-6);  // float32 prices
  CHECK(found != exact);
}

TEST_CASE("look-ahead: an agent of the past passes, and one that peeks one bar ahead is caught") {
  const env::Market market = random_market({30, 200, 50});
  const env::Layout layout = layout_of(market, 2);
  const env::Rules rules = rules_of(market, 2);
  const auto on = [](int shift) { return [shift](const env::Market& m) { return feature_actor(m, shift); }; };
  CHECK_FALSE(look_ahead_violation(market, layout, rules, on(0)).has_value());
  CHECK_FALSE(look_ahead_violation(market, layout, rules, on(-1)).has_value());
  for (const int shift : {1, 20}) {
    const auto violation = look_ahead_violation(market, layout, rules, on(shift));
    REQUIRE(violation.has_value());
    CHECK(violation->find("the action for AAVE/USD at the bar of 2022-01-0") == 0);
  }
}

TEST_CASE("look-ahead: statistics over the whole table, future prices and a constant future feature are caught") {
  env::Market market = random_market({200});
  market.tech = market.tech.clone();
  market.tech.select(1, 3).zero_();
  const env::Layout layout = layout_of(market);
  const env::Rules rules = rules_of(market);
  const auto normalised = [](const env::Market& m) -> Actor {
    const at::Tensor price = m.price.clone(), mean = m.price.mean(0);
    return [=](const env::Observation& seen) {
      return (price.index_select(0, seen.bar) / mean - 1).tanh().to(at::kFloat);
    };
  };
  CHECK(look_ahead_violation(market, layout, rules, normalised).has_value());
  const auto next_price = [](const env::Market& m) -> Actor {
    const at::Tensor price = m.price.clone();
    return [=](const env::Observation& seen) {
      const at::Tensor next = price.index_select(0, (seen.bar + 1).clamp_max(price.size(0) - 1));
      return (next - price.index_select(0, seen.bar)).sign().to(at::kFloat);
    };
  };
  CHECK(look_ahead_violation(market, layout, rules, next_price).has_value());
  const auto constant_feature = [](const env::Market& m) -> Actor {
    const at::Tensor column = m.tech.select(1, 3).clone();
    return [=](const env::Observation& seen) {
      const at::Tensor next = column.index_select(0, (seen.bar + 1).clamp_max(column.size(0) - 1));
      return next.unsqueeze(1).expand({-1, 3}).tanh();
    };
  };
  CHECK(look_ahead_violation(market, layout, rules, constant_feature).has_value());
}
