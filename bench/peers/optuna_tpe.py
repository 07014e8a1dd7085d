"""Rate of one TPE suggestion of 20 parameters after 1,000 trials, by Optuna: the peer of bench/suggest.cpp.

    .venv-optuna/4.9.0/bin/python bench/peers/optuna_tpe.py
"""

import json
import random
import time
import warnings

import optuna

TRIALS, REPEATS = 1000, 5

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
Float, Int, Choice = (optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution,
                      optuna.distributions.CategoricalDistribution)
SPACE = {}
for i in range(5):
    SPACE[f"x{i}"] = Float(-5, 5)
    SPACE[f"r{i}"] = Float(1e-5, 1e-1, log=True)
    SPACE[f"n{i}"] = Int(1, 64)
    SPACE[f"c{i}"] = Choice(["a", "b", "c", "d"])


def rates(**options):
    source = random.Random(1)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, **options))
    for _ in range(TRIALS):
        params = {name: source.choice(d.choices) if isinstance(d, Choice) else
                  source.randint(d.low, d.high) if isinstance(d, Int) else source.uniform(d.low, d.high)
                  for name, d in SPACE.items()}
        study.add_trial(optuna.trial.create_trial(value=source.random(), params=params, distributions=SPACE))
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        trial = study.ask()
        for name, distribution in SPACE.items():
            trial._suggest(name, distribution)
        taken.append(1 / (time.perf_counter() - begin))
        study.tell(trial, 0.5)
    return taken


if __name__ == "__main__":
    for multivariate in (False, True):
        name = f"as {optuna.__version__[:3]}, {'multivariate' if multivariate else 'univariate'}"
        print(json.dumps({"case": name, "unit": "suggestions", "samples": rates(multivariate=multivariate)}))
