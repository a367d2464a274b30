"""Latency prediction on a new device, from a few measurements and from other devices.

A device ranks architectures much like some of the devices that were measured before. Their
latencies are the features of a Gaussian process with a linear kernel, so that a new device
is a priori a random mixture of them (empirical Bayes); they are weighted by how well each
ranks the measured architectures. Single measurements can be far off: the likelihood has
heavy tails. The task is that of HELP (Lee et al., 2021).

    features = device_features(latency)
    predicted = transfer_to_device(features, weights, rows, jnp.log(measured))
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import ranks
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_shapes

# Degrees of freedom of the likelihood and steps of reweighting.
_FREEDOM, _STEPS = 0.5, 8
# Noise variance, and the share of the mean of all devices in the prior variance: models
# whose predictions are averaged, from exact and specific to noisy and general.
_NOISE, _MEAN_SHARE = (0.05, 0.1, 0.3), (0.0, 0.3, 0.7)
# How much the likelihood of the ranks counts in the weight of a device, and how much the
# density of the measurements in that of a model: both come from few numbers.
_RANK_EXPONENT, _MODEL_EXPONENT = 0.3, 0.5
_LARGEST_DEVIATION = 2.5  # standard deviations


class _Fit(NamedTuple):
    """A linear-kernel process that was fitted to m measurements."""

    predicted: Array  # (n,) in units of the targets
    density: Array  # () log density of the measurements, each left out


def device_features(latency: np.ndarray | Array) -> Array:
    """Standardises log latencies by device, without extremes.

    Args:
      latency: (n, s) positive latencies of n architectures on s devices, or of another
        quantity that varies by factors.

    Returns: (n, s) float32, of mean 0 and variance 1; deviations above 2.5 are clipped.
    Raises: `ValueError` for latencies that are not positive and finite.
    """
    latency = np.asarray(latency, np.float64)
    if latency.ndim != 2 or not ((latency > 0) & np.isfinite(latency)).all():
        raise ValueError(
            "latencies of architectures on devices must be (n, s), positive and finite"
        )
    logs = np.log(latency)
    scaled = (logs - logs.mean(0)) / np.maximum(logs.std(0), 1e-9)
    clipped = np.clip(scaled, -_LARGEST_DEVIATION, _LARGEST_DEVIATION)
    return jnp.asarray(clipped, jnp.float32)


@full_precision
def transfer_to_device(
    features: Array, weights: Array, rows: Array, target: Array
) -> Array:
    """Predicts a quantity of all architectures from measurements of m of them.

    Args:
      features: (n, s) of n architectures, one for each device that is known; see
        `device_features`.
      weights: (s,) how much each device counts a priori, such as 1 / 3 for each of three
        batch sizes of one card; 0 leaves a device out.
      rows: (m,) int32, the measured architectures, m from 3 on.
      target: (m,) what was measured, finite; logarithms of latencies.

    Returns: (n,) predictions in units of the target.
    Raises: `ValueError` for shapes that do not fit together, and fewer than three
      measurements.
    """
    check_shapes(
        features=(features, "ns"),
        weights=(weights, "s"),
        rows=(rows, "m"),
        target=(target, "m"),
    )
    if rows.shape[0] < 3:
        raise ValueError(f"wanted three measurements or more, not {rows.shape[0]}")
    prior = weights / weights.sum()
    mean = features @ prior
    mean = mean / jnp.maximum(mean.std(), 1e-6)
    weight = prior * _similarity(features[rows], prior, target)
    specific = features * jnp.sqrt(weight / weight.sum())
    location = jnp.median(target)
    scale = jnp.maximum(target.std(), 1e-6)
    z = (target - location) / scale

    def fit(noise: Array, share: Array) -> _Fit:
        general = jnp.sqrt(share) * mean[:, None]
        phi = jnp.concatenate([jnp.sqrt(1 - share) * specific, general], 1)
        return _robust_fit(phi, rows, z, noise)

    fits = jax.vmap(fit)(jnp.array(_NOISE), jnp.array(_MEAN_SHARE))
    predicted = jax.nn.softmax(_MODEL_EXPONENT * fits.density) @ fits.predicted
    return location + scale * predicted


def _similarity(measured: Array, prior: Array, target: Array) -> Array:
    """How well each device ranks what was measured, as likelihoods (s,) up to a factor.

    A device that correlates with r predicts m standardised targets with a likelihood of
    (1 - r^2)^(-m/2), where r is Spearman's.
    """
    order = jax.vmap(ranks.average_ranks)(jnp.vstack([target, measured.T]))
    order = order - order.mean(1, keepdims=True)
    size = jnp.sqrt(jnp.sum(order**2, 1))
    correlation = order[1:] @ order[0] / jnp.maximum(size[1:] * size[0], 1e-6)
    unexplained = jnp.maximum(1 - jnp.clip(correlation, 0, 1) ** 2, 0.05)
    log_likelihood = -0.5 * len(target) * jnp.log(unexplained)
    best = jnp.where(prior > 0, log_likelihood, -jnp.inf).max()
    return jnp.exp(_RANK_EXPONENT * jnp.minimum(log_likelihood - best, 0))


def _robust_fit(phi: Array, rows: Array, z: Array, noise: Array) -> _Fit:
    """Fits a linear kernel under a Student likelihood, by reweighting.

    The weights follow from leave-one-out residuals (Rasmussen and Williams, 2006, eq.
    5.12), because a single outlier may have a small residual where it is fitted.

    Args:
      phi: (n, f) features of unit prior variance.
      rows: (m,) measured rows of them.
      z: (m,) targets.
      noise: () variance of a target that counts in full.
    """
    gram = phi[rows] @ phi[rows].T

    def solve(variance: Array) -> tuple[Array, Array, Array]:
        """Coefficients (m,), the constant () and the variances (m,) left out."""
        inverse = jnp.linalg.inv(gram + jnp.diag(variance))
        constant = (inverse @ z).sum() / inverse.sum()
        return inverse @ (z - constant), constant, 1 / jnp.diagonal(inverse)

    def reweight(step: int, weight: Array) -> Array:
        del step
        coefficients, _, spread = solve(noise / weight)
        residual = coefficients * spread
        expected = spread - noise / weight + noise
        return (_FREEDOM + 1) / (_FREEDOM + residual**2 / expected)

    weight = jax.lax.fori_loop(0, _STEPS, reweight, jnp.ones_like(z))
    coefficients, constant, _ = solve(noise / weight)
    predicted = constant + phi @ (phi[rows].T @ coefficients)
    unweighted, _, spread = solve(noise + jnp.zeros_like(z))
    return _Fit(predicted, _left_out_density(unweighted * spread, spread))


def _left_out_density(residual: Array, spread: Array) -> Array:
    """Log density () of leave-one-out residuals (m,), Student's with 2 degrees of freedom.

    Args:
      residual: (m,).
      spread: (m,) their variances up to a common factor, which is estimated.
    """
    squared = residual**2 / spread
    # The median of a squared normal variable is 0.455 times its variance.
    amplitude = jnp.maximum(jnp.median(squared) / 0.455, 1e-6)
    tails = 1.5 * jnp.log1p(squared / amplitude / 2)
    return -jnp.sum(tails + 0.5 * jnp.log(spread * amplitude))
