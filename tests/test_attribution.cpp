#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "evaluation/attribution.h"
#include "evaluation/costs.h"
#include "random_market.h"

using namespace ristretto;
using namespace ristretto::evaluation;
using tests::layout_of;
using tests::random_market;
using tests::rules_of;

namespace {

constexpr double kRounding = 1e-9;  // sums of some hundred returns in float64, prices through float32 nowhere

Actor always(double action) {
  return [action](const env::Observation& seen) {
    return at::full({seen.account.size(0), seen.account.size(1) - 1}, action, seen.account.options());
  };
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

TEST_CASE("attribution: the assets and the costs make up the returns, and without fees the costs are nothing") {
  const env::Market market = random_market({120, 80});
  for (const double fee : {0.0025, 0.0}) {
    CAPTURE(fee);
    env::Rules rules = rules_of(market);
    rules.fee_fraction = fee;
    const Backtest run = backtest(market, layout_of(market), rules, always(1));
    const Attribution parts = attribution_of(run, market);
    REQUIRE(parts.assets.size() == 3);
    CHECK(std::abs(sum(parts.assets) + parts.costs - sum(run.simple_returns)) < kRounding);
    if (fee > 0) CHECK(parts.costs < 0);
    if (fee == 0) CHECK(std::abs(parts.costs) < kRounding);
  }
}

TEST_CASE("attribution: an asset that nobody held earned nothing") {
  const env::Market market = random_market({120});
  const Backtest run = hold(market, layout_of(market), rules_of(market), {0, 1, 0});
  const Attribution parts = attribution_of(run, market);
  CHECK(parts.assets[0] == 0);
  CHECK(parts.assets[2] == 0);
  CHECK(parts.assets[1] != 0);
}

TEST_CASE("regimes: every bar is in one of them, by the bars before it") {
  env::Market market = random_market({600}, 2);
  // Up for 300 bars, then down: each regime is seen a little after it began.
  double* price = market.price.mutable_data_ptr<double>();
  for (std::int64_t row = 0; row < 600; ++row) {
    for (int i = 0; i < 2; ++i) {
      price[row * 2 + i] = 100 * std::exp(0.002 * static_cast<double>(row < 300 ? row : 600 - row));
    }
  }
  const Backtest run = backtest(market, layout_of(market), rules_of(market), always(0));
  const std::vector<Regime> regimes = regimes_of(run, market);
  REQUIRE(regimes.size() == 3);
  CHECK(regimes[0].name == "up");
  CHECK(regimes[0].bars + regimes[1].bars + regimes[2].bars == static_cast<std::int64_t>(run.time.size()));
  CHECK(regimes[0].market_log_gain > 0);
  CHECK(regimes[1].market_log_gain < 0);
  CHECK(regimes[1].bars > 100);
  for (const Regime& regime : regimes) CHECK(regime.log_gain == 0);  // cash
}

TEST_CASE("cost stress: every part of the costs is multiplied") {
  const env::Market market = random_market({200});
  env::Rules rules = rules_of(market);
  rules.fee_fraction = 0;
  rules.slippage_fraction = 0.001;
  rules.spread_fraction = 0.002;
  const auto stress = cost_stress(market, layout_of(market), rules, always(1));
  const env::Rules thrice = with_costs(rules, 3);
  CHECK(env::cost_fraction(thrice) == doctest::Approx(0.006));
  CHECK(stress[2].agent.fees == backtest(market, layout_of(market), thrice, always(1)).fees_paid);
  CHECK(stress[2].agent.fees > 2 * stress[0].agent.fees);
  CHECK(env::cost_fraction(with_costs_of(env::Rules{}, rules)) == env::cost_fraction(rules));
  CHECK(costs_in_words(rules) == "0.2 % of its value (fee 0 %, slippage 0.1 %, half of a spread of 0.2 %)");
  CHECK(costs_in_words(env::Rules{}) == "0.25 % of its value (the fee)");
}

TEST_CASE("cost stress: dearer trading earns less") {
  const env::Market market = random_market({200});
  const auto stress = cost_stress(market, layout_of(market), rules_of(market), always(1));
  REQUIRE(stress.size() == 3);
  for (std::size_t k = 1; k < 3; ++k) {
    CHECK(stress[k].costs == static_cast<double>(k + 1));
    CHECK(stress[k].agent.fees > stress[k - 1].agent.fees);
    CHECK(stress[k].equal_weight.total_return < stress[k - 1].equal_weight.total_return);
  }
}
