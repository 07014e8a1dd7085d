// A batch of accounts in memory, and one bar for a few of them at once: load, step.h's rules, store, and the reset of
// those whose window ended. C++17, no torch, no containers, host and device.
#pragma once

#include <cstdint>
#include <cstring>

#include "env/step.h"

namespace ristretto::env {

// Everything a launch needs: plain pointers into memory of one device. R is float or double.
template <class R>
struct Batch {
  std::int64_t portfolios;  // N
  std::int64_t first_portfolio;
  Rules rules;
  std::uint64_t seed;
  // The market.
  const R* price;  // [T, n]
  // Episode starts: segment s has the starts first_row[s] .. + (cumulative[s] - cumulative[s-1]) - 1.
  const std::int32_t* segment_begin;      // [segments]
  const std::int32_t* segment_end;        // [segments]
  const std::int64_t* starts_cumulative;  // [segments]
  int segments;
  std::int32_t episode_bars;
  bool fixed_windows;  // never reset
  bool terminal_sum;
  // Carried across bars.
  R* cash;                 // [N]
  R* holding;              // [n, N]
  R* peak;                 // [n, N]
  std::uint8_t* cooldown;  // [n, N]
  R* value;                // [N]
  R* benchmark;            // [N]
  R* fees;                 // [N]
  R* turnover;             // [N]
  std::int32_t* orders;    // [N]
  R* value_peak;           // [N]
  R* returns;              // [kVolatilityBars, N]: ring, written at (t mod kVolatilityBars)
  R* discounted_sum;       // [N]
  std::int32_t* bar;       // [N] the market's row
  // Set at an episode's start.
  std::int32_t* window_begin;  // [N]
  std::int32_t* window_rows;   // [N] T
  std::int64_t* episode;       // [N] number of episodes begun
  R* capital_units;            // [n, N]
  // Of this call.
  const float* action;             // [N, n]
  float* reward;                   // [N]
  bool* terminated;                // [N]
  bool* truncated;                 // [N]
  float* account_before_reset;     // [N, 1+n]
  std::int32_t* bar_before_reset;  // [N]
  float* account_now;              // [N, 1+n]
  R* reward_exact;                 // [N] the reward in R, or null
  double* reward_terms;            // [terms, N] sums of |term|, or null
  std::int32_t* bad_action;        // [1] set to 1 by a non-finite action
};

// First and last t of an episode of T rows (environment.md, "Episodes"): from L-1 to T-L-1.
RISTRETTO_HOST_DEVICE std::int32_t first_step(int lookback) { return lookback - 1; }
RISTRETTO_HOST_DEVICE std::int32_t last_step(std::int32_t window_rows, int lookback) {
  return window_rows - lookback - 1;
}
// The fewest rows in which one step can be made.
RISTRETTO_HOST_DEVICE std::int32_t smallest_window(int lookback) { return 2 * lookback + 1; }

// Puts account k at the start of the window whose first row and length are set: all cash.
template <class R>
RISTRETTO_HOST_DEVICE void open_account(const Batch<R>& batch, std::int64_t k) {
  const int n = batch.rules.assets;
  const std::int64_t stride = batch.portfolios;
  const std::int32_t begin = batch.window_begin[k];
  const std::int32_t row = begin + first_step(batch.rules.lookback);
  R units[kMaxAssets], now[kMaxAssets];
  for (int i = 0; i < n; ++i) {
    const R reference = batch.price[std::int64_t{begin} * n + i];
    units[i] = reference > 0 ? static_cast<R>(batch.rules.initial_capital) / reference : R{};
    now[i] = batch.price[std::int64_t{row} * n + i];
    batch.capital_units[i * stride + k] = units[i];
    batch.holding[i * stride + k] = 0;
    batch.peak[i * stride + k] = 0;
    batch.cooldown[i * stride + k] = 0;
  }
  const R capital = static_cast<R>(batch.rules.initial_capital);
  batch.cash[k] = capital;
  batch.value[k] = capital;
  batch.benchmark[k] = benchmark_value<R>(units, now, batch.rules);
  batch.fees[k] = 0;
  batch.turnover[k] = 0;
  batch.orders[k] = 0;
  batch.value_peak[k] = capital;
  if (batch.rules.volatility_penalty > 0) {
    for (int j = 0; j < kVolatilityBars; ++j) batch.returns[j * stride + k] = 0;
  }
  batch.discounted_sum[k] = 0;
  batch.bar[k] = row;
}

// Draws account k's next window (uniform over the starts that fit) and opens it. The very first one is cut at a random
// length, so that the portfolios' clocks are spread from the beginning.
template <class R>
RISTRETTO_HOST_DEVICE void begin_episode(const Batch<R>& batch, std::int64_t k) {
  const std::uint64_t number = static_cast<std::uint64_t>(batch.episode[k]);
  const Random4 random =
      random4(batch.seed, Stream::episode_start, static_cast<std::uint64_t>(batch.first_portfolio + k), number, 0);
  const std::int64_t start =
      static_cast<std::int64_t>(below(static_cast<std::uint64_t>(batch.starts_cumulative[batch.segments - 1]), random));
  int s = 0;
  while (start >= batch.starts_cumulative[s]) ++s;
  const std::int64_t before = s > 0 ? batch.starts_cumulative[s - 1] : 0;
  const std::int32_t begin = batch.segment_begin[s] + static_cast<std::int32_t>(start - before);
  const std::int32_t rest = batch.segment_end[s] - begin;
  std::int32_t rows = rest < batch.episode_bars ? rest : batch.episode_bars;
  if (number == 0) {
    const std::int32_t smallest = smallest_window(batch.rules.lookback);
    const Random4 cut{{random.word[2], random.word[3], 0, 0}};
    rows = smallest + static_cast<std::int32_t>(below(static_cast<std::uint64_t>(rows - smallest + 1), cut));
  }
  batch.window_begin[k] = begin;
  batch.window_rows[k] = rows;
  batch.episode[k] += 1;
  open_account<R>(batch, k);
}

RISTRETTO_HOST_DEVICE bool is_finite(float x) { return x - x == 0.0f; }

// As many lanes as V has, of other types, and the way between them. step_cpu.cpp has those of its vectors.
template <class V>
struct Lanes {
  using Bytes = std::uint8_t;
  using Ints = std::int32_t;
  using Doubles = double;
  template <class To, class From>
  RISTRETTO_HOST_DEVICE static To convert(From from) {
    return static_cast<To>(from);
  }
};

// `kLanes` neighbouring numbers of memory as one V. A scalar V has one lane.
template <class V, class R, int kLanes>
RISTRETTO_HOST_DEVICE V load(const R* from) {
  V value;
  static_assert(sizeof(V) == kLanes * sizeof(R), "a lane holds one number");
  std::memcpy(&value, from, sizeof(V));
  return value;
}
template <class V, class R, int kLanes>
RISTRETTO_HOST_DEVICE void store(R* to, V value) {
  std::memcpy(to, &value, sizeof(V));
}
// The same through kLanes elements computed one by one.
template <class V, class R, int kLanes, class Element>
RISTRETTO_HOST_DEVICE V gather(const Element& element) {
  R values[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = element(lane);
  return load<V, R, kLanes>(values);
}

// One bar for portfolios k .. k + kLanes - 1.
template <class V, class R, int kLanes>
RISTRETTO_HOST_DEVICE void step_lanes(const Batch<R>& batch, std::int64_t k) {
  const Rules& rules = batch.rules;
  const int n = rules.assets;
  const std::int64_t stride = batch.portfolios;
  const std::int32_t first = first_step(rules.lookback);
  using Bytes = typename Lanes<V>::Bytes;
  using Ints = typename Lanes<V>::Ints;
  using Doubles = typename Lanes<V>::Doubles;

  Account<V> account;
  Bar<V> bar;
  std::int32_t row[kLanes], t[kLanes], last[kLanes];
  bool standing[kLanes];  // its fixed window has ended: nothing moves
  bool any_standing = false;
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int32_t begin = batch.window_begin[k + lane];
    last[lane] = last_step(batch.window_rows[k + lane], rules.lookback);
    standing[lane] = batch.bar[k + lane] - begin >= last[lane];
    row[lane] = batch.bar[k + lane] + (standing[lane] ? 0 : 1);
    t[lane] = row[lane] - begin;
    any_standing = any_standing || standing[lane];
  }
  bool all_finite = true;
  for (int j = 0; j < kLanes * n; ++j) all_finite = all_finite & is_finite(batch.action[k * n + j]);
  bar.progress = gather<V, R, kLanes>([&](int lane) {
    const std::int32_t horizon = last[lane] - first;
    const R progress = static_cast<R>(t[lane] - first) / static_cast<R>(horizon < 1 ? 1 : horizon);
    return progress > R{1} ? R{1} : progress;
  });
  if (!all_finite) *batch.bad_action = 1;
  for (int i = 0; i < n; ++i) {
    bar.price[i] = gather<V, R, kLanes>([&](int lane) { return batch.price[std::int64_t{row[lane]} * n + i]; });
    bar.action[i] = gather<V, R, kLanes>([&](int lane) {
      const float action = batch.action[(k + lane) * n + i];
      return static_cast<R>(all_finite || is_finite(action) ? action : 0.0f);
    });
    bar.capital_units[i] = load<V, R, kLanes>(batch.capital_units + i * stride + k);
    account.holding[i] = load<V, R, kLanes>(batch.holding + i * stride + k);
    const Bytes cooldown = load<Bytes, std::uint8_t, kLanes>(batch.cooldown + i * stride + k);
    account.cooldown[i] = Lanes<V>::template convert<V>(cooldown);
    if (rules.trailing_stop_pct > 0) account.peak[i] = load<V, R, kLanes>(batch.peak + i * stride + k);
  }
  account.cash = load<V, R, kLanes>(batch.cash + k);
  account.value = load<V, R, kLanes>(batch.value + k);
  account.benchmark = load<V, R, kLanes>(batch.benchmark + k);
  account.fees = load<V, R, kLanes>(batch.fees + k);
  account.turnover = load<V, R, kLanes>(batch.turnover + k);
  account.orders = Lanes<V>::template convert<V>(load<Ints, std::int32_t, kLanes>(batch.orders + k));
  account.value_peak = rules.max_drawdown_penalty > 0 ? load<V, R, kLanes>(batch.value_peak + k) : V{};
  bar.mean_return = V{};
  if (rules.volatility_penalty > 0) {
    bar.mean_return = gather<V, R, kLanes>([&](int lane) {
      const int known = t[lane] - 1 - first < kVolatilityBars ? t[lane] - 1 - first : kVolatilityBars;
      R sum{};
      for (int j = 0; j < known; ++j) sum += batch.returns[j * stride + k + lane];
      return known > 0 ? sum / static_cast<R>(known) : R{};
    });
  }

  const Reward<V> reward = step<V>(account, bar, rules);

  R total[kLanes], value[kLanes];
  store<V, R, kLanes>(total, reward.total);
  store<V, R, kLanes>(value, account.value);
  if constexpr (kLanes > 1) {
    if (any_standing) {  // rare, and only at the end of backtests: the lanes that stand still keep their memory
      for (int lane = 0; lane < kLanes; ++lane) step_lanes<R, R, 1>(batch, k + lane);
      return;
    }
  }
  if (!any_standing) {
    for (int i = 0; i < n; ++i) {
      store<V, R, kLanes>(batch.holding + i * stride + k, account.holding[i]);
      const Ints cooldown = Lanes<V>::template convert<Ints>(account.cooldown[i]);
      store<Bytes, std::uint8_t, kLanes>(batch.cooldown + i * stride + k, Lanes<V>::template convert<Bytes>(cooldown));
      if (rules.trailing_stop_pct > 0) store<V, R, kLanes>(batch.peak + i * stride + k, account.peak[i]);
    }
    store<V, R, kLanes>(batch.cash + k, account.cash);
    store<V, R, kLanes>(batch.value + k, account.value);
    store<V, R, kLanes>(batch.benchmark + k, account.benchmark);
    store<V, R, kLanes>(batch.fees + k, account.fees);
    store<V, R, kLanes>(batch.turnover + k, account.turnover);
    store<Ints, std::int32_t, kLanes>(batch.orders + k, Lanes<V>::template convert<Ints>(account.orders));
    if (rules.max_drawdown_penalty > 0) store<V, R, kLanes>(batch.value_peak + k, account.value_peak);
    if (rules.volatility_penalty > 0) {
      R bar_return[kLanes];
      store<V, R, kLanes>(bar_return, reward.bar_return);
      for (int lane = 0; lane < kLanes; ++lane) {
        batch.returns[(t[lane] - 1 - first) % kVolatilityBars * stride + k + lane] = bar_return[lane];
      }
    }
    if (batch.reward_terms != nullptr) {
      // Only those that the rules have: the sums are the widest part of a portfolio's memory.
      const bool has[kRewardTermCount] = {true,
                                          true,
                                          true,
                                          rules.min_cash_reserve > 0,
                                          rules.concentration_penalty > 0,
                                          rules.max_drawdown_penalty > 0,
                                          rules.volatility_penalty > 0};
      for (int term = 0; term < kRewardTermCount; ++term) {
        if (!has[term]) continue;
        double* const sum = batch.reward_terms + term * stride + k;
        const Doubles part = Lanes<V>::template convert<Doubles>(magnitude<V>(reward.term[term]));
        store<Doubles, double, kLanes>(sum, load<Doubles, double, kLanes>(sum) + part);
      }
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t world = k + lane;
    const bool ended = !standing[lane] && t[lane] >= last[lane];
    const bool bankrupt = !standing[lane] && !(value[lane] > R{});
    R given = standing[lane] ? R{} : total[lane];
    if (batch.terminal_sum && !standing[lane]) {
      batch.discounted_sum[world] = static_cast<R>(rules.gamma) * batch.discounted_sum[world] + given;
      if (ended) given = batch.discounted_sum[world];
    }
    batch.reward[world] = static_cast<float>(given);
    if (batch.reward_exact != nullptr) batch.reward_exact[world] = given;
    batch.terminated[world] = bankrupt;
    batch.truncated[world] = ended && !bankrupt;
    batch.bar[world] = row[lane];
    batch.bar_before_reset[world] = row[lane];
    float* const before = batch.account_before_reset + world * (n + 1);
    float* const now = batch.account_now + world * (n + 1);
    before[0] = now[0] = static_cast<float>(batch.cash[world]);
    for (int i = 0; i < n; ++i) before[1 + i] = now[1 + i] = static_cast<float>(batch.holding[i * stride + world]);
    if ((ended || bankrupt) && !batch.fixed_windows) {
      begin_episode<R>(batch, world);
      now[0] = static_cast<float>(batch.cash[world]);
      for (int i = 0; i < n; ++i) now[1 + i] = static_cast<float>(batch.holding[i * stride + world]);
    }
  }
}

}  // namespace ristretto::env
