// THE rules of one bar for one account (environment.md, "Step" and "Reward"): C++17, no torch, no containers, host and
// device. One text serves scalars (float, double: GPU threads, references) and vectors of GCC's vector extension (the
// CPU's lanes):
// + - * / and comparisons only, selections instead of branches on data, so that all of them give equal bits.
#pragma once

#include <cstdint>

#include "env/counter_random.h"

namespace ristretto::env {

inline constexpr int kMaxAssets = 32;
inline constexpr int kForcedSaleBars = 48;           // bars without a sale after which a part is sold
inline constexpr double kForcedSaleFraction = 0.05;  // of the holding
inline constexpr double kCashShare = 0.99;           // of the available cash that a buy may use
inline constexpr double kConcentrationLimit =
    0.40;  // share of one asset, and Gini coefficient, that count as concentrated
inline constexpr int kVolatilityBars = 24;
inline constexpr int kRewardTermCount = 7;

// Settings of the environment. Fractions are of 1, money is in the account's currency.
struct Rules {
  int assets = 0;    // n
  int lookback = 1;  // L
  double initial_capital = 500;
  double fee_fraction = 0.0025;         // of each trade's value, on both sides
  double slippage_fraction = 0;         // likewise: what the price moves against an order
  double spread_fraction = 0;           // between bid and ask, of the price; half of it is paid on each side
  double norm_action = 100;             // largest order: initial_capital / (reference price * norm_action) units
  double max_position_fraction = 0.30;  // of the account's value; 0: no limit
  double min_cash_reserve = 0;          // of the initial capital
  double trailing_stop_pct = 0;         // fraction below the peak; 0: none
  double time_decay_floor = 1;
  double norm_reward = 1;  // N = 2^norm_reward_exp
  double concentration_penalty = 0;
  double max_drawdown_penalty = 0;
  double volatility_penalty = 0;
  double gamma = 0.99;              // of the discounted sum, where the last reward is one
  double min_qty[kMaxAssets] = {};  // smallest order of each asset, units
};

// What a trade costs, of its value.
RISTRETTO_HOST_DEVICE double cost_fraction(const Rules& rules) {
  return rules.fee_fraction + rules.slippage_fraction + 0.5 * rules.spread_fraction;
}

template <class R>
struct MaskOf {
  using type = decltype(R{} < R{});
};
template <class R>
using Mask = typename MaskOf<R>::type;

template <class R>
RISTRETTO_HOST_DEVICE R select(Mask<R> condition, R yes, R no) {
  return condition ? yes : no;
}
template <class R>
RISTRETTO_HOST_DEVICE R smaller(R a, R b) {
  return select<R>(b < a, b, a);
}
template <class R>
RISTRETTO_HOST_DEVICE R larger(R a, R b) {
  return select<R>(a < b, b, a);
}
template <class R>
RISTRETTO_HOST_DEVICE R magnitude(R a) {
  return select<R>(a < R{}, -a, a);
}
RISTRETTO_HOST_DEVICE bool both(bool a, bool b) { return a && b; }
template <class M>
RISTRETTO_HOST_DEVICE M both(M a, M b) {
  return a & b;
}
RISTRETTO_HOST_DEVICE bool negation(bool mask) { return !mask; }
template <class M>
RISTRETTO_HOST_DEVICE M negation(M mask) {
  return ~mask;
}
// A scalar of the rules in every lane. Vectors have no converting constructor, so adding is how they broadcast.
template <class R>
struct LaneOf {
  using type = R;
};
template <class R>
RISTRETTO_HOST_DEVICE R lanes(double value) {
  return R{} + static_cast<typename LaneOf<R>::type>(value);
}

// One account between two bars. Written for `n` assets; the rest of the arrays is not touched.
template <class R>
struct Account {
  R cash;
  R value;      // V at the last bar
  R benchmark;  // E at the last bar
  R fees, turnover, orders;
  R holding[kMaxAssets];
  R peak[kMaxAssets];      // read and written only with a trailing stop
  R cooldown[kMaxAssets];  // bars since the last sale; at most kForcedSaleBars
  R value_peak;            // highest V of the episode: only with max_drawdown_penalty
};

// The new bar, as the account sees it.
template <class R>
struct Bar {
  R price[kMaxAssets];
  R action[kMaxAssets];         // in [-1, 1]
  R capital_units[kMaxAssets];  // initial capital / reference price: what sizes orders and the equal-weight portfolio
  R progress;                   // clamp((t - (L-1)) / max(horizon, 1), 0, 1) at the new t
  R mean_return;                // of the last kVolatilityBars bars: only with volatility_penalty
};

template <class R>
struct Reward {
  R total;
  R term[kRewardTermCount];  // excess, return, cash bonus, reserve, concentration, drawdown, volatility; their sum is
                             // total
  R bar_return;              // dV / V before
};

template <class R>
RISTRETTO_HOST_DEVICE R account_value(const Account<R>& account, const R* price, int n) {
  R value = account.cash;
  for (int i = 0; i < n; ++i) value = value + account.holding[i] * price[i];
  return value;
}

// E: the initial capital in equal parts, bought with costs at the reference prices.
template <class R>
RISTRETTO_HOST_DEVICE R benchmark_value(const R* capital_units, const R* price, const Rules& rules) {
  R value = R{};
  for (int i = 0; i < rules.assets; ++i) value = value + capital_units[i] * price[i];
  return value * lanes<R>(1.0 / (rules.assets * (1.0 + cost_fraction(rules))));
}

// Sells `quantity` of asset i where `where` holds.
template <class R>
RISTRETTO_HOST_DEVICE void sell(Account<R>& account, int i, Mask<R> where, R quantity, R price, double cost) {
  const R sold = select<R>(where, quantity, R{});
  const R worth = sold * price;
  account.cash = account.cash + worth * lanes<R>(1.0 - cost);
  account.fees = account.fees + worth * lanes<R>(cost);
  account.turnover = account.turnover + worth;
  account.orders = account.orders + select<R>(where, lanes<R>(1), R{});
  account.holding[i] = account.holding[i] - sold;
  account.cooldown[i] = select<R>(where, R{}, account.cooldown[i]);
}

// What the account does at the new bar's prices: environment.md "Step", 1 to 5, in that order.
template <class R>
RISTRETTO_HOST_DEVICE void trade(Account<R>& account, const Bar<R>& bar, const Rules& rules) {
  const int n = rules.assets;
  const R zero = R{};
  const R one = lanes<R>(1);
  R shares[kMaxAssets];
  const double cost = cost_fraction(rules);
  const R order_scale = lanes<R>(1.0 / rules.norm_action);
  for (int i = 0; i < n; ++i) shares[i] = bar.action[i] * bar.capital_units[i] * order_scale;

  for (int i = 0; i < n; ++i) {
    account.cooldown[i] = account.cooldown[i] + select<R>(zero < account.holding[i], one, zero);
  }
  if (rules.trailing_stop_pct > 0) {
    for (int i = 0; i < n; ++i) {
      const Mask<R> held = zero < account.holding[i];
      account.peak[i] = select<R>(held, larger<R>(account.peak[i], bar.price[i]), account.peak[i]);
      const R stop = account.peak[i] * lanes<R>(1.0 - rules.trailing_stop_pct);
      const Mask<R> stopped = both(both(held, zero < bar.price[i]), bar.price[i] < stop);
      sell<R>(account, i, stopped, account.holding[i], bar.price[i], cost);
      account.peak[i] = select<R>(stopped, zero, account.peak[i]);
    }
  }
  if (rules.max_position_fraction > 0) {
    const R limit = account_value<R>(account, bar.price, n) * lanes<R>(rules.max_position_fraction);
    for (int i = 0; i < n; ++i) {
      const Mask<R> buying = both(zero < shares[i], zero < bar.price[i]);
      const R room =
          larger<R>(zero, (limit - account.holding[i] * bar.price[i]) / select<R>(buying, bar.price[i], one));
      shares[i] = select<R>(buying, smaller<R>(shares[i], room), shares[i]);
    }
  }
  for (int i = 0; i < n; ++i) {
    const R minimum = lanes<R>(rules.min_qty[i]);
    const Mask<R> selling = both(both(shares[i] < -minimum, zero < account.holding[i]), zero < bar.price[i]);
    sell<R>(account, i, selling, smaller<R>(account.holding[i], -shares[i]), bar.price[i], cost);
    if (rules.trailing_stop_pct > 0) {
      account.peak[i] = select<R>(zero < account.holding[i], account.peak[i], zero);
    }
  }
  for (int i = 0; i < n; ++i) {
    const Mask<R> forced = lanes<R>(kForcedSaleBars - 0.5) < account.cooldown[i];
    sell<R>(account, i, forced, account.holding[i] * lanes<R>(kForcedSaleFraction), bar.price[i], cost);
  }
  const R reserve = lanes<R>(rules.initial_capital * rules.min_cash_reserve);
  for (int i = 0; i < n; ++i) {
    const R minimum = lanes<R>(rules.min_qty[i]);
    const Mask<R> wanted = both(minimum < shares[i], zero < bar.price[i]);
    const R available = larger<R>(zero, account.cash - reserve);
    const R affordable = available * lanes<R>(kCashShare / (1.0 + cost)) / select<R>(wanted, bar.price[i], one);
    const R quantity = smaller<R>(affordable, shares[i]);
    const Mask<R> buying = both(wanted, minimum <= quantity);
    const R bought = select<R>(buying, quantity, zero);
    const R worth = bought * bar.price[i];
    account.cash = account.cash - worth * lanes<R>(1.0 + cost);
    account.fees = account.fees + worth * lanes<R>(cost);
    account.turnover = account.turnover + worth;
    account.orders = account.orders + select<R>(buying, one, zero);
    if (rules.trailing_stop_pct > 0) {
      const Mask<R> opened = both(buying, account.holding[i] <= zero);
      account.peak[i] = select<R>(opened, bar.price[i], account.peak[i]);
    }
    account.holding[i] = account.holding[i] + bought;
  }
}

// environment.md "Reward": the term of concentrated (minus) or spread (plus) holdings.
template <class R>
RISTRETTO_HOST_DEVICE R concentration_term(const Account<R>& account, const R* price, R value, const Rules& rules) {
  const int n = rules.assets;
  const R zero = R{};
  const R penalty = lanes<R>(rules.concentration_penalty);
  const R limit = lanes<R>(kConcentrationLimit);
  const R divisor = select<R>(zero < value, value, lanes<R>(1));
  R weight[kMaxAssets];  // 0 where it does not count
  R largest = zero, count = zero, sum = zero;
  for (int i = 0; i < n; ++i) {
    const R w = account.holding[i] * price[i] / divisor;
    largest = larger<R>(largest, w);
    const Mask<R> counts = lanes<R>(0.01) < w;
    count = count + select<R>(counts, lanes<R>(1), zero);
    weight[i] = select<R>(counts, w, zero);
    sum = sum + weight[i];
  }
  R term = zero - select<R>(limit < largest, penalty * (largest - limit), zero);
  // Gini over the k weights that count: sum over pairs |w_i - w_j| / (k sum w). A pair with one that does not count
  // adds |w_i - 0|, which is taken off again: each counting weight meets n - k of them.
  R spread = zero;
  for (int i = 0; i < n; ++i) {
    for (int j = i + 1; j < n; ++j) spread = spread + magnitude<R>(weight[i] - weight[j]);
  }
  spread = spread - sum * (lanes<R>(n) - count);
  const Mask<R> few = count < lanes<R>(2.5);
  const R gini = spread / select<R>(few, lanes<R>(1), count * sum);
  const R spread_bonus = select<R>(gini < limit, penalty * lanes<R>(0.1) * (limit - gini), zero);
  term = term + select<R>(few, zero - penalty * lanes<R>(0.5) * (lanes<R>(3) - count), spread_bonus);
  return term;
}

// One bar: trades, then value, benchmark and reward. Arithmetic in R.
template <class R>
RISTRETTO_HOST_DEVICE Reward<R> step(Account<R>& account, const Bar<R>& bar, const Rules& rules) {
  trade<R>(account, bar, rules);
  const R zero = R{};
  const R value = account_value<R>(account, bar.price, rules.assets);
  const R benchmark = benchmark_value<R>(bar.capital_units, bar.price, rules);
  const R value_change = value - account.value;
  const R benchmark_change = benchmark - account.benchmark;
  const R scale = lanes<R>(rules.norm_reward);
  const R decay = larger<R>(lanes<R>(1) - bar.progress, lanes<R>(rules.time_decay_floor));

  Reward<R> reward;
  for (R& term : reward.term) term = zero;
  reward.term[0] = lanes<R>(0.5) * (value_change - benchmark_change) * scale * decay;
  reward.term[1] = lanes<R>(0.3 / rules.initial_capital) * value_change * scale * decay;
  {
    const R market = benchmark_change / select<R>(zero < account.benchmark, account.benchmark, lanes<R>(1));
    const R cash_share = account.cash / select<R>(zero < value, value, lanes<R>(1));
    const Mask<R> sheltered = both(market < zero, lanes<R>(0.1) < cash_share);
    reward.term[2] = select<R>(sheltered, lanes<R>(0.2 * 0.1) * magnitude<R>(market) * cash_share * scale, zero);
  }
  if (rules.min_cash_reserve > 0) {
    const R shortfall = larger<R>(zero, lanes<R>(rules.initial_capital * rules.min_cash_reserve) - account.cash);
    reward.term[3] = zero - shortfall * lanes<R>(0.5 / rules.initial_capital) * scale;
  }
  if (rules.concentration_penalty > 0) {
    reward.term[4] = concentration_term<R>(account, bar.price, value, rules);
  }
  reward.bar_return = value_change / select<R>(zero < account.value, account.value, lanes<R>(1));
  if (rules.max_drawdown_penalty > 0) {
    const R peak = larger<R>(account.value_peak, value);
    const Mask<R> deepens = both(value < peak, value < account.value);
    const R drop = (peak - value) / select<R>(zero < peak, peak, lanes<R>(1));
    reward.term[5] = select<R>(deepens, zero - lanes<R>(rules.max_drawdown_penalty) * scale * drop, zero);
    account.value_peak = peak;
  }
  if (rules.volatility_penalty > 0) {
    reward.term[6] =
        zero - lanes<R>(rules.volatility_penalty) * scale * magnitude<R>(reward.bar_return - bar.mean_return);
  }
  reward.total = reward.term[0];
  for (int k = 1; k < kRewardTermCount; ++k) reward.total = reward.total + reward.term[k];
  account.value = value;
  account.benchmark = benchmark;
  return reward;
}

}  // namespace ristretto::env
