"""A Gaussian process whose prior mean is the scores of other tasks.

Cells that are good on one dataset are good on others. Scores of all candidates on k other
tasks, measured or predicted, become the mean of the process: in units of
`task_units`, a cell's score y on the searched task is

    unit y + offset = mean over tasks + residual,   residual ~ GP(0, amplitude R),

where only the residual is learned. The unit and the offset are unknown, as accuracies on
another dataset are on another scale; `fit` estimates them together with the
hyperparameters of the residual. As the prior of the amplitude is relative to the mean, few
observations suffice, also where they are all of good cells.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.precision import full_precision
from jaxnas.types import Array

# Lowest score in units of `task_units`: how badly a network failed to train on another
# task carries no information.
_LOWEST = -2.0
# Prior of the residual, in the same units: median and log-normal spread of its variance,
# and median of the noise fraction.
_AMPLITUDE, _AMPLITUDE_SPREAD, _NOISE = 0.25, 2.0, 0.1
# Median length-scales of the residual, in units of those of a process with mean 0.
_SCALE = 2.0
# Median length-scale of the mean distance between scores, in the same units.
_SCORE_SCALE = 1.0
# Candidates of largest prior mean that are smoothed, and by how much.
_SMOOTHED, _SHRINKAGE = 1000, 0.3


class TargetScale(NamedTuple):
    """The map z -> unit z + offset of targets to units of the prior mean."""

    unit: Array  # (), positive
    offset: Array  # ()


def task_units(scores: np.ndarray) -> np.ndarray:
    """Scores of each task, in distances from its median to its upper quartile.

    Unlike ranks, they keep how far apart the best architectures are.

    Args:
      scores: (n, k), one task a column, higher is better.

    Returns: (n, k) float64, divided by k: their sum, the prior mean, is 0 where all tasks
      are at their median and 1 where all are at their upper quartile. Each is at least -2.
    Raises: `ValueError` for scores that are not finite, and for a task whose median and
      upper quartile are equal.
    """
    scores = np.asarray(scores, np.float64)
    missing = np.count_nonzero(~np.isfinite(scores).all(1))
    if missing:
        raise ValueError(
            f"{missing} of {len(scores)} candidates have no finite prior scores: wanted "
            "scores of all of them"
        )
    median, upper = np.quantile(scores, (0.5, 0.75), axis=0)
    if not (upper > median).all():
        task = np.argmin(upper > median)
        raise ValueError(
            f"column {task} of the prior scores has the median {median[task]:g} and the "
            "same upper quartile: wanted scores that order the candidates"
        )
    units = (scores - median) / (upper - median)
    return np.maximum(units, _LOWEST) / scores.shape[1]


def from_scores(
    units: np.ndarray, embeddings: gram.Embeddings, prior: gp.HyperparameterPrior
) -> tuple[gp.HyperparameterPrior, Array]:
    """Prior of a process whose mean is the scores of other tasks.

    Args:
      units: (n, k) from `task_units`; the last part of `embeddings` that is an array.
      embeddings: of a pool of n architectures.
      prior: of a process with mean 0 on the same embeddings.

    Returns: the prior of the residual's hyperparameters, and the prior mean (u,) float32
      of each column.
    """
    is_matrix = [isinstance(p, gram.DistanceMatrix) for p in embeddings.parts]
    part = is_matrix.count(False) - 1
    first = np.unique(embeddings.column, return_index=True)[1]
    scales = _SCALE * prior.scales
    # Without the distance between the scores, which the mean itself would explain.
    mean = _smooth(units.sum(1)[first], embeddings, scales.at[part].set(jnp.inf))
    scales = scales.at[part].set(_SCORE_SCALE)
    noise = jnp.full_like(prior.noise, _NOISE)
    return prior._replace(scales=scales, noise=noise), jnp.asarray(mean, jnp.float32)


def _smooth(mean: np.ndarray, embeddings: gram.Embeddings, scales: Array) -> np.ndarray:
    """Shrinks the largest prior means towards what their neighbours predict.

    The score of one training is high in part by chance. A Gaussian process on the best
    1,000 columns predicts each of them from the others (Rasmussen and Williams, 2006,
    eq. 5.12), and 0.3 of the difference is taken off.

    Args:
      mean: (u,) by column.
      embeddings: with u columns.
      scales: (c,) length-scales.

    Returns: (u,) float64.
    """
    best = np.argsort(-mean, kind="stable")[:_SMOOTHED]
    distances = gram.distances_between(embeddings, jnp.asarray(best))
    correlation = np.asarray(gram.laplace(distances, scales), np.float64)
    inverse = np.linalg.inv(correlation + _NOISE * np.eye(len(best)))
    deviation = mean[best] - mean[best].mean()
    mean = np.array(mean, np.float64)
    mean[best] -= _SHRINKAGE * (inverse @ deviation) / np.diag(inverse)
    return mean


def fit(
    correlation: gp.Correlation,
    distances: Array,
    z: Array,
    mean: Array,
    seen: Array,
    prior: gp.HyperparameterPrior,
) -> tuple[gp.Hyperparameters, TargetScale]:
    """Maximises the posterior density of hyperparameters, unit and offset.

    The prior of log unit and offset is flat. Given the other hyperparameters, the offset
    is integrated out and the best unit has a closed form, see `profile_scale`.

    Args:
      correlation: correlation function of distances and length-scales.
      distances: (c, n, n) by part of the distance; unseen rows hold anything finite.
      z: (n,) targets.
      mean: (n,) prior mean of the observations.
      seen: (n,) bool, rows that hold an observation.
      prior: from `from_scores`.

    Returns: the hyperparameters of the residual, and the scale of the targets.
    """
    amplitude = jnp.full_like(prior.noise, _AMPLITUDE)
    medians = jnp.append(prior.scales, jnp.stack([prior.noise, amplitude]))
    spreads = [prior.spread] * distances.shape[0] + [prior.noise_spread]
    spread = jnp.stack([*spreads, jnp.full_like(prior.noise, _AMPLITUDE_SPREAD)])

    def evidence(value: Array) -> tuple[Array, TargetScale]:
        scales, noise, amplitude = value[:-2], value[-2], value[-1]
        gram = amplitude * correlation(distances, scales)
        return profile_scale(gram, z, mean, seen, amplitude * noise)

    value, scale = gp.most_probable(evidence, medians, spread)
    return gp.Hyperparameters(value[:-2], value[-2], value[-1]), scale


@full_precision
def profile_scale(
    gram: Array, z: Array, mean: Array, seen: Array, noise: Array
) -> tuple[Array, TargetScale]:
    """Maximises the likelihood of targets whose unit and offset are unknown.

    unit z + offset has the given mean and the covariance C = gram + noise I. With a flat
    prior the offset is integrated out. With P the projection C^-1 - C^-1 1 1' C^-1 /
    (1' C^-1 1), a = z' P z, b = z' P mean and N targets, the log likelihood in the unit is
    (N - 1) log unit - (a unit^2 - 2 b unit) / 2 and constants, largest at
    unit = (b + sqrt(b^2 + 4 a (N - 1))) / 2 a.

    Args:
      gram: (n, n) prior covariance; unseen rows hold anything finite.
      z: (n,) targets.
      mean: (n,) their prior mean.
      seen: (n,) bool, rows that hold an observation.
      noise: () variance of the targets' noise.

    Returns: the log likelihood () without constants, and the scale; the unit is 1 where
      the targets do not vary.
    """
    factor = jnp.linalg.cholesky(gp.padded_covariance(gram, seen, noise))
    columns = jnp.where(seen[:, None], jnp.stack([jnp.ones_like(z), z, mean], 1), 0.0)
    one, z, mean = solve_triangular(factor, columns, lower=True).T
    size = one @ one
    centred_z, centred_mean = (x - one * (one @ x) / size for x in (z, mean))
    a, b, free = centred_z @ centred_z, centred_z @ centred_mean, seen.sum() - 1
    varies = a > 1e-9
    root = jnp.sqrt(b**2 + 4 * a * free)
    # Of the two forms of the root, the one in which no digits cancel.
    unit = jnp.where(b > 0, (b + root) / (2 * a), 2 * free / (root - b))
    unit = jnp.where(varies, unit, 1.0)
    offset = one @ (mean - unit * z) / size
    residual = unit * centred_z - centred_mean
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor))) + 0.5 * jnp.log(size)
    evidence = free * jnp.log(unit) - 0.5 * residual @ residual - log_det
    return evidence, TargetScale(unit, offset)


def rescale(
    standardisation: gp.Standardisation, scale: TargetScale
) -> gp.Standardisation:
    """The standardisation that ends in units of the prior mean."""
    std = standardisation.std / scale.unit
    return standardisation._replace(
        mean=standardisation.mean - scale.offset * std, std=std
    )
