"""A whole objective with Stable-Baselines3: the peer of bench/trial.cpp, on the splits and settings it exported.

    .venv-interop/bin/python bench/peers/sb3_trial.py build/bench/bench/trial.safetensors 2
"""

import itertools
import json
import math
import sys
import time
import warnings

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import measure
import trading_env

ENVIRONMENTS = 8
SHARPE_TOLERANCE = 1e-6  # relative: sums of thousands of bars in another order
HOURS_OF_YEAR = 8760


class Trial:
    def __init__(self, path):
        found = measure.arrays(path, "trial")
        self.set = {name: array.item() for name, array in found.items() if array.shape == ()}
        self.references, self.scripted, self.bars = found["references"], found["scripted"], found["bars"]
        self.actions = found["scripted_actions"]
        self.splits = range(len(self.bars))
        self.train = [found[f"train_{k}"] for k in self.splits]
        self.test = [found[f"test_{k}"] for k in self.splits]
        for name in ("max_drawdown_penalty", "volatility_penalty", "trailing_stop_pct"):
            assert self.set[name] == 0, f"the environment here knows no {name}"
        config = {name: self.set[name] for name in (
            "norm_action", "time_decay_floor", "min_cash_reserve", "concentration_penalty", "max_position_fraction",
            "initial_capital")}
        config |= {f"norm_{what}": 2.0 ** self.set[f"norm_{what}_exp"] for what in ("cash", "stocks", "tech", "reward")}
        config |= {"lookback": self.whole("lookback"), "minimum_qty": measure.MINIMUM_QUANTITY}
        self.world = trading_env.TradingEnv(found["price"], found["tech"], self.test[0], config)

    def whole(self, name):
        assert self.set[name] == int(self.set[name])
        return int(self.set[name])

    def learned(self, split):
        """A model trained on the split's training bars."""
        bars = self.whole("episode_bars")
        env = DummyVecEnv([lambda: self.world.over(self.train[split], bars)] * ENVIRONMENTS)
        last = self.set["lr_schedule_factor"] if self.set["use_lr_schedule"] else 1
        rate = self.set["learning_rate"]
        width = self.whole("net_dimension")
        assert self.whole("iteration_steps") % ENVIRONMENTS == 0
        model = PPO("MlpPolicy", env, n_steps=self.whole("iteration_steps") // ENVIRONMENTS,
                    batch_size=self.whole("batch_size"), n_epochs=self.whole("ppo_epochs"),
                    learning_rate=lambda left: rate * (last + (1 - last) * left), gamma=self.set["gamma"],
                    gae_lambda=self.set["gae_lambda"], clip_range=self.set["clip_range"],
                    ent_coef=self.set["entropy_coef"], vf_coef=self.set["value_loss_coef"],
                    max_grad_norm=self.set["max_grad_norm"], seed=split, device="cpu",
                    policy_kwargs={"net_arch": {"pi": [width, width], "vf": [width, width]},
                                   "activation_fn": torch.nn.ReLU, "log_std_init": self.set["log_std_init"]})
        model.learn(self.whole("steps"))
        return model

    def judged(self, split, actor):
        """Sharpe ratio of the split's test bars, as the study has it, whether the account traded, and how many bars
        were decided. All windows are stepped together, so that the networks see a batch."""
        worlds = [self.world.over([window], window[1] - window[0]) for window in self.test[split]]
        seen = [world.reset(seed=0)[0] for world in worlds]
        returns = [[] for _ in worlds]
        open_ones = list(range(len(worlds)))
        while open_ones:
            actions = actor(np.stack([seen[i] for i in open_ones]), [worlds[i] for i in open_ones])
            still = []
            for i, action in zip(open_ones, actions):
                before = worlds[i].value
                seen[i], _, _, ended, _ = worlds[i].step(action)
                returns[i].append(math.log(worlds[i].value / before))
                if not ended:
                    still.append(i)
            open_ones = still
        chained = np.concatenate(returns)
        deviation = chained.std(ddof=1)
        sharpe = math.sqrt(HOURS_OF_YEAR / len(chained)) * chained.mean() / deviation if deviation > 0 else 0.0
        return sharpe, deviation > 0, len(chained)

    def check(self):
        for split in self.splits:
            apart = [set(itertools.chain(*(range(b, e) for b, e in rows.tolist())))
                     for rows in (self.train[split], self.test[split])]
            assert not apart[0] & apart[1], f"split {split} is tested on bars that it trains on"
            sharpe, _, bars = self.judged(
                split, lambda _, worlds: [self.actions[world.begin + world.t] for world in worlds])
            assert bars == self.bars[split], (split, bars, self.bars[split])
            expected = self.scripted[split]
            assert abs(sharpe - expected) < SHARPE_TOLERANCE * abs(expected), (split, sharpe, expected)

    def value(self):
        agents, excesses, steps = [], [], set()
        for split in self.splits:
            model = self.learned(split)
            steps.add(model.num_timesteps)
            sharpe, traded, _ = self.judged(split, lambda seen, _: model.predict(seen, deterministic=True)[0])
            excess = sharpe - self.references[split]
            agents.append(sharpe)
            excesses.append(excess if traded else min(excess, 0.0))
        assert len(steps) == 1, steps
        return np.mean(excesses) - 0.1 * np.std(agents), steps.pop()


def main():
    warnings.simplefilter("ignore")
    path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    for name in (*measure.EPISODES, "concentration"):
        trading_env.check(name)
    trial = Trial(path)
    trial.check()
    begin = time.perf_counter()
    value, steps = trial.value()
    seconds = time.perf_counter() - begin
    case = (f"{len(trial.splits)} splits, {steps:,} steps each, W={trial.whole('net_dimension')}, "
            f"batch {trial.whole('batch_size'):,}, {trial.whole('ppo_epochs')} epochs")
    print(json.dumps({"case": case, "unit": "trials", "samples": [1 / seconds], "value": value}))


if __name__ == "__main__":
    main()
