"""Opens deployments/NAME as consumers in Python do: read_deployment.py DIRECTORY STATES.npz ACTIONS.npz

Checks what needs no peer, and writes each form's actions for the states, for the test to compare.
"""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "python"))
from ristretto_deployment import Deployment, DeploymentError  # noqa: E402


class Mlp(nn.Module):
    """The existing system's networks, by the names of their weights."""

    def __init__(self, size, width, outputs, actor):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))
        if actor:
            self.a_std_log = nn.Parameter(torch.zeros(1, outputs))

    def forward(self, x):
        return self.net(x)


def main(directory, states_file, actions_file):
    states = torch.from_numpy(np.load(states_file)["states"])
    answers = {}

    weights = torch.load(directory / "actor.pth", weights_only=True)
    mapped = torch.load(directory / "actor.pth", weights_only=True, mmap=True)
    assert next(iter(weights)) == "a_std_log", list(weights)
    assert all(w.dtype == torch.float32 and torch.equal(w, mapped[name]) for name, w in weights.items())
    with torch.inference_mode():
        if "net.0.weight" in weights:  # as today's trader: actor.pth, then act_target.pth into the same network
            width, size = weights["net.0.weight"].shape
            actor, critic = Mlp(size, width, weights["net.4.weight"].shape[0], True), Mlp(size, width, 1, False)
            for file in ("actor.pth", "act_target.pth"):
                actor.load_state_dict(torch.load(directory / file, weights_only=True), strict=True)
            for file in ("critic.pth", "cri_target.pth"):
                critic.load_state_dict(torch.load(directory / file, weights_only=True), strict=True)
            answers["trader"] = actor(states).tanh()
            answers["critic"] = critic(states)[:, 0]
        script = torch.jit.load(str(directory / "policy.pt"))
        answers["script"] = script(states)
        answers["script_one_by_one"] = torch.cat([script(state[None]) for state in states])

    with open(directory / "best_trial", "rb") as file:
        trial = pickle.load(file)
    assert type(trial) is types.SimpleNamespace and trial.number == 195 and trial.value == 0.125, trial
    assert trial.params["batch_size"] == 2048 and type(trial.params["batch_size"]) is int, trial.params
    assert trial.params["use_lr_schedule"] is True and trial.params["gamma"] == 0.97, trial.params
    assert trial.user_attrs == {"sharpe_list_bot": [0.25, -0.5], "timeframe": "1h"}, trial.user_attrs

    policy = Deployment(directory)
    policy.require_layout(policy.layout)
    for names, part in ((policy.layout[1:], "1 missing (cash)"), (policy.layout[::-1], "number 0 is"),
                        (policy.layout + ["x"], "1 unknown to it (x)")):
        try:
            policy.require_layout(names)
            raise AssertionError(f"another layout was accepted: {part}")
        except DeploymentError as error:
            assert part in str(error), error

    for form in ("policy.pt", "actor.safetensors", "actor.pth"):
        answers[form] = torch.from_numpy(Deployment(directory, form).action(states.numpy()))
    np.savez(actions_file, **{name: answer.numpy() for name, answer in answers.items()})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
