#include "evaluation/ladder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "env/random.h"
#include "env/step_batch.h"
#include "evaluation/costs.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// A plan needs to know how many units may be held, but the position limit moves with the account's value: one plan for
// each of these multiples of a full position at the start, and the best is taken.
constexpr double kAccountGrowths[] = {1, 2, 4, 16};
constexpr double kMostUnits = 2048;  // bounds the time that a plan takes
constexpr const char* kNoFees = ", no fees";

// Share of the initial capital. An agent by the rules may lose this much by what a plan does not know (forced sales, an
// account that grows and is limited by its value); a defect of fees or of time costs more within a few hundred bars.
constexpr double kByTheRules = 1e-3;
constexpr double kRounding = 1e-9;  // relative, of sums in float64

Actor constant(double action) {
  return [action](const env::Observation& seen) {
    return at::full({seen.account.size(0), seen.account.size(1) - 1}, action, seen.account.options());
  };
}

Actor random_actor(std::uint64_t seed) {
  return [seed, step = std::int64_t{0}](const env::Observation& seen) mutable {
    const at::Tensor numbers =
        env::uniform(seen.account.size(0), seen.account.size(1) - 1, seed, step++, seen.account.device());
    return at::Tensor(numbers * 2 - 1);
  };
}

// What to do at a row with k units held: buy one if k < buy_below, sell one if k >= sell_from. That two numbers are
// enough is because the worth of k units is concave in k.
struct Orders {
  float buy_below = 0;
  float sell_from = std::numeric_limits<float>::infinity();
};

// The plan of rows [first, last) of one asset whose order at `row` is executed at price[row + 1]; 0..most units may be
// held. Consecutive rows are `stride` numbers apart in both tables.
void plan(const double* price, Orders* orders, std::int64_t stride, std::int64_t first, std::int64_t last,
          std::int64_t most, double fee) {
  std::vector<double> worth(static_cast<std::size_t>(most) + 1), next(worth.size());
  for (std::int64_t k = 0; k <= most; ++k) next[k] = static_cast<double>(k) * price[last * stride];
  for (std::int64_t row = last - 1; row >= first; --row) {
    const double cost = price[(row + 1) * stride] * (1 + fee), gain = price[(row + 1) * stride] * (1 - fee);
    std::int64_t buy_below = 0, sell_from = most + 1;
    for (std::int64_t k = 0; k <= most; ++k) {
      const double bought = k < most ? next[k + 1] - cost : next[k];
      const double sold = k > 0 ? next[k - 1] + gain : next[k];
      worth[k] = std::max({next[k], bought, sold});
      if (bought > next[k]) buy_below = k + 1;
      if (sold > next[k]) sell_from = std::min(sell_from, k);
    }
    orders[row * stride] = {static_cast<float>(buy_below), static_cast<float>(sell_from)};
    worth.swap(next);
  }
}

// Looks up the plan, for at most `most` units of the largest order, with what is held.
Actor planned(const env::Market& market, const env::Rules& rules, std::int64_t most) {
  const std::int64_t n = rules.assets;
  const at::Tensor price = market.price.to(at::kCPU, at::kDouble).contiguous();
  const double* p = price.const_data_ptr<double>();
  std::vector<Orders> orders(static_cast<std::size_t>(market.rows() * n));
  at::Tensor units = at::full({market.rows(), n}, 1.0, at::kFloat);  // of the largest order
  for (const env::Segment& segment : market.segments) {
    if (segment.size() < env::smallest_window(rules.lookback)) continue;
    const std::int64_t first = segment.begin + env::first_step(rules.lookback);
    const std::int64_t last = segment.begin + env::last_step(static_cast<std::int32_t>(segment.size()), rules.lookback);
    for (std::int64_t i = 0; i < n; ++i) {
      const double largest = rules.initial_capital / (p[segment.begin * n + i] * rules.norm_action);
      if (!(largest > rules.min_qty[i])) continue;  // cannot be traded
      units.narrow(0, segment.begin, segment.size()).select(1, i).fill_(largest);
      plan(p + i, orders.data() + i, n, first, last, std::min(most, last - first), env::cost_fraction(rules));
    }
  }
  static_assert(sizeof(Orders) == 2 * sizeof(float));
  const at::Device device = market.price.device();
  const at::Tensor table = at::from_blob(orders.data(), {market.rows(), n, 2}, at::kFloat).clone().to(device);
  return [table, units = units.to(device), n](const env::Observation& seen) {
    const at::Tensor held = (seen.account.narrow(1, 1, n) / units.index_select(0, seen.bar)).round();
    const at::Tensor now = table.index_select(0, seen.bar);
    return at::Tensor(held.lt(now.select(2, 0)).to(at::kFloat) - held.ge(now.select(2, 1)).to(at::kFloat));
  };
}

Reference measured(std::string name, Backtest run) {
  const Metrics metrics = metrics_of(run);
  return {std::move(name), metrics, std::move(run)};
}

}  // namespace

Actor perfect_foresight(const env::Market& market, const env::Layout& layout, const env::Rules& rules) {
  const double limit = rules.max_position_fraction > 0 ? rules.max_position_fraction : 1;
  const double full_position = std::ceil(rules.norm_action * limit);  // in largest orders, at the window's start
  Actor best = constant(0);
  double best_value = rules.initial_capital;
  for (const double growth : kAccountGrowths) {
    const double most = std::clamp(full_position * growth, 1.0, kMostUnits);
    const Actor actor = planned(market, rules, static_cast<std::int64_t>(most));
    const double value = backtest(market, layout, rules, actor).value.back();
    if (value <= best_value) continue;
    best = actor;
    best_value = value;
  }
  return best;
}

std::vector<Reference> ladder(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
                              std::uint64_t seed) {
  const std::size_t n = layout.assets.size();
  const std::vector<double> equal(n, 1.0 / static_cast<double>(n));
  std::vector<Reference> out;
  out.push_back(measured("cash", backtest(market, layout, rules, constant(0))));
  out.push_back(measured("equal weight", hold(market, layout, rules, equal)));
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<double> weights(n);
    weights[i] = 1;
    out.push_back(measured(str("hold ", layout.assets[i]), hold(market, layout, rules, weights)));
  }
  const auto by_the_rules = [&](const env::Rules& with, const char* suffix) {
    out.push_back(measured(str("random", suffix), backtest(market, layout, with, random_actor(seed))));
    out.push_back(measured(str("always buy", suffix), backtest(market, layout, with, constant(1))));
    out.push_back(measured(str("perfect foresight", suffix),
                           backtest(market, layout, with, perfect_foresight(market, layout, with))));
  };
  by_the_rules(rules, "");
  const env::Rules free = with_costs(rules, 0);
  out.push_back(measured(str("equal weight", kNoFees), hold(market, layout, free, equal)));
  by_the_rules(free, kNoFees);
  return out;
}

const Reference& find(const std::vector<Reference>& references, const std::string& name) {
  const auto found =
      std::find_if(references.begin(), references.end(), [&](const Reference& r) { return r.name == name; });
  assert(found != references.end());
  return *found;
}

std::vector<std::string> check_ladder(const std::vector<Reference>& references, const env::Rules& rules) {
  std::vector<std::string> violations;
  const auto expect = [&](bool holds, const std::string& text) {
    if (!holds) violations.push_back(text);
  };
  const auto at_least = [&](const std::string& better, const std::string& worse, double tolerance) {
    const double a = find(references, better).metrics.total_return, b = find(references, worse).metrics.total_return;
    expect(a >= b - tolerance, str(better, " returns ", a, ", less than ", worse, " with ", b));
  };
  const Metrics& cash = find(references, "cash").metrics;
  expect(cash.total_return == 0 && cash.orders == 0 && cash.max_drawdown == 0 && cash.volatility_annual == 0,
         str("cash returns ", cash.total_return, " with ", cash.orders, " orders, expected exactly 0"));
  for (const std::string suffix : {"", kNoFees}) {
    for (const char* worse : {"random", "always buy"}) {
      at_least(str("perfect foresight", suffix), str(worse, suffix), kByTheRules);
    }
    at_least(str("perfect foresight", suffix), "cash", kByTheRules);
  }
  at_least(str("equal weight", kNoFees), "equal weight", kRounding);
  for (const std::string name : {"random", "always buy", "perfect foresight"}) {
    at_least(name + kNoFees, name, kByTheRules);
  }
  for (const Reference& reference : references) {
    const double fraction = reference.name.ends_with(kNoFees) ? 0 : env::cost_fraction(rules);
    const double expected = reference.backtest.traded_value * fraction, paid = reference.metrics.fees;
    expect(std::abs(paid - expected) <= kRounding * expected,
           str(reference.name, " paid fees of ", paid, ", expected ", expected, ": the fraction ", fraction, " of ",
               reference.backtest.traded_value));
  }
  return violations;
}

}  // namespace ristretto::evaluation
