"""Random studies and what Optuna's FanovaImportanceEvaluator says of them, for tests/test_importance.cpp.

usage: optuna_importance.py > FILE      (golden/optuna_importance/fanova.jsonl: Optuna 4.9.0, scikit-learn 1.9.1)

One study a line: direction, distributions (as the database has them), trials [values of the parameters (of a categorical
the index), value] and the mean of the importances over ten seeds.
"""
import json

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

optuna.logging.disable_default_handler()
random = np.random.RandomState(7)
C = CategoricalDistribution(["a", "b", "c"])

STUDIES = {
    # The variances are known: 10 x0^2: 100 * 4/45 = 8.89; 3 x1: 9/3 = 3; c: 2.67; 0.1 x2: 0.0033.
    "known": ({"x0": FloatDistribution(-1, 1), "x1": FloatDistribution(-1, 1), "x2": FloatDistribution(-1, 1), "c": C},
              lambda p: 10 * p["x0"] ** 2 + 3 * p["x1"] + 0.1 * p["x2"] + {"a": 0, "b": 2, "c": 4}[p["c"]]),
    # Whole and stepped numbers, one parameter of one value, an interaction.
    "mixed": ({"k": IntDistribution(0, 5), "s": FloatDistribution(0, 1, step=0.25), "one": FloatDistribution(2, 2),
               "c": C, "z": FloatDistribution(0, 1)},
              lambda p: p["k"] + 2 * p["s"] * (p["c"] == "b") + 0.3 * p["z"]),
}

for name, (distributions, objective) in STUDIES.items():
    direction = ["minimize", "maximize"][name == "mixed"]
    study = optuna.create_study(study_name=name, direction=direction, sampler=optuna.samplers.RandomSampler(seed=3))
    trials = []
    for _ in range(250):
        trial = study.ask(distributions)
        value = round(objective(trial.params), 6)
        study.tell(trial, value)
        trials.append([[d.to_internal_repr(trial.params[k]) for k, d in distributions.items()], value])
    shares = {}
    for seed in range(10):
        importance = optuna.importance.FanovaImportanceEvaluator(seed=seed).evaluate(study)
        total = sum(importance.values())
        for parameter, share in importance.items():
            shares[parameter] = shares.get(parameter, 0) + share / total / 10
    print(json.dumps({
        "study": name, "direction": direction.upper(),
        "distributions": {k: optuna.distributions.distribution_to_json(d) for k, d in distributions.items()},
        "importance": {k: round(v, 6) for k, v in sorted(shares.items(), key=lambda item: -item[1])}, "trials": trials,
    }, separators=(",", ":")))
