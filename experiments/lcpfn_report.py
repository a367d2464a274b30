"""How well do LC-PFN, and methods without training, predict curves of its prior?

    python -m experiments.lcpfn_report
    python -m experiments.lcpfn_report --models results/half/model --methods wpm

The noisy value at the last of 100 epochs is predicted from the first 10, 20 and 50, and
scored by its log-density, in nats. `wpm` are the weighted parametric families by Laplace
approximation, `mcmc` is a sampler of the same eleven families (Domhan et al., 2015), and
`mcmc-prior` one of the three families that the prior consists of. The samplers get --times
the inference time of the first model, on the same device and the same number of curves.

Writes to --out: means.csv, and the log-densities of every curve, from which the same
command resumes. Other models and methods can be added to the same folder.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.curves import tables
from jaxnas.batching import padded_blocks
from jaxnas.curves.extrapolate import (
    bars,
    families,
    mcmc,
    mixture,
    pfn,
    pfn_network,
    pfn_prior,
)
from jaxnas.io import files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.studies import cli, terminal
from jaxnas.types import Array

EPOCHS = pfn_prior.EPOCHS
SAMPLED = {
    "mcmc": families.ORIGINAL,
    "mcmc-prior": (families.POW3, families.ILOG2, families.JANOSCHEK),
}
METHODS = ("wpm", *SAMPLED)
# Moves of a pilot, by whose time the number of moves is chosen; a fifth is burn-in.
_PILOT = 50


@dataclass(frozen=True)
class Config:
    """Which predictions of how many curves."""

    models: tuple[str, ...] = ()
    """Folders of LC-PFNs; default: the one that is part of the library."""
    methods: tuple[str, ...] = METHODS
    """Methods without training: wpm, mcmc, mcmc-prior."""
    curves: int = 5000
    """Curves of the prior."""
    cuts: tuple[int, ...] = (10, 20, 50)
    """Observed epochs."""
    times: int = 100
    """Inference time of samplers, as a multiple of that of the first model."""
    at_once: int = 500
    """Curves that are predicted together."""
    seed: int = 1
    """Seed of the curves; trainings draw from other keys."""
    out: str = "results/lcpfn_report"
    """Folder for the report."""


class Scores(NamedTuple):
    """Predictions of n curves from one cut."""

    log_density: np.ndarray  # (n,) of the last value
    seconds: np.ndarray  # () of computation, without compilation
    moves: np.ndarray  # () of a sampler, else 0


# (parameters, key, observed epochs (cut,), last value ()) -> log-density ()
Predict = Callable[[Any, Array, Array, Array], Array]


def main(config: Config) -> tables.Rows:
    """Writes the report.

    Returns: its table of means.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "curves", "times", "at_once")
    cli.at_most(config, curves=1_000_000, times=10_000, at_once=100_000)
    cli.seed(config, "seed")
    if config.methods:
        cli.require_names(config.methods, METHODS, "method")
    if not config.cuts or min(config.cuts) < 3 or max(config.cuts) >= EPOCHS:
        raise ValueError(
            f"--cuts must be between 3 and {EPOCHS - 1}, not {config.cuts}"
        )
    models = {_model_name(path): pfn.load(path) for path in config.models}
    if len(models) < len(config.models):
        raise ValueError(f"--models have equal names: {', '.join(config.models)}")
    if taken := {*models} & {*METHODS}:
        raise ValueError(
            f"--models: rename the folder {', '.join(taken)}, the name of a method"
        )
    models = models or {pfn.SHIPPED: pfn.load()}
    identity = {n: getattr(config, n) for n in ("curves", "times", "at_once", "seed")}
    identity |= {"driver": "lcpfn_report", "version": 1}
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    predict = functools.partial(_predict, config, folder, _curves(config, folder))
    results = {}
    for name, model in models.items():
        choose = functools.partial(_trained, model)
        labels = {"model": array_digest(*jax.tree.leaves(model[1:]))}
        results[name] = {cut: predict(name, cut, choose, labels) for cut in config.cuts}
    first = next(iter(results.values()))
    for name in config.methods:
        results[name] = {}
        for cut in config.cuts:
            limit = config.times * float(first[cut].seconds)
            choose = functools.partial(_untrained, config, name, limit)
            results[name][cut] = predict(name, cut, choose, {})
    header, rows = _means(results)
    files.write_csv(folder.path / "means.csv", header, tables.rounded(rows))
    lines = tables.formatted((header, rows))
    terminal.show_rows(Console(), *lines, "Log-density of the last value")
    return header, rows


def _model_name(path: str) -> str:
    """The folder of a checkpoint, without the `model` of `train_lcpfn`."""
    full = Path(path).resolve()
    own, parent = full.name, full.parent.name
    return parent if own == "model" and parent else own


def _curves(config: Config, folder: run_folder.RunFolder) -> np.ndarray:
    """The curves (n, EPOCHS) of a folder, drawn if it has none.

    They are kept because devices round differently: a candidate at the edge of the prior
    would be accepted on one only.
    """
    try:
        return run_folder.load_piece(folder, "curves")["noisy"]
    except ValueError:
        draw = jax.jit(pfn_prior.sample_prior, static_argnums=1)
        curves = np.asarray(draw(jax.random.key(config.seed), config.curves).noisy)
        run_folder.save_piece(folder, "curves", {"noisy": curves})
        return curves


def _predict(
    config: Config,
    folder: run_folder.RunFolder,
    curves: np.ndarray,
    name: str,
    cut: int,
    choose: Callable[[np.ndarray], tuple[Predict, Any, int]],
    labels: Mapping[str, str],
) -> Scores:
    """Predictions by one method from one cut, computed unless the folder has them.

    Args:
      config: of the report.
      folder: with its results.
      curves: (n, EPOCHS).
      name: of the method.
      cut: number of observed epochs.
      choose: observed epochs (n, cut) -> what predicts from them, its parameters, and its
        moves.
      labels: of the results, besides the curves.
    """
    piece = f"scores/{name}-{cut}"
    labels = dict(labels) | {"curves": array_digest(curves)}
    try:
        return Scores(**run_folder.load_piece(folder, piece, labels))
    except ValueError:
        given = curves[:, :cut]
        predict, params, moves = choose(given)
        result = _timed(config, predict, params, (given, curves[:, -1]))
        scores = Scores(*map(np.asarray, (*result, moves)))
        run_folder.save_piece(folder, piece, scores._asdict(), labels)
        return scores


def _timed(
    config: Config, predict: Predict, params: Any, curves: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, float]:
    """Log-densities (n,), and the seconds that they take once compiled.

    Args:
      config: of the report.
      predict: for one curve.
      params: its parameters.
      curves: observed epochs (n, cut), and last values (n,).
    """
    num = len(curves[0])
    padded = padded_blocks((np.arange(num), *curves), config.at_once)
    blocks = list(zip(*padded, strict=True))
    compiled = _for_blocks(predict).lower(params, *blocks[0]).compile()
    begin = time.perf_counter()
    densities = [compiled(params, *block) for block in blocks]
    jax.block_until_ready(densities)
    seconds = time.perf_counter() - begin
    return np.concatenate(densities)[:num].astype(float), seconds


@functools.cache
def _for_blocks(predict: Predict) -> Any:
    """`predict` for blocks of curves, whose keys are by number; one for all cuts."""

    def numbered(params: Any, number: Array, curve: Array, value: Array) -> Array:
        return predict(params, jax.random.key(number), curve, value)

    return jax.jit(jax.vmap(numbered, (None, 0, 0, 0)))


def _trained(model: pfn.Model, given: np.ndarray) -> tuple[Predict, Any, int]:
    """Prediction by an LC-PFN; models of one size share a program."""
    del given
    return _by_model(model.config), model[1:], 0


@functools.cache
def _by_model(config: pfn_network.TransformerConfig) -> Predict:
    def predict(params: Any, key: Array, curve: Array, value: Array) -> Array:
        del key
        model, end = pfn.Model(config, *params), jnp.asarray(EPOCHS)
        logits = pfn.predict_logits(model, curve, jnp.asarray(len(curve)), end)
        return bars.log_density(logits, model.borders, value)

    return predict


def _untrained(
    config: Config, name: str, limit: float, given: np.ndarray
) -> tuple[Predict, None, int]:
    """Prediction without a trained model.

    Args:
      config: of the report.
      name: of METHODS.
      limit: seconds that a sampler may take for the curves.
      given: (n, cut) observed epochs, for the pilot.
    """
    if name not in SAMPLED:
        return _by_mixture, None, 0
    pilot = given[: config.at_once]
    curves = pilot, np.zeros(len(pilot))
    each = _timed(config, _by_sampling(name, _PILOT), None, curves)[1] / _PILOT
    share = len(pilot) / len(given)
    moves = 50 * max(1, round(limit * share / each / 50))
    return _by_sampling(name, moves), None, moves


def _by_mixture(params: None, key: Array, curve: Array, value: Array) -> Array:
    del params, key
    mixtures = mixture.predict_mixture(curve[None], EPOCHS)
    one = jax.tree.map(lambda part: part[0], mixtures)
    return mixture.log_density(one, value)


@functools.cache
def _by_sampling(name: str, moves: int) -> Predict:
    def predict(params: None, key: Array, curve: Array, value: Array) -> Array:
        del params
        sizes = dict(steps=moves, burn_in=moves // 5)
        draws = mcmc.sample_target(key, curve, EPOCHS, SAMPLED[name], **sizes)
        return mcmc.log_density(draws, value)

    return predict


def _means(results: Mapping[str, Mapping[int, Scores]]) -> tables.Rows:
    """Means over the curves, and differences to the first model on the same ones."""
    header = ["method", "cut", "log_density", "error", "median", "difference"]
    header += ["difference_error", "seconds", "moves"]
    first, rows = next(iter(results.values())), []
    for name, by_cut in results.items():
        for cut, scores in by_cut.items():
            values = scores.log_density
            gap, gap_error = tables.difference(values, first[cut].log_density)
            error = values.std(ddof=1) / len(values) ** 0.5
            means = [values.mean(), error, np.median(values), gap, gap_error]
            times = [float(scores.seconds), int(scores.moves)]
            rows.append([name, cut, *map(float, means), *times])
    return [*header], rows


if __name__ == "__main__":
    cli.command(main, Config)
