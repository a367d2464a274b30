"""Fits a learning-curve surrogate to a table with curves, and writes it as one file.

    python -m experiments.fit_surrogate --benchmark fashion-curves --out surrogate.npz
    python -m experiments.fit_surrogate --benchmark mine.csv --test-share 0.1 --out mine.npz
    python -m experiments.fit_surrogate --benchmark nb201.npz --dataset cifar10
        --split valid --epochs 200 --preset release --out nb201.npz

A CSV file has a line for each training, see `jaxnas.benchmarks.importers.curve_csv`. Every
training of the table is a curve: seeds of one architecture are curves of their own, and
those without all epochs are left out. Prints how well the surrogate agrees with the curves
that it was fitted on, with those of them that were held out for its noise, and with those
that --test-share leaves out. The file holds the rows of the three, "train", "held_out" and
"test", as `curves.table_curves.read` orders the curves.

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
    splits,
    surrogate_files,
)
from jaxnas.curves import regress_boosting as boosting
from jaxnas.curves.surrogate import Surrogate, predict
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
    test_share: float = 0.0
    """Share of the architectures that a seeded split leaves out, to test on; 0: none."""
    seed: int = 0
    """Seed of the split and of the fit."""
    out: str = "surrogate.npz"
    """The file to write."""


def main(config: Config) -> Fitted:
    """Fits the surrogate, writes it, and prints how well it agrees.

    Raises: `ValueError` for bad input, before anything is fitted or written.
    """
    cli.seed(config, "seed")
    if config.rounds is not None:
        cli.positive(config, "rounds")
        cli.at_most(config, rounds=1_000_000)
    if not 0 <= config.test_share < 1:
        raise ValueError(
            f"--test-share must be from 0 to below 1, not {config.test_share}"
        )
    out = Path(config.out)
    if not config.out or out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {config.out!r} is not a file in an existing folder")
    curves = table_curves.read(
        config.benchmark, config.dataset, config.split, config.epochs
    )
    train, test = _split(config, curves.groups)
    fitted = _fit(config, table_curves.take(curves, train))
    scores = {
        "held_out": _held_out(curves.value[train], fitted),
        "test": _tested(table_curves.take(curves, test), fitted.surrogate),
    }
    names = ("preset", "rounds", "noise", "test_share", "seed")
    fit = {name: getattr(config, name) for name in names}
    rows = {"train": train, "test": test, "held_out": train[fitted.rows]}
    extra = {name: array.astype(np.int32) for name, array in rows.items()}
    notes = {**curves.notes, "fit": fit, **scores}
    surrogate_files.save(out, fitted.surrogate, extra=extra, notes=notes)
    _show(curves, fitted, scores, out)
    return fitted


def _split(config: Config, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit to and rows to test on, whole groups (n,) in one of them.

    Raises: `ValueError` for a share that leaves fewer than two groups to fit to, or none
      to test on.
    """
    if not config.test_share:
        return np.arange(len(groups)), np.arange(0)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    shares = (1 - config.test_share, config.test_share)
    try:
        train, test = splits.split(key, groups, shares)
    except ValueError as error:
        raise ValueError(f"--test-share {config.test_share}: {error}") from error
    if len(np.unique(groups[train])) < 2:
        raise ValueError(
            f"--test-share {config.test_share} leaves one architecture to fit to: "
            "wanted several"
        )
    return train, test


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


def _held_out(curves: np.ndarray, fitted: Fitted) -> dict[str, float]:
    """Scores of predictions of the training curves (n, E) that were held out."""
    true = curves[fitted.rows]
    return _scores(true, true - fitted.residual)


def _tested(curves: Curves, surrogate: Surrogate) -> dict[str, float]:
    """Scores of predictions of the test curves; none of none."""
    if not len(curves.value):
        return {}
    return _scores(curves.value, np.asarray(predict(surrogate, curves.features)))


def _scores(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Correlations and errors of n predicted curves (n, E), two or more, and n."""
    if len(true) < 2:
        return {"curves": len(true)}
    scores = accuracy.curve_scores(true, predicted, ("kendall", "rmse"))
    # A correlation without variation is NaN, which JSON does not have.
    finite = {name: value for name, value in scores.items() if np.isfinite(value)}
    return {"curves": len(true), **finite}


def _show(
    curves: Curves, fitted: Fitted, scores: dict[str, dict[str, float]], out: Path
) -> None:
    """Prints the agreement with the curves."""
    unit = fitted.surrogate.info.unit
    lines = [
        f"{len(fitted.rmse)} curves; root mean square error over epochs, median and "
        f"90 %: {np.median(fitted.rmse):.3g} and {np.quantile(fitted.rmse, 0.9):.3g} "
        f"{unit}"
    ]
    if curves.incomplete:
        lines.append(f"{curves.incomplete} trainings lack epochs: they are left out")
    kinds = {"held_out": "that were held out", "test": "of test architectures"}
    for name, kind in kinds.items():
        if scores[name]:
            lines.append(_score_line(scores[name], kind, unit))
    lines.append(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")
    for line in lines:
        Console().print(line, highlight=False, soft_wrap=True)


def _score_line(scores: dict[str, float], kind: str, unit: str) -> str:
    if "rmse" not in scores:
        return f"{scores['curves']} curve {kind}: scores need two"
    average, final = (
        f"{scores[name]:.3f}" if name in scores else "undefined"
        for name in ("kendall", "final_kendall")
    )
    return (
        f"{scores['curves']} curves {kind}: root mean square error "
        f"{scores['rmse']:.3g} {unit}, of the last epoch {scores['final_rmse']:.3g}; "
        f"Kendall's tau {average}, of the last epoch {final}"
    )


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
