"""The trainings of a table with curves, as a surrogate is fitted to them.

curves = read("fashion-curves", split="valid")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import columns, named, table_files
from jaxnas.benchmarks.base import Target
from jaxnas.benchmarks.columns import LevelValues
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.curves import Info
from jaxnas.search import presets
from jaxnas.spaces import (
    darts_features,
    encodings,
    nasbench201_paths,
    nlp_features,
)
from jaxnas.spaces.base import identify
from jaxnas.types import Array

ENCODINGS: dict[str, Callable[[Array], Array]] = {
    "nasbench101": encodings.nb101_one_hot,
    "nasbench201": nasbench201_paths.function_features,
    "darts": darts_features.one_hot,
    "nlp": nlp_features.one_hot,
}
"""The encoding of each space, by `Space.name`."""


class Curves(NamedTuple):
    """The n complete trainings of a table, as a surrogate is fitted to them."""

    features: np.ndarray  # (n, f)
    value: np.ndarray  # (n, E)
    groups: np.ndarray  # (n,) of rows that are held out together
    seconds: np.ndarray | None  # (n,) of each training; None: the table has none
    info: Info
    notes: dict[str, Any]  # the table, and which of its columns
    incomplete: int  # trainings that lack epochs, and are left out


def read(
    benchmark: str,
    dataset: str | None = None,
    split: str = "valid",
    epochs: int | None = None,
) -> Curves:
    """Reads the curves of one column of a table.

    Args:
      benchmark: a table that has a name, or a file.
      dataset: the images, as the table's columns call them; None: the only ones.
      split: "train", "valid" or "test".
      epochs: the training schedule; None: the only one.

    Raises: `ValueError` for a column that the table does not have, an argument left
      at None where the table has several choices, a column without a complete curve, and a
      space without an encoding.
    """
    table = named.open_table(benchmark, curves=None)
    space = named.library_space(table)
    if space.name not in ENCODINGS:
        raise ValueError(
            f"{benchmark} is of the space {space.name}: curves are fitted for "
            f"{', '.join(ENCODINGS)}"
        )
    which = _selection(table, dataset, split, epochs)
    levels = columns.learning_curves(table, **which, seed="random")
    complete = np.asarray(np.isfinite(levels.value).all(2))
    if not complete.any():
        raise ValueError(f"{benchmark} has no complete curve of {which}")
    arch = np.asarray(table.arch, np.int32)[np.nonzero(complete)[0]]
    encode, value = ENCODINGS[space.name], levels.value[complete]
    selection = "/".join(map(str, which.values()))
    target = table_files.target(table, which["dataset"])
    info = Info(
        space=space.name,
        features=encode.__name__,
        target=target.name,
        unit=target.unit,
        direction=target.direction,
        **_valid_range(target, value),
        epochs=tuple(level.epoch for level in levels.levels),
        source=f"fitted to {table.name} {selection}",
    )
    # Cells of one function may have the same curve: they are held out together.
    classes = presets.function_classes_of(space)
    groups = identify(space, arch) if classes is None else in_chunks(classes, arch)
    features = np.asarray(in_chunks(encode, arch), np.float32)
    seconds = _seconds(levels, complete)
    # A table may repeat the training of a run for all cells of its function.
    training = np.column_stack([np.nonzero(complete)[1], features, value])
    rows = np.sort(np.unique(training, axis=0, return_index=True)[1])
    return Curves(
        features=features[rows],
        value=value[rows],
        groups=np.asarray(groups)[rows],
        seconds=None if seconds is None else seconds[rows],
        info=info,
        notes={"table_sha256": table.manifest["sha256"], "settings": which},
        incomplete=int(np.isfinite(levels.value).any(2).sum() - len(value)),
    )


def take(curves: Curves, rows: np.ndarray) -> Curves:
    """Some of the trainings, by their rows (m,)."""
    return curves._replace(
        features=curves.features[rows],
        value=curves.value[rows],
        groups=curves.groups[rows],
        seconds=None if curves.seconds is None else curves.seconds[rows],
    )


def seed_residuals(curves: Curves) -> np.ndarray:
    """Residuals of runs from the mean of the runs of their architecture.

    Args:
      curves: some of them of equal features.

    Returns: (m, E), the m curves that have another run, minus the mean of their r runs and
      times sqrt(r / (r - 1)), so that their variance is that of a single training.
    Raises: `ValueError` if no architecture has two runs.
    """
    _, row = np.unique(curves.features, axis=0, return_inverse=True)
    row = row.reshape(-1)
    runs = np.bincount(row)
    mean = np.zeros((len(runs), curves.value.shape[1]))
    np.add.at(mean, row, curves.value / runs[row, None])
    several = runs[row] > 1
    if not several.any():
        raise ValueError("--noise seeds needs architectures with two runs or more")
    share = np.sqrt(runs / np.maximum(runs - 1, 1))[row, None]
    return ((curves.value - mean[row]) * share)[several]


def _selection(
    table: BenchmarkTable, dataset: str | None, split: str, epochs: int | None
) -> dict[str, Any]:
    """The column of curves; the arguments are as for `read`."""
    stored = table_files.curves(table)
    dataset = _only("dataset", dataset, {d for d, _, _ in stored})
    schedules = {e for d, s, e in stored if (d, s) == (dataset, split)}
    epochs = _only("epochs", epochs, schedules)
    return {"dataset": dataset, "split": split, "epochs": epochs}


def _only(flag: str, given: Any, choices: set) -> Any:
    """The value of a flag, or the only choice."""
    if given is None and len(choices) > 1:
        names = ", ".join(map(str, sorted(choices)))
        raise ValueError(f"--{flag} must be one of {names}")
    # With no choice at all, the selection of the column says what is missing.
    return next(iter(choices), None) if given is None else given


def _valid_range(target: Target, value: np.ndarray) -> dict[str, float]:
    """Bounds of predictions: those of percentages, or those of the curves (n, E)."""
    if target.unit == "percent":
        return {"low": 0.0, "high": 100.0}
    return {"low": float(value.min()), "high": float(value.max())}


def _seconds(levels: LevelValues, complete: np.ndarray) -> np.ndarray | None:
    """The seconds (n,) of the n `complete` (architectures, seeds) trainings."""
    if levels.cost_unit != "seconds":
        return None
    return np.broadcast_to(levels.cost[..., -1], complete.shape)[complete]
