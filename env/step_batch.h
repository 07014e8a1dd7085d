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
  R* cash;                       // [N]
  R* holding;                    // [n, N]
  R* peak;                       // [n, N]
  std::uint8_t* cooldown;        // [n, N]
  R* value;                      // [N]
  R* benchmark;                  // [N]
  R* fees;                       // [N]
  R* turnover;                   // [N]
  std::int32_t* orders;          // [N]
  R* value_peak;                 // [N]
  R* returns;                    // [kVolatilityBars, N]: ring, written at (t mod kVolatilityBars)
  R* discounted_sum;             // [N]
  const std::int32_t* bar_from;  // [N] the market's row before the step
  std::int32_t* bar;             // [N] and after it; may be the same memory
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
  bool past_caches;                // what this call gives is more than they hold
  std::int32_t* bad_action;        // [1] set to 1 by a non-finite action
};

// First and last t of an episode of T rows (environment.md, "Episodes"): from L-1 to T-L-1.
RISTRETTO_HOST_DEVICE std::int32_t first_step(int lookback) { return lookback - 1; }
template <class Ints>
RISTRETTO_HOST_DEVICE Ints last_step(Ints window_rows, int lookback) {
  return window_rows - (lookback + 1);
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

// As many lanes as V has, of other types, and the way between them. step_cpu.cpp has those of its vectors.
template <class V>
struct Lanes {
  using Bytes = std::uint8_t;
  using Ints = std::int32_t;
  using Floats = float;
  using Doubles = double;
  template <class To, class From>
  RISTRETTO_HOST_DEVICE static To convert(From from) {
    return static_cast<To>(from);
  }
  RISTRETTO_HOST_DEVICE static bool any(bool mask) { return mask; }
  // Rows of n numbers in memory, one a lane, and their columns.
  template <class R>
  RISTRETTO_HOST_DEVICE static void load_rows(const R* const* rows, int n, R* columns) {
    for (int i = 0; i < n; ++i) columns[i] = rows[0][i];
  }
  template <class R>
  RISTRETTO_HOST_DEVICE static void store_rows(const R* columns, int n, R* rows) {
    for (int i = 0; i < n; ++i) rows[i] = columns[i];
  }
  RISTRETTO_HOST_DEVICE static void give(void* to, const void* from, std::size_t bytes, bool /*past_caches*/) {
    std::memcpy(to, from, bytes);
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

template <class V, int kLanes>
RISTRETTO_HOST_DEVICE void store_flags(bool* to, Mask<V> flags) {
  using Bytes = typename Lanes<V>::Bytes;
  const Bytes bytes = Lanes<V>::template convert<Bytes>(flags) & 1;
  std::memcpy(to, &bytes, kLanes);
}

// Portfolio k, whose fixed window has ended: nothing moves.
template <class R>
RISTRETTO_HOST_DEVICE void stand_still(const Batch<R>& batch, std::int64_t k) {
  const int n = batch.rules.assets;
  batch.reward[k] = 0;
  if (batch.reward_exact != nullptr) batch.reward_exact[k] = 0;
  batch.terminated[k] = batch.truncated[k] = false;
  batch.bar[k] = batch.bar_before_reset[k] = batch.bar_from[k];
  float* const seen = batch.account_before_reset + k * (n + 1);
  seen[0] = static_cast<float>(batch.cash[k]);
  for (int i = 0; i < n; ++i) seen[1 + i] = static_cast<float>(batch.holding[i * batch.portfolios + k]);
  std::memcpy(batch.account_now + k * (n + 1), seen, static_cast<std::size_t>(n + 1) * sizeof(float));
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
  using Floats = typename Lanes<V>::Floats;
  using Doubles = typename Lanes<V>::Doubles;

  const Ints begin = load<Ints, std::int32_t, kLanes>(batch.window_begin + k);
  const Ints rows = load<Ints, std::int32_t, kLanes>(batch.window_rows + k);
  const Ints before = load<Ints, std::int32_t, kLanes>(batch.bar_from + k);
  const Ints last = last_step(rows, rules.lookback);
  if (Lanes<V>::any(before - begin >= last)) {  // rare, and only at the end of backtests
    if constexpr (kLanes > 1) {
      for (int lane = 0; lane < kLanes; ++lane) step_lanes<R, R, 1>(batch, k + lane);
    } else {
      stand_still(batch, k);
    }
    return;
  }
  const Ints row = before + 1, t = row - begin;

  Account<V> account;
  Bar<V> bar;
  Floats not_finite{};  // x - x: 0 of finite numbers, otherwise NaN
  for (int j = 0; j < n; ++j) {
    const Floats some = load<Floats, float, kLanes>(batch.action + k * n + j * kLanes);
    not_finite = not_finite + (some - some);
  }
  const bool all_finite = !Lanes<V>::any(not_finite != Floats{});
  if (!all_finite) *batch.bad_action = 1;
  const V horizon = larger<V>(Lanes<V>::template convert<V>(last - first), lanes<V>(1));
  bar.progress = smaller<V>(Lanes<V>::template convert<V>(t - first) / horizon, lanes<V>(1));
  std::int32_t row_of[kLanes];
  store<Ints, std::int32_t, kLanes>(row_of, row);
  const R* prices[kLanes];
  const float* actions[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    prices[lane] = batch.price + std::int64_t{row_of[lane]} * n;
    actions[lane] = batch.action + (k + lane) * n;
  }
  Floats action[kMaxAssets];
  Lanes<V>::load_rows(prices, n, bar.price);
  Lanes<V>::load_rows(actions, n, action);
  for (int i = 0; i < n; ++i) {
    if (!all_finite) action[i] = select<Floats>(action[i] - action[i] == Floats{}, action[i], Floats{});
    bar.action[i] = Lanes<V>::template convert<V>(action[i]);
    bar.capital_units[i] = load<V, R, kLanes>(batch.capital_units + i * stride + k);
    account.holding[i] = load<V, R, kLanes>(batch.holding + i * stride + k);
    const std::uint8_t* const cooldown = batch.cooldown + i * stride + k;
    std::int32_t bars[kLanes];  // a loop, which compilers vectorise; a vector of bytes they convert one by one
    for (int lane = 0; lane < kLanes; ++lane) bars[lane] = cooldown[lane];
    account.cooldown[i] = Lanes<V>::template convert<V>(load<Ints, std::int32_t, kLanes>(bars));
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
  std::int32_t made[kLanes];  // bars of the episode before this one
  store<Ints, std::int32_t, kLanes>(made, t - (first + 1));
  if (rules.volatility_penalty > 0) {
    bar.mean_return = gather<V, R, kLanes>([&](int lane) {
      const int known = made[lane] < kVolatilityBars ? made[lane] : kVolatilityBars;
      R sum{};
      for (int j = 0; j < known; ++j) sum += batch.returns[j * stride + k + lane];
      return known > 0 ? sum / static_cast<R>(known) : R{};
    });
  }

  const Reward<V> reward = step<V>(account, bar, rules);

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
      batch.returns[made[lane] % kVolatilityBars * stride + k + lane] = bar_return[lane];
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

  const Mask<V> ended = Lanes<V>::template convert<Mask<V>>(t >= last);
  const Mask<V> solvent = V{} < account.value;
  V given = reward.total;
  if (batch.terminal_sum) {
    const V sum = lanes<V>(rules.gamma) * load<V, R, kLanes>(batch.discounted_sum + k) + given;
    store<V, R, kLanes>(batch.discounted_sum + k, sum);
    given = select<V>(ended, sum, given);
  }
  if (batch.reward_exact != nullptr) store<V, R, kLanes>(batch.reward_exact + k, given);
  store_flags<V, kLanes>(batch.terminated + k, negation(solvent));
  store_flags<V, kLanes>(batch.truncated + k, both(ended, solvent));
  const bool resets = !batch.fixed_windows && (Lanes<V>::any(ended) || Lanes<V>::any(negation(solvent)));
  const bool past_caches = batch.past_caches && !resets;  // what is written over at once is not
  const Floats reward_now = Lanes<V>::template convert<Floats>(given);
  Lanes<V>::give(batch.reward + k, &reward_now, sizeof reward_now, past_caches);
  Lanes<V>::give(batch.bar_before_reset + k, &row, sizeof row, past_caches);
  Lanes<V>::give(batch.bar + k, &row, sizeof row, past_caches);
  Floats seen[kMaxAssets + 1];
  for (int i = 0; i <= n; ++i) {
    seen[i] = Lanes<V>::template convert<Floats>(i == 0 ? account.cash : account.holding[i - 1]);
  }
  float accounts[kLanes * (kMaxAssets + 1)];
  Lanes<V>::store_rows(seen, n + 1, accounts);
  float* const now = batch.account_now + k * (n + 1);
  const auto bytes = static_cast<std::size_t>(kLanes * (n + 1)) * sizeof(float);
  Lanes<V>::give(batch.account_before_reset + k * (n + 1), accounts, bytes, past_caches);
  Lanes<V>::give(now, accounts, bytes, past_caches);
  if (!resets) return;
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t world = k + lane;
    if (!batch.terminated[world] && !batch.truncated[world]) continue;
    begin_episode<R>(batch, world);
    float* const opened = now + lane * (n + 1);
    opened[0] = static_cast<float>(batch.cash[world]);
    for (int i = 0; i < n; ++i) opened[1 + i] = 0;
  }
}

}  // namespace ristretto::env
