"""Weighted parametric families: a mixture of fits as predictive distribution.

After Domhan et al. (2015), who sample a weighted sum of the same families. Here each family
is fitted by least squares; its Laplace approximation gives a normal prediction at the
target epoch and an evidence, and the evidences weigh the predictions. Probabilities of the
mixture are closed forms, and nothing is sampled; `mcmc` samples the original model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr

from jaxnas.batching import rows_together
from jaxnas.curves.extrapolate import family_arrays, least_squares
from jaxnas.curves.extrapolate.families import ORIGINAL, Family
from jaxnas.curves.extrapolate.family_arrays import Constants
from jaxnas.curves.extrapolate.least_squares import Fits
from jaxnas.curves.extrapolate.types import Extrapolator, check_target
from jaxnas.precision import full_precision
from jaxnas.types import Array

# Residual of one further observation, so that the evidence of a family that fits a curve
# exactly is finite; curves are between 0 and 1.
_LEAST_NOISE = 0.005
# Standard deviations of the prior of the intercept, and of the relative change of the
# factor.
_SPREAD = (1.0, 2.0)
MIN_EPOCHS = 3


class Mixture(NamedTuple):
    """A mixture of k normal distributions."""

    weight: Array  # (k,), 0 for a family that could not be fitted
    mean: Array  # (k,)
    std: Array  # (k,)


def wpm(
    target: int | None = None,
    *,
    scale: float = 1.0,
    families: Sequence[Family] = ORIGINAL,
    weigh: Callable[[Array], Array] = jax.nn.softmax,
) -> Extrapolator:
    """Predicts by the weighted parametric families (WPM), from the curve alone.

    Args:
      target: epoch that is predicted, from 1; default: the last one of the curve.
      scale: the value that no curve exceeds: 1 for fractions, 100 for percent.
      families: `families.ORIGINAL`, `families.REFERENCE`, or a subset.
      weigh: function of the log evidences (k,), returns weights (k,) of sum 1. With
        `equal_weights` the prediction is the mean of all fits, as in effect that of the
        programs of Yan et al. (2021).

    Returns: an extrapolator that ignores features and learns nothing from completed
      curves. Values that are not finite count as not observed.
    Raises: `ValueError` for a target below 1 and a scale that is not positive.
    """
    check_target(target, scale)

    def fit(*training: Any) -> None:
        del training

    predictive = _predictive(target, families, weigh)

    def predict(
        params: None, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del params, features
        mixtures = predictive((), curve[None] / scale)
        mean, std = moments(jax.tree.map(lambda part: part[0], mixtures))
        enough = jnp.isfinite(curve).sum() >= MIN_EPOCHS
        return (
            jnp.where(enough, scale * mean, jnp.nan),
            jnp.where(enough, scale * std, jnp.nan),
        )

    return Extrapolator(fit, predict, MIN_EPOCHS, 0, target)


def equal_weights(log_evidence: Array) -> Array:
    """Weighs k families alike: (k,) of 1 / k."""
    return jnp.full_like(log_evidence, 1 / len(log_evidence))


def predict_mixture(
    curves: Array,
    target: int | None = None,
    families: Sequence[Family] = ORIGINAL,
    weigh: Callable[[Array], Array] = jax.nn.softmax,
) -> Mixture:
    """Computes the predictive distributions of many curves.

    Args:
      curves: (b, e) between 0 and 1, NaN where not observed, which may be anywhere.
      target: epoch that is predicted, from 1; default: e. It may be an observed one.
      families: k families.
      weigh: function of the log evidences (k,), returns weights (k,) of sum 1.

    Returns: the mixtures (b, k).
    """
    return _predictive(target, families, weigh)((), curves)


@full_precision
def moments(mixture: Mixture) -> tuple[Array, Array]:
    """Computes mean () and standard deviation () of a mixture."""
    mean = mixture.weight @ mixture.mean
    variance = mixture.weight @ (mixture.std**2 + (mixture.mean - mean) ** 2)
    return mean, jnp.sqrt(variance)


@full_precision
def probability_above(mixture: Mixture, threshold: Array) -> Array:
    """Computes the probability () that the value exceeds a threshold ()."""
    return mixture.weight @ ndtr((mixture.mean - threshold) / mixture.std)


def log_density(mixture: Mixture, value: Array) -> Array:
    """Computes the log-density () at a value ()."""
    logs = jax.scipy.stats.norm.logpdf(value, mixture.mean, mixture.std)
    return jax.nn.logsumexp(logs, b=mixture.weight)


def _predictive(
    target: int | None, families: Sequence[Family], weigh: Callable[[Array], Array]
) -> Callable[[tuple, Array], Mixture]:
    """Makes a function of curves (b, e) that runs once for all curves under `vmap`.

    Args:
      target: epoch that is predicted; None: e.
      families: k families.
      weigh: function of the log evidences (k,).

    Returns: a function of an empty tuple, which `batching.rows_together` wants as
      constants, and curves.
    """

    @full_precision
    def mixtures(_: tuple, curves: Array) -> Mixture:
        constants = family_arrays.stack(families)
        epoch = curves.shape[1] if target is None else target
        observed = jnp.isfinite(curves)
        fits = least_squares.fit(families, curves, observed)

        def of_family(values: tuple[Constants, Fits]) -> tuple[Array, Array, Array]:
            one = lambda fit, y, ok: _laplace(families, values[0], fit, y, ok, epoch)  # noqa: E731
            return jax.vmap(one, (-1, 0, 0))(values[1], curves, observed)

        evidence, mean, std = jax.lax.map(of_family, (constants, fits))
        weight = jax.vmap(weigh)(evidence.T)
        return Mixture(weight, mean.T, std.T)

    return rows_together(mixtures)


def _laplace(
    families: Sequence[Family],
    constants: Constants,
    fit: Fits,
    curve: Array,
    observed: Array,
    target: int,
) -> tuple[Array, Array, Array]:
    """Computes the Laplace approximation around the fit of a family to a curve.

    The prior is centred at the fit: normal in the intercept, in the relative change of the
    factor, and, with the variance of a uniform distribution on its box, in each coordinate.
    The evidence includes the probability that the final value is above the first one and
    at most 1, without which families that rise without bound would have weight.

    Args:
      families: all k families.
      constants: of the one that was fitted.
      fit: its fit to the curve: (), (), (2,) and ().
      curve: (e,).
      observed: (e,) bool.
      target: epoch that is predicted, from 1.

    Returns: the log evidence (), and mean () and standard deviation () of the final value.
      Where they are not finite: -1e30, the first value, and 1.
    """
    x = jnp.arange(1, len(curve) + 1).astype(curve.dtype)
    width = constants.high - constants.low
    used = jnp.concatenate(
        [jnp.stack([constants.intercept, constants.factor]), (width > 0) * 1.0]
    )
    # The standard deviation of a uniform distribution on the box.
    spread = jnp.concatenate([jnp.array(_SPREAD), width / 12**0.5])
    precision = jnp.where(used > 0, spread**-2, 1.0).astype(curve.dtype)

    def value(change: Array, x: Array) -> Array:
        z = fit.z + change[2:]
        shape = family_arrays.evaluate_shape(families, constants.index, (z[0], z[1]), x)
        return fit.intercept + change[0] + fit.factor * (1 + change[1]) * shape

    origin = jnp.zeros(4, curve.dtype)
    columns = jax.jacfwd(value)(origin, x) * used * observed[:, None]
    columns = jnp.where(jnp.isfinite(columns), columns, 0.0)
    at = jnp.asarray([target], curve.dtype)
    mean, slope = value(origin, at)[0], jax.jacfwd(value)(origin, at)[0] * used
    count = observed.sum()
    freedom = jnp.maximum(count - used.sum(), 1)
    variance = (fit.square + _LEAST_NOISE**2) / freedom
    factor = jnp.linalg.cholesky(columns.T @ columns / variance + jnp.diag(precision))
    white = jax.scipy.linalg.solve_triangular(factor, slope, lower=True)
    std = jnp.sqrt(white @ white + variance)
    log_det = 2 * jnp.log(jnp.diagonal(factor)).sum() - jnp.log(precision).sum()
    evidence = -0.5 * (count * jnp.log(variance) + fit.square / variance + log_det)
    first = curve[jnp.argmax(observed)]
    evidence = evidence + _log_mass((first - mean) / std, (1 - mean) / std)
    finite = jnp.isfinite(evidence) & jnp.isfinite(mean) & jnp.isfinite(std)
    # A weight of 0 does not hide NaN: a family without a fit has numbers too.
    return (
        jnp.where(finite, evidence, -1e30),
        jnp.where(finite, mean, first),
        jnp.where(finite, std, 1.0),
    )


def _log_mass(low: Array, high: Array) -> Array:
    """Log mass () of a standard normal between `low` () and `high` (), low < high.

    Both are reflected into the left tail where they are in the right one, in which the
    difference of the distribution functions would be 0 in single precision.
    """
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    gap = jnp.minimum(log_ndtr(low) - log_ndtr(high), -1e-6)
    return log_ndtr(high) + jnp.log(-jnp.expm1(gap))
