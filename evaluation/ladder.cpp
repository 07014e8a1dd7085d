#include "evaluation/ladder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "env/random.h"
#include "env/step_batch.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr int kMostUnits = 128;  // a plan's largest position, in largest orders: bounds the plan's table
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
    const at::Tensor uniform =
        env::uniform(seen.account.size(0), seen.account.size(1) - 1, seed, step++, seen.account.device());
    return at::Tensor(uniform * 2 - 1);
  };
}

// orders[(row, k)] in {-1, 0, 1} for rows [first, last) of one asset whose order at `row` is executed at price[row +
// 1]; k = 0..most units are held. stride: of `price` and `orders` between rows.
void plan(const double* price, std::int64_t price_stride, std::int64_t first, std::int64_t last, int most, double fee,
          std::int8_t* orders, std::int64_t order_stride) {
  std::vector<double> worth(static_cast<std::size_t>(most) + 1), next(worth.size());
  for (int k = 0; k <= most; ++k) next[k] = k * price[last * price_stride];
  for (std::int64_t row = last - 1; row >= first; --row) {
    const double p = price[(row + 1) * price_stride];
    for (int k = 0; k <= most; ++k) {
      worth[k] = next[k];
      std::int8_t best = 0;
      if (k > 0 && next[k - 1] + p * (1 - fee) > worth[k]) {
        worth[k] = next[k - 1] + p * (1 - fee);
        best = -1;
      }
      if (k < most && next[k + 1] - p * (1 + fee) > worth[k]) {
        worth[k] = next[k + 1] - p * (1 + fee);
        best = 1;
      }
      orders[row * order_stride + k] = best;
    }
    worth.swap(next);
  }
}

Reference measured(std::string name, Backtest run) {
  const Metrics metrics = metrics_of(run);
  return {std::move(name), metrics, std::move(run)};
}

}  // namespace

Actor perfect_foresight(const env::Market& market, const env::Layout& layout, const env::Rules& rules) {
  const std::int64_t n = layout.assets_count(), rows = market.rows();
  const double limit = rules.max_position_fraction > 0 ? rules.max_position_fraction : 1;
  const int most = static_cast<int>(std::clamp(std::ceil(2 * rules.norm_action * limit), 1.0, double{kMostUnits}));
  const at::Tensor price = market.price.to(at::kCPU, at::kDouble).contiguous();
  const double* p = price.const_data_ptr<double>();
  at::Tensor orders = at::zeros({rows, n, most + 1}, at::kChar);
  at::Tensor units = at::full({rows, n}, 1.0, at::kFloat);  // of the largest order
  auto* order = orders.mutable_data_ptr<std::int8_t>();
  float* unit = units.mutable_data_ptr<float>();
  for (const env::Segment& segment : market.segments) {
    if (segment.size() < env::smallest_window(rules.lookback)) continue;
    const std::int64_t first = segment.begin + env::first_step(rules.lookback);
    const std::int64_t last = segment.begin + env::last_step(static_cast<std::int32_t>(segment.size()), rules.lookback);
    for (std::int64_t i = 0; i < n; ++i) {
      const double largest = rules.initial_capital / (p[segment.begin * n + i] * rules.norm_action);
      if (!(largest > rules.min_qty[i])) continue;  // cannot be traded
      for (std::int64_t row = first; row < last; ++row) unit[row * n + i] = static_cast<float>(largest);
      plan(p + i, n, first, last, most, rules.fee_fraction, order + i * (most + 1), n * (most + 1));
    }
  }
  orders = orders.to(market.price.device());
  units = units.to(market.price.device());
  return [orders, units, most, n](const env::Observation& seen) {
    const at::Tensor held = (seen.account.narrow(1, 1, n) / units.index_select(0, seen.bar)).round().clamp(0, most);
    return orders.index_select(0, seen.bar).gather(2, held.to(at::kLong).unsqueeze(2)).squeeze(2).to(at::kFloat);
  };
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
  env::Rules free = rules;
  free.fee_fraction = 0;
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
    const double fraction = reference.name.ends_with(kNoFees) ? 0 : rules.fee_fraction;
    const double expected = reference.backtest.traded_value * fraction, paid = reference.metrics.fees;
    expect(std::abs(paid - expected) <= kRounding * expected,
           str(reference.name, " paid fees of ", paid, ", expected ", expected, ": the fraction ", fraction, " of ",
               reference.backtest.traded_value));
  }
  return violations;
}

}  // namespace ristretto::evaluation
