"""The training runs of NAS-Bench-201 and NATS-Bench, gathered into columns.

A run is a dict as `ResultsCount.state_dict()` of nas-bench-201 2.1 and nats_bench 1.8
returns it. `Runs.fold` is called by the pickle reader with each one as soon as it is
complete, copies its numbers into flat float32 arrays and empties it: of the 20 GB and more
that the official file would take as Python objects, about 1 GB is kept. `Runs.assign`
then tells each run its row of the table, and `Runs.columns` makes the columns.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxnas.benchmarks.importers.nb201_numbers import (
    mean_latency,
    read_millions,
    read_series,
)
from jaxnas.io.streams import printable

DATASETS = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
"""The names of the datasets in the files."""
# The test images of CIFAR-100 and ImageNet16-120 are split in halves, x-valid and x-test;
# our names of the splits are those of `get_more_info` of nas-bench-201.
_HALVED = ("cifar100", "ImageNet16-120")
_SPLITS = {"x-valid": "valid", "x-test": "test", "ori-test": "test"}
FOLD_KEY = "eval_acc1es"
"""The last large entry of a run's dict: with it the run is complete."""
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
_RUN = object()  # key of the number of a run, in the dict that held it

Key = tuple[str, int]
"""A dataset, and the epochs of a schedule."""


class Runs:
    """Runs by number, in the order in which they were added.

    Attributes:
      keys: dataset and epochs of each run.
      seeds: of each run.
      rows: of each run's cell in the table; -1 until `assign`.
    """

    def __init__(self):
        self.keys: list[Key] = []
        self.seeds: list[int] = []
        self.rows: list[int] = []
        self._latency, self._flops, self._params = array("d"), array("d"), array("d")
        # By (key, split, kind, numbers of a run): the numbers of several runs one after
        # another, and the runs.
        self._series: dict[tuple[Key, str, str, int], tuple[array, array]] = {}
        self._names: dict[tuple[str, int], list[str]] = {}

    def fold(self, state: dict) -> int:
        """Adds a run and empties its dict.

        Args:
          state: the dict of a run; one that is not complete is left as it is, for
            `number`.

        Returns: how many entries were removed.
        Raises: `ValueError` for numbers that no run has.
        """
        if _RUN in state or any(field not in state for field in _FIELDS):
            return 0
        number = self._add(state)
        inner = [x for x in state.values() if type(x) is dict]
        removed = len(state) + sum(map(len, inner))
        # The pickle still refers to the inner dicts, so they are emptied as well. One
        # that two runs shared would be refused as empty in the second.
        for table in inner:
            table.clear()
        state.clear()
        state[_RUN] = number
        return removed

    def number(self, state: Any) -> int:
        """The number of a run, which is added now if it has not been folded.

        Args:
          state: the dict of the run, folded or not.

        Raises: `ValueError` if it is not the dict of a run.
        """
        if type(state) is not dict:
            raise ValueError(f"wanted a run, found {type(state).__name__}")
        if _RUN not in state:
            missing = [field for field in _FIELDS if field not in state]
            if missing:
                raise ValueError(f"a run has no {', '.join(missing)}")
            self.fold(state)
        return state[_RUN]

    def assign(self, number: int, row: int, key: Key, seed: int) -> None:
        """Assigns a run to a row of the table.

        Args:
          number: of the run.
          row: of its cell.
          key: dataset and epochs that the cell lists the run with.
          seed: that the cell lists the run with.

        Raises: `ValueError` if the run says otherwise, or has a row already.
        """
        if (self.keys[number], self.seeds[number]) != (key, seed):
            raise ValueError(
                f"a run is listed as {key[0]}, {key[1]} epochs, seed {seed}, and says "
                f"{self.keys[number]}, seed {self.seeds[number]}"
            )
        if self.rows[number] != -1:
            raise ValueError("a run is listed twice")
        self.rows[number] = row

    def _add(self, state: dict) -> int:
        """Checks the dict of a run, copies its numbers, and returns its number."""
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
        self._put(
            number, key, "train", "curve", read_series(accuracy, steps, "accuracy")
        )
        self._put(number, key, "train", "loss", read_series(loss, steps, "loss"))
        if times is not None:
            self._put(number, key, "train", "time", read_series(times, steps, "time"))
        names = state["eval_names"]
        if type(names) is not list or any(type(name) is not str for name in names):
            raise ValueError(f"a run was evaluated on {printable(names)}")
        if len(set(names) & set(_SPLITS)) != len(names):
            raise ValueError(f"a run was evaluated on {printable(', '.join(names))}")
        for name in names:
            self._add_evaluation(number, key, name, state)
        evaluated = {step for name in names for step in self._names[name, epochs]}
        tables = [state[table] or {} for table in _TABLES[3:]]
        if any(x.keys() - evaluated for x in tables) or len(accuracy) != epochs:
            raise ValueError("a run has epochs that it should not have")
        self._latency.append(mean_latency(state.get("latency")))
        self._flops.append(read_millions(state["flop"], "FLOPs"))
        self._params.append(read_millions(state["params"], "parameters"))
        self.keys.append(key)
        self.seeds.append(seed)
        self.rows.append(-1)
        return number

    def _add_evaluation(self, number: int, key: Key, name: str, state: dict) -> None:
        """Copies the curves of the images called `name`, which tables list by epoch."""
        dataset, epochs = key
        steps = self._names.setdefault(
            (name, epochs), [f"{name}@{i}" for i in range(epochs)]
        )
        whole = name == "ori-test" and dataset in _HALVED
        split = "valtest" if whole else _SPLITS[name]
        accuracy, loss, times = (state[table] for table in _TABLES[3:])
        # The first runs were evaluated on some images after the last epoch only.
        values = read_series(accuracy, steps, "accuracy", sparse=True)
        if math.isnan(values[-1]):
            raise ValueError(f"a run has no accuracy of {name} at its end")
        self._put(number, key, split, "curve", values)
        self._put(
            number, key, split, "loss", read_series(loss, steps, "loss", sparse=True)
        )
        if times and steps[0] in times:
            self._put(number, key, split, "time", read_series(times, steps, "time"))

    def _put(
        self, number: int, key: Key, split: str, what: str, values: list[float]
    ) -> None:
        """Appends the numbers of a run to the series of their kind, `what`."""
        if what == "time" and values.count(values[0]) == len(values):
            values = values[:1]  # in later files an estimate, the same for all epochs
        name = key, split, what, len(values)
        if name not in self._series:
            self._series[name] = array("f"), array("q")
        numbers, runs = self._series[name]
        numbers.extend(values)
        runs.append(number)

    def columns(self, num_rows: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yields names and arrays of all columns, and frees the numbers of each.

        Args:
          num_rows: rows of the table.

        Raises: `ValueError` if a run has not been assigned.
        """
        if -1 in self.rows:
            raise ValueError("a run belongs to no architecture")
        for name in list(self._series):
            if name not in self._series:
                continue
            key, split, what, width = name
            parts = [self._series.pop(name)]
            widths = [width]
            # The times of some runs may be constant, and those of others not.
            for other in [n for n in self._series if n[:3] == name[:3]]:
                parts.append(self._series.pop(other))
                widths.append(other[3])
            dense = self._dense(num_rows, key, parts, widths)
            column = f"{key[0]}/{split}/{key[1]}"
            if what == "curve" and not np.isnan(dense[:, :, -1]).all(1).any():
                yield column, np.ascontiguousarray(dense[:, :, -1])
            yield f"{what}/{column}", dense
        yield from self._rest(num_rows)

    def seeds_of(self, key: Key) -> list[int]:
        """The seeds of a dataset and schedule, ascending."""
        both = zip(self.keys, self.seeds, strict=True)
        return sorted({seed for k, seed in both if k == key})

    def _dense(self, num_rows: int, key: Key, parts: list, widths: list) -> np.ndarray:
        """Spreads numbers of runs over an array (num_rows, seeds, points), else NaN.

        Args:
          num_rows: rows of the table.
          key: dataset and epochs of the runs.
          parts: pairs of numbers and runs.
          widths: numbers of a run in each part; 1 is repeated for all points.
        """
        seeds = self.seeds_of(key)
        rows, seed = np.array(self.rows), np.array(self.seeds)
        dense = np.full((num_rows, len(seeds), max(widths)), np.nan, np.float32)
        for (numbers, runs), width in zip(parts, widths, strict=True):
            runs = np.array(runs)
            values = np.frombuffer(numbers, np.float32).reshape(-1, width)
            dense[rows[runs], np.searchsorted(seeds, seed[runs])] = values
        return dense

    def _rest(self, num_rows: int) -> Iterator[tuple[str, np.ndarray]]:
        """Latencies by run, FLOPs and parameters by cell, where they are known."""
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
                # All runs of a cell are of one network; the last one is taken.
                column[rows[runs]] = np.array(numbers)[runs]
                if not np.isnan(column).any():
                    yield f"{name}/{dataset}", column
