"""Timing of cases that take turns, as bench/measure.cpp does it, and the data that both sides share."""

import argparse
import json
import math
import os
import pathlib
import statistics
import struct
import time

import numpy as np
import torch

SAMPLE_SECONDS = 0.05
SAMPLES = 5
GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "environment"
# Recorded episodes that a peer's environment must reproduce before it is measured.
EPISODES = ("served_profile", "position_limit", "cash_reserve", "lookback5_decay", "zero_price", "small_actions_forced_sales")
MINIMUM_QUANTITY = [1.1 * q for q in (0.005, 0.03, 0.00001, 0.1, 0.0003, 0.01, 0.15)]


def options(benches):
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", choices=benches)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--case", default="", help="part of the name of the cases to run")
    parser.add_argument("--market", required=True, help="what `bench export` wrote")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def arrays(path, group):
    """Of a safetensors file, those called `group`/name, by name."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
    found = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name.startswith(group + "/"):
            begin, end = entry["data_offsets"]
            array = np.frombuffer(data[8 + size + begin : 8 + size + end], types[entry["dtype"]])
            found[name.split("/")[1]] = array.reshape(entry["shape"]).copy()
    return found


def market(path, features):
    """price [T, n], tech [T, n*F] and segments [s, 2] of a feature set."""
    found = arrays(path, features)
    return found["price"], found["tech"], found["segments"]


def golden(name):
    """A recorded episode and its settings (environment.md)."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files if key != "config"}, json.loads(str(file["config"]))


def measure(chosen, cases):
    """cases: (name, unit, items of a run, function); names where it stands beside several of the other side."""
    cases = [([names] if isinstance(names, str) else names, *rest) for names, *rest in cases]
    cases = [([name for name in names if chosen.case in name], *rest) for names, *rest in cases]
    cases = [case for case in cases if case[0]]

    def seconds_of(run, calls):
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return time.perf_counter() - begin

    calls = []
    for _, _, _, run in cases:
        run()
        calls.append(math.ceil(SAMPLE_SECONDS / seconds_of(run, 1)))
    samples = [[] for _ in cases]
    spent = [0.0] * len(cases)
    more = True
    while more:
        more = False
        for i, (_, _, items, run) in enumerate(cases):
            if len(samples[i]) >= SAMPLES and spent[i] >= chosen.seconds:
                continue
            seconds = seconds_of(run, calls[i])
            spent[i] += seconds
            samples[i].append(items * calls[i] / seconds)
            more = True
    for (names, unit, _, _), taken in zip(cases, samples):
        quarter, median, three_quarters = statistics.quantiles(taken, n=4, method="inclusive")
        for name in names:
            print(json.dumps({"bench": chosen.bench, "case": name, "unit": unit, "items_per_second": median,
                              "spread": (three_quarters - quarter) / median, "threads": chosen.threads,
                              "device": "cpu", "samples": taken}), flush=True)
