"""What Optuna's pruners decide about random trials, for tests/test_pruners.cpp.

usage: optuna_pruning.py FILE.json

golden/optuna_pruners/decisions.json is what 4.9.0 and 5.0.0 both write, byte for byte (NumPy 2.4.6, SciPy 1.17.1).

One case a line: pruner, options (as make_pruner takes them), direction, study name and events in their order:
  [trial, step, value, pruned]            a report and what should_prune said; the value may be NaN or Infinity
  [trial, step, value, pruned, [...]]     the same, with the completed_rung_<r> that it wrote, as [r, value, r, value ...]
  [trial, state, value]                   the trial's end; the value of COMPLETE
brackets: Hyperband's bracket of trials 0 to 9999, a digit each. wilcoxon: [differences, p greater, p less].
"""
import itertools
import json
import sys
import warnings

import numpy as np
import optuna
from optuna.trial import TrialState
from scipy import stats

warnings.simplefilter("ignore")
optuna.logging.disable_default_handler()
random = np.random.RandomState(20240501)


def number(kind):
    """A report: on a coarse grid (equal values), or any."""
    if kind == "grid":
        return float(random.randint(-4, 5)) / 2
    return round(float(random.normal()), 3)


def curve(kind, steps, gaps, odd):
    """[(step, value)] of one trial: every step or some; NaN and infinities where odd; seldom a step out of order."""
    points, level = [], number(kind)
    for step in range(steps):
        if gaps and random.rand() < 0.35:
            continue
        value = round(level + number(kind), 3)
        if odd and random.rand() < 0.12:
            value = [float("nan"), float("nan"), float("inf"), float("-inf")][random.randint(4)]
        points.append((step, value))
    if gaps and len(points) > 2 and random.rand() < 0.3:
        at = random.randint(len(points) - 1)
        points[at], points[at + 1] = points[at + 1], points[at]
    return points


def record(name, pruner, options, *, trials, steps, parallel=1, gaps=False, odd=False, kind="real"):
    direction = ["minimize", "maximize"][random.randint(2)]
    study_name = f"study {random.randint(1000)} é"
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(study_name=study_name, direction=direction, pruner=pruner, sampler=sampler)
    events, running, started, written = [], [], 0, {}
    while started < trials or running:
        while started < trials and len(running) < parallel:
            running.append((study.ask(), curve(kind, steps, gaps, odd)))
            started += 1
        at = random.randint(len(running))
        trial, points = running[at]
        if not points:
            value = number(kind)
            if random.rand() < 0.1:
                study.tell(trial, state=TrialState.FAIL)
                events.append([trial.number, "FAIL", 0])
            else:
                if odd and random.rand() < 0.1:
                    value = float("inf")
                study.tell(trial, value)
                events.append([trial.number, "COMPLETE", value])
            running.pop(at)
            continue
        step, value = points.pop(0)
        trial.report(value, step)
        pruned = trial.should_prune()
        event = [trial.number, step, value, int(pruned)]
        attributes = study._storage.get_trial(trial._trial_id).system_attrs
        rungs = {k: v for k, v in attributes.items() if k.startswith("completed_rung_")}
        new = [[int(k.rsplit("_", 1)[1]), v] for k, v in rungs.items() if (trial.number, k) not in written]
        written.update({(trial.number, k): v for k, v in rungs.items()})
        if new:
            event.append(sum(new, []))
        events.append(event)
        if pruned and random.rand() < 0.75:  # the others go on, as in a study without pruning that asks all the same
            study.tell(trial, state=TrialState.PRUNED)
            events.append([trial.number, "PRUNED", 0])
            running.pop(at)
    options = {key: str(value) for key, value in options.items() if value is not None}
    return {"pruner": name, "options": options, "direction": direction.upper(), "study": study_name, "events": events}


def cases():
    def shape(**fixed):
        base = {"gaps": bool(random.randint(2)), "odd": random.rand() < 0.4, "kind": ["real", "grid"][random.randint(2)],
                "parallel": int(random.choice([1, 3, 6])), "trials": 16, "steps": 9}
        return {**base, **fixed}

    settings = list(itertools.product([10.0, 25.0, 62.5], [0, 1, 5], [0, 2, 5], [1, 3, 4], [1, 3]))
    for at in random.choice(len(settings), 18, replace=False):
        percentile, startup, warmup, interval, n_min = settings[at]
        options = {"n_startup_trials": startup, "n_warmup_steps": warmup, "interval_steps": interval, "n_min_trials": n_min}
        yield record("percentile", optuna.pruners.PercentilePruner(percentile, **options),
                     {"percentile": percentile, **options}, **shape())
    for options in [{}, {"n_startup_trials": 0}, {"n_startup_trials": 2, "n_warmup_steps": 3}, {"interval_steps": 2},
                    {"n_startup_trials": 1, "n_warmup_steps": 1, "interval_steps": 3, "n_min_trials": 2}]:
        for _ in range(2):
            yield record("median", optuna.pruners.MedianPruner(**options), options, **shape())
    for resource, eta, rate, bootstrap in [("auto", 4, 0, 0), ("auto", 2, 1, 0), (1, 2, 0, 0), (1, 3, 0, 0), (2, 2, 0, 3),
                                           (1, 2, 1, 0), (3, 4, 0, 1), (1, 2, 0, 2), (1, 2, 0, 0), (1, 3, 0, 0)]:
        options = {"min_resource": resource, "reduction_factor": eta, "min_early_stopping_rate": rate,
                   "bootstrap_count": bootstrap}
        yield record("successive_halving", optuna.pruners.SuccessiveHalvingPruner(**options), options,
                     **shape(trials=24, steps=12))
    # 'auto' of a long trial: rungs at 2, 4, 8 ...
    options = {"min_resource": "auto", "reduction_factor": 2}
    yield record("successive_halving", optuna.pruners.SuccessiveHalvingPruner(**options), options,
                 **shape(trials=4, steps=230, odd=False, parallel=1))
    for low, high, eta, bootstrap in [(1, 9, 3, 0), (1, 16, 2, 0), (2, 12, 2, 0), (1, "auto", 3, 0), (1, 9, 3, 2),
                                      (1, 243, 3, 0), (3, "auto", 2, 0), (1, 8, 2, 0), (20, "auto", 2, 0)]:
        options = {"min_resource": low, "max_resource": high, "reduction_factor": eta, "bootstrap_count": bootstrap}
        yield record("hyperband", optuna.pruners.HyperbandPruner(**options), options, **shape(trials=30, steps=12))
    for patience, delta, wrapped in [(0, 0.0, None), (1, 0.0, None), (2, 0.5, None), (3, 0.25, None),
                                     (1, 0.0, "median"), (2, 0.5, "median"), (1, 0.0, "successive_halving")]:
        inner = {"median": optuna.pruners.MedianPruner(n_startup_trials=1),
                 "successive_halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)}
        inner_options = {"median": {"n_startup_trials": 1},
                         "successive_halving": {"min_resource": 1, "reduction_factor": 2}}.get(wrapped, {})
        yield record("patient", optuna.pruners.PatientPruner(inner.get(wrapped), patience, delta),
                     {"patience": patience, "min_delta": delta, "wrapped": wrapped, **inner_options}, **shape())
    for options in [{"lower": -1.0}, {"upper": 1.5}, {"lower": -2.0, "upper": 2.0, "n_warmup_steps": 3, "interval_steps": 2},
                    {"lower": -1.0, "upper": 1.0, "interval_steps": 3}]:
        yield record("threshold", optuna.pruners.ThresholdPruner(**options), options, **shape(trials=8, odd=True))
    for p, startup, steps, kind in [(0.1, 2, 8, "real"), (0.2, 0, 8, "grid"), (0.4, 5, 12, "grid"), (0.1, 2, 20, "grid"),
                                    (0.05, 3, 60, "real"), (0.3, 2, 18, "real"), (0.2, 2, 10, "real"), (0.5, 1, 9, "grid")]:
        options = {"p_threshold": p, "n_startup_steps": startup}
        for gaps in [False, True]:
            yield record("wilcoxon", optuna.pruners.WilcoxonPruner(**options), options,
                         **shape(trials=8, steps=steps, kind=kind, gaps=gaps, odd=random.rand() < 0.2))
    yield record("none", optuna.pruners.NopPruner(), {}, **shape(trials=4))


def brackets(name, low, high, eta):
    pruner = optuna.pruners.HyperbandPruner(min_resource=low, max_resource=high, reduction_factor=eta)
    study = optuna.create_study(study_name=name, pruner=pruner)
    pruner._try_initialization(study)
    trials = [optuna.trial.FrozenTrial(n, TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, n) for n in range(10000)]
    text = "".join(str(pruner._get_bracket_id(study, trial)) for trial in trials)
    options = {"min_resource": str(low), "max_resource": str(high), "reduction_factor": str(eta)}
    return {"study": name, "options": options, "brackets": text}


def p_values():
    for n in [*range(2, 21), 30, 49, 50, 51, 60]:
        for kind in ["real", "grid", "positive", "zeros"]:
            if kind == "zeros" and n > 14:
                continue
            d = [{"real": lambda: round(float(random.normal(0.3)), 4), "grid": lambda: random.randint(-3, 4) / 2,
                  "positive": lambda: round(abs(float(random.normal())), 4), "zeros": lambda: 0.0}[kind]() for _ in range(n)]
            p = [float(stats.wilcoxon(d, alternative=a, zero_method="zsplit").pvalue) for a in ["greater", "less"]]
            yield [d, *p]


def main():
    lines = [json.dumps(case, separators=(",", ":"), ensure_ascii=True) for case in cases()]
    hyperbands = [brackets("cappuccino_maxgpu", 1, 243, 3), brackets("étude", 1, 81, 3), brackets("s", 2, 1000, 2),
                  brackets("one", 5, 5, 4)]
    with open(sys.argv[1], "w") as file:
        file.write('{"cases":[\n%s\n],\n' % ",\n".join(lines))
        file.write('"brackets":[\n%s\n],\n' % ",\n".join(json.dumps(b, separators=(",", ":")) for b in hyperbands))
        file.write('"wilcoxon":[\n%s\n]}\n' % ",\n".join(json.dumps(w, separators=(",", ":")) for w in p_values()))


main()
