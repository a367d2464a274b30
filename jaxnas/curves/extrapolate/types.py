"""The interface of extrapolators, and the application of one to arrays on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array, check_shapes, check_sizes

# Parameters of an extrapolator: any pytree of arrays.
Params = Any
# fit(curves (n, e), final (n,), valid (n,) bool, features (n, f) or None) -> Params
Fit = Callable[[Array, Array, Array, Array | None], Params]
# predict(params, curve (e,), features (f,) or None) -> mean (), standard deviation ()
Predict = Callable[[Params, Array, Array | None], tuple[Array, Array]]


class Extrapolator(NamedTuple):
    """A predictor of final values from the beginnings of learning curves.

    Curves hold one value per epoch, more is better, and NaN past the last epoch that was
    trained. Both functions are pure, compile, and are written for one problem: `vmap`
    makes them functions of many.

    `fit(curves, final, valid, features)` learns from trainings `curves` (n, e), complete or
    as far as the extrapolator reads them, whose values `final` (n,) at the target epoch
    are known. Only rows of `valid` (n,) count, the others may hold anything; a row with
    NaN where it is read does not count either. `features` (n, f) describe architectures;
    None: without.

    `predict(params, curve, features)` gives mean () and standard deviation () of the
    final value of a training with `curve` (e,) and `features` (f,). The deviation is
    infinite where too few curves were fitted to estimate it; mean and deviation are NaN
    for a curve that ends before the epochs that the extrapolator reads.
    """

    fit: Fit
    predict: Predict
    # Number of epochs that a predicted curve must have at least.
    min_epochs: int = 1
    # Number of valid curves that `fit` needs for a finite standard deviation.
    min_curves: int = 2
    # Epoch that is predicted, past which no curve may go; None: the last one.
    target: int | None = None


def observed(curve: Array) -> Array:
    """Counts the epochs (...) int32 of curves (..., e) up to the last finite value."""
    epochs = jnp.arange(1, curve.shape[-1] + 1)
    return jnp.max(jnp.where(jnp.isfinite(curve), epochs, 0), axis=-1)


def check_target(target: int | None, scale: float) -> None:
    """Raises `ValueError` for a target epoch below 1, or a scale that is not positive."""
    if target is not None:
        check_sizes(target=target)
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")


def apply(
    extrapolator: Extrapolator,
    training: tuple[np.ndarray, np.ndarray],
    curves: np.ndarray,
    features: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fits an extrapolator to completed trainings and predicts interrupted ones.

    Args:
      extrapolator: both of its functions are compiled, once for arrays of one shape.
      training: completed curves (n, e) and their final values (n,).
      curves: (m, e) interrupted trainings, NaN past the last epoch of each.
      features: of the architectures of both, (n, f) and (m, f).

    Returns: mean (m,) and standard deviation (m,) of the final values.
    Raises: `ValueError` for shapes that do not fit together, too few curves to fit, no
      curve to predict, a curve with fewer epochs than the extrapolator needs or more than
      its target, a value that is not finite before the last one, and final values or
      features that are not finite.
    """
    completed, final = (np.asarray(x, float) for x in training)
    curves = np.asarray(curves, float)
    check_shapes(curves=(completed, "ne"), final=(final, "n"), new=(curves, "me"))
    if features is not None:
        # In the precision of the computation, where large numbers may be infinite.
        first, second = (np.asarray(jnp.asarray(x, float)) for x in features)
        features = first, second
        check_shapes(
            curves=(completed, "ne"), features=(first, "nf"), new=(second, "mf")
        )
        _check_finite("curve to fit", first)
        _check_finite("curve", second)
    if not len(curves):
        raise ValueError("wanted at least one curve to predict, found none")
    if len(completed) < extrapolator.min_curves:
        raise ValueError(
            f"{len(completed)} curves to fit: wanted at least {extrapolator.min_curves}"
        )
    if not np.isfinite(final).all():
        row = np.flatnonzero(~np.isfinite(final))[0]
        raise ValueError(f"the final value of curve {row} is {final[row]}")
    for name, values in (("curve to fit", completed), ("curve", curves)):
        _check_observed(name, values, extrapolator.min_epochs)
    lengths, target = _lengths(curves), extrapolator.target
    if target is not None and (late := np.flatnonzero(lengths > target)).size:
        raise ValueError(
            f"curve {late[0]} has {lengths[late[0]]} epochs: wanted at most {target}, the "
            "epoch that is predicted"
        )
    return _fit_and_predict(extrapolator, (completed, final), curves, features)


def _lengths(curves: np.ndarray) -> np.ndarray:
    """`observed` on the host, (n,) of curves (n, e)."""
    epochs = np.arange(1, curves.shape[1] + 1)
    return np.where(np.isfinite(curves), epochs, 0).max(1, initial=0)


def _check_observed(name: str, curves: np.ndarray, min_epochs: int) -> None:
    """Refuses curves that are too short or have a gap.

    Args:
      name: of a curve in the message.
      curves: (n, e).
      min_epochs: smallest number of epochs.

    Raises: `ValueError` that names the first of them and its epoch.
    """
    finite, lengths = np.isfinite(curves), _lengths(curves)
    if (short := np.flatnonzero(lengths < min_epochs)).size:
        raise ValueError(
            f"{name} {short[0]} has {lengths[short[0]]} epochs: wanted at least "
            f"{min_epochs}"
        )
    if (gaps := np.flatnonzero(finite.sum(1) < lengths)).size:
        epoch = np.flatnonzero(~finite[gaps[0]])[0] + 1
        raise ValueError(
            f"{name} {gaps[0]} has {curves[gaps[0], epoch - 1]} at epoch {epoch}, and "
            f"values up to epoch {lengths[gaps[0]]}: wanted NaN past the last epoch only"
        )


def _check_finite(name: str, features: np.ndarray) -> None:
    """Raises `ValueError` that names the first feature (n, f) that is not finite."""
    if (wrong := np.argwhere(~np.isfinite(features))).size:
        row, column = wrong[0]
        raise ValueError(
            f"feature {column} of {name} {row} is {features[row, column]}: wanted finite "
            "numbers"
        )


def _fit_and_predict(
    extrapolator: Extrapolator, training: tuple, curves: np.ndarray, features: Any
) -> tuple[np.ndarray, np.ndarray]:
    """`apply`, after its arguments were checked."""
    first, second = features if features is not None else (None, None)
    fit, predict = _compiled(extrapolator, second is not None)
    params = fit(*training, np.ones(len(training[0]), bool), first)
    mean, std = predict(params, curves, second)
    return np.asarray(mean), np.asarray(std)


@functools.lru_cache(maxsize=32)
def _compiled(extrapolator: Extrapolator, with_features: bool) -> tuple:
    """`fit` and the `vmap` of `predict`, compiled once for each extrapolator."""
    axes = (None, 0, 0 if with_features else None)
    return jax.jit(extrapolator.fit), jax.jit(jax.vmap(extrapolator.predict, axes))
