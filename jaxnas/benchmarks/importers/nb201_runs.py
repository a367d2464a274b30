"""The training runs of NAS-Bench-201 and NATS-Bench, gathered into columns.

A run is a dict as `ResultsCount.state_dict()` of nas-bench-201 2.1 and nats_bench 1.8
gives it. Each is taken apart as soon as it is read: of the 20 GB and more that the
official file takes as Python objects, what is kept is float32, about 1 GB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxnas.io.streams import printable

DATASETS = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
# The test images of CIFAR-100 and ImageNet16-120 are cut in halves, x-valid and x-test;
# the split names are those of `get_more_info` of nas-bench-201.
_HALVED = ("cifar100", "ImageNet16-120")
_SPLITS = {"x-valid": "valid", "x-test": "test", "ori-test": "test"}
FOLD_KEY = "eval_acc1es"
_TABLES = (
    "train_acc1es",
    "train_losses",
    "train_times",
    "eval_acc1es",
    "eval_losses",
    "eval_times",
)
_FIELDS = ("name", "seed", "epochs", "flop", "params", "eval_names", *_TABLES)
_MAX_EPOCHS = 1000
_RUN = object()  # Where the number of a run is, in the dict that held it.

Key = tuple[str, int]  # A dataset, and the epochs of a schedule.


class Runs:
    """Runs by number, in the order in which they were added."""

    def __init__(self):
        self.keys: list[Key] = []
        self.seeds: list[int] = []
        self.rows: list[int] = []  # -1 until the run has an architecture
        self._latency, self._flops, self._params = array("d"), array("d"), array("d")
        # Numbers of each series, and the runs that they are of; the last part of the
        # name is how many numbers a run has.
        self._series: dict[tuple[Key, str, str, int], tuple[array, array]] = {}
        self._names: dict[tuple[str, int], list[str]] = {}

    def fold(self, state: dict) -> int:
        """Adds a run and empties its dict; returns how many entries are gone.

        A dict that is not complete yet is left as it is, for `number`.
        """
        if _RUN in state or any(field not in state for field in _FIELDS):
            return 0
        number = self._add(state)
        inner = [x for x in state.values() if type(x) is dict]
        gone = len(state) + sum(map(len, inner))
        # The pickle still refers to the inner dicts, so they are emptied as well. One
        # that two runs shared would be refused as empty in the second.
        for table in inner:
            table.clear()
        state.clear()
        state[_RUN] = number
        return gone

    def number(self, state: Any) -> int:
        """The number of a run, which is added if it was not folded."""
        if type(state) is not dict:
            raise ValueError(f"wanted a run, found {type(state).__name__}")
        if _RUN not in state:
            missing = [field for field in _FIELDS if field not in state]
            if missing:
                raise ValueError(f"a run has no {', '.join(missing)}")
            self.fold(state)
        return state[_RUN]

    def place(self, number: int, row: int, key: Key, seed: int) -> None:
        """Says of which architecture a run is, and checks that it agrees."""
        if (self.keys[number], self.seeds[number]) != (key, seed):
            raise ValueError(
                f"a run is listed as {key[0]}, {key[1]} epochs, seed {seed}, and says "
                f"{self.keys[number]}, seed {self.seeds[number]}"
            )
        if self.rows[number] != -1:
            raise ValueError("a run is listed twice")
        self.rows[number] = row

    def _add(self, state: dict) -> int:
        dataset, seed, epochs = state["name"], state["seed"], state["epochs"]
        if dataset not in DATASETS:
            raise ValueError(f"a run is of the unknown dataset {printable(dataset)}")
        if type(seed) is not int or not 0 <= seed < 2**31:
            raise ValueError(f"a run has the seed {printable(seed)}")
        if type(epochs) is not int or not 1 <= epochs <= _MAX_EPOCHS:
            raise ValueError(f"a run has {printable(epochs)} epochs")
        key, number = (dataset, epochs), len(self.keys)
        accuracy, loss, times = (state[name] for name in _TABLES[:3])
        steps = range(epochs)
        self._put(number, key, "train", "curve", _values(accuracy, steps, "accuracy"))
        self._put(number, key, "train", "loss", _values(loss, steps, "loss"))
        if times is not None:
            self._put(number, key, "train", "time", _values(times, steps, "time"))
        names = state["eval_names"]
        if type(names) is not list or any(type(name) is not str for name in names):
            raise ValueError(f"a run was evaluated on {printable(names)}")
        if len(set(names) & set(_SPLITS)) != len(names):
            raise ValueError(f"a run was evaluated on {printable(', '.join(names))}")
        for name in names:
            self._evaluation(number, key, name, state)
        evaluated = {step for name in names for step in self._names[name, epochs]}
        own = [state[table] or {} for table in _TABLES[3:]]
        if any(x.keys() - evaluated for x in own) or len(accuracy) != epochs:
            raise ValueError("a run has epochs that it should not have")
        self._latency.append(_latency(state.get("latency")))
        self._flops.append(_size(state["flop"], "FLOPs"))
        self._params.append(_size(state["params"], "parameters"))
        self.keys.append(key)
        self.seeds.append(seed)
        self.rows.append(-1)
        return number

    def _evaluation(self, number: int, key: Key, name: str, state: dict) -> None:
        dataset, epochs = key
        steps = self._names.setdefault(
            (name, epochs), [f"{name}@{i}" for i in range(epochs)]
        )
        whole = name == "ori-test" and dataset in _HALVED
        split = "valtest" if whole else _SPLITS[name]
        accuracy, loss, times = (state[table] for table in _TABLES[3:])
        # Of the first runs only the last epoch was evaluated on some images.
        values = _values(accuracy, steps, "accuracy", sparse=True)
        if math.isnan(values[-1]):
            raise ValueError(f"a run has no accuracy of {name} at its end")
        self._put(number, key, split, "curve", values)
        self._put(number, key, split, "loss", _values(loss, steps, "loss", sparse=True))
        if times and steps[0] in times:
            self._put(number, key, split, "time", _values(times, steps, "time"))

    def _put(
        self, number: int, key: Key, split: str, what: str, values: list[float]
    ) -> None:
        if what == "time" and values.count(values[0]) == len(values):
            values = values[:1]  # In later files it is an estimate, always the same.
        name = key, split, what, len(values)
        if name not in self._series:
            self._series[name] = array("f"), array("q")
        numbers, runs = self._series[name]
        numbers.extend(values)
        runs.append(number)

    def columns(self, num_rows: int) -> Iterator[tuple[str, np.ndarray]]:
        """Names and arrays of all columns; each run has to have its place."""
        if -1 in self.rows:
            raise ValueError("a run belongs to no architecture")
        for name in list(self._series):
            if name not in self._series:
                continue
            key, split, what, width = name
            parts = [self._series.pop(name)]
            widths = [width]
            # Times of some runs may be constant, and of others not.
            for other in [n for n in self._series if n[:3] == name[:3]]:
                parts.append(self._series.pop(other))
                widths.append(other[3])
            dense = self._dense(num_rows, key, parts, widths)
            column = f"{key[0]}/{split}/{key[1]}"
            if what == "curve" and not np.isnan(dense[:, :, -1]).all(1).any():
                yield column, np.ascontiguousarray(dense[:, :, -1])
            yield f"{what}/{column}", dense
        yield from self._rest(num_rows)

    def slots(self, key: Key) -> list[int]:
        """The seeds of a dataset and schedule, ascending."""
        both = zip(self.keys, self.seeds, strict=True)
        return sorted({seed for k, seed in both if k == key})

    def _dense(self, num_rows: int, key: Key, parts: list, widths: list) -> np.ndarray:
        seeds = self.slots(key)
        rows, own = np.array(self.rows), np.array(self.seeds)
        dense = np.full((num_rows, len(seeds), max(widths)), np.nan, np.float32)
        for (numbers, runs), width in zip(parts, widths, strict=True):
            runs = np.array(runs)
            values = np.frombuffer(numbers, np.float32).reshape(-1, width)
            dense[rows[runs], np.searchsorted(seeds, own[runs])] = values
        return dense

    def _rest(self, num_rows: int) -> Iterator[tuple[str, np.ndarray]]:
        rows = np.array(self.rows)
        for key in sorted(set(self.keys)):
            latency = [
                x for x, k in zip(self._latency, self.keys, strict=True) if k == key
            ]
            if not all(map(math.isnan, latency)):
                runs = array("q", (i for i, k in enumerate(self.keys) if k == key))
                part = array("f", latency), runs
                name = f"latency/{key[0]}/{key[1]}"
                yield name, self._dense(num_rows, key, [part], [1])[:, :, 0]
        for dataset in DATASETS:
            runs = [i for i, key in enumerate(self.keys) if key[0] == dataset]
            if not runs:
                continue
            for name, numbers in ("flops", self._flops), ("params", self._params):
                column = np.full(num_rows, np.nan)
                # The last run that is listed stands for all: they are of one network.
                column[rows[runs]] = np.array(numbers)[runs]
                if not np.isnan(column).any():
                    yield f"{name}/{dataset}", column


def _values(
    table: Any, steps: Sequence, what: str, sparse: bool = False
) -> list[float]:
    """One number for each step, NaN where a sparse table has none."""
    if type(table) is not dict:
        raise ValueError(f"wanted the {what} by epoch, found {type(table).__name__}")
    values = [table.get(step, math.nan if sparse else None) for step in steps]
    if not {*map(type, values)} <= {float, int}:
        raise ValueError(f"a run has no {what}, or none that is a number, of an epoch")
    if what != "loss":
        known = [x for x in values if x == x]
        if len(known) < len(values) and not sparse:
            raise ValueError(f"a run has a {what} that is not a number")
        low, high = min(known, default=0), max(known, default=0)
        if low < 0 or high > (100 if what == "accuracy" else 1e9):
            raise ValueError(f"a run has the {what} {low if low < 0 else high}")
    return values


def _latency(times: Any) -> float:
    if times is None or times == []:
        return math.nan
    if type(times) is not list or not {*map(type, times)} <= {float, int}:
        raise ValueError(f"a run has the latency {printable(times)}")
    mean = sum(times) / len(times)
    return mean if 0 < mean < 1e9 else math.nan


def _size(number: Any, what: str) -> float:
    if type(number) not in (float, int) or not 0 <= number < 1e9:
        raise ValueError(f"a run has {printable(number)} million {what}")
    return float(number)
