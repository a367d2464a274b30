"""Fits a learning-curve surrogate to a table with curves, and writes it as one file.

    python -m experiments.fit_surrogate --benchmark fashion-curves --out surrogate.npz
    python -m experiments.fit_surrogate --benchmark nb201.npz --dataset cifar10
        --split valid --epochs 200 --preset release --out nb201.npz

Every training of the table is a curve: seeds of one architecture are curves of their own,
and those that have diverged are left out. Prints how well the surrogate agrees with the
curves that it was fitted on, and with those that were held out for its noise.

    surrogate = surrogate_files.load("surrogate.npz")
    benchmark = surrogate_benchmark(surrogate, nasbench201.SPACE, encodings.nb201_one_hot)

Needs the extra `surrogates`. `experiments.curve_report` compares surrogates on held-out
architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import columns, named, table_files
from jaxnas.curves import Fitted, Info, fit_surrogate, presets, surrogate_files
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
    """A table that has a name, or a table file."""
    dataset: str = "fashion-mnist"
    """Images, as the table's columns call them."""
    split: str = "valid"
    """Split whose accuracy is predicted: train, valid or test."""
    epochs: int = 12
    """Length of the training schedule."""
    preset: Literal["default", "release"] = "default"
    """Stacked perceptrons and trees, or the settings of Yan et al. (2021)."""
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
    arrays, groups, info, notes = _curves(config)
    options: dict[str, Any] = presets.release() if config.preset == "release" else {}
    if config.rounds is not None:
        options["regressor"] = boosting.lightgbm(config.rounds, num_threads=1)
    key = jax.random.key(config.seed)
    fitted = fit_surrogate(key, *arrays, info=info, groups=groups, **options)
    surrogate_files.save(out, fitted.surrogate, notes=notes)
    _show(fitted, len(arrays[0]), out)
    return fitted


def _curves(
    config: Config,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, Info, dict[str, Any]]:
    """Reads features (n, f) and curves (n, E), the group of each row, and what they are."""
    table = named.open_table(config.benchmark, curves=None)
    space = named.library_space(table)
    target = table_files.target(table, config.dataset)
    which: dict[str, Any] = dict(
        dataset=config.dataset, split=config.split, epochs=config.epochs
    )
    levels = columns.learning_curves(table, **which, seed="random")
    complete = np.isfinite(levels.value).all(2)
    if not complete.any():
        raise ValueError(f"{config.benchmark} has no complete curve of {which}")
    arch = np.asarray(table.arch, np.int32)[np.nonzero(complete)[0]]
    encode = ENCODINGS[space.name]
    epochs = tuple(level.epoch for level in levels.levels)
    info = Info(
        space=space.name,
        features=encode.__name__,
        target=target.name,
        unit=target.unit,
        direction=target.direction,
        epochs=epochs,
        source=f"{table.name} {config.dataset}/{config.split}/{config.epochs}",
    )
    notes = {"table_sha256": table.manifest["sha256"], "settings": which}
    features = np.asarray(in_chunks(encode, arch), np.float32)
    # Cells of one function may have the same curve: they are held out together.
    classes = presets_of_searches.function_classes_of(space)
    groups = identify(space, arch) if classes is None else in_chunks(classes, arch)
    return (features, levels.value[complete]), np.asarray(groups), info, notes


def _show(fitted: Fitted, num: int, out: Path) -> None:
    """Prints the agreement with the curves."""
    unit = fitted.surrogate.info.unit
    lines = [
        f"{num} curves; root mean square error over epochs, median and 90 %: "
        f"{np.median(fitted.rmse):.3g} and {np.quantile(fitted.rmse, 0.9):.3g} {unit}"
    ]
    if len(fitted.residual):
        error = np.sqrt((fitted.residual**2).mean(1))
        lines.append(
            f"{len(error)} curves that were held out: {np.median(error):.3g} and "
            f"{np.quantile(error, 0.9):.3g} {unit}"
        )
    size = out.stat().st_size / 2**20
    lines.append(f"{out}: {size:.2f} MiB")
    for line in lines:
        Console().print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
