"""Fits a learning-curve surrogate to a table with curves, and writes it as one file.

    python -m experiments.fit_surrogate --benchmark fashion-curves --out surrogate.npz
    python -m experiments.fit_surrogate --benchmark mine.csv --out mine.npz
    python -m experiments.fit_surrogate --benchmark nb201.npz --dataset cifar10
        --split valid --epochs 200 --preset release --out nb201.npz

A CSV file has a line for each training, see `jaxnas.benchmarks.importers.curve_csv`. Every
training of the table is a curve: seeds of one architecture are curves of their own, and
those without all epochs are left out. Prints how well the surrogate agrees with the curves
that it was fitted on, and with those that were held out for its noise.

    benchmark = open_surrogate("surrogate.npz", noise="draws")

Needs the extra `surrogates`. `experiments.curve_report` compares surrogates on held-out
architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import columns, named, table_files
from jaxnas.benchmarks.base import Target
from jaxnas.benchmarks.columns import LevelValues
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.curves import (
    Fitted,
    Info,
    accuracy,
    compress,
    fit_surrogate,
    presets,
    surrogate_files,
)
from jaxnas.curves import regress_boosting as boosting
from jaxnas.search import presets as presets_of_searches
from jaxnas.spaces import darts_features, encodings, nlp_features
from jaxnas.spaces.base import identify
from jaxnas.studies import cli
from jaxnas.types import Array

ENCODINGS: dict[str, Callable[[Array], Array]] = {
    "nasbench101": encodings.nb101_one_hot,
    "nasbench201": encodings.nb201_one_hot,
    "darts": darts_features.one_hot,
    "nlp": nlp_features.one_hot,
}
"""The encoding of each space, by `Space.name`."""


@dataclass(frozen=True)
class Config:
    """Which curves, and which surrogate."""

    benchmark: str = "fashion-curves"
    """A table that has a name, or a file: a table (.npz) or curves (.csv)."""
    dataset: str | None = None
    """Images, as the table's columns call them; default: the only ones that it has."""
    split: str = "valid"
    """Split whose accuracy is predicted: train, valid or test."""
    epochs: int | None = None
    """Length of the training schedule; default: the only one that the table has."""
    preset: Literal["default", "small", "release"] = "default"
    """Stacked perceptrons and trees; 800 small trees, without perceptrons; or the settings
    of Yan et al. (2021)."""
    rounds: int | None = None
    """Trees of each component instead of the preset's regressor, for a fit of seconds."""
    seed: int = 0
    """Of the fit."""
    out: str = "surrogate.npz"
    """The file to write."""


def main(config: Config) -> Fitted:
    """Fits the surrogate, writes it, and prints how well it agrees.

    Raises: `ValueError` for bad input, before anything is fitted or written.
    """
    cli.seed(config, "seed")
    if config.rounds is not None:
        cli.positive(config, "rounds")
    out = Path(config.out)
    if not config.out or out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {config.out!r} is not a file in an existing folder")
    curves = _curves(config)
    options = _options(config)
    fitted = fit_surrogate(
        jax.random.key(config.seed),
        curves.features,
        curves.value,
        info=curves.info,
        groups=curves.groups,
        seconds=curves.seconds,
        folds=_num_folds(curves.groups),
        **options,
    )
    held_out = _held_out(curves, fitted)
    fit = {"preset": config.preset, "rounds": config.rounds, "seed": config.seed}
    notes = {**curves.notes, "fit": fit, "held_out": held_out}
    surrogate_files.save(out, fitted.surrogate, notes=notes)
    _show(curves, fitted, held_out, out)
    return fitted


def _options(config: Config) -> dict[str, Any]:
    """The keywords of `fit_surrogate` for a preset, and its number of trees if given."""
    options = PRESETS[config.preset]()
    if config.rounds is None:
        return options
    if config.preset == "small":
        return small(config.rounds)
    return {**options, "regressor": boosting.lightgbm(config.rounds, num_threads=1)}


def small(rounds: int = 100) -> dict[str, Any]:
    """Settings of a surrogate of less than a megabyte, which needs no flax.

    Args:
      rounds: trees of each component of each member.
    """
    trees = boosting.lightgbm(rounds, chain=False, **presets.SMALL_TREES)
    return {
        "compression": compress.final_value_svd(4),
        "regressor": trees,
        "members": 2,
    }


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {
    "default": dict,
    "small": small,
    "release": presets.release,
}
"""The keywords of `fit_surrogate` by the name of a preset."""


class Curves(NamedTuple):
    """The n complete trainings of a table, as a surrogate is fitted to them."""

    features: np.ndarray  # (n, f)
    value: np.ndarray  # (n, E)
    groups: np.ndarray  # (n,) of rows that are held out together
    seconds: np.ndarray | None  # (n,) of each training; None: the table has none
    info: Info
    notes: dict[str, Any]  # the table, and which of its columns
    incomplete: int  # trainings that lack epochs, and are left out


def _curves(config: Config) -> Curves:
    """Reads the curves; `ValueError` for a column that the table does not have."""
    table = named.open_table(config.benchmark, curves=None)
    space = named.library_space(table)
    which = _selection(config, table)
    levels = columns.learning_curves(table, **which, seed="random")
    complete = np.isfinite(levels.value).all(2)
    if not complete.any():
        raise ValueError(f"{config.benchmark} has no complete curve of {which}")
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
    classes = presets_of_searches.function_classes_of(space)
    groups = identify(space, arch) if classes is None else in_chunks(classes, arch)
    begun = np.isfinite(levels.value).any(2).sum()
    return Curves(
        features=np.asarray(in_chunks(encode, arch), np.float32),
        value=value,
        groups=np.asarray(groups),
        seconds=_seconds(levels, complete),
        info=info,
        notes={"table_sha256": table.manifest["sha256"], "settings": which},
        incomplete=int(begun - len(value)),
    )


def _selection(config: Config, table: BenchmarkTable) -> dict[str, Any]:
    """The dataset, split and epochs; `ValueError` where there is more than one choice."""
    stored = table_files.curves(table)
    datasets = {d for d, _, _ in stored}
    dataset = _only("dataset", config.dataset, datasets)
    schedules = {e for d, s, e in stored if (d, s) == (dataset, config.split)}
    epochs = _only("epochs", config.epochs, schedules)
    return {"dataset": dataset, "split": config.split, "epochs": epochs}


def _num_folds(groups: np.ndarray) -> int:
    """Ten folds for the noise, or as many as there are architectures."""
    num = len(np.unique(groups))
    if num < 2:
        raise ValueError(
            "all curves are of one architecture: a surrogate is fitted to several"
        )
    return min(10, num)


def _only(flag: str, given: Any, choices: set) -> Any:
    """The value of a flag, or the only choice that there is."""
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


def _held_out(curves: Curves, fitted: Fitted) -> dict[str, float]:
    """Correlations and errors of the predictions of held-out curves."""
    if len(fitted.rows) < 2:
        return {}
    true = curves.value[fitted.rows]
    scores = accuracy.curve_scores(true, true - fitted.residual, ("kendall", "rmse"))
    # A correlation without variation is NaN, which JSON does not have.
    finite = {name: value for name, value in scores.items() if np.isfinite(value)}
    return {"curves": len(true), **finite}


def _show(
    curves: Curves, fitted: Fitted, held_out: dict[str, float], out: Path
) -> None:
    """Prints the agreement with the curves."""
    unit = fitted.surrogate.info.unit
    lines = [
        f"{len(curves.value)} curves; root mean square error over epochs, median and "
        f"90 %: {np.median(fitted.rmse):.3g} and {np.quantile(fitted.rmse, 0.9):.3g} "
        f"{unit}"
    ]
    if curves.incomplete:
        lines.append(f"{curves.incomplete} trainings lack epochs: they are left out")
    if "kendall" in held_out:
        lines.append(
            f"{held_out['curves']} curves that were held out: root mean square error "
            f"{held_out['rmse']:.3g} {unit}, of the last epoch "
            f"{held_out['final_rmse']:.3g}; Kendall's tau {held_out['kendall']:.3f}, of "
            f"the last epoch {held_out['final_kendall']:.3f}"
        )
    lines.append(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")
    for line in lines:
        Console().print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
