"""A study's file by Optuna: the peer of bench/studies.cpp, with its arguments `open FILE` and `add FILE TRIALS`.

    .venv-optuna/4.9.0/bin/python bench/peers/optuna_studies.py add /tmp/peer.db 80
"""

import json
import multiprocessing
import sys
import time
import warnings

import optuna

PROCESSES, PARAMETERS = 8, 5

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def storage_of(file):
    # A minute for a lock, as the other side waits: SQLite's 5 seconds kill workers here.
    return optuna.storages.RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}})


def work(file, trials):
    study = optuna.load_study(study_name="added", storage=storage_of(file), sampler=optuna.samplers.RandomSampler())
    for _ in range(trials):
        trial = study.ask()
        for p in range(PARAMETERS):
            trial.suggest_float(f"p{p}", 0, 1)
        trial.report(0.5, 0)
        study.tell(trial, 0.5)


def main():
    mode, file = sys.argv[1:3]
    if mode == "open":
        begin = time.perf_counter()
        study = optuna.load_study(study_name="bench", storage=storage_of(file))
        trials, best = study.trials, study.best_trial.values[0]
        seconds = time.perf_counter() - begin
        print(json.dumps({"case": "open 10,000 trials, best", "unit": "openings", "samples": [1 / seconds], "best": best}))
        assert len(trials) == 10000
        return
    trials = int(sys.argv[3])
    optuna.create_study(study_name="added", storage=storage_of(file), direction="maximize")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(file, trials // PROCESSES)) for _ in range(PROCESSES)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - begin
    there = len(optuna.load_study(study_name="added", storage=storage_of(file)).trials)
    failed = sum(worker.exitcode != 0 for worker in workers)
    print(json.dumps({"case": "8 processes add trials", "unit": "trials", "samples": [trials / seconds]}))
    if failed or there != trials:
        sys.exit(f"{there} of {trials} trials there, {failed} processes failed")


if __name__ == "__main__":
    main()
