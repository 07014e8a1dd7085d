"""What the storage's tests ask of a real Optuna: optuna_peer.py JOB DATABASE ARGUMENTS..., see the functions' texts."""

import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import warnings
from datetime import timezone
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")


def url(database):
    return database if "://" in database else "sqlite:///" + database


def plain(value):
    """NaN and infinities as texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def utc(moment):
    """As text in UTC. Every Optuna gives naive local ones, 5.0 too, which keeps them in UTC in the file."""
    return moment and moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")


def best_of(study):
    try:
        return [t.number for t in study.best_trials] if len(study.directions) > 1 else study.best_trial.number
    except ValueError:
        return None


def dump(database, out):
    """What this Optuna reads of the whole file, as JSON."""
    studies = []
    for name in optuna.study.get_all_study_summaries(url(database)):
        study = optuna.load_study(study_name=name.study_name, storage=url(database))
        trials = [
            dict(
                number=t.number, state=t.state.name, values=plain(t.values), params=plain(t.params),
                distributions={
                    k: plain(json.loads(optuna.distributions.distribution_to_json(d)))
                    for k, d in t.distributions.items()
                },
                user_attrs=plain(t.user_attrs), system_attrs=plain(t.system_attrs),
                intermediate_values=plain(t.intermediate_values),
                started=utc(t.datetime_start), completed=utc(t.datetime_complete),
            )
            for t in study.get_trials(deepcopy=False)
        ]
        studies.append(
            dict(
                study=study.study_name, directions=[d.name for d in study.directions],
                user_attrs=plain(study.user_attrs),
                system_attrs=plain(study._storage.get_study_system_attrs(study._study_id)),
                best=best_of(study), trials=trials,
            ))
    Path(out).write_text(json.dumps(dict(studies=studies), allow_nan=False))


def corpus(database):
    """Studies with every form that this Optuna writes."""
    study = optuna.create_study(study_name="everything", storage=url(database), direction="maximize")
    study.set_user_attr("text", 'Überhebel "quoted" 中文 🚀 \x7f\x01')
    study.set_user_attr("nested", {"a": [1, 2.5, None, True, {"b": math.inf}], "nan": math.nan})
    study._storage.set_study_system_attr(study._study_id, "note", [1, -math.inf])
    space = dict(
        f=FloatDistribution(-1.5, 2.5), f_log=FloatDistribution(1e-9, 1e-3, log=True),
        f_step=FloatDistribution(0.88, 0.99, step=0.01), f_single=FloatDistribution(0.25, 0.25),
        i=IntDistribution(-10, -5), i_log=IntDistribution(1, 4096, log=True), i_step=IntDistribution(512, 1536, step=256),
        c=CategoricalDistribution((None, True, 1.5, "text", 7)), c_one=CategoricalDistribution(("linear",)),
    )
    for k in range(8):
        t = study.ask(space)
        t.set_user_attr("list", [0.1 * k, 1e-300, 1e16, 123456789012345678])
        for step, value in ((0, 0.5), (1, math.nan), (2, math.inf), (3, -math.inf), (1000000, 1e-320)):
            t.report(value, step)
        study.tell(t, t.params["f"] - k)
    for value in (math.inf, -math.inf):
        study.tell(study.ask(), value)
    t = study.ask(dict(f=space["f"]))
    t.report(0.25, 7)
    study.tell(t, state=TrialState.PRUNED)
    study.tell(study.ask(), state=TrialState.PRUNED)
    study.tell(study.ask(dict(f=FloatDistribution(0, 1))), state=TrialState.FAIL)
    study.enqueue_trial({"f": 0.125, "unknown": 3}, user_attrs={"from": "warm start"})
    study.ask(dict(f=space["f"]))
    study.enqueue_trial({"f": 0.25})
    multi = optuna.create_study(
        study_name="multi", storage=url(database), directions=["maximize", "minimize", "maximize"],
        sampler=optuna.samplers.RandomSampler(seed=2))
    for k in range(8):
        t = multi.ask()
        a, b = t.suggest_float("a", 0, 1), t.suggest_float("b", 0, 1)
        multi._storage.set_trial_system_attr(t._trial_id, "constraints", [a - 0.75])
        multi.tell(t, [a, b, math.inf if k == 5 else 1 - b])
    optuna.create_study(study_name="empty 'quoted'", storage=url(database))
    tpe = optuna.create_study(
        study_name="tpe", storage=url(database),
        sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=3, multivariate=True, constant_liar=True))
    tpe.optimize(lambda t: t.suggest_float("x", -5, 5) ** 2 + t.suggest_int("n", 0, 9), n_trials=8)


def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    n = trial.suggest_int("n", 1, 64, log=True)
    for step in range(3):
        trial.report(x * x + step, step)
    trial.set_user_attr("who", "python")
    return x * x + n


def wait_for(go):
    while not os.path.exists(go):
        time.sleep(0.01)


def work(database, name, goal, log=None, ready=None, go=None):
    """Trials of `objective` until the study has `goal` finished ones; their numbers are appended to `log`.

    With `ready`, which it makes, it begins when `go` is there.
    """
    study = optuna.load_study(study_name=name, storage=url(database), sampler=optuna.samplers.RandomSampler())
    if ready:
        Path(ready).touch()
        wait_for(go)
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    while len(study.get_trials(deepcopy=False, states=done)) < int(goal):
        trial = study.ask()
        study.tell(trial, objective(trial))
        if log:
            with open(log, "a") as file:
                file.write(f"{trial.number}\n")


def go_on(database, name, trials):
    """TPE with successive halving, on what is there."""
    study = optuna.load_study(
        study_name=name, storage=url(database), sampler=optuna.samplers.TPESampler(seed=3, n_startup_trials=2),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))

    def pruned(trial):
        x = trial.suggest_float("x", -5, 5)
        kind = trial.suggest_categorical("kind", ["a", None, 3, 2.5, True])
        for step in range(8):
            trial.report(abs(x) + step, step)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return abs(x) + (kind is None)

    study.optimize(pruned, n_trials=int(trials))


def conflicts(database, name):
    """The messages for distributions that conflict with x float, n int and kind of the study, one a line."""
    study = optuna.load_study(study_name=name, storage=url(database))
    trial = study._storage.create_new_trial(study._study_id)
    for param, value, distribution in (
        ("x", 1, IntDistribution(0, 5)),
        ("x", 1, FloatDistribution(0.5, 5, log=True)),
        ("kind", 0, CategoricalDistribution(["other"])),
    ):
        try:
            study._storage.set_trial_param(trial, param, value, distribution)
            print("-")
        except ValueError as error:
            print(error)
    study._storage.set_trial_state_values(trial, TrialState.FAIL)


def claim(database, name, log):
    """Takes WAITING trials until there are none; those that it could finish go to `log`."""
    study = optuna.load_study(study_name=name, storage=url(database))
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        try:
            trial = study.ask()
            time.sleep(random.uniform(0.02, 0.05))
            study.tell(trial, 1.0)
        except (RuntimeError, ValueError):
            continue  # another one finished it
        with open(log, "a") as file:
            file.write(f"{trial.number}\n")


def claim_late(database, name, ready, go):
    """Finds a WAITING trial, claims it when the file `go` is there, and prints its number."""
    study = optuna.load_study(study_name=name, storage=url(database))
    check = optuna.storages.RDBStorage.check_trial_is_updatable

    def between_select_and_update(self, *arguments):
        check(self, *arguments)
        Path(ready).touch()
        wait_for(go)

    optuna.storages.RDBStorage.check_trial_is_updatable = between_select_and_update
    print(study.ask().number)


def reap(database, name):
    """Fails stale trials."""
    storage = optuna.storages.RDBStorage(url(database), heartbeat_interval=1, grace_period=2)
    study = optuna.load_study(study_name=name, storage=storage)
    optuna.storages.fail_stale_trials(study)


def report_late(database, name, ready, go):
    """A trial with one heartbeat; reports again when the file `go` is there, and prints what that raises."""
    storage = optuna.storages.RDBStorage(url(database), heartbeat_interval=60, grace_period=120)
    study = optuna.load_study(study_name=name, storage=storage)
    trial = study.ask()
    trial.report(1.0, 0)
    storage.record_heartbeat(trial._trial_id)
    Path(ready).touch()
    while not os.path.exists(go):
        time.sleep(0.05)
    try:
        trial.report(2.0, 1)
        print("nothing")
    except Exception as error:
        print(type(error).__name__, error)


def intersection(database, name):
    """The space of all COMPLETE and PRUNED trials, a line a parameter, to standard output."""
    study = optuna.load_study(study_name=name, storage=url(database))
    if hasattr(optuna, "search_space"):
        space = optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
    else:  # up to 3.1
        space = optuna.samplers.intersection_search_space(study, include_pruned=True)
    for key in sorted(space):
        if not space[key].single():
            print(key, optuna.distributions.distribution_to_json(space[key]))


def poll(database, name, goal, out):
    """A live study: the numbers of finished trials as they first appear, with states and values; none changes later."""
    study = optuna.load_study(study_name=name, storage=url(database))
    seen = {}
    while len(seen) < int(goal):
        for t in study.get_trials(deepcopy=False):
            if not t.state.is_finished():
                continue
            found = [t.number, t.state.name, plain(t.values), len(t.params), len(t.intermediate_values)]
            assert seen.setdefault(t.number, found) == found, (seen[t.number], found)
    Path(out).write_text(json.dumps([seen[number] for number in sorted(seen)]))


def json_fuzz(database, out, lines):
    """Lines of json.dumps of random values. No database."""
    rng = random.Random(5)

    def text():
        return "".join(
            chr(rng.choice([rng.randrange(0, 0xA0), rng.randrange(0xA0, 0xD800), rng.randrange(0xE000, 0x110000)]))
            for _ in range(rng.randrange(12)))

    def number():
        kind = rng.randrange(4)
        if kind == 0:
            return rng.randrange(-(2**63), 2**63)
        if kind == 1:
            return rng.choice([0.0, -0.0, 1.0, 0.1, 1e-05, 1e-4, 123456789012345680.0, 1e16, 1e15, 5e-324, 1.7976931348623157e308])
        if kind == 2:
            return rng.uniform(-1, 1) * 10 ** rng.randrange(-20, 20)
        value = struct.unpack("d", rng.randbytes(8))[0]
        return value if math.isfinite(value) else 0.5

    def value(depth):
        kind = rng.randrange(7 if depth < 4 else 5)
        if kind < 2:
            return number()
        if kind < 4:
            return text()
        if kind == 4:
            return rng.choice([None, True, False])
        if kind == 5:
            return [value(depth + 1) for _ in range(rng.randrange(4))]
        return {text(): value(depth + 1) for _ in range(rng.randrange(4))}

    with open(out, "w") as file:
        for _ in range(int(lines)):
            file.write(json.dumps(value(0)) + "\n")


def dashboard(database, out):
    """What optuna-dashboard's API gives: for each study its name and the numbers of its trials."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "optuna-dashboard"), url(database), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=20) as answer:
            return json.load(answer)

    try:
        for _ in range(300):
            try:
                studies = get("studies")["study_summaries"]
                break
            except OSError:
                assert server.poll() is None, "optuna-dashboard has ended"
                time.sleep(0.1)
        answers = {}
        for study in studies:
            trials = get(f"studies/{study['study_id']}?after=0")["trials"]
            answers[study["study_name"]] = [t["number"] for t in trials]
    finally:
        server.terminate()
        server.wait()
    Path(out).write_text(json.dumps(answers))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
