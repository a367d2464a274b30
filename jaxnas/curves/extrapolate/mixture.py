"""Weighted parametric families: a mixture of fits as predictive distribution.

After Domhan et al. (2015), whose model combines the same families. Each family is fitted by
least squares; its Laplace approximation gives a normal prediction at the target epoch and
an evidence, and the mixture weighs the predictions by evidence. There is no sampling:
probabilities are sums of normal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr

from jaxnas.batching import rows_together
from jaxnas.curves.extrapolate import least_squares
from jaxnas.curves.extrapolate.families import ORIGINAL, Family
from jaxnas.curves.extrapolate.least_squares import Constants, Fits
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.types import Array, check_sizes

# Noise of one further observation, so that curves that a family fits exactly have a
# finite evidence; in the unit of values between 0 and 1.
_LEAST_NOISE = 0.005
# Standard deviation of the prior of the intercept, and of the logarithm of the factor.
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
    """Predicts by the weighted parametric families, from the curve alone.

    Args:
      target: epoch that is predicted, from 1; default: the last one of the curve.
      scale: the value that no curve exceeds: 1 for fractions, 100 for percent.
      families: `families.ORIGINAL`, `families.REFERENCE`, or some of them.
      weigh: weights (k,) of logarithms of evidence (k,); `equal_weights` is the mean of
        all fits that the release predicts in effect.

    Returns: an extrapolator that ignores features and learns nothing from completed
      curves. Values that are not finite count as not observed.
    Raises: `ValueError` for a target below 1 and a scale that is not positive.
    """
    if target is not None:
        check_sizes(target=target)
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")

    def fit(*training: Any) -> None:
        del training

    predictive = _predictive(target, families, weigh)

    def predict(
        params: None, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del params, features
        found = jax.tree.map(lambda part: part[0], predictive((), curve[None] / scale))
        mean, std = moments(found)
        enough = jnp.isfinite(curve).sum() >= MIN_EPOCHS
        found = jnp.where(enough, scale * jnp.stack([mean, std]), jnp.nan)
        return found[0], found[1]

    return Extrapolator(fit, predict, MIN_EPOCHS, 0, target)


def equal_weights(log_evidence: Array) -> Array:
    """The same weight for every family, (k,)."""
    return jnp.full_like(log_evidence, 1 / len(log_evidence))


def predict_mixture(
    curves: Array,
    target: int | None = None,
    families: Sequence[Family] = ORIGINAL,
    weigh: Callable[[Array], Array] = jax.nn.softmax,
) -> Mixture:
    """The mixtures (b, k) of curves (b, e) between 0 and 1, NaN where not observed."""
    return _predictive(target, families, weigh)((), curves)


def moments(mixture: Mixture) -> tuple[Array, Array]:
    """Mean () and standard deviation () of a mixture."""
    mean = mixture.weight @ mixture.mean
    variance = mixture.weight @ (mixture.std**2 + (mixture.mean - mean) ** 2)
    return mean, jnp.sqrt(variance)


def probability_above(mixture: Mixture, threshold: Array) -> Array:
    """Probability () that the value exceeds a threshold ()."""
    return mixture.weight @ ndtr((mixture.mean - threshold) / mixture.std)


def log_density(mixture: Mixture, value: Array) -> Array:
    """Logarithm () of the density at a value ()."""
    logs = jax.scipy.stats.norm.logpdf(value, mixture.mean, mixture.std)
    return jax.nn.logsumexp(logs, b=mixture.weight)


def _predictive(
    target: int | None, families: Sequence[Family], weigh: Callable[[Array], Array]
) -> Callable[[tuple, Array], Mixture]:
    """A function of curves (b, e) that `vmap` calls once for all of them."""

    def function(_: tuple, curves: Array) -> Mixture:
        constants = least_squares.constants_of(families)
        epoch = curves.shape[1] if target is None else target
        observed = jnp.isfinite(curves)
        fits = least_squares.fit(families, curves, observed)

        def of_family(values: tuple[Constants, Fits]) -> tuple[Array, Array, Array]:
            one = lambda fit, y, ok: _laplace(families, values[0], fit, y, ok, epoch)  # noqa: E731
            return jax.vmap(one, (-1, 0, 0))(values[1], curves, observed)

        evidence, mean, std = jax.lax.map(of_family, (constants, fits))
        weight = jax.vmap(weigh)(evidence.T)
        return Mixture(weight, mean.T, std.T)

    return rows_together(function)


def _laplace(
    families: Sequence[Family],
    constants: Constants,
    fit: Fits,
    curve: Array,
    observed: Array,
    target: int,
) -> tuple[Array, Array, Array]:
    """Laplace's approximation around the fit of a family to a curve.

    The prior is normal in the intercept and in the logarithm of the factor and uniform in
    the coordinates' box. The evidence includes the probability that the target is above
    the first value and at most 1.

    Args:
      families: all of them.
      constants: of the family.
      fit: of the family to the curve: (), () and (2,).
      curve: (e,).
      observed: (e,) bool.
      target: epoch.

    Returns: logarithm of the evidence, mean and standard deviation of the target.
    """
    x = jnp.arange(1, len(curve) + 1).astype(curve.dtype)
    width = constants.high - constants.low
    used = jnp.concatenate(
        [jnp.stack([constants.intercept, constants.factor]), (width > 0) * 1.0]
    )
    # Of a uniform distribution the variance of its box.
    spread = jnp.concatenate([jnp.array(_SPREAD), width / 12**0.5])
    precision = jnp.where(used > 0, spread**-2, 1.0).astype(curve.dtype)

    def value(change: Array, x: Array) -> Array:
        z = fit.z + change[2:]
        shape = least_squares.shape(families, constants.index, (z[0], z[1]), x)
        return fit.intercept + change[0] + fit.factor * (1 + change[1]) * shape

    none = jnp.zeros(4, curve.dtype)
    columns = jax.jacfwd(value)(none, x) * used * observed[:, None]
    columns = jnp.where(jnp.isfinite(columns), columns, 0.0)
    at = jnp.asarray([target], curve.dtype)
    mean, slope = value(none, at)[0], jax.jacfwd(value)(none, at)[0] * used
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
    fine = jnp.isfinite(evidence) & jnp.isfinite(mean) & jnp.isfinite(std)
    # A family without a fit has no weight, and a number instead of its mean.
    return (
        jnp.where(fine, evidence, -1e30),
        jnp.where(fine, mean, first),
        jnp.where(fine, std, 1.0),
    )


def _log_mass(low: Array, high: Array) -> Array:
    """Logarithm of the mass of a standard normal between two values, low < high."""
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    gap = jnp.minimum(log_ndtr(low) - log_ndtr(high), -1e-6)
    return log_ndtr(high) + jnp.log(-jnp.expm1(gap))
