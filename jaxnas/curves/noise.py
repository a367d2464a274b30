"""Noise of learning curves: what a prediction leaves of a curve that was not seen.

A model is fitted on residuals (m, E), held-out curves minus their predictions, and draws
noise (E,) that is added to a prediction. The papers' residuals are those of the compression
alone; with the whole predictor's, draws can move the level of a curve too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# Modes of the covariance below this share of the largest are rounding.
_RANK = 1e-10


class StdNoise(NamedTuple):
    """Independent normal noise at each epoch."""

    std: Array  # (E,)


class KdeNoise(NamedTuple):
    """A kernel density estimate of m residuals."""

    residual: Array  # (m, E)
    # (q, E), the kernel's bandwidth times a square root of the residuals' covariance
    factor: Array
    shrink: Array  # (), multiplies draws; 1 / sqrt(1 + h^2) keeps the residuals' spread


# FitNoise = (key, residuals (m, E), features (m, d), z (m, k)) -> noise. `z` are predicted
# standardised components.
FitNoise = Callable[[Array, np.ndarray, np.ndarray, np.ndarray], NamedTuple]


def per_epoch_std() -> FitNoise:
    """Noise by the standard deviation of the residuals at each epoch.

    Yan et al. (2021), section 3.1, with the variance, and not the standard deviation, as
    the covariance's diagonal.

    Returns: a function that fits a `StdNoise`.
    """

    def fit(
        key: Array, residuals: np.ndarray, features: np.ndarray, z: np.ndarray
    ) -> StdNoise:
        del key, features, z
        variance = (residuals**2).sum(0) / max(len(residuals) - 1, 1)
        return StdNoise(jnp.asarray(np.sqrt(variance), float))

    return fit


def kernel_density(shrink: bool = True) -> FitNoise:
    """Noise by a Gaussian kernel density estimate of residual curves.

    The kernel has the residuals' covariance times h^2, with Scott's bandwidth
    h = m^(-1 / (E + 4)), close to 1 for long curves. A draw is a residual plus a draw of
    the kernel, so that its variance is 1 + h^2 times the residuals'.

    Args:
      shrink: whether draws are divided by sqrt(1 + h^2), so that they have the residuals'
        covariance.

    Returns: a function that fits a `KdeNoise`.
    """

    def fit(
        key: Array, residuals: np.ndarray, features: np.ndarray, z: np.ndarray
    ) -> KdeNoise:
        del key, features, z
        num, epochs = residuals.shape
        bandwidth = num ** (-1 / (epochs + 4))
        centred = residuals - residuals.mean(0)
        factor = bandwidth * covariance_factor(centred.T @ centred / max(num - 1, 1))
        size = 1 / np.sqrt(1 + bandwidth**2) if shrink else 1.0
        return KdeNoise(*(jnp.asarray(x, float) for x in (centred, factor, size)))

    return fit


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """A square root (q, E) of a covariance (E, E), by its eigen-decomposition.

    Residuals of a compression to k components have a covariance of rank E - k at most,
    which has no Cholesky factor. Modes without variance are dropped.

    Returns: A of q modes, with A^T A the covariance.
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = values > _RANK * max(values[-1], 0)
    return (vectors[:, kept] * np.sqrt(values[kept])).T


def draw(noise: NamedTuple, key: Array, features: Array, z: Array) -> Array:
    """Draws the noise of one curve.

    Args:
      noise: a fitted model.
      key: random key.
      features: (d,) of the architecture.
      z: (k,) its predicted standardised components.

    Returns: (E,).
    """
    del features, z
    if isinstance(noise, StdNoise):
        return noise.std * jax.random.normal(key, noise.std.shape)
    if isinstance(noise, KdeNoise):
        return _draw_kde(noise, key)
    raise ValueError(f"{type(noise).__name__} is not a noise model")


def _draw_kde(noise: KdeNoise, key: Array) -> Array:
    key_row, key_kernel = jax.random.split(key)
    row = jax.random.randint(key_row, (), 0, len(noise.residual))
    kernel = jax.random.normal(key_kernel, noise.factor.shape[:1]) @ noise.factor
    return noise.shrink * (noise.residual[row] + kernel)
