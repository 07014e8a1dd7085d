"""ElegantRL's PPO, of whose family the existing trainer is, on the same bars and rules: training-existing.

Its agent alone, collecting and updating: no evaluator, and no process for each environment, which on the processors of
one machine costs more than it gives. Its update draws its minibatches at random with replacement, and counts passes in
steps of a single environment: repeat_times is passes times environments.
"""

import math

import torch
from elegantrl.agents import AgentPPO
from elegantrl.agents.net import ActorPPO, CriticPPO
from elegantrl.train import Config

import measure
import trading_env
import update_torch

ENVIRONMENTS, ACTIONS, WIDTH = 8, 7, 1024
ROUNDING = 1e-4  # of a log-probability: the update's batch is not the rollout's


class Environments:
    """Several in turn, as ElegantRL's vectorised ones answer; one that ends is reset in the same step."""

    def __init__(self, tables, config):
        self.worlds = [trading_env.TradingEnv(*tables, config) for _ in range(ENVIRONMENTS)]
        self.columns = self.worlds[0].observation_space.shape[0]

    def reset(self):
        return torch.stack([torch.from_numpy(world.reset(seed=i)[0]) for i, world in enumerate(self.worlds)])

    def step(self, action):
        states, rewards, dones = [], [], []
        for world, row in zip(self.worlds, action.numpy()):
            state, reward, terminated, truncated, _ = world.step(row)
            done = terminated or truncated
            states.append(torch.from_numpy(world.reset()[0] if done else state))
            rewards.append(reward)
            dones.append(done)
        return torch.stack(states), torch.tensor(rewards), torch.tensor(dones), [{}] * len(dones)


class TransformerActor(ActorPPO):
    def __init__(self, dims, state_dim, action_dim):
        super().__init__(dims, state_dim, action_dim)
        self.net = update_torch.Transformer(action_dim, dims[-1], state_dim)


class TransformerCritic(CriticPPO):
    def __init__(self, dims, state_dim, action_dim):
        super().__init__(dims, state_dim, action_dim)
        self.net = update_torch.Transformer(1, dims[-1], state_dim)


class TransformerPPO(AgentPPO):
    act_class, cri_class = TransformerActor, TransformerCritic


class Iteration:
    """ElegantRL's training loop, once around."""

    def __init__(self, agent_class, environments, horizon, batch, passes):
        config = Config(agent_class, None, {"env_name": "trading", "num_envs": ENVIRONMENTS, "max_step": 1024,
                                            "state_dim": environments.columns, "action_dim": ACTIONS,
                                            "if_discrete": False})
        config.batch_size, config.repeat_times = batch, passes * ENVIRONMENTS
        config.learning_rate, config.gamma = 3e-4, 0.98
        self.agent = agent_class([WIDTH, WIDTH], environments.columns, ACTIONS, gpu_id=-1, args=config)
        self.agent.last_state = environments.reset()
        self.environments, self.horizon = environments, horizon
        self.prove(horizon * ENVIRONMENTS * passes // batch)

    def collect(self):
        with torch.no_grad():
            return self.agent.explore_env(self.environments, self.horizon)

    def __call__(self):
        losses = self.agent.update_net(self.collect())
        assert all(map(math.isfinite, losses)), losses

    def prove(self, minibatches):
        """That the networks act and learn as one, and that an iteration is the work that its case is named for."""
        states, actions, logprobs, *_ = self.collect()
        with torch.no_grad():
            again, _ = self.agent.act.get_logprob_entropy(states.flatten(0, 1), actions.flatten(0, 1))
        assert (again - logprobs.flatten()).abs().max() < ROUNDING
        self()
        for network, optimizer in ((self.agent.act, self.agent.act_optimizer),
                                   (self.agent.cri, self.agent.cri_optimizer)):
            steps = {int(optimizer.state[p]["step"]) for p in network.parameters() if p.requires_grad}
            assert steps == {minibatches}, (steps, minibatches)


def main():
    chosen = measure.options(["training-existing"])
    for name in (*measure.EPISODES, "plain_lookback1"):
        trading_env.check(name)
    torch.manual_seed(1)
    tables = measure.market(chosen.market, "alpaca-14")
    cases = []

    def add(names, lookback, agent_class, horizon, batch, passes):
        if any(chosen.case in name for name in names):
            environments = Environments(tables, {**trading_env.SERVED, "lookback": lookback})
            cases.append((names, "steps", horizon * ENVIRONMENTS,
                          Iteration(agent_class, environments, horizon, batch, passes)))

    precisions = ("fp32", "bf16")  # of ours
    add([f"302-1024-1024-7, 2,048 steps, batch 1,024, 8 passes, {precision}" for precision in precisions],
        3, AgentPPO, 256, 1024, 8)
    # Minibatches of 4,096 make the other side's sharing, but this one no faster; they would take minutes.
    add(["FT-Transformer, 106 tokens, 256 steps, batch 128, 4 passes, fp32",
         *(f"market_context, {what}, 4 passes, {precision}" for precision in precisions
           for what in ("256 steps, batch 128", "bars shared, 8,192 steps, batch 4,096"))],
        1, TransformerPPO, 32, 128, 4)
    measure.measure(chosen, cases)


if __name__ == "__main__":
    main()
