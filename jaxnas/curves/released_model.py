"""Surrogates as NAS-Bench-x11 releases them: SVD, chains of trees, kernel density noise.

The training curves, not centred, have the singular value decomposition U diag(s) V^T. A
chain of k regressors predicts the first k columns of U, standardised, and a curve is
(u * scale + mean) diag(s) V^T (Yan et al., 2021, section 3.1, and their program). Noise is
drawn from a Gaussian kernel density of the residuals of that compression.

All functions are pure, take features (n, d) of n architectures, and can be jitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import packing, trees
from jaxnas.curves.forest import Forest
from jaxnas.curves.packing import Ensemble
from jaxnas.precision import full_precision
from jaxnas.types import Array

# Modes with less of the largest eigenvalue are the jitter that the program adds.
_SMALLEST_MODE = 1e-10
_CLIP, _SHARE = 3.0, 0.5


class NoiseKernel(NamedTuple):
    """A Gaussian kernel density of n residuals of e epochs, in units of the curves."""

    rows: Array  # (n, e) reconstruction minus curve
    factor: Array  # () bandwidth h
    root: Array  # (e, r) A with A A^T = covariance of the rows


class ImportedSurrogate(NamedTuple):
    """m members with k components each, for curves of e epochs; a pytree of arrays."""

    chains: tuple[tuple[Ensemble, ...], ...]  # m of k
    mean: Array  # (m, k)
    scale: Array  # (m, k)
    singular: Array  # (m, k)
    right: Array  # (m, k, e)
    kernel: NoiseKernel | None


class _HostKernel(Protocol):
    """A kernel as files have it: rows (n, e), bandwidth h, covariance (e, e) times h^2."""

    @property
    def rows(self) -> np.ndarray: ...
    @property
    def factor(self) -> float: ...
    @property
    def covariance(self) -> np.ndarray: ...


def pack_members(
    chains: Sequence[Sequence[Forest]],
    mean: Sequence[np.ndarray],
    scale: Sequence[np.ndarray],
    singular: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    kernel: _HostKernel | None,
) -> ImportedSurrogate:
    """Packs the parts of m members for evaluation, in JAX's present precision.

    Args:
      chains: m of k forests; forest j has d + j features.
      mean: m of (k,), of the coefficients before they were standardised.
      scale: m of (k,), their standard deviation.
      singular: m of (k,) singular values.
      right: m of (k, e) right singular vectors.
      kernel: rows (n, e), bandwidth and its covariance (e, e), times the bandwidth
        squared; None without noise.
    """
    stacked = [jnp.asarray(np.stack(x), float) for x in (mean, scale, singular, right)]
    packed = tuple(tuple(packing.pack(f) for f in chain) for chain in chains)
    noise_kernel = None if kernel is None else _pack_kernel(kernel)
    return ImportedSurrogate(packed, *stacked, kernel=noise_kernel)


def _pack_kernel(kernel: _HostKernel) -> NoiseKernel:
    """The kernel with a root of its rows' covariance."""
    root = covariance_root(kernel.covariance / kernel.factor**2)
    arrays = (kernel.rows, kernel.factor, root)
    return NoiseKernel(*(jnp.asarray(x, float) for x in arrays))


def covariance_root(covariance: np.ndarray) -> np.ndarray:
    """A root A (e, r) of a covariance A A^T (e, e), without the modes that are zero.

    Residuals of a compression to k components have no variance in k directions, so that
    a Cholesky decomposition fails.
    """
    values, vectors = np.linalg.eigh(covariance)
    used = values > _SMALLEST_MODE * values.max()
    return vectors[:, used] * np.sqrt(values[used])


def member_components(params: ImportedSurrogate, x: Array) -> Array:
    """The coefficients u (m, n, k) of each member for features `x` (n, d)."""
    scaled = jnp.stack([trees.predict_chain(chain, x) for chain in params.chains])
    scaled = scaled.astype(params.scale.dtype)  # XGBoost is in float32
    return scaled * params.scale[:, None] + params.mean[:, None]


def components(params: ImportedSurrogate, x: Array) -> Array:
    """The mean coefficients (n, k) over members for features `x` (n, d)."""
    return member_components(params, x).mean(0)


@full_precision
def predict_members(params: ImportedSurrogate, x: Array) -> Array:
    """The curves (m, n, e) of each member for features `x` (n, d)."""
    weighted = member_components(params, x) * params.singular[:, None]
    return jnp.einsum("mnk,mke->mne", weighted, params.right)


def predict_mean(params: ImportedSurrogate, x: Array) -> Array:
    """The mean curves (n, e) over members for features `x` (n, d)."""
    return predict_members(params, x).mean(0)


@full_precision
def noise(
    params: ImportedSurrogate, key: Array, num: int, *, reference: bool = False
) -> Array:
    """Draws what is to be added to a predicted curve.

    A draw of a kernel density is a row plus h times Gaussian noise of the rows'
    covariance, so it spreads sqrt(1 + h^2) times as far as the rows do. By default draws
    are shrunk to the spread of the rows, and signed as curve minus reconstruction.

    Args:
      params: with a kernel.
      key: of the draws.
      num: how many draws.
      reference: as the published program draws: the opposite sign, not shrunk, clipped to
        -3 and 3, and halved.

    Returns: (num, e).
    Raises: `ValueError` if the surrogate has no kernel.
    """
    kernel = params.kernel
    if kernel is None:
        raise ValueError("this surrogate was saved without a noise kernel")
    key_row, key_mode = jax.random.split(key)
    rows = kernel.rows[jax.random.randint(key_row, (num,), 0, len(kernel.rows))]
    modes = jax.random.normal(key_mode, (num, kernel.root.shape[1]), kernel.root.dtype)
    smooth = kernel.factor * (modes @ kernel.root.T)
    if reference:
        return halved(rows + smooth)
    centre = kernel.rows.mean(0)
    shrunk = (rows - centre + smooth) / jnp.sqrt(1 + kernel.factor**2)
    return -(centre + shrunk)


def halved(draws: Array) -> Array:
    """What the published program makes of draws (..., e) of its kernel density."""
    return jnp.clip(draws, -_CLIP, _CLIP) * _SHARE


def predict_number(regressors: Sequence[Ensemble], x: Array) -> Array:
    """The mean prediction (n,) of single regressors for features `x` (n, d)."""
    return jnp.stack([trees.predict(r, x) for r in regressors]).mean(0)
