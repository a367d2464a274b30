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

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.curves import table_curves
from experiments.curves.table_curves import Curves
from jaxnas.curves import (
    Fitted,
    accuracy,
    compress,
    fit_surrogate,
    noise,
    presets,
    surrogate_files,
)
from jaxnas.curves import regress_boosting as boosting
from jaxnas.studies import cli


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
    noise: Literal["residuals", "seeds"] = "residuals"
    """Noise of drawn curves: residuals of held-out curves, or differences between
    trainings of one architecture, where the table has several."""
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
    curves = table_curves.read(
        config.benchmark, config.dataset, config.split, config.epochs
    )
    fitted = _fit(config, curves)
    held_out = _held_out(curves, fitted)
    names = ("preset", "rounds", "noise", "seed")
    fit = {name: getattr(config, name) for name in names}
    notes = {**curves.notes, "fit": fit, "held_out": held_out}
    surrogate_files.save(out, fitted.surrogate, notes=notes)
    _show(curves, fitted, held_out, out)
    return fitted


def _fit(config: Config, curves: Curves) -> Fitted:
    """Fits the surrogate, with the noise of `config.noise`."""
    key, key_noise = jax.random.split(jax.random.key(config.seed))
    seeds = config.noise == "seeds"
    between = table_curves.seed_residuals(curves) if seeds else None
    fitted = fit_surrogate(
        key,
        curves.features,
        curves.value,
        info=curves.info,
        groups=curves.groups,
        seconds=curves.seconds,
        folds=_num_folds(curves.groups),
        **_options(config),
    )
    if between is None:
        return fitted
    # A kernel density estimate takes residuals alone.
    drawn = noise.kernel_density()(key_noise, between, between, between)
    surrogate = dataclasses.replace(fitted.surrogate, noise=drawn)
    return fitted._replace(surrogate=surrogate)


def _options(config: Config) -> dict[str, Any]:
    """The keywords of `fit_surrogate` for a preset, and its number of trees if given."""
    options = PRESETS[config.preset]()
    if config.rounds is None:
        return options
    if config.preset == "small":
        return small(config.rounds)
    return {**options, "regressor": boosting.lightgbm(config.rounds, num_threads=1)}


def small(rounds: int = 100) -> dict[str, Any]:
    """Settings of a surrogate of less than a megabyte, without perceptrons.

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


def _num_folds(groups: np.ndarray) -> int:
    """Number of folds for the noise: 10, or the number of architectures if smaller."""
    num = len(np.unique(groups))
    if num < 2:
        raise ValueError(
            "all curves are of one architecture: a surrogate is fitted to several"
        )
    return min(10, num)


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
