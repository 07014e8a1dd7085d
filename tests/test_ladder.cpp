#include <ATen/ops/empty.h>  // before doctest: it brings a CHECK of its own
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "env/indicators.h"
#include "evaluation/ladder.h"
#include "platform/text.h"
#include "random_market.h"

using namespace ristretto;
using namespace ristretto::evaluation;
using tests::layout_of;
using tests::random_market;
using tests::rules_of;

TEST_CASE("ladder: stands in its order on rising, falling and driftless markets, with and without limits") {
  for (const double drift : {-0.002, 0.0, 0.002}) {
    for (const unsigned seed : {1u, 2u, 3u}) {
      for (const double limit : {0.0, 0.3}) {
        const env::Market market = random_market({300, 120}, 3, drift, seed);
        env::Rules rules = rules_of(market, 2);
        rules.max_position_fraction = limit;
        rules.trailing_stop_pct = seed == 3 ? 0.05 : 0;
        const auto references = ladder(market, layout_of(market, 2), rules);
        CAPTURE(drift);
        CAPTURE(seed);
        CAPTURE(limit);
        CHECK(join(check_ladder(references, rules), "; ") == "");
        CHECK(references.size() == 12);
      }
    }
  }
}

TEST_CASE("ladder: foresight makes far more of noise than chance does, and fees take their part") {
  const env::Market market = random_market({600});
  const auto references = ladder(market, layout_of(market), rules_of(market));
  const double foresight = find(references, "perfect foresight").metrics.total_return;
  CHECK(foresight > 0.5);
  CHECK(find(references, "perfect foresight, no fees").metrics.total_return > 1.05 * foresight);
  CHECK(find(references, "random").metrics.total_return < 0.1);
  CHECK(find(references, "random").metrics.orders > 500);
  CHECK(find(references, "cash").backtest.value.back() == 500);
}

TEST_CASE("ladder: holding one asset is its price's way, less the fee") {
  const env::Market market = random_market({100});
  const auto references = ladder(market, layout_of(market), rules_of(market));
  const double* price = market.price.const_data_ptr<double>();
  for (int i = 0; i < 3; ++i) {
    const double expected = price[98 * 3 + i] / price[i] / 1.0025 - 1;
    CHECK(std::abs(find(references, str("hold ", market.assets[i])).metrics.total_return - expected) < 1e-12);
  }
}

TEST_CASE("ladder: the plan of perfect foresight gains as much as the best of all plans") {
  // Eight bars, at most two units (norm_action 1, limit none): all 3^7 plans of one asset tried.
  const std::vector<double> prices = {20, 20.3, 19.8, 19.9, 21, 20.9, 20.1, 20.6, 20.6};
  env::Market market = random_market({static_cast<std::int64_t>(prices.size())}, 1);
  std::copy(prices.begin(), prices.end(), market.price.mutable_data_ptr<double>());
  env::Rules rules = rules_of(market);
  rules.norm_action = 10;
  rules.max_position_fraction = 0;
  const Backtest run = backtest(market, layout_of(market), rules, perfect_foresight(market, layout_of(market), rules));
  const int steps = static_cast<int>(run.value.size());
  REQUIRE(steps == 7);
  double best = 0;
  for (int plan = 0; plan < 2187; ++plan) {
    int step = -1, code = plan;
    const Backtest tried = backtest(market, layout_of(market), rules, [&](const env::Observation& seen) {
      ++step;
      const int order = code % 3 - 1;
      code /= 3;
      at::Tensor action = seen.account.narrow(1, 1, 1).clone();
      action.fill_(order);
      return action;
    });
    best = std::max(best, tried.value.back());
  }
  CHECK(run.value.back() > 500);
  CHECK(std::abs(run.value.back() / best - 1) < 1e-9);
}

TEST_CASE("ladder: each violation of the order is found") {
  const env::Market market = random_market({300});
  const env::Rules rules = rules_of(market);
  const std::vector<Reference> good = ladder(market, layout_of(market), rules);
  const auto violations_with = [&](const std::string& name, auto change) {
    std::vector<Reference> bad = good;
    change(std::find_if(bad.begin(), bad.end(), [&](const Reference& r) { return r.name == name; })->metrics);
    return check_ladder(bad, rules);
  };
  CHECK(check_ladder(good, rules).empty());
  CHECK(violations_with("cash", [](Metrics& m) { m.total_return = 1e-15; }).size() == 1);
  CHECK(violations_with("cash", [](Metrics& m) { m.orders = 1; }).size() == 1);
  CHECK(violations_with("random", [](Metrics& m) { m.total_return = 1e6; }).size() == 2);
  CHECK(violations_with("perfect foresight", [](Metrics& m) { m.total_return = -0.5; }).size() >= 1);
  CHECK(violations_with("equal weight, no fees", [](Metrics& m) { m.total_return -= 0.01; }).size() == 1);
  CHECK(violations_with("always buy", [](Metrics& m) { m.fees *= 1.001; }).size() == 1);
  CHECK(violations_with("always buy, no fees", [](Metrics& m) { m.fees = 1; }).size() == 1);
}

TEST_SUITE("slow") {
  TEST_CASE("ladder: stands in its order on the example bars") {
    const auto bars = env::read_bars(std::string(RISTRETTO_SOURCE) + "/data/crypto_1h", env::default_assets());
    const env::Market market = env::Market::of(bars, env::feature_set("alpaca-11"));
    const env::Rules rules = rules_of(market);
    const auto references = ladder(market, layout_of(market), rules);
    CHECK(join(check_ladder(references, rules), "; ") == "");
    for (const Reference& r : references) {
      MESSAGE(r.name, " returns ", r.metrics.total_return, ", Sharpe ", r.metrics.sharpe_annual, ", drawdown ",
              r.metrics.max_drawdown, ", orders ", r.metrics.orders, ", bars ", r.metrics.bars);
    }
  }
}
