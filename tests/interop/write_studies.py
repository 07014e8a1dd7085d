"""Writes random studies with the installed Optuna, and what it takes for the best of each.

write_studies.py DATABASE ANSWERS: one line a study, "name<TAB>best number or -<TAB>number,number,..." (best_trials).
"""

import math
import random
import sys
import warnings

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

STUDIES = 12
TRIALS = 12
STATES = [TrialState.COMPLETE] * 5 + [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]

database, answers = sys.argv[1:]
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")  # that a range does not end on its grid is what is tested
rng = random.Random(7)


def trial(objectives, constrained):
    state = rng.choice(STATES)
    values = [rng.choice([0.0, 1.0, -1.0, 0.1, math.inf, -math.inf, rng.gauss(0, 1)]) for _ in range(objectives)]
    low, step = rng.choice([0.0, 0.1, -1.5, 0.88]), rng.choice([0.1, 0.25, 0.01, 3e-05])
    real = FloatDistribution(low, low + rng.uniform(0, 3), step=step)
    whole = IntDistribution(-3, rng.randint(-3, 40), step=rng.randint(1, 7))
    waiting = state == TrialState.WAITING
    return create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        params={} if waiting else {"real": real.high, "whole": whole.high},
        distributions={} if waiting else {"real": real, "whole": whole},
        system_attrs={"constraints": [rng.choice([-1.0, 0.0, 0.5]), -1.0]} if constrained else {},
    )


with open(answers, "w") as out:
    for number in range(STUDIES):
        objectives, constrained = 1 + number % 2, number % 4 >= 2
        study = optuna.create_study(
            study_name=f"study {number}",
            storage="sqlite:///" + database,
            directions=[rng.choice(["minimize", "maximize"]) for _ in range(objectives)],
        )
        study.add_trials([trial(objectives, constrained) for _ in range(TRIALS)])
        try:
            best = str(study.best_trial.number) if objectives == 1 else "-"
        except ValueError:
            best = "-"
        front = ",".join(str(t.number) for t in study.best_trials)
        out.write(f"{study.study_name}\t{best}\t{front}\n")
