"""One portfolio as a Gymnasium environment, in plain Python: what one would write for Stable-Baselines3."""

import copy

import gymnasium
import numpy as np

import measure
from environment_torch import CASH_SHARE, FEE, FORCED_SALE_BARS, FORCED_SALE_FRACTION, SERVED


def spread(weights):
    """How far the account is from holdings in one asset: at most 0.04, the more the better."""
    score = -max(0.0, max(weights) - 0.4)
    counted = sorted(w for w in weights if w > 0.01)
    k = len(counted)
    if k < 3:
        return score - 0.5 * (3 - k)
    gini = 2 * sum(j * w for j, w in enumerate(counted, 1)) / (k * sum(counted)) - (k + 1) / k
    return score + 0.1 * max(0.0, 0.4 - gini)


class TradingEnv(gymnasium.Env):
    def __init__(self, price, tech, segments, config=SERVED, episode_bars=1024):
        self.price = [[float(p) for p in row] for row in price]
        self.tech = np.asarray(tech, np.float32) * np.float32(config["norm_tech"])
        self.config = config
        self.n, self.lookback = len(self.price[0]), config["lookback"]
        self.use(segments, episode_bars)
        size = 1 + self.n + self.tech.shape[1] * self.lookback
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (self.n,), np.float32)

    def use(self, segments, episode_bars):
        self.episode_bars = episode_bars
        self.segments = [(int(b), int(e)) for b, e in segments if e - b >= 2 * self.lookback + 1]

    def over(self, segments, episode_bars):
        """Another account over the same tables."""
        other = copy.copy(self)
        other.use(segments, episode_bars)
        return other

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        starts = [max(1, end - begin - self.episode_bars + 1) for begin, end in self.segments]
        draw = int(self.np_random.integers(sum(starts)))
        for (begin, end), here in zip(self.segments, starts):
            if draw < here:
                break
            draw -= here
        self.begin = begin + draw
        self.last = min(end - self.begin, self.episode_bars) - self.lookback - 1
        self.t = self.lookback - 1
        self.cash = self.value = self.config["initial_capital"]
        self.holding, self.cooldown = [0.0] * self.n, [0] * self.n
        self.units = [self.cash / p if p > 0 else 0.0 for p in self.price[self.begin]]
        self.benchmark = self.equal_weight(self.price[self.begin + self.t])
        return self.observe(), {}

    def equal_weight(self, price):
        return sum(u * p for u, p in zip(self.units, price)) / (self.n * (1 + FEE))

    def observe(self):
        out = np.empty(self.observation_space.shape, np.float32)
        out[0] = self.cash * self.config["norm_cash"]
        out[1 : 1 + self.n] = self.holding
        out[1 : 1 + self.n] *= self.config["norm_stocks"]
        row = self.begin + self.t
        out[1 + self.n :] = self.tech[row - self.lookback + 1 : row + 1][::-1].ravel()
        return out

    def step(self, action):
        config, n = self.config, self.n
        capital, minimum = config["initial_capital"], config["minimum_qty"]
        self.t += 1
        price = self.price[self.begin + self.t]
        holding, cooldown = self.holding, self.cooldown
        shares = [a * u / config["norm_action"] for a, u in zip(action.tolist(), self.units)]
        for i in range(n):
            if holding[i] > 0:
                cooldown[i] += 1
        most = config.get("max_position_fraction", 0)
        if most > 0:
            limit = most * (self.cash + sum(h * p for h, p in zip(holding, price)))
            for i in range(n):
                if shares[i] > 0 and price[i] > 0:
                    shares[i] = min(shares[i], max(0.0, (limit - holding[i] * price[i]) / price[i]))
        for i in range(n):
            if shares[i] < -minimum[i] and holding[i] > 0 and price[i] > 0:
                sold = min(holding[i], -shares[i])
                self.cash += sold * price[i] * (1 - FEE)
                holding[i] -= sold
                cooldown[i] = 0
        for i in range(n):
            if cooldown[i] >= FORCED_SALE_BARS:
                sold = holding[i] * FORCED_SALE_FRACTION
                self.cash += sold * price[i] * (1 - FEE)
                holding[i] -= sold
                cooldown[i] = 0
        reserve = capital * config["min_cash_reserve"]
        for i in range(n):
            if shares[i] > minimum[i] and price[i] > 0:
                available = max(0.0, self.cash - reserve)
                quantity = min(CASH_SHARE * available / (1 + FEE) / price[i], shares[i])
                if quantity >= minimum[i]:
                    self.cash -= quantity * price[i] * (1 + FEE)
                    holding[i] += quantity

        value = self.cash + sum(h * p for h, p in zip(holding, price))
        benchmark = self.equal_weight(price)
        gain, market_gain = value - self.value, benchmark - self.benchmark
        first = self.lookback - 1
        progress = (self.t - first) / max(self.last - first, 1)
        scale = max(1 - progress, config["time_decay_floor"]) * config["norm_reward"]
        reward = (0.5 * (gain - market_gain) + 0.3 * gain / capital) * scale
        change = market_gain / self.benchmark
        if change < 0 and self.cash / value > 0.1:
            reward += 0.02 * abs(change) * self.cash / value * config["norm_reward"]
        if reserve > self.cash:
            reward -= (reserve - self.cash) / capital * config["norm_reward"] * 0.5
        if config["concentration_penalty"] > 0:
            reward += config["concentration_penalty"] * spread([h * p / value for h, p in zip(holding, price)])
        self.value, self.benchmark = value, benchmark
        return self.observe(), reward, value <= 0, self.t >= self.last, {}


def check(name):
    """Against a recorded episode (environment.md)."""
    episode, config = measure.golden(name)
    rows = len(episode["price"])
    env = TradingEnv(episode["price"], episode["tech"], [(0, rows)], config, rows)
    capital, scale = config["initial_capital"], config["norm_reward"]
    seen, _ = env.reset(seed=0)
    for k in range(len(episode["reward"])):
        assert np.allclose(seen, episode["state"][k], rtol=1e-5, atol=1e-6 * capital), (name, k)
        seen, reward, _, ended, _ = env.step(episode["actions"][k])
        assert abs(env.cash - episode["cash"][k + 1]) < 1e-6 * capital, (name, k)
        assert abs(env.value - episode["total_asset"][k + 1]) < 1e-6 * capital, (name, k)
        if not ended:  # the recorded last reward is a discounted sum
            assert abs(reward - episode["reward"][k]) < 1e-7 * capital * scale, (name, k)
