#include "release/conversion_proof.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "evaluation/backtest.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

at::Tensor action_of(const Side& side, const at::Tensor& states) {
  return at::tanh(agents::actor_mean(side.actor, side.architecture, states));
}

// The old account as the new layout names it; of an asset that is new nothing is held.
env::Observation renamed(const env::Observation& seen, const Mapping& mapping) {
  const std::int64_t columns = 1 + mapping.to.assets_count();
  env::Observation out{at::zeros({seen.account.size(0), columns}, seen.account.options()), seen.bar};
  for (std::int64_t j = 0; j < columns; ++j) {
    const std::int64_t old = mapping.columns[static_cast<std::size_t>(j)];
    if (old >= 0) out.account.select(1, j).copy_(seen.account.select(1, old));
  }
  return out;
}

// Largest |a - b| over the assets of either; the action on an asset that one side lacks is 0.
double difference(const at::Tensor& before, const at::Tensor& after, const Mapping& mapping) {
  double worst = 0;
  std::vector<bool> compared(static_cast<std::size_t>(before.size(1)));
  for (std::size_t i = 0; i < mapping.actions.size(); ++i) {
    const at::Tensor now = after.select(1, static_cast<std::int64_t>(i));
    const std::int64_t old = mapping.actions[i];
    if (old >= 0) compared[static_cast<std::size_t>(old)] = true;
    const at::Tensor deviation = old < 0 ? now : now - before.select(1, old);
    worst = std::max(worst, deviation.abs().max().item<double>());
  }
  for (std::size_t i = 0; i < compared.size(); ++i) {
    if (!compared[i])
      worst = std::max(worst, before.select(1, static_cast<std::int64_t>(i)).abs().max().item<double>());
  }
  return worst;
}

// [T, n] what each asset's holding changed by at each bar.
at::Tensor trades_of(const evaluation::Backtest& backtest) {
  at::Tensor trades = backtest.holdings.clone();
  const std::int64_t bars = trades.size(0);
  trades.narrow(0, 1, bars - 1).sub_(backtest.holdings.narrow(0, 0, bars - 1));
  for (const std::int64_t first : backtest.first_bar) trades[first].copy_(backtest.holdings[first]);
  return trades;
}

void compare_trades(const evaluation::Backtest& before, const evaluation::Backtest& after, const Mapping& mapping,
                    const Side& side, const env::Market& old_market, ConversionProof& proof) {
  const at::Tensor old_trades = trades_of(before), new_trades = trades_of(after);
  std::vector<bool> compared(mapping.from.assets.size());
  for (std::size_t i = 0; i < mapping.actions.size(); ++i) {
    const std::int64_t old = mapping.actions[i];
    const at::Tensor now = new_trades.select(1, static_cast<std::int64_t>(i));
    if (old < 0) {
      proof.differing_trades += (now != 0).sum().item<std::int64_t>();
      continue;
    }
    compared[static_cast<std::size_t>(old)] = true;
    const at::Tensor was = old_trades.select(1, old);
    proof.differing_trades += (now.sign() != was.sign()).sum().item<std::int64_t>();
    for (std::size_t w = 0; w < before.windows.size(); ++w) {
      const std::int64_t first = before.first_bar[w];
      const std::int64_t count = (w + 1 < before.windows.size() ? before.first_bar[w + 1] : was.size(0)) - first;
      const double reference = old_market.price[before.windows[w].begin][old].item<double>();
      const double largest = side.rules.initial_capital / (reference * side.rules.norm_action);
      const at::Tensor a = was.narrow(0, first, count), b = now.narrow(0, first, count);
      const at::Tensor other = (a - b).abs() > kConvertedTolerance * largest;
      proof.differing_trades += other.logical_and(a.sign() == b.sign()).sum().item<std::int64_t>();
    }
  }
  for (std::size_t i = 0; i < compared.size(); ++i) {
    if (compared[i]) continue;
    proof.differing_trades += (old_trades.select(1, static_cast<std::int64_t>(i)) != 0).sum().item<std::int64_t>();
  }
}

std::string brief(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", value);
  return text;
}

env::Layout with_lookback(env::Layout layout, int lookback) {
  layout.lookback = lookback;
  return layout;
}

env::Rules with_lookback(env::Rules rules, int lookback) {
  rules.lookback = lookback;
  return rules;
}

// Segments in pieces: a network whose single states leave a processor idle gets many at once, but not more than memory
// holds, and a piece is long beside what the lookback takes off it.
std::vector<env::Segment> pieces_of(const std::vector<env::Segment>& segments, int lookback) {
  constexpr std::int64_t kBars = 512, kLookbacks = 64, kPieces = 64;
  std::int64_t all = 0;
  for (const env::Segment& segment : segments) all += segment.size();
  const std::int64_t most = std::max({kBars, kLookbacks * lookback, all / kPieces});
  std::vector<env::Segment> pieces;
  for (const env::Segment& segment : segments) {
    const std::int64_t count = (segment.size() + most - 1) / most;
    for (std::int64_t i = 0; i < count; ++i) {
      pieces.push_back({segment.begin + segment.size() * i / count, segment.begin + segment.size() * (i + 1) / count});
    }
  }
  return pieces;
}

}  // namespace

ConversionProof prove(const Mapping& mapping, const Side& before, const Side& after, const env::Market& whole) {
  const at::NoGradGuard no_gradients;
  const bool transformer = before.architecture.network != agents::Network::mlp;
  const int lookback = std::max(mapping.from.lookback, mapping.to.lookback);
  const env::Market market = transformer ? whole.with_segments(pieces_of(whole.segments, lookback)) : whole;
  const env::Layout &from = mapping.from, &to = mapping.to;
  const env::Market old_market = market.with_columns(from.assets, from.features);
  const env::Market new_market = market.with_columns(to.assets, to.features);

  ConversionProof proof;
  const evaluation::Actor old_actor = [&](const env::Observation& seen) {
    const at::Tensor action = action_of(before, env::materialize(seen, old_market.tech, from));
    const at::Tensor other = action_of(after, env::materialize(renamed(seen, mapping), new_market.tech, to));
    proof.state_difference = std::max(proof.state_difference, difference(action, other, mapping));
    return action;
  };
  const evaluation::Backtest old_run =
      evaluation::backtest(old_market, with_lookback(from, lookback), with_lookback(before.rules, lookback), old_actor,
                           /*keep_actions=*/true);
  proof.bars = static_cast<std::int64_t>(old_run.time.size());
  proof.windows = static_cast<std::int64_t>(old_run.windows.size());
  proof.first_time = old_run.time.front();
  proof.last_time = old_run.time.back();
  if (proof.bars < kProofBars) {
    throw Error(Fault::usage,
                str("the bars give ", with_thousands(proof.bars), " decisions at lookback ", lookback,
                    ", a conversion is proved over at least ", with_thousands(kProofBars)),
                "give more --bars");
  }

  std::vector<at::Tensor> kept;
  std::int64_t steps = 0;
  const std::int64_t every = std::max<std::int64_t>(1, proof.bars / proof.windows / (2 * kProofProbeStates));
  const evaluation::Backtest new_run = evaluation::backtest(
      new_market, with_lookback(to, lookback), with_lookback(after.rules, lookback),
      [&](const env::Observation& seen) {
        const at::Tensor states = env::materialize(seen, new_market.tech, to);
        if (steps++ % every == 0 && static_cast<std::int64_t>(kept.size()) < kProofProbeStates) {
          const auto of_all = static_cast<std::int64_t>(kept.size()) * states.size(0) / kProofProbeStates;
          kept.push_back(states[of_all].clone());
        }
        return action_of(after, states);
      },
      /*keep_actions=*/true);
  while (static_cast<std::int64_t>(kept.size()) < kProofProbeStates) kept.push_back(kept.back());
  proof.states = at::stack(kept);
  proof.action_difference = difference(old_run.actions, new_run.actions, mapping);
  proof.orders_before = old_run.orders;
  proof.orders_after = new_run.orders;
  for (std::size_t k = 0; k < old_run.value.size(); ++k) {
    proof.value_difference =
        std::max(proof.value_difference, std::abs(new_run.value[k] - old_run.value[k]) / old_run.value[k]);
  }
  compare_trades(old_run, new_run, mapping, before, old_market, proof);
  return proof;
}

Json json_of(const ConversionProof& proof) {
  return {{"identical", proof.identical()},
          {"bars", proof.bars},
          {"windows", proof.windows},
          {"first_bar", iso_utc(proof.first_time)},
          {"last_bar", iso_utc(proof.last_time)},
          {"largest_difference_at_the_same_states", proof.state_difference},
          {"largest_difference_of_actions", proof.action_difference},
          {"tolerance", kConvertedTolerance},
          {"orders_before", proof.orders_before},
          {"orders_after", proof.orders_after},
          {"differing_trades", proof.differing_trades},
          {"largest_difference_of_value", proof.value_difference}};
}

std::string text_of(const ConversionProof& proof) {
  return str(with_thousands(proof.bars), " bars, ", iso_utc(proof.first_time), " to ", iso_utc(proof.last_time),
             ": actions differ by at most ", brief(proof.action_difference), " (", brief(proof.state_difference),
             " at the same states), ", with_thousands(proof.orders_before), " orders against ",
             with_thousands(proof.orders_after), ", ",
             proof.differing_trades == 0 ? std::string("all the same")
                                         : str(with_thousands(proof.differing_trades), " of them not the same"));
}

}  // namespace ristretto::release
