"""Noise of learning curves: generative models of the residuals of held-out curves.

A model is fitted on residuals (m, E), held-out curves minus their predictions, and draws
noise (E,) that is added to a prediction. The papers' residuals are those of the compression
alone; with the whole predictor's, draws can move the level of a curve too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import compress, members, regress_boosting
from jaxnas.curves.regress_boosting import FitTask, Regress
from jaxnas.precision import full_precision
from jaxnas.types import Array

# Modes of the covariance below this share of the largest are rounding.
_RANK = 1e-10
# LightGBM's parameters for the deviation of noise, which is estimated from one curve.
_SHALLOW = {"num_leaves": 8, "learning_rate": 0.05, "min_data_in_leaf": 20}


class StdNoise(NamedTuple):
    """Independent normal noise at each epoch."""

    std: Array  # (E,)


class KdeNoise(NamedTuple):
    """A kernel density estimate of m residuals."""

    residual: Array  # (m, E)
    # (q, E), the kernel's bandwidth times a square root of the residuals' covariance
    factor: Array
    shrink: Array  # (), multiplies draws; 1 / sqrt(1 + h^2) keeps the residuals' spread


class WindowNoise(NamedTuple):
    """Independent normal noise with a standard deviation for each architecture."""

    compression: compress.Linear  # of logarithms of standard deviations (E,)
    regressor: Any  # from features and components (d + k,)
    scale: Array  # (E,), multiplies the predicted standard deviations


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


def window_std(
    half_width: int = 5, regressor: Regress | None = None, num_components: int = 3
) -> FitNoise:
    """Noise by a standard deviation of its own for each architecture and epoch.

    Yan et al. (2021), section 3.1: a regressor predicts the deviation of the residuals in
    a window around each epoch, from the architecture and its predicted components. Here
    the target is the logarithm of their root mean square, compressed to a few components,
    and predictions are scaled at each epoch to the variance of all residuals. The scale
    is estimated by two-fold cross-validation, as deviations predicted for the training
    curves are overfitted.

    Args:
      half_width: w; a window has the 2 w + 1 epochs around its own, and fewer at the ends.
      regressor: of the logarithm; default: LightGBM's `heads` of 100 shallow trees.
      num_components: of the logarithm, at most.

    Returns: a function that fits a `WindowNoise` to at least 2 curves.
    """
    model = regressor or regress_boosting.lightgbm(100, chain=False, **_SHALLOW)

    def fit(
        key: Array, residuals: np.ndarray, features: np.ndarray, z: np.ndarray
    ) -> WindowNoise:
        log = np.log(np.maximum(_window_rms(residuals, half_width), _least(residuals)))
        num, epochs = log.shape
        size, x = (
            min(num_components, num // 2, epochs),
            np.concatenate([features, z], 1),
        )

        def of_rows(rows: np.ndarray) -> WindowNoise:
            (compression,) = compress.centred_svd(size)(key[None], log, rows[None])
            target = np.asarray(compress.encode(compression, jnp.asarray(log)))
            task = FitTask(x, [target], rows[None], [np.ones(size)])
            return WindowNoise(compression, model(key[None], task)[0], jnp.ones(epochs))

        square = np.zeros((num, epochs))
        for half in (0, 1):
            rest, out = np.arange(1 - half, num, 2), np.arange(half, num, 2)
            given = (jnp.asarray(array[out]) for array in (features, z))
            square[out] = np.asarray(_window_std(of_rows(rest), *given)) ** 2
        scale = np.sqrt((residuals**2).mean(0) / square.mean(0))
        noise = of_rows(np.arange(num))
        return noise._replace(scale=jnp.asarray(scale, float))

    return fit


def _window_rms(residuals: np.ndarray, half_width: int) -> np.ndarray:
    """Root mean square (m, E) of residuals (m, E) in a window around each epoch."""
    total = np.cumsum(np.pad(residuals**2, ((0, 0), (1, 0))), axis=1)
    at, last = np.arange(residuals.shape[1]), residuals.shape[1]
    low, high = np.maximum(at - half_width, 0), np.minimum(at + half_width + 1, last)
    return np.sqrt(np.maximum(total[:, high] - total[:, low], 0) / (high - low))


def _least(residuals: np.ndarray) -> float:
    """A floor for deviations: exact predictions have no logarithm."""
    return 1e-3 * float(np.sqrt((residuals**2).mean())) + 1e-30


def _window_std(noise: WindowNoise, features: Array, z: Array) -> Array:
    """The standard deviation (n, E) for features (n, d) and components (n, k)."""
    encoded = members.regress(noise.regressor, jnp.concatenate([features, z], 1))
    return noise.scale * jnp.exp(compress.decode(noise.compression, encoded))


def draw(noise: Any, keys: Array, features: Array, z: Array) -> Array:
    """Draws the noise of curves.

    Args:
      noise: a fitted model.
      keys: (n,) random keys.
      features: (n, d) of the architectures.
      z: (n, k) their predicted standardised components.

    Returns: (n, E).
    """
    if isinstance(noise, KdeNoise):
        return jax.vmap(_draw_kde, (None, 0))(noise, keys)
    if isinstance(noise, WindowNoise):
        std = _window_std(noise, features, z)
    else:
        std = jnp.broadcast_to(noise.std, (len(keys), len(noise.std)))
    normal = jax.vmap(lambda key: jax.random.normal(key, std.shape[1:]))(keys)
    return std * normal


@full_precision
def _draw_kde(noise: KdeNoise, key: Array) -> Array:
    """One draw (E,) of a kernel density estimate."""
    key_row, key_kernel = jax.random.split(key)
    row = jax.random.randint(key_row, (), 0, len(noise.residual))
    kernel = jax.random.normal(key_kernel, noise.factor.shape[:1]) @ noise.factor
    return noise.shrink * (noise.residual[row] + kernel)
