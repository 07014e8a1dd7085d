"""Stable-Baselines3's PPO on the same bars, rules, networks and passes: rollout, update-small and training."""

import warnings

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

import measure
import trading_env

ENVIRONMENTS = 8


def ppo_of(tables, width, steps, batch, epochs):
    env = DummyVecEnv([lambda: trading_env.TradingEnv(*tables)] * ENVIRONMENTS)
    networks = {"pi": [width, width], "vf": [width, width]}
    model = PPO("MlpPolicy", env, n_steps=steps, batch_size=batch, n_epochs=epochs, learning_rate=3e-4, gamma=0.97,
                policy_kwargs={"net_arch": networks, "activation_fn": torch.nn.ReLU}, seed=1, device="cpu")
    model.set_logger(Logger(folder=None, output_formats=[]))
    model._setup_learn(total_timesteps=10**9)
    model.callback = model._init_callback(None)
    return model


def collect(model):
    model.collect_rollouts(model.env, model.callback, model.rollout_buffer, n_rollout_steps=model.n_steps)


def main():
    warnings.simplefilter("ignore")
    chosen = measure.options(["rollout", "update-small", "training"])
    for name in measure.EPISODES:
        trading_env.check(name)
    tables = measure.market(chosen.market, "alpaca-14")
    cases = []
    if chosen.bench == "rollout":
        for width in (256, 1024):
            model = ppo_of(tables, width, 64, 64, 1)
            cases.append((f"W={width}", "steps", 64 * ENVIRONMENTS, lambda model=model: collect(model)))
    elif chosen.bench == "update-small":
        model = ppo_of(tables, 256, 256, 64, 10)
        collect(model)
        cases.append(("302-256-256-7, batch 64", "samples", 2048 * 10, model.train))
    else:
        for batch, epochs in ((64, 10), (2048, 5)):
            model = ppo_of(tables, 256, 256, batch, epochs)

            def iteration(model=model):
                collect(model)
                model.train()

            cases.append((f"W=256, batch {batch:,}, {epochs} epochs, {ENVIRONMENTS} environments", "steps", 2048,
                          iteration))
    measure.measure(chosen, cases)


if __name__ == "__main__":
    main()
