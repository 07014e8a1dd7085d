"""The environment as one would write it in PyTorch: a batch of portfolios, tensor operations, eager.

Steps only; it keeps no fees, turnover, orders or sums of the reward's terms, which the other side does. Checked
against recorded episodes before it is timed.
"""

import numpy as np
import torch

import measure

FEE = 0.0025
CASH_SHARE = 0.99
FORCED_SALE_BARS = 48
FORCED_SALE_FRACTION = 0.05


class Portfolios:
    def __init__(self, price, tech, segments, config, count, episode_bars=1024, dtype=torch.float32):
        self.price = torch.tensor(price, dtype=dtype)
        self.config = config
        self.lookback = config["lookback"]
        self.count, self.n = count, price.shape[1]
        self.minimum = torch.tensor(config["minimum_qty"], dtype=dtype)
        assert config["trailing_stop_pct"] == 0
        starts, rows = [], []
        for begin, end in segments.tolist():
            for start in range(begin, max(begin + 1, end - episode_bars + 1)):
                if end - begin >= 2 * self.lookback + 1:
                    starts.append(start)
                    rows.append(min(end - start, episode_bars))
        self.starts, self.start_rows = torch.tensor(starts), torch.tensor(rows)

        # Windows of `lookback` rows, newest first, as one piece of memory each.
        scaled = torch.tensor(np.ascontiguousarray(tech[::-1]), dtype=torch.float32) * config["norm_tech"]
        columns = scaled.shape[1]
        self.windows = scaled.as_strided((len(scaled) - self.lookback + 1, self.lookback * columns), (columns, 1))
        self.account_scale = torch.tensor([config["norm_cash"]] + [config["norm_stocks"]] * self.n)
        self.rows = torch.empty(count, 1 + self.n + self.lookback * columns)

        per_account = dict(size=(count,), dtype=dtype)
        self.cash, self.value, self.benchmark = (torch.zeros(**per_account) for _ in range(3))
        self.holding, self.cooldown, self.units = (torch.zeros(count, self.n, dtype=dtype) for _ in range(3))
        self.bar, self.begin, self.last = (torch.zeros(count, dtype=torch.int64) for _ in range(3))
        self.reset(torch.arange(count))
        if len(starts) > 1:  # spread the clocks, as the other side does
            self.last = self.lookback + (torch.rand(count) * (self.last - self.lookback + 1)).long()

    def reset(self, which):
        chosen = torch.randint(len(self.starts), which.shape)
        begin, rows = self.starts[chosen], self.start_rows[chosen]
        self.begin[which] = begin
        self.last[which] = rows - self.lookback - 1
        self.bar[which] = begin + self.lookback - 1
        reference = self.price[begin]
        capital = self.config["initial_capital"]
        units = torch.where(reference > 0, capital / reference, 0)
        self.units[which] = units
        self.cash[which] = capital
        self.value[which] = capital
        self.benchmark[which] = (units * self.price[begin + self.lookback - 1]).sum(1) / (self.n * (1 + FEE))
        self.holding[which] = 0
        self.cooldown[which] = 0

    def step(self, action):
        config = self.config
        self.bar += 1
        t = self.bar - self.begin
        price = self.price.index_select(0, self.bar)
        priced = price > 0
        shares = action * self.units * (1 / config["norm_action"])
        self.cooldown += self.holding > 0
        most = config.get("max_position_fraction", 0)
        if most > 0:
            worth = self.holding * price
            limit = (self.cash + worth.sum(1)) * most
            room = ((limit[:, None] - worth) / torch.where(priced, price, 1)).clamp_(min=0)
            shares = torch.where((shares > 0) & priced, torch.minimum(shares, room), shares)
        selling = (shares < -self.minimum) & (self.holding > 0) & priced
        sold = torch.where(selling, torch.minimum(self.holding, -shares), 0)
        self.holding -= sold
        self.cooldown.masked_fill_(selling, 0)
        forced = self.cooldown >= FORCED_SALE_BARS
        more = torch.where(forced, self.holding * FORCED_SALE_FRACTION, 0)
        self.holding -= more
        self.cooldown.masked_fill_(forced, 0)
        self.cash += ((sold + more) * price).sum(1) * (1 - FEE)
        reserve = config["initial_capital"] * config["min_cash_reserve"]
        wanted = (shares > self.minimum) & priced
        per_cash = torch.where(wanted, CASH_SHARE / (1 + FEE) / price, 0)
        for i in range(self.n):  # in asset order, each from the cash that is left
            available = (self.cash - reserve).clamp_(min=0)
            quantity = torch.minimum(available * per_cash[:, i], shares[:, i])
            quantity = torch.where(wanted[:, i] & (quantity >= self.minimum[i]), quantity, 0)
            self.cash -= quantity * price[:, i] * (1 + FEE)
            self.holding[:, i] += quantity

        value = self.cash + (self.holding * price).sum(1)
        benchmark = (self.units * price).sum(1) / (self.n * (1 + FEE))
        gain, market_gain = value - self.value, benchmark - self.benchmark
        first = self.lookback - 1
        progress = (t - first) / (self.last - first).clamp(min=1)
        scale = (1 - progress).clamp(min=config["time_decay_floor"]) * config["norm_reward"]
        reward = (0.5 * (gain - market_gain) + 0.3 / config["initial_capital"] * gain) * scale
        change = market_gain / self.benchmark
        share = self.cash / value
        bonus = change.abs() * share * (0.02 * config["norm_reward"])
        reward += torch.where((change < 0) & (share > 0.1), bonus, 0)
        if reserve > 0:
            shortfall = (reserve - self.cash).clamp(min=0)
            reward -= shortfall * (0.5 / config["initial_capital"] * config["norm_reward"])
        self.value, self.benchmark = value, benchmark
        terminated = value <= 0
        truncated = (t >= self.last) & ~terminated
        last_account, last_bar = self.account(), self.bar.clone()
        ended = (terminated | truncated).nonzero().squeeze(1)
        if len(ended):
            self.reset(ended)
        return reward, terminated, truncated, last_account, last_bar

    def account(self):
        return torch.cat([self.cash[:, None], self.holding], 1)

    def observe(self, keep=False):
        """Windows joined to accounts by torch.cat; or both written into memory that is kept, for which few would
        write the two out= by hand."""
        newest = len(self.windows) + self.lookback - 2 - self.bar
        if not keep:
            return torch.cat([self.account() * self.account_scale, self.windows.index_select(0, newest)], 1)
        torch.mul(self.account(), self.account_scale, out=self.rows[:, : 1 + self.n])
        torch.index_select(self.windows, 0, newest, out=self.rows[:, 1 + self.n :])
        return self.rows


def check(name):
    episode, config = measure.golden(name)
    segments = np.array([[0, len(episode["price"])]])
    ours = Portfolios(episode["price"], episode["tech"], segments, config, 1, len(episode["price"]), torch.float64)
    capital, scale = config["initial_capital"], config["norm_reward"]
    steps = len(episode["reward"])
    for k in range(steps):
        for keep in (False, True):
            seen = ours.observe(keep)[0].numpy()
            assert np.allclose(seen, episode["state"][k], rtol=1e-5, atol=1e-6 * capital), (name, k)
        reward, _, _, account, _ = ours.step(torch.tensor(episode["actions"][k : k + 1]))
        assert abs(float(account[0, 0]) - episode["cash"][k + 1]) < 1e-6 * capital, (name, k)
        price = episode["price"][config["lookback"] + k]
        gap = np.abs(account[0, 1:].double().numpy() - episode["stocks"][k + 1]) * price
        assert gap.max() < 1e-6 * capital, (name, k, gap)
        if k + 1 < steps and config["concentration_penalty"] == 0:  # the recorded last reward is a discounted sum
            assert abs(float(reward[0]) - episode["reward"][k]) < 1e-7 * capital * scale, (name, k)


SERVED = {"lookback": 3, "norm_cash": 2.0**-11, "norm_stocks": 2.0**-8, "norm_tech": 2.0**-14,
          "norm_reward": 2.0**-9, "norm_action": 100.0, "time_decay_floor": 1.0, "min_cash_reserve": 0.0,
          "concentration_penalty": 0.0, "trailing_stop_pct": 0.0, "initial_capital": 500.0,
          "max_position_fraction": 0.3, "minimum_qty": measure.MINIMUM_QUANTITY}


def main():
    chosen = measure.options(["environment"])
    for name in measure.EPISODES:
        check(name)
    torch.manual_seed(1)
    price, tech, segments = measure.market(chosen.market, "alpaca-11")
    cases = []
    for count in (1024, 65536, 1048576):
        portfolios = Portfolios(price, tech, segments, SERVED, count)
        actions = [torch.rand(count, portfolios.n) * 2 - 1 for _ in range(4)]
        turn = [0]

        def step(portfolios=portfolios, actions=actions, turn=turn):
            turn[0] += 1
            portfolios.step(actions[turn[0] % 4])

        cases.append((f"bare, {count:,}", "steps", count, step))
        for keep in (False, True):

            def step_and_observe(portfolios=portfolios, step=step, keep=keep):
                step()
                portfolios.observe(keep)

            memory = "kept" if keep else "new"
            cases.append((f"observations, {memory} memory, {count:,}", "steps", count, step_and_observe))
    with torch.no_grad():
        measure.measure(chosen, cases)


if __name__ == "__main__":
    main()
