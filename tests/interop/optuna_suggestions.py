"""What Optuna's samplers suggest: the golden files of tests/test_samplers.cpp, recorded from the Optuna of this Python.

    python optuna_suggestions.py histories DIR   # histories.json: studies to continue; the same from every version
    python optuna_suggestions.py suggest DIR [COUNT OUT] # suggestions_<version>.json from histories.json; about COUNT
                                                         # of them, into the directory OUT
    python optuna_suggestions.py regret DIR              # regret_<version>.json: best of 100 trials of 30 seeds
    python optuna_suggestions.py parts DIR               # parts_4.9.0.json: the parts alone; under 4.9.0

numpy.argsort is made stable, as equal observations can swap their kernels' widths otherwise.
"""

import json
import logging
import math
import pathlib
import random
import sys
import warnings

import numpy
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState, create_trial

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(logging.ERROR)
unstable = numpy.argsort
numpy.argsort = lambda a, axis=-1, kind=None, **rest: unstable(a, axis=axis, kind="stable", **rest)

VERSION = optuna.__version__
SPACE = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "drop": FloatDistribution(0.0, 0.6, step=0.05),
    "x": FloatDistribution(-5.0, 5.0),
    "width": IntDistribution(16, 512, log=True),
    "layers": IntDistribution(1, 8),
    "batch": IntDistribution(32, 480, step=64),
    "norm": CategoricalDistribution([None, "layer", 2.5, True, 7]),
    "flag": CategoricalDistribution([False, True]),
    "one": IntDistribution(3, 3),
}
NARROW = {"x": FloatDistribution(-1.0, 3.5), "layers": IntDistribution(2, 5),
          "rate": FloatDistribution(1e-4, 2e-2, log=True)}


def drawn(source, distribution):
    if isinstance(distribution, CategoricalDistribution):
        return source.choice(distribution.choices)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        if distribution.log:
            return min(high, max(low, round(math.exp(source.uniform(math.log(low), math.log(high))))))
        return low + distribution.step * source.randint(0, (high - low) // distribution.step)
    if distribution.step:
        return round(low + distribution.step * source.randint(0, round((high - low) / distribution.step)), 10)
    if distribution.log:
        return float("%.3g" % math.exp(source.uniform(math.log(low), math.log(high))))
    return round(source.uniform(low, high), 2)


def history(seed, count, names, direction="minimize", pruned=0.0, failed=0.0, running=0, missing=0.0, narrow=0.0,
            infeasible=0.0, constraint_form="list", ties=False, promised=False, infinite=False):
    source = random.Random(seed)
    distributions = []
    trials = []

    def index_of(distribution):
        if distribution not in distributions:
            distributions.append(distribution)
        return distributions.index(distribution)

    for number in range(count):
        params = []
        for name in names:
            if source.random() < missing:
                continue
            distribution = NARROW[name] if name in NARROW and source.random() < narrow else SPACE[name]
            params.append([name, index_of(distribution), drawn(source, distribution)])
        if number == 1 and len(params) > 1 and missing == 0:
            params.reverse()
        trial = {"state": "COMPLETE", "params": params}
        value = sum(hash_of(p[2]) for p in params)
        value = float(source.randint(0, 4)) if ties else round(value + source.gauss(0, 1), 2)
        if source.random() < pruned:
            trial["state"] = "PRUNED"
            steps = source.choice([0, 1, 2, 5])
            reports = [[step, round(value + source.gauss(0, 1), 2)] for step in range(steps)]
            if reports and source.random() < 0.2:
                reports[-1][1] = "nan"
            trial["reports"] = reports
        elif source.random() < failed:
            trial["state"] = "FAIL"
        elif number >= count - running:
            trial["state"] = "RUNNING"
            if promised:
                relative = {p[0]: p[2] for p in params}
                trial["params"] = params[: len(params) // 2]
                text = json.dumps(relative)
                half = len(text) // 2
                trial["attrs"] = {"tpe:relative_params:0": text[:half], "tpe:relative_params:1": text[half:]}
        else:
            trial["value"] = source.choice(["inf", "-inf"]) if infinite and source.random() < 0.2 else value
        if infeasible and trial["state"] in ("COMPLETE", "PRUNED") and source.random() < 0.9:
            values = [round(source.uniform(-1, 0), 2), round(source.uniform(-1, 0), 2)]
            if source.random() < infeasible:
                values = [round(source.uniform(-1, 1), 1), round(source.uniform(0.1, 1), 1)]
            if constraint_form == "list":
                trial["attrs"] = {"constraints": values}
            else:
                trial["attrs"] = {"constraints:a": values[0], "constraints:b": values[1]}
        trials.append(trial)
    asked = [[name, index_of(SPACE[name])] for name in names]
    return {"direction": direction, "distributions": [distribution_to_json(d) for d in distributions],
            "trials": trials, "asked": asked}


def hash_of(value):
    return 0.5 * len(str(value)) if value is None or isinstance(value, (bool, str)) else math.log1p(abs(value))


ALL = list(SPACE)


def histories():
    return [
        history(1, 6, ALL),
        history(2, 12, ALL),
        history(3, 24, ALL, "maximize"),
        history(4, 40, ALL, pruned=0.5),
        history(5, 40, ALL, "maximize", pruned=0.6),
        history(6, 30, ["x"], ties=True),
        history(7, 260, ["rate", "layers", "norm"]),
        history(8, 32, ALL, failed=0.3, running=6),
        history(9, 32, ALL, "maximize", pruned=0.2, running=8, promised=True),
        history(10, 40, ALL, missing=0.25),
        history(11, 36, ["x", "layers", "rate"], narrow=0.5),
        history(12, 30, ["drop", "batch", "width", "flag"], infeasible=0.4),
        history(13, 30, ALL, "maximize", infeasible=0.9, pruned=0.3),
        history(14, 25, ["x", "norm"], infinite=True, ties=True),
        history(15, 28, ["width", "layers", "batch"], pruned=0.97),
        history(16, 30, ["x", "rate"], infeasible=0.4, constraint_form="named"),
        history(17, 50, ["rate", "drop", "flag", "norm"], "maximize", missing=0.3, running=5),
        history(18, 10, ["layers", "x"], ties=True),
        history(19, 25, ["width", "x"]),
        history(20, 26, ["drop", "x"], "maximize"),
    ]


def cases(studies):
    """Sampler, its options, the seed and how many trials are asked and told."""
    found = []
    for index, study in enumerate(studies):
        constrained = any("constraints" in key for t in study["trials"] for key in t.get("attrs", {}))
        running = any(t["state"] == "RUNNING" for t in study["trials"])

        def add(seed, asks=1, sampler="tpe", fixed=None, **options):
            found.append({"history": index, "sampler": sampler, "options": options, "seed": 100 * index + seed,
                          "asks": asks, "fixed": fixed})

        uni = dict(multivariate=False, constant_liar=False)
        joint = dict(multivariate=True, constant_liar=False)
        add(1, sampler="random")
        add(2, **uni)
        add(3, asks=2, **uni)
        add(4, **joint)
        add(5, asks=2, **joint)
        add(6, multivariate=True, constant_liar=False, group=True)
        add(7, multivariate=True, constant_liar=True)
        if running:
            add(8, multivariate=False, constant_liar=True)
            add(9, multivariate=True, constant_liar=True, group=True)
        if constrained:
            add(10, constraints=True, **uni)
            add(11, constraints=True, **joint)
            add(12, constraints=True, multivariate=True, constant_liar=True)
        first = study["asked"][0][0]
        everything = {name: drawn(random.Random(index), SPACE[name]) for name, _ in study["asked"]}
        add(13, asks=2, fixed={first: everything[first]}, **joint)
        if index % 4 == 1:
            add(14, asks=2, fixed=everything, **joint)
            add(15, asks=2, **{**uni, "n_startup_trials": 0, "n_ei_candidates": 5})
    return found


def number(value):
    return float(value) if isinstance(value, str) else value


def study_of(recorded, sampler):
    study = optuna.create_study(direction=recorded["direction"], sampler=sampler)
    distributions = [json_to_distribution(text) for text in recorded["distributions"]]
    for trial in recorded["trials"]:
        state = TrialState[trial["state"]]
        value = number(trial.get("value"))
        if state == TrialState.PRUNED and trial["reports"] and not math.isnan(number(trial["reports"][-1][1])):
            value = trial["reports"][-1][1]
        study.add_trial(create_trial(
            state=state, value=value, params={name: v for name, _, v in trial["params"]},
            distributions={name: distributions[d] for name, d, _ in trial["params"]},
            intermediate_values={step: number(v) for step, v in trial.get("reports", [])},
            system_attrs=trial.get("attrs", {})))
    return study, distributions


def suggest(studies, case):
    options = dict(case["options"])
    if case["sampler"] == "random":
        sampler = optuna.samplers.RandomSampler(seed=case["seed"])
    else:
        if options.pop("constraints", False):
            options["constraints_func"] = lambda trial: (-1.0,)
        sampler = optuna.samplers.TPESampler(seed=case["seed"], **options)
    recorded = studies[case["history"]]
    study, distributions = study_of(recorded, sampler)
    if case["fixed"]:
        study.enqueue_trial(case["fixed"])
    answers, promised = [], []
    for _ in range(case["asks"]):
        trial = study.ask()
        answers.append([trial._suggest(name, distributions[d]) for name, d in recorded["asked"]])
        attrs = study.trials[trial.number].system_attrs
        promised.append("".join(v for k, v in sorted(attrs.items()) if k.startswith("tpe:relative_params:")))
        study.tell(trial, 1.0)
    return {**case, "answers": answers, "promised": promised}


def write(path, name, items):
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in items)
    path.write_text('{"%s": [\n%s\n]}\n' % (name, lines))


def sphere(trial, dimensions):
    return sum((trial.suggest_float(f"x{i}", -5, 5) - 1) ** 2 for i in range(dimensions))


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    pi = math.pi
    return ((y - 5.1 / (4 * pi**2) * x * x + 5 / pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * math.cos(x) + 10
            - 0.397887357729738)


def mixed(trial):
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    layers = trial.suggest_int("layers", 1, 8)
    drop = trial.suggest_float("drop", 0, 0.6, step=0.05)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    return (math.log10(rate) + 3) ** 2 + 0.1 * (layers - 3) ** 2 + (drop - 0.2) ** 2 + {
        "a": 0.3, "b": 0.0, "c": 0.6}[kind]


PROBLEMS = {"sphere2": lambda t: sphere(t, 2), "sphere3": lambda t: sphere(t, 3), "sphere5": lambda t: sphere(t, 5),
            "branin": branin, "mixed": mixed}


def regret():
    found = []
    for name, problem in PROBLEMS.items():
        best = []
        for seed in range(30):
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
            study.optimize(problem, n_trials=100)
            best.append(study.best_value)
        found.append({"problem": name, "best": best})
    return found


def parts(studies):
    import scipy.special
    import scipy.stats
    from optuna.samplers._tpe import sampler as tpe
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters

    source = numpy.random.RandomState(7)
    order = list(range(20))
    state = numpy.random.RandomState(42)
    uniforms = [state.random_sample() for _ in range(5)] + state.uniform(-2, 3, size=5).tolist()
    below = [int(state.randint(n)) for n in (1, 2, 7, 100, 4096)]
    state.shuffle(order)
    points = [-1e4, -50.5, -21, -20, -19.9, -8, -5, -2, -0.5, 0.0, 0.3, 1, 5, 5.9, 6, 6.1, 9, 30]
    cuts = []
    for _ in range(200):
        a = source.uniform(-40, 38)
        b = a + 10 ** source.uniform(-3, 1.5)
        q = float(source.uniform(0, 1))
        truncated = scipy.stats.truncnorm(a, b)
        cuts.append([q, a, b, float(truncated.ppf(q)), float(scipy.stats._continuous_distns._log_gauss_mass(a, b))])
    options = _ParzenEstimatorParameters(**{
        "prior_weight": 1.0, "consider_magic_clip": True, "consider_endpoints": False,
        "weights": tpe.default_weights, "multivariate": False, "categorical_distance_func": {}})
    widths = []
    for n in (0, 1, 2, 3, 10, 120):
        observed = numpy.round(source.uniform(-5, 5, size=n), 1)
        estimator = _ParzenEstimator({"x": observed}, {"x": SPACE["x"]}, options)
        widths.append([observed.tolist(), estimator._mixture_distribution.distributions[0].sigma.tolist()[:n]])
    splits = []
    for index, recorded in enumerate(studies):
        study, _ = study_of(recorded, None)
        for constrained in (False, True):
            trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
            good, bad = tpe._split_trials(study, trials, tpe.default_gamma(sum(t.state.is_finished() for t in trials)),
                                          constrained)
            splits.append([index, constrained, [t.number for t in good], [t.number for t in bad]])
    grid = []
    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler({"x": [3, 1, 2], "b": [None, "a"], "a": [0.5, 0.1]}, seed=5))
    for _ in range(12):
        trial = study.ask()
        grid.append([trial.suggest_int("x", 0, 5), trial.suggest_categorical("b", [None, "a"]),
                     trial.suggest_float("a", 0, 1), study.trials[-1].system_attrs])
    return {"grid": grid, "uniforms": uniforms, "below": below, "shuffled": order,
            "log_normal_cdf": [[x, float(scipy.special.log_ndtr(x))] for x in points],
            "truncated_normal": cuts, "sigmas": widths, "splits": splits,
            "weights": [[n, tpe.default_weights(n).tolist()] for n in (1, 24, 25, 26, 27, 60)],
            "gammas": [[n, int(tpe.default_gamma(n))] for n in (0, 1, 10, 11, 101, 250, 251, 5000)]}


if __name__ == "__main__":
    command, out = sys.argv[1], pathlib.Path(sys.argv[2])
    if command == "histories":
        write(out / "histories.json", "histories", histories())
    elif command == "regret":
        write(out / f"regret_{VERSION}.json", "problems", regret())
    elif command == "parts":
        assert VERSION == "4.9.0"
        studies = json.loads((out / "histories.json").read_text())["histories"]
        lines = ",\n".join(f'"{key}":' + json.dumps(value, separators=(",", ":"))
                           for key, value in parts(studies).items())
        (out / "parts_4.9.0.json").write_text("{" + lines + "}\n")
    elif command == "suggest":
        studies = json.loads((out / "histories.json").read_text())["histories"]
        todo = cases(studies)
        step = max(1, len(todo) // int(sys.argv[3])) if len(sys.argv) > 3 else 1
        target = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else out
        found = []
        for case in todo[::step]:
            try:
                found.append(suggest(studies, case))
            except IndexError:  # 3.1 cannot read a RUNNING trial that lacks a categorical
                assert VERSION == "3.1.0", case
        write(target / f"suggestions_{VERSION}.json", "cases", found)
