"""Selection of the values and costs of a benchmark from a table, on the host.

A selection is a dataset, a split, a number of epochs and a seed. `column` reads one
column, `final_values` those of one or several schedules, `learning_curves` the stored
points of one schedule; the latter two give the costs as well, as `LevelValues`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.base import Level, continued_levels, separate_levels
from jaxnas.benchmarks.table_files import BenchmarkTable


class LevelValues(NamedTuple):
    """Values of n architectures, s seeds and e fidelity levels, by row of the table."""

    value: np.ndarray  # (n, s, e) float32, of the target; NaN: not measured
    # (n or 1, s or 1, e) float32, cost of a training from scratch to each level
    cost: np.ndarray
    levels: tuple[Level, ...]
    cost_unit: str  # "seconds" or "epochs"


def describe(
    table: BenchmarkTable,
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
    table: BenchmarkTable, *, dataset: str, split: str, epochs: int, seed: str | int
) -> np.ndarray:
    """Reads one column of a table.

    Args:
      table: the numbers.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: the training schedule.
      seed: "mean" over the runs of each architecture, "random" for all of them, or the
        index of one.

    Returns: (n, s) float32 by row of the table, in the unit of `table_files.target`; s
      is 1 unless `seed` is "random".
    Raises: `ValueError` that lists what the table has, or counts the architectures for
      which the seed was not run.
    """
    stored = table_files.accuracies(table)
    values = _find_column(table, stored, "", dataset, split, epochs)
    name = f"{table.name} {dataset}/{split}/{epochs}"
    return _select_seed(name, values, seed, 1)


def learning_curves(
    table: BenchmarkTable, *, dataset: str, split: str, epochs: int, seed: str | int
) -> LevelValues:
    """The learning curves of one schedule, and the cost of training to each point.

    Points before epoch 1, and those without any measurement, are dropped. Costs are, in
    this order, the table's seconds by epoch (training, and evaluation on the validation
    images where it is known), its seconds of the whole schedule in proportion, or epochs.

    Args:
      table: the numbers, read with their curves.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: the training schedule.
      seed: as for `column`.

    Raises: `ValueError` if the curves are missing (`table_files.load` reads them on
      request), and as `column` does.
    """
    stored = table_files.curves(table)
    values = _find_column(table, stored, "curve/", dataset, split, epochs)
    name = f"{table.name} curve/{dataset}/{split}/{epochs}"
    points = np.ceil(_curve_points(table, epochs, values.shape[2])).astype(int)
    kept = (points >= 1) & ~np.isnan(values).all((0, 1))
    kept &= np.append(np.diff(points) > 0, True)
    if not kept.any():
        raise ValueError(f"{name} has no point that was measured after epoch 1")
    cost, unit = _point_costs(table, dataset, epochs, points)
    values, cost = values[:, :, kept], cost[..., kept]
    value = _select_seed(name, values, seed, 2)  # refuses seeds that do not exist
    if cost.shape[:2] == values.shape[:2]:
        cost = _select_seed_costs(name, cost, values, seed)
    return LevelValues(value, cost, continued_levels(points[kept]), unit)


def final_values(
    table: BenchmarkTable,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int,
) -> LevelValues:
    """The final values of one schedule or of several, which are separate trainings.

    Costs are the table's seconds of each schedule, or else epochs.

    Args:
      table: the numbers.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: a training schedule, or several in ascending order.
      seed: as for `column`.

    Raises: `ValueError` as `column` does, for schedules that do not ascend, and for
      random seeds of several schedules, whose runs are not the same.
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
    measured = [s for s in seconds if s is not None]
    if len(measured) == len(lengths):
        cost = np.stack(measured, -1)[:, None]
        return LevelValues(value, cost, separate_levels(lengths), "seconds")
    cost = np.array(lengths, np.float32)[None, None]
    return LevelValues(value, cost, separate_levels(lengths), "epochs")


def true_values(
    table: BenchmarkTable,
    values: LevelValues,
    selection: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The true values (n,) by which the regret of a search on `values` is measured.

    Args:
      table: the numbers.
      values: feedback of the search.
      selection: dataset, split, epochs and seed of `values`.
      changes: those that differ for the column of true values. Default: the last level
        of `values`.

    Returns: means over the seeds, or the values of the seed in `changes`.
    Raises: `ValueError` for an unknown column, or one of another target.
    """
    if changes is None:
        return _seed_mean(values.value[:, :, -1])[:, 0]
    epochs = selection["epochs"]
    last = epochs[-1] if isinstance(epochs, Sequence) else epochs
    true = {**selection, "seed": "mean", "epochs": last, **changes}
    if table_files.target(table, true["dataset"]) != table_files.target(
        table, selection["dataset"]
    ):
        raise ValueError(
            f"the truth of {table.name} is {true['dataset']}, of another target than "
            f"{selection['dataset']}"
        )
    return _seed_mean(column(table, **true))[:, 0]


def _seed_mean(values: np.ndarray) -> np.ndarray:
    """The mean (n, 1, ...) over the seeds that were run; NaN if there is no run."""
    measured = ~np.isnan(values)
    total = np.sum(values, 1, np.float64, keepdims=True, where=measured)
    count = measured.sum(1, keepdims=True)
    average = np.where(count, total / np.maximum(count, 1), np.nan)
    return average.astype(np.float32)


def _find_column(
    table: BenchmarkTable,
    stored: dict[tuple[str, str, int], np.ndarray],
    kind: str,
    dataset: str,
    split: str,
    epochs: int,
) -> np.ndarray:
    """Finds a column in `stored`, by (dataset, split, epochs).

    Raises: `ValueError` that lists the names that exist, with their prefix `kind`.
    """
    owner = f"{table.name} {kind}".rstrip(" /")
    _require_member(owner, "dataset", dataset, {d for d, _, _ in stored})
    splits = {s for d, s, _ in stored if d == dataset}
    _require_member(f"{table.name} {kind}{dataset}", "split", split, splits)
    schedules = {e for d, s, e in stored if (d, s) == (dataset, split)}
    name = f"{table.name} {kind}{dataset}/{split}"
    _require_member(name, "number of epochs", epochs, schedules)
    return stored[dataset, split, epochs]


def _select_seed(
    name: str, values: np.ndarray, seed: str | int, ndim: int
) -> np.ndarray:
    """Values (n, s, ...) of a seed; `ndim` counts the axes besides that of seeds."""
    # A column without a seed axis may be a mean already: there is no seed to choose.
    num_seeds = values.shape[1] if values.ndim > ndim else 0
    seeds = ("mean", "random", *range(num_seeds)) if num_seeds else ("mean",)
    _require_member(name, "seed", seed, seeds)
    if num_seeds == 0:
        return values[:, None]
    if seed == "mean":
        return _seed_mean(values)
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


def _require_member(owner: str, what: str, given: Any, members: Iterable) -> None:
    """Raises `ValueError` that lists the members if `given` is not one of them."""
    members = list(members)
    # `True` is no seed or number of epochs, though it equals 1.
    if isinstance(given, bool) or given not in members:
        order = sorted(members, key=lambda x: (str(type(x)), x))
        names = ", ".join(str(x) for x in order) or "none"
        raise ValueError(f"{owner} has no {what} {given!r}; it has {names}")


def _curve_points(table: BenchmarkTable, epochs: int, num: int) -> np.ndarray:
    """The epochs (num,) after which the points of a curve were measured.

    Raises: `ValueError` unless the manifest has as many ascending numbers in `points`.
    """
    by_schedule = table.manifest.get("points", {})
    points = by_schedule.get(str(epochs)) if isinstance(by_schedule, dict) else None
    try:
        at = np.array(points, float)
    except (TypeError, ValueError):
        at = np.zeros(0)
    fits = at.shape == (num,) and np.isfinite(at).all()
    if not fits or (np.diff(at) <= 0).any() or at[0] < 0 or at[-1] > epochs:
        raise ValueError(
            f"{table.name}: wanted in the manifest's points of {epochs} epochs {num} "
            f"ascending numbers up to {epochs}, found {points!r}"
        )
    return at


def _point_costs(
    table: BenchmarkTable, dataset: str, epochs: int, points: np.ndarray
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


def _select_seed_costs(
    name: str, cost: np.ndarray, values: np.ndarray, seed: str | int
) -> np.ndarray:
    """Costs (n, s, e) of a seed; 0 for runs that do not exist."""
    run = np.any(~np.isnan(values), 2)
    if num := np.count_nonzero(np.isnan(cost).any(2) & run):
        raise ValueError(f"{name}: {num} runs have a curve, and seconds that are NaN")
    if seed == "mean":
        return _seed_mean(np.where(run[:, :, None], cost, np.nan))
    if seed == "random":
        return np.where(run[:, :, None], cost, 0)
    return cost[:, [0 if isinstance(seed, str) else seed]]
