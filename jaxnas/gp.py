"""Gaussian-process regression on padded arrays: posterior, evidence and fit.

Arrays have a static capacity n, and a mask `seen` (n,) says which rows hold an
observation. An unseen row becomes a unit row of the covariance with target 0, which
changes neither the posterior nor the likelihood of the seen rows.

Scores become targets by `fit_standardisation` and `standardise`, `fit` finds the
hyperparameters, and `posterior` predicts; `predictors.pool_gp` adds one row at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxnas.batching import map_each
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_shapes

# correlation(distances (c, ...), scales (c,)) -> (...): 1 at distance 0.
Correlation = Callable[[Array, Array], Array]
T = TypeVar("T")


class Posterior(NamedTuple):
    """A joint normal distribution of the latent function at m points."""

    mean: Array  # (m,)
    cov: Array  # (m, m)


class Hyperparameters(NamedTuple):
    """Hyperparameters; the covariance of targets is amplitude (R + noise I)."""

    scales: Array  # (c,) length-scales, in the unit of each part of the distance
    noise: Array  # () noise variance as a fraction of the amplitude
    amplitude: Array  # () prior variance


class HyperparameterPrior(NamedTuple):
    """Independent log-normal priors; that of the amplitude is flat."""

    scales: Array  # (c,) medians of the length-scales
    spread: Array  # () standard deviation of log length-scale
    noise: Array  # () median of the noise fraction
    noise_spread: Array  # () standard deviation of log noise


class Standardisation(NamedTuple):
    """A map from scores to targets: z = (max(score, floor) - mean) / std."""

    floor: Array  # () score that lower ones, and failures, are raised to
    mean: Array  # () of the raised scores
    std: Array  # () of the raised scores, or 1 where they do not vary


def padded_covariance(gram: Array, seen: Array, noise: Array) -> Array:
    """Adds noise to the seen rows of a covariance and makes the others unit rows.

    Args:
      gram: (n, n) prior covariance; unseen rows hold anything finite.
      seen: (n,) bool, rows that hold an observation.
      noise: () variance of the targets' noise.

    Returns: (n, n), positive definite if the seen block is.
    """
    both = seen[:, None] & seen[None]
    return jnp.where(both, gram, 0.0) + jnp.diag(jnp.where(seen, noise, 1.0))


@full_precision
def posterior(
    gram: Array, cross: Array, prior: Array, y: Array, seen: Array, noise: Array
) -> Posterior:
    """Conditions a zero-mean process (Rasmussen and Williams, 2006, eq. 2.23-2.24).

    Args:
      gram: (n, n) prior covariance of the observations; unseen rows hold anything finite.
      cross: (n, m) prior covariance of observations and points.
      prior: (m, m) prior covariance of the points.
      y: (n,) targets.
      seen: (n,) bool, rows that hold an observation.
      noise: () variance of the targets' noise.

    Returns: mean (m,) and covariance (m, m) of the latent function at the points.
    Raises: `ValueError` for shapes that do not fit together.
    """
    check_shapes(
        gram=(gram, "nn"),
        cross=(cross, "nm"),
        prior=(prior, "mm"),
        y=(y, "n"),
        seen=(seen, "n"),
        noise=(noise, ""),
    )
    factor = jnp.linalg.cholesky(padded_covariance(gram, seen, noise))
    white = solve_triangular(factor, jnp.where(seen[:, None], cross, 0.0), lower=True)
    target = solve_triangular(factor, jnp.where(seen, y, 0.0), lower=True)
    return Posterior(white.T @ target, prior - white.T @ white)


def condition(
    mean: Array, cov: Array, index: Array, value: Array, noise: Array
) -> Posterior:
    """Conditions a joint normal on one noisy value of it, in O(m^2).

    Args:
      mean: (m,) of the latent function.
      cov: (m, m) of the latent function.
      index: () int32, the point that was observed.
      value: () observed target.
      noise: () variance of its noise.

    Returns: mean (m,) and covariance (m, m) after the observation.
    """
    gain = cov[index] / jnp.maximum(cov[index, index] + noise, 1e-12)
    return Posterior(
        mean + gain * (value - mean[index]), cov - jnp.outer(gain, cov[index])
    )


@full_precision
def log_marginal(gram: Array, y: Array, seen: Array, noise: Array) -> Array:
    """Log marginal likelihood of the seen rows (Rasmussen and Williams, 2006, eq. 2.30).

    Args:
      gram: (n, n) prior covariance; unseen rows hold anything finite.
      y: (n,) targets.
      seen: (n,) bool, rows that hold an observation.
      noise: () variance added to the diagonal.

    Returns: () log density.
    Raises: `ValueError` for shapes that do not fit together.
    """
    check_shapes(gram=(gram, "nn"), y=(y, "n"), seen=(seen, "n"), noise=(noise, ""))
    factor = jnp.linalg.cholesky(padded_covariance(gram, seen, noise))
    y = jnp.where(seen, y, 0.0)
    quadratic = y @ cho_solve((factor, True), y)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * (quadratic + log_det + seen.sum() * jnp.log(2 * jnp.pi))


@full_precision
def profile_log_marginal(
    gram: Array, y: Array, seen: Array, noise: Array
) -> tuple[Array, Array]:
    """Maximises `log_marginal` over the amplitude, in closed form.

    The covariance A (R + noise I) of N targets y has its largest likelihood at
    A = y' (R + noise I)^-1 y / N.

    Args:
      gram: (n, n) prior correlation R; unseen rows hold anything finite.
      y: (n,) targets.
      seen: (n,) bool, rows that hold an observation.
      noise: () noise variance as a fraction of the amplitude.

    Returns: the profile log likelihood () without constants, and the amplitude ().
    """
    factor = jnp.linalg.cholesky(padded_covariance(gram, seen, noise))
    white = solve_triangular(factor, jnp.where(seen, y, 0.0), lower=True)
    num = seen.sum()
    # Bounded below: without seen rows, or with all targets 0, it would be 0.
    amplitude = jnp.maximum(white @ white / jnp.maximum(num, 1), 1e-6)
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * num * jnp.log(amplitude) - log_det, amplitude


def fit(
    correlation: Correlation,
    distances: Array,
    y: Array,
    seen: Array,
    prior: HyperparameterPrior,
) -> Hyperparameters:
    """Maximises the posterior density of the hyperparameters over a fixed design.

    A low-discrepancy design of 32 points under the prior, then the same design at 0.4
    times the width around the best of them. This is as fast as a few gradient steps, and
    it can neither get stuck nor diverge.

    Args:
      correlation: correlation function of distances and length-scales.
      distances: (c, n, n) by part of the distance; unseen rows hold anything finite.
      y: (n,) standardised targets.
      seen: (n,) bool, rows that hold an observation.
      prior: medians and spreads, which also centre and scale the design.

    Returns: the most probable hyperparameters of the design; the amplitude is the best
      one for them.
    """
    medians = jnp.append(prior.scales, prior.noise)
    spread = jnp.stack([prior.spread] * distances.shape[0] + [prior.noise_spread])

    def evidence(value: Array) -> tuple[Array, Array]:
        gram = correlation(distances, value[:-1])
        return profile_log_marginal(gram, y, seen, value[-1])

    value, amplitude = most_probable(evidence, medians, spread)
    return Hyperparameters(value[:-1], value[-1], amplitude)


def most_probable(
    evidence: Callable[[Array], tuple[Array, T]], medians: Array, spread: Array
) -> tuple[Array, T]:
    """Maximises evidence times independent log-normal priors over the design of `fit`.

    Args:
      evidence: hyperparameters (d,) -> their log likelihood () and further arrays.
      medians: (d,) of the priors, positive.
      spread: (d,) standard deviations of the logarithms.

    Returns: the most probable hyperparameters (d,) of the design, and the further arrays
      of `evidence` there.
    """
    num = medians.shape[0]
    design = jnp.asarray(normal_design(32, num))

    def log_posterior(deviation: Array) -> tuple[Array, T]:
        value, further = evidence(medians * jnp.exp(spread * deviation))
        value = value - 0.5 * jnp.sum(deviation**2)
        return jnp.where(jnp.isfinite(value), value, -jnp.inf), further

    def narrow(centre: Array, width: Array) -> tuple[Array, T]:
        points = jnp.concatenate([centre[None], centre + width * design])
        value, further = map_each(log_posterior, points)
        best = jnp.argmax(value)
        return points[best], jax.tree.map(lambda x: x[best], further)

    widths = jnp.array([1.0, 0.4])
    deviation, further = jax.lax.scan(narrow, jnp.zeros(num), widths)
    last = jax.tree.map(lambda x: x[-1], further)
    return medians * jnp.exp(spread * deviation), last


def low_discrepancy(num: int, dimension: int) -> np.ndarray:
    """(num, dimension) points that fill the unit cube evenly: Roberts' R_d sequence."""
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dimension + 1))
    steps = root ** -np.arange(1.0, dimension + 1)
    return (0.5 + np.arange(1, num + 1)[:, None] * steps) % 1


def normal_design(num: int, dimension: int) -> np.ndarray:
    """(num, dimension) float32 normal quantiles of low-discrepancy points."""
    uniform = low_discrepancy(num, dimension)
    # Logistic approximation of the normal quantile: a design needs no more digits.
    return (np.log(uniform / (1 - uniform)) / 1.702).astype(np.float32)


def fit_standardisation(
    score: Array, seen: Array, clip_below: float = jnp.inf
) -> Standardisation:
    """Fits floor, mean and standard deviation to the seen scores.

    Networks that failed to train would otherwise dominate the variance and make good
    networks look alike: scores in the lower tail are raised to a floor.

    Args:
      score: (n,), NaN for a failed evaluation.
      seen: (n,) bool, rows that hold an evaluation.
      clip_below: the floor is the median minus `clip_below` times the distance from the
        median to the upper quartile. Infinite: the lowest score.

    Returns: the standardisation; the identity where there is no finite seen score.
    """
    used = seen & jnp.isfinite(score)
    num = jnp.maximum(used.sum(), 1)
    ordered = jnp.sort(jnp.where(used, score, jnp.inf))
    quantile = lambda share: ordered[((num - 1) * share).astype(jnp.int32)]  # noqa: E731
    median, upper = quantile(0.5), quantile(0.75)
    lowest = jnp.where(used, score, jnp.inf).min()
    floor = jnp.where(
        jnp.isinf(clip_below), lowest, median - clip_below * (upper - median)
    )
    floor = jnp.where(used.any(), floor, 0.0)
    raised = jnp.where(used, jnp.maximum(score, floor), 0.0)
    mean = raised.sum() / num
    deviation = jnp.where(used, raised - mean, 0.0)
    # Squares of huge scores overflow and those of tiny ones vanish, so the deviations are
    # scaled first, by a power of two, which rounds nothing.
    largest = jnp.abs(deviation).max()
    unit = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1])
    std = unit * jnp.sqrt(jnp.sum((deviation / unit) ** 2) / num)
    # A deviation within rounding of the scores, or no score at all: nothing to scale.
    rounding = 8 * jnp.finfo(std.dtype).eps * jnp.abs(raised).max()
    return Standardisation(floor, mean, jnp.where(std > rounding, std, 1.0))


def standardise(standardisation: Standardisation, score: Array) -> Array:
    """Targets (...) of scores (...); a failed evaluation (NaN) counts as the floor."""
    score = jnp.where(jnp.isfinite(score), score, standardisation.floor)
    raised = jnp.maximum(score, standardisation.floor)
    return (raised - standardisation.mean) / standardisation.std
