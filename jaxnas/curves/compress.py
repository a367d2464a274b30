"""Compression of learning curves to a few components by singular value decomposition.

A compression is fitted on curves (n, E) and maps a curve (E,) to components (k,) and back.
Those here are linear; `vae` has one that is not. A curve y and its components u satisfy

    u = (y - centre) dual,    y ~ centre + u basis,    z = (u - mean) / scale,

and a regressor predicts the standardised components z. The signs of components are
arbitrary: programs agree in curves, not in components.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.types import Array

# Components of a scale below this share of their largest value are constant.
_CONSTANT = 1e-7


class Linear(NamedTuple):
    """A linear compression of curves of E epochs to k components."""

    centre: Array  # (E,), the curve of components 0
    basis: Array  # (k, E), the change of a curve per unit of each component
    dual: Array  # (E, k), the components of a curve without its centre
    mean: Array  # (k,) of the components over the training curves
    scale: Array  # (k,), standard deviation of the components; 1 for a constant one


# Compress = (keys (m,), curves (n, E), rows (m, r)) -> one compression for each of the m
# members of an ensemble, fitted on its rows of the curves.
Compress = Callable[[Array, np.ndarray, np.ndarray], tuple]


def svd(num_components: int = 5) -> Compress:
    """Compresses by a singular value decomposition of curves that are not centred.

    The components are the first columns of U in U diag(s) V^T (Yan et al., 2021, section
    3.1, in the form of the authors' programs).

    Args:
      num_components: k; the released surrogates have 5.

    Returns: a function that fits `Linear` compressions.
    Raises: `ValueError` when fitted on fewer curves or epochs than components.
    """

    def fit(curves: np.ndarray) -> tuple[np.ndarray, ...]:
        _, s, vh = np.linalg.svd(curves, full_matrices=False)
        s, vh = s[:num_components], vh[:num_components]
        dual = vh.T / np.maximum(s, _CONSTANT * s[0])
        return np.zeros(curves.shape[1]), s[:, None] * vh, dual

    return _each_member(fit, num_components)


def centred_svd(num_components: int = 5) -> Compress:
    """Compresses to principal components: by the decomposition of centred curves.

    Args:
      num_components: k.

    Returns: a function that fits `Linear` compressions.
    Raises: `ValueError` when fitted on fewer curves or epochs than components.
    """

    def fit(curves: np.ndarray) -> tuple[np.ndarray, ...]:
        centre = curves.mean(0)
        _, _, vh = np.linalg.svd(curves - centre, full_matrices=False)
        return centre, vh[:num_components], vh[:num_components].T

    return _each_member(fit, num_components)


def final_value_svd(num_components: int = 16) -> Compress:
    """Compresses to the final value, and to components of what it does not explain.

    The first component is the last value of the centred curve itself, so that a model of
    it predicts what searches rank by and its error does not add up over components. The
    others are those of a singular value decomposition of the curves from which the linear
    regression on the last value is subtracted.

    Args:
      num_components: k, the final value included; fewer where the curves have fewer
        epochs.

    Returns: a function that fits `Linear` compressions.
    Raises: `ValueError` when fitted on fewer curves than components.
    """

    def fit(curves: np.ndarray) -> tuple[np.ndarray, ...]:
        centre = curves.mean(0)
        rest = curves - centre
        last = rest[:, -1]
        slope = last @ rest / max(last @ last, np.finfo(float).tiny)
        slope[-1] = 1.0
        _, _, vh = np.linalg.svd(rest - last[:, None] * slope, full_matrices=False)
        # The last epoch has no remainder, so vh[:, -1] is 0 up to rounding.
        vh = vh[: min(num_components, curves.shape[1]) - 1].copy()
        vh[:, -1] = 0.0
        final = np.eye(curves.shape[1])[-1]
        dual = np.concatenate([final[:, None], vh.T - np.outer(final, slope @ vh.T)], 1)
        return centre, np.concatenate([slope[None], vh]), dual

    return _each_member(fit, num_components, shorter=True)


def _each_member(
    fit: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    num_components: int,
    shorter: bool = False,
) -> Compress:
    """Fits the centre, basis and dual on each member's rows, and adds their scale.

    Args:
      fit: curves (r, E) -> centre (E,), basis (k, E), dual (E, k).
      num_components: k.
      shorter: whether curves of fewer epochs than components are fitted all the same.
    """

    def compress(keys: Array, curves: np.ndarray, rows: np.ndarray) -> tuple:
        del keys
        num, epochs = rows.shape[1], curves.shape[1]
        size = min(num_components, epochs) if shorter else num_components
        if min(num, epochs) < size:
            raise ValueError(
                f"{size} components need as many curves and epochs, found "
                f"{num} curves of {epochs} epochs"
            )
        return tuple(_scaled(curves[mine].astype(np.float64), fit) for mine in rows)

    return compress


def _scaled(curves: np.ndarray, fit: Callable) -> Linear:
    centre, basis, dual = fit(curves)
    components = (curves - centre) @ dual
    scale, size = components.std(0), np.abs(components).max(0)
    scale = np.where(scale > _CONSTANT * size, scale, 1.0)
    arrays = (centre, basis, dual, components.mean(0), scale)
    return Linear(*(jnp.asarray(x, float) for x in arrays))


@full_precision
def encode(compression: Linear, curves: Array) -> Array:
    """Compresses curves.

    Args:
      compression: a fitted one.
      curves: (..., E).

    Returns: (..., k) standardised components.
    """
    components = (curves - compression.centre) @ compression.dual
    return (components - compression.mean) / compression.scale


def unscale(compression: Linear, z: Array) -> Array:
    """The components (..., k) u of standardised components z (..., k)."""
    return z * compression.scale + compression.mean


@full_precision
def decode(compression: Linear, z: Array) -> Array:
    """Expands standardised components to curves.

    Args:
      compression: a fitted one.
      z: (..., k) standardised components.

    Returns: (..., E) curves.
    """
    return compression.centre + unscale(compression, z) @ compression.basis
