"""Selection of the values and costs of a benchmark from a table, on the host.

Dataset, split, epochs and seed select them, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.base import Level, continued, separate
from jaxnas.benchmarks.table_files import Table


class Columns(NamedTuple):
    """Values of n architectures, s seeds and e levels, by row of the table."""

    value: np.ndarray  # (n, s, e) float32, of the target; NaN: not measured
    # (n or 1, s or 1, e) float32, cost of a training from scratch to each level
    cost: np.ndarray
    levels: tuple[Level, ...]
    cost_unit: str


def describe(
    table: Table,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int,
) -> str:
    """One line for every result to print, as `nb201 cifar100/valid/12, seed mean`."""
    several = isinstance(epochs, Sequence)
    lengths = ",".join(map(str, epochs)) if several else epochs
    return f"{table.name} {dataset}/{split}/{lengths}, seed {seed}"


def column(
    table: Table, *, dataset: str, split: str, epochs: int, seed: str | int
) -> np.ndarray:
    """One column of a table.

    Args:
      dataset, split, epochs: name the column, `epochs` being its training schedule.
      seed: "mean" over the runs of each architecture, "random" for all of them, or the
        index of one.

    Returns: (n, s) float32 by row of the table, of the unit that `files.target` says; s
      is 1 unless `seed` is "random".
    Raises: `ValueError` that lists what there is, or counts the architectures for which
      the seed was not run.
    """
    values = _named(table, table_files.accuracies(table), "", dataset, split, epochs)
    name = f"{table.name} {dataset}/{split}/{epochs}"
    return _of_seed(name, values, seed, 1)


def curve(
    table: Table, *, dataset: str, split: str, epochs: int, seed: str | int
) -> Columns:
    """The learning curves of one schedule, and the cost of training to each point.

    Points before epoch 1, and those without any measurement, are dropped. Costs are, in
    this order, the table's seconds by epoch (training, and evaluation on the validation
    images where it is known), its seconds of the whole schedule in proportion, or epochs.
    Arguments as for `column`.

    Raises: `ValueError` if the curves are missing (`files.load` reads them on request),
      and as `column` does.
    """
    values = _named(table, table_files.curves(table), "curve/", dataset, split, epochs)
    name = f"{table.name} curve/{dataset}/{split}/{epochs}"
    points = np.ceil(_points(table, epochs, values.shape[2])).astype(int)
    kept = (points >= 1) & ~np.isnan(values).all((0, 1))
    kept &= np.append(np.diff(points) > 0, True)
    if not kept.any():
        raise ValueError(f"{name} has no point that was measured after epoch 1")
    cost, unit = _cost_of_points(table, dataset, epochs, points)
    values, cost = values[:, :, kept], cost[..., kept]
    value = _of_seed(name, values, seed, 2)  # which refuses seeds that are not there
    if cost.shape[:2] == values.shape[:2]:
        cost = _costs_of_seed(name, cost, values, seed)
    return Columns(value, cost, continued(points[kept]), unit)


def ends(
    table: Table,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int,
) -> Columns:
    """The final values of one schedule or of several, which are separate trainings.

    Costs are the table's seconds of each schedule, or else epochs. Arguments as for
    `column`; several schedules are `epochs` in ascending order.

    Raises: `ValueError` as `column` does, for schedules that do not ascend, and for
      random seeds of several schedules, which may have different seeds.
    """
    lengths = list(epochs) if isinstance(epochs, Sequence) else [epochs]
    if not lengths or any(b <= a for a, b in zip(lengths, lengths[1:], strict=False)):
        raise ValueError(f"schedules must ascend, found {lengths}")
    if len(lengths) > 1 and seed == "random":
        raise ValueError("schedules of different lengths have no random seed in common")
    columns = [
        column(table, dataset=dataset, split=split, epochs=e, seed=seed)
        for e in lengths
    ]
    value = np.stack(columns, -1)
    seconds = [table_files.seconds(table, dataset, e) for e in lengths]
    known = [s for s in seconds if s is not None]
    if len(known) == len(lengths):
        cost = np.stack(known, -1)[:, None]
        return Columns(value, cost, separate(lengths), "seconds")
    cost = np.array(lengths, np.float32)[None, None]
    return Columns(value, cost, separate(lengths), "epochs")


def truth(
    table: Table,
    chosen: Columns,
    which: Mapping[str, Any],
    other: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The true values (n,) by which the regret of a search on `chosen` is measured.

    Args:
      which: dataset, split, epochs and seed of `chosen`.
      other: those that differ for the column of true values. Default: the last level of
        `chosen`.

    Returns: means over the seeds, or the values of the seed in `other`.
    Raises: `ValueError` for an unknown column, or one of another target.
    """
    if other is None:
        return mean(chosen.value[:, :, -1])[:, 0]
    epochs = which["epochs"]
    last = epochs[-1] if isinstance(epochs, Sequence) else epochs
    told = {**which, "seed": "mean", "epochs": last, **other}
    if table_files.target(table, told["dataset"]) != table_files.target(
        table, which["dataset"]
    ):
        raise ValueError(
            f"the truth of {table.name} is {told['dataset']}, of another target than "
            f"{which['dataset']}"
        )
    return mean(column(table, **told))[:, 0]


def _named(
    table: Table,
    there: dict[tuple[str, str, int], np.ndarray],
    kind: str,
    dataset: str,
    split: str,
    epochs: int,
) -> np.ndarray:
    """The column of that name; `ValueError` that lists the names there are."""
    owner = f"{table.name} {kind}".rstrip(" /")
    _choose(owner, "dataset", dataset, {d for d, _, _ in there})
    splits = {s for d, s, _ in there if d == dataset}
    _choose(f"{table.name} {kind}{dataset}", "split", split, splits)
    schedules = {e for d, s, e in there if (d, s) == (dataset, split)}
    name = f"{table.name} {kind}{dataset}/{split}"
    _choose(name, "number of epochs", epochs, schedules)
    return there[dataset, split, epochs]


def _of_seed(name: str, values: np.ndarray, seed: str | int, ndim: int) -> np.ndarray:
    """Values (n, s, ...) of a seed; `ndim` counts the axes besides that of seeds."""
    # A column without a seed axis may be a mean already: there is no seed to choose.
    num_seeds = values.shape[1] if values.ndim > ndim else 0
    seeds = ("mean", "random", *range(num_seeds)) if num_seeds else ("mean",)
    _choose(name, "seed", seed, seeds)
    if num_seeds == 0:
        return values[:, None]
    if seed == "mean":
        return mean(values)
    if seed == "random":
        return values
    one = values[:, [int(seed)]]
    lacking = np.isnan(one).reshape(len(one), -1).all(1)
    if lacking.any():
        raise ValueError(
            f"{name} has no seed {seed} for {lacking.sum()} of {len(one)} "
            "architectures: wanted 'mean' or 'random'"
        )
    return one


def mean(values: np.ndarray) -> np.ndarray:
    """The mean (n, 1, ...) over the seeds that were run; NaN where none was."""
    known = ~np.isnan(values)
    total = np.sum(values, 1, np.float64, keepdims=True, where=known)
    count = known.sum(1, keepdims=True)
    average = np.where(count, total / np.maximum(count, 1), np.nan)
    return average.astype(np.float32)


def _choose(owner: str, what: str, given, there: Iterable) -> None:
    there = list(there)
    # `True` is no seed or number of epochs, though it equals 1.
    if isinstance(given, bool) or given not in there:
        order = sorted(there, key=lambda x: (str(type(x)), x))
        names = ", ".join(str(x) for x in order) or "none"
        raise ValueError(f"{owner} has no {what} {given!r}; it has {names}")


def _points(table: Table, epochs: int, num: int) -> np.ndarray:
    """After how many epochs each of the points (num,) of a curve is."""
    told = table.manifest.get("points", {})
    points = told.get(str(epochs)) if isinstance(told, dict) else None
    try:
        found = np.array(points, float)
    except (TypeError, ValueError):
        found = np.zeros(0)
    fits = found.shape == (num,) and np.isfinite(found).all()
    if not fits or (np.diff(found) <= 0).any() or found[0] < 0 or found[-1] > epochs:
        raise ValueError(
            f"{table.name}: wanted in the manifest's points of {epochs} epochs {num} "
            f"ascending numbers up to {epochs}, found {points!r}"
        )
    return found


def _cost_of_points(
    table: Table, dataset: str, epochs: int, points: np.ndarray
) -> tuple[np.ndarray, str]:
    """The cost (n or 1, s or 1, e) of training up to each point, and its unit."""
    elapsed = table.columns.get(f"elapsed/{dataset}/train/{epochs}")
    if elapsed is not None:
        return np.broadcast_to(elapsed, (*elapsed.shape[:2], len(points))), "seconds"
    gaps = np.diff(points, prepend=0)
    times = [
        table.columns[name] * gaps
        for split in ("train", "valid")
        if (name := f"time/{dataset}/{split}/{epochs}") in table.columns
    ]
    if f"time/{dataset}/train/{epochs}" in table.columns:
        each = np.sum(times, 0, dtype=np.float64)
        return np.cumsum(each, -1).astype(np.float32), "seconds"
    total = table_files.seconds(table, dataset, epochs)
    if total is None:
        return points.astype(np.float32)[None, None], "epochs"
    return (total[:, None, None] * points / epochs).astype(np.float32), "seconds"


def _costs_of_seed(
    name: str, cost: np.ndarray, values: np.ndarray, seed: str | int
) -> np.ndarray:
    """Costs (n, s, e) of a seed; 0 for runs that were not done."""
    run = np.any(~np.isnan(values), 2)
    if num := np.count_nonzero(np.isnan(cost).any(2) & run):
        raise ValueError(f"{name}: {num} runs have a curve, and seconds that are NaN")
    if seed == "mean":
        return mean(np.where(run[:, :, None], cost, np.nan))
    if seed == "random":
        return np.where(run[:, :, None], cost, 0)
    return cost[:, [0 if isinstance(seed, str) else seed]]
