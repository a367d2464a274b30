"""Unfinished trainings of TaskSet, and distributions of their last values.

Values y = 1 - clip((loss - least) / (median first loss - least), 0, 1) are in [0, 1], a
quarter of them exactly 0. Distributions are therefore probabilities of BARS bars of equal
width, as of FT-PFN (Rakotoarison et al., 2024): mass outside of [0, 1] is that of the
nearest bar, and the log-density is that of the bar.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.curves.sets import read_arrays
from jaxnas import gp
from jaxnas.curves.extrapolate import bars, pfn
from jaxnas.types import Array

NUM_TASKS, CONFIGURATIONS, POINTS, BARS = 6, 100, 400, 1000
EDGES = np.linspace(0, 1, BARS + 1)
# Values are predicted as log(y + SHIFT), so that deviations grow with values.
SHIFT = 0.003
# Deviations of the normal distributions around the last value that are mixed.
SCALES = (0.0005, 0.003, 0.02, 0.1)


class Draw(NamedTuple):
    """CONFIGURATIONS trainings of one task with random prefixes."""

    curves: np.ndarray  # (n, e) complete
    lengths: np.ndarray  # (n,) number of observed epochs, from 1 to e
    features: np.ndarray  # (n, f) normal scores of the hyperparameters

    @property
    def unfinished(self) -> np.ndarray:
        """Rows (m,) whose last value is not observed."""
        return np.flatnonzero(self.lengths < self.curves.shape[1])

    @property
    def last(self) -> np.ndarray:
        """Values (m,) of these at the last epoch."""
        return self.curves[self.unfinished, -1]


# Probabilities (m, BARS) of the last value of each unfinished training.
Predict = Callable[[Draw], np.ndarray]


@functools.cache
def task(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Curves (n, e) of a task, and normal scores (n, f) of their hyperparameters."""
    names = [f"t{number:02}_{what}" for what in ("valid_loss", "hp")]
    loss, settings = (np.asarray(a, float) for a in read_arrays(
        "curves_taskset.npz", *names
    ).values())  # fmt: skip
    least, first = np.nanmin(loss), np.nanmedian(loss[:, 0])
    curves = 1 - np.clip((loss - least) / (first - least), 0, 1)
    ranks = stats.rankdata(settings, axis=0)
    scores = stats.norm.ppf((ranks - 0.5) / len(settings))
    return np.where(np.isnan(loss), 0.0, curves), scores


def draw(number: int, seed: int) -> Draw:
    """Draws configurations of a task, and how far each is trained.

    Each has one epoch at least; the others of POINTS fall on configurations by weights of
    a symmetric Dirichlet distribution, whose concentration is log-uniform between 0.01
    (few long trainings) and 10 (many of like length).
    """
    rng = np.random.default_rng((number, seed))
    curves, features = task(number)
    rows = rng.choice(len(curves), CONFIGURATIONS, replace=False)
    epochs = curves.shape[1]
    weights = rng.dirichlet(np.full(CONFIGURATIONS, 10 ** rng.uniform(-2, 1))) + 1e-9
    lengths = np.ones(CONFIGURATIONS, int)
    while (missing := POINTS - lengths.sum()) > 0:
        open_weights = np.where(lengths < epochs, weights, 0)
        extra = rng.multinomial(missing, open_weights / open_weights.sum())
        lengths = np.minimum(lengths + extra, epochs)
    return Draw(curves[rows], lengths, features[rows])


def scores(probabilities: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log-densities (m,), and squared errors (m,) of the means.

    Args:
      probabilities: (m, BARS).
      values: (m,) in [0, 1].
    """
    bar = np.minimum((values * BARS).astype(int), BARS - 1)
    density = BARS * probabilities[np.arange(len(values)), bar]
    means = probabilities @ ((EDGES[1:] + EDGES[:-1]) / 2)
    return np.log(density), (means - values) ** 2


def of_normals(mean: np.ndarray, std: np.ndarray, shift: float = 0) -> np.ndarray:
    """Probabilities (m, BARS) of normal distributions of y, or of log(y + shift)."""
    edges = np.log(EDGES[1:-1] + shift) if shift else EDGES[1:-1]
    below = stats.norm.cdf(edges, np.asarray(mean)[:, None], np.asarray(std)[:, None])
    below = np.pad(below, ((0, 0), (1, 1)), constant_values=(0, 1))
    # A little everywhere: a value is never impossible.
    return (np.diff(below) + 1e-9) / (1 + 1e-9 * BARS)


def last_values(sample: Draw) -> np.ndarray:
    """Last observed values (m,) of the unfinished trainings."""
    rows = sample.unfinished
    return sample.curves[rows, sample.lengths[rows] - 1]


def last_value(std: float) -> Predict:
    """A normal distribution around the last observed value."""

    def predict(sample: Draw) -> np.ndarray:
        last = last_values(sample)
        return of_normals(last, np.full(len(last), std))

    return predict


def curve_process(shared: bool, shift: float = SHIFT) -> Predict:
    """A Gaussian process over configurations and epochs.

    Its covariance is amplitude times k1(a, a') k2(t, t'): k1 is a share of a Gaussian
    kernel of the hyperparameters plus an identity, k2 a constant plus an exponential
    kernel of the log epoch. The hyperparameters of all curves are the most probable ones
    of a design.

    Args:
      shared: False: k1 is the identity, a process for each curve.
      shift: predicts log(y + shift); 0: y.
    """

    def predict(sample: Draw) -> np.ndarray:
        n, e = sample.curves.shape
        row, epoch = np.nonzero(np.arange(e) < sample.lengths[:, None])
        rows = sample.unfinished
        y = sample.curves[row, epoch]
        target = np.log(y + shift) if shift else y
        centre, scale = target.mean(), max(target.std(), 1e-6)
        moments = _posterior(
            shared, jnp.asarray(sample.features), row, np.log1p(epoch),
            (target - centre) / scale, _padded(rows, n), np.log(e),
        )  # fmt: skip
        mean, std = (np.asarray(a, float)[: len(rows)] for a in moments)
        return of_normals(centre + scale * mean, scale * std, shift)

    return predict


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (size,), repeated at the end, so that programs are compiled once."""
    return np.resize(rows, size)


@functools.partial(jax.jit, static_argnums=0)
def _posterior(
    shared: bool,
    features: Array,
    row: Array,
    logs: Array,
    target: Array,
    new: Array,
    last: Array,
) -> tuple[Array, Array]:
    """Mean and deviation (m,) of observations at the last epoch.

    Args:
      shared: see `curve_process`.
      features: (n, f) of the configurations.
      row: (p,) configuration of each point.
      logs: (p,) log epoch of each.
      target: (p,) values, of mean 0 and variance 1.
      new: (m,) configurations that are predicted.
      last: () log of the last epoch.
    """
    # Scales of the learning rate and of the others, of the log epoch, odds of the share
    # that features explain and of the constant, odds of the trend, and the noise.
    medians = jnp.array([1.0, 3.0, 1.0, 1.0, 1.0, 0.3, 1e-3])
    spread = jnp.array([0.7, 0.7, 0.7, 1.0, 1.0, 1.0, 1.5])
    square = (features[:, None] - features[None]) ** 2

    def covariance(value: Array, a: tuple, b: tuple) -> Array:
        explained, constant = value[3] / (1 + value[3]), value[4] / (1 + value[4])
        distance = square[..., 0] / value[0] ** 2 + square[..., 1:].mean(-1) / value[1]
        same = jnp.eye(len(features))
        first = explained * jnp.exp(-0.5 * distance) + (1 - explained) * same
        first = first + value[5]
        first = first if shared else same
        gaps = jnp.abs(a[1][:, None] - b[1][None])
        second = constant + (1 - constant) * jnp.exp(-gaps / value[2])
        return first[a[0][:, None], b[0][None]] * second

    points, seen = (row, logs), jnp.ones(len(row), bool)

    def evidence(value: Array) -> tuple[Array, Array]:
        gram = covariance(value, points, points)
        return gp.profile_log_marginal(gram, target, seen, value[-1])

    value, amplitude = gp.most_probable(evidence, medians, spread)
    ends = new, jnp.full(len(new), last)
    gram, cross = (covariance(value, points, other) for other in (points, ends))
    prior = covariance(value, ends, ends)
    found = gp.posterior(gram, cross, prior, target, seen, value[-1])
    variance = jnp.diagonal(found.cov) + value[-1]
    return found.mean, jnp.sqrt(amplitude * jnp.maximum(variance, 1e-9))


def lc_pfn(sample: Draw) -> np.ndarray:
    """The LC-PFN that is part of the library, from each curve alone."""
    model, epochs = _model(), sample.curves.shape[1]
    rows = _padded(sample.unfinished, len(sample.curves))
    # Few widths, so that few programs are compiled: the time grows with the epochs read.
    width = min(epochs, -(-sample.lengths[rows].max() // 16) * 16)
    curves = jnp.asarray(sample.curves[rows, :width], jnp.float32)
    below = _below(model.config, model[1:], curves, sample.lengths[rows], epochs)
    below = np.asarray(below, float)[: len(sample.unfinished)]
    below = np.pad(below, ((0, 0), (1, 1)), constant_values=(0, 1))
    return (np.maximum(np.diff(below), 0) + 1e-9) / (1 + 1e-9 * BARS)


@functools.cache
def _model() -> pfn.Model:
    return pfn.load()


@functools.partial(jax.jit, static_argnums=0)
def _below(
    config: pfn.TransformerConfig,
    params: tuple,
    curves: Array,
    lengths: Array,
    target: Array,
) -> Array:
    """Probabilities (m, BARS - 1) that values at an epoch are below the inner EDGES."""
    model, edges = pfn.Model(config, *params), jnp.asarray(EDGES[1:-1])

    def one(curve: Array, length: Array) -> Array:
        logits = pfn.predict_logits(model, curve, length, target)
        each = jax.vmap(bars.probability_below, (None, None, 0))
        return each(logits, model.borders, edges)

    return jax.vmap(one)(curves, lengths)
