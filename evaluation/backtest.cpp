#include "evaluation/backtest.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>

#include "env/step_batch.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

std::int64_t steps_of(const env::Segment& window, int lookback) {
  return env::last_step(static_cast<std::int32_t>(window.size()), lookback) - env::first_step(lookback);
}

// The windows and the times of their bars; values follow.
Backtest opened(const env::Market& market, const env::Rules& rules) {
  Backtest out;
  out.bar_seconds = market.bar_seconds;
  out.initial_capital = rules.initial_capital;
  const std::int64_t first = env::first_step(rules.lookback);
  for (const env::Segment& segment : market.segments) {
    assert(out.windows.empty() || out.windows.back().end <= segment.begin);
    if (segment.size() < env::smallest_window(rules.lookback)) {
      ++out.skipped_segments;
      continue;
    }
    out.windows.push_back(segment);
    out.first_bar.push_back(static_cast<std::int64_t>(out.time.size()));
    const auto start = market.time.begin() + segment.begin + first;
    out.start_time.push_back(*start);
    out.time.insert(out.time.end(), start + 1, start + 1 + steps_of(segment, rules.lookback));
  }
  if (out.windows.empty()) {
    throw Error(Fault::usage,
                str("none of the ", market.segments.size(), " segments has the ", env::smallest_window(rules.lookback),
                    " bars that one step with lookback ", rules.lookback, " needs"),
                "give more bars");
  }
  return out;
}

// Adds one bar of the window whose account was worth `before` and is worth `after`.
void add_bar(Backtest& out, double before, double after) {
  const std::size_t bar = out.value.size();
  if (!(after > 0) || !std::isfinite(after)) {
    throw Error(
        Fault::incompatible,
        str("the account is worth ", after, " at the bar of ", iso_utc(out.time[bar]), ", expected more than 0"),
        "the bars hold prices of 0 or that are not finite: see `ristretto data check`");
  }
  const double growth = after / before;
  out.value.push_back((bar == 0 ? out.initial_capital : out.value.back()) * growth);
  out.simple_returns.push_back(growth - 1);
  out.log_returns.push_back(std::log(growth));
}

at::Tensor price_table(const env::Market& market) { return market.price.to(at::kCPU, at::kDouble).contiguous(); }

}  // namespace

Backtest backtest(const env::Market& market, const env::Layout& layout, const env::Rules& rules, const Actor& actor,
                  bool keep_actions) {
  const at::NoGradGuard no_grad;
  Backtest out = opened(market, rules);
  const auto windows = static_cast<std::int64_t>(out.windows.size());
  const std::int64_t n = layout.assets_count();
  std::int64_t longest = 0;
  for (const env::Segment& window : out.windows) longest = std::max(longest, steps_of(window, rules.lookback));

  env::Portfolios::Options options;
  options.windows = out.windows;
  env::Portfolios portfolios(std::make_shared<env::Market>(market.to(market.price.device(), at::kDouble)), layout,
                             rules, options);
  // Collected on the device and read once: a step waits for nothing.
  std::vector<at::Tensor> values, cashes, holdings, actions;
  for (std::int64_t step = 0; step < longest; ++step) {
    const at::Tensor action = actor(portfolios.observe()).to(at::kFloat);
    portfolios.step(action);
    values.push_back(portfolios.accounts().value.clone());
    cashes.push_back(portfolios.accounts().cash.clone());
    holdings.push_back(portfolios.accounts().holding.clone());
    if (keep_actions) actions.push_back(action);
  }
  if (portfolios.take_bad_action()) {
    throw Error(Fault::failed, "the agent gave an action that is not finite, expected numbers in [-1, 1]",
                "its weights or the features that it reads are not finite");
  }
  const at::Tensor value = at::stack(values).cpu(), cash = at::stack(cashes).cpu();
  const at::Tensor holding = at::stack(holdings).cpu();
  const at::Tensor action = keep_actions ? at::stack(actions).cpu().contiguous() : at::Tensor();
  const at::Tensor price = price_table(market);
  const double* value_at = value.const_data_ptr<double>();      // [steps, W]
  const double* cash_at = cash.const_data_ptr<double>();        // [steps, W]
  const double* holding_at = holding.const_data_ptr<double>();  // [steps, n, W]
  const double* price_at = price.const_data_ptr<double>();      // [rows, n]

  const auto bars = static_cast<std::int64_t>(out.time.size());
  out.shares = at::empty({bars, n}, at::kDouble);
  double* shares = out.shares.mutable_data_ptr<double>();
  double* kept_holdings = nullptr;
  float* kept_actions = nullptr;
  if (keep_actions) {
    out.holdings = at::empty({bars, n}, at::kDouble);
    out.actions = at::empty({bars, n}, at::kFloat);
    kept_holdings = out.holdings.mutable_data_ptr<double>();
    kept_actions = out.actions.mutable_data_ptr<float>();
  }
  double value_sum = 0, invested = 0;
  for (std::int64_t w = 0; w < windows; ++w) {
    double before = rules.initial_capital;
    const std::int64_t first_row = out.windows[w].begin + env::first_step(rules.lookback);
    for (std::int64_t step = 0; step < steps_of(out.windows[w], rules.lookback); ++step) {
      const std::int64_t bar = out.first_bar[w] + step;
      const double now = value_at[step * windows + w];
      add_bar(out, before, now);
      before = now;
      value_sum += now;
      invested += 1 - cash_at[step * windows + w] / now;
      for (std::int64_t i = 0; i < n; ++i) {
        const double units = holding_at[(step * n + i) * windows + w];
        shares[bar * n + i] = units * price_at[(first_row + step + 1) * n + i] / now;
        if (keep_actions) {
          kept_holdings[bar * n + i] = units;
          kept_actions[bar * n + i] = action.const_data_ptr<float>()[(step * windows + w) * n + i];
        }
      }
    }
  }
  out.fees_paid = portfolios.accounts().fees.sum().item<double>();
  out.traded_value = portfolios.accounts().turnover.sum().item<double>();
  out.turnover = out.traded_value / (value_sum / static_cast<double>(bars));
  out.orders = portfolios.accounts().orders.sum().item<std::int64_t>();
  out.mean_position = invested / static_cast<double>(bars);
  return out;
}

Backtest hold(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
              const std::vector<double>& weights, Purchase purchase) {
  const std::int64_t n = layout.assets_count();
  assert(static_cast<std::int64_t>(weights.size()) == n);
  Backtest out = opened(market, rules);
  const at::Tensor price = price_table(market);
  const double* price_at = price.const_data_ptr<double>();
  out.shares = at::empty({static_cast<std::int64_t>(out.time.size()), n}, at::kDouble);
  double* shares = out.shares.mutable_data_ptr<double>();
  double value_sum = 0;
  std::vector<double> units(static_cast<std::size_t>(n));
  for (const env::Segment& window : out.windows) {
    const std::int64_t first_row = window.begin + env::first_step(rules.lookback);
    const std::int64_t bought_row = purchase == Purchase::first_price ? window.begin : first_row;
    for (std::int64_t i = 0; i < n; ++i) {
      const double spent = weights[i] * rules.initial_capital / (1 + env::cost_fraction(rules));
      units[i] = spent / price_at[bought_row * n + i];
      out.traded_value += spent;
      out.orders += spent > 0 ? 1 : 0;
    }
    double before = rules.initial_capital;
    for (std::int64_t step = 0; step < steps_of(window, rules.lookback); ++step) {
      const double* now_price = price_at + (first_row + step + 1) * n;
      double now = 0;
      for (std::int64_t i = 0; i < n; ++i) now += units[i] * now_price[i];
      double* share = shares + static_cast<std::int64_t>(out.value.size()) * n;
      for (std::int64_t i = 0; i < n; ++i) share[i] = units[i] * now_price[i] / now;
      add_bar(out, before, now);
      before = now;
      value_sum += now;
    }
  }
  out.fees_paid = out.traded_value * env::cost_fraction(rules);
  out.turnover = out.traded_value / (value_sum / static_cast<double>(out.time.size()));
  out.mean_position = 1;
  return out;
}

}  // namespace ristretto::evaluation
