"""Proxies from the derivative of the logits by the images, compared between images.

The Jacobian is that of the sum of all logits, batch norm in training mode. If a cell does
not connect its input to its output it is 0 and the scores are -inf; in the authors'
programs they are NaN, as correlations of zeros are, and such cells are left out.

All functions take a model (of one architecture, or of a as lanes), parameters and images
x (b, h, w, c).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.networks.apply import Model, run
from jaxnas.networks.nasbench201 import Params
from jaxnas.precision import full_precision
from jaxnas.proxies.base import map_matrices
from jaxnas.types import Array

_EPSILON = 1e-5  # k of both papers


def correlations(model: Model, params: Params, x: Array) -> Array:
    """Computes Pearson correlations between the Jacobians of images.

    Returns:
      (b, b) or (a, b, b); NaN for a Jacobian of 0.
    """
    x = jnp.broadcast_to(x, (*model.lanes, *x.shape))
    jacobian = jax.grad(lambda x: jnp.sum(run(model, params, x).logits))(x)
    rows = jacobian.reshape(*x.shape[:-3], -1)
    rows = rows - jnp.mean(rows, -1, keepdims=True)
    rows = rows / jnp.sqrt(jnp.sum(jnp.square(rows), -1, keepdims=True))
    return _products(rows)


@full_precision
def _products(rows: Array) -> Array:
    """Inner products (..., b, b) of rows (..., b, p)."""
    return rows @ jnp.swapaxes(rows, -1, -2)


def jacob_cov(model: Model, params: Params, x: Array) -> Array:
    """Computes -sum of ln(v + k) + 1 / (v + k) over eigenvalues v of the correlations.

    Mellor et al. (2020), eq. 4. Float64 is advised: eigenvalues near 0 count most.

    Returns:
      () or (a,).
    """
    correlation = correlations(model, params, x)
    # The eigenvalues of NaN depend on the backend.
    safe = jnp.where(jnp.isnan(correlation), 0.0, correlation)
    v = map_matrices(jnp.linalg.eigvalsh, safe) + _EPSILON
    score = -jnp.sum(jnp.log(v) + 1 / v, -1)
    return _where_defined(correlation, score)


def epe_nas(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Scores correlations within each class (Lopes et al., 2021, eq. 3 to 5).

    The number of classes of the network decides between the two forms of the score: up to
    100 the sum over classes, above it the mean difference between classes of at least two
    images.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c).
      y: (b,) labels.

    Returns:
      () or (a,).
    """
    correlation = correlations(model, params, x)
    member = jax.nn.one_hot(y, model.network.num_classes, dtype=x.dtype)
    logs = jnp.log(jnp.abs(correlation) + _EPSILON)
    by_class = _sums_by_class(logs, member)
    if model.network.num_classes <= 100:
        return _where_defined(correlation, jnp.sum(jnp.abs(by_class), -1))
    count = jnp.sum(member, 0)
    kept = count > 1
    mean = by_class / jnp.maximum(count, 1)
    apart = jnp.abs(mean[..., :, None] - mean[..., None, :])
    pairs = kept[:, None] & kept
    score = jnp.sum(jnp.where(pairs, apart, 0.0), (-2, -1)) / jnp.sum(kept)
    return _where_defined(correlation, score)


@full_precision
def _sums_by_class(matrix: Array, member: Array) -> Array:
    """Sums (..., k) of a matrix (..., b, b) over pairs of one class; `member` (b, k)."""
    return jnp.einsum("...ij,ik,jk->...k", matrix, member, member)


def _where_defined(correlation: Array, score: Array) -> Array:
    """Replaces the score (...,) by -inf if a correlation (..., b, b) is NaN."""
    return jnp.where(jnp.isnan(correlation).any((-2, -1)), -jnp.inf, score)
