"""Regression of final values on the start of the curve and on the architecture.

Gaussian-process regression, whose mean is kernel ridge regression, with everything that
is not Gaussian about accuracies removed by normal scores first.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxnas import gp
from jaxnas.curves.extrapolate.normal_scores import (
    NormalScores,
    fit_normal_scores,
    to_scores,
    value_moments,
)
from jaxnas.curves.extrapolate.summaries import levels_and_slope
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.types import Array, check_sizes


class Inputs(NamedTuple):
    """Inputs of a regression as normal scores, by the part that they describe.

    Each part is divided by the square root of its size, so that squared distances within
    a part are means over its columns.
    """

    curve: Array  # (..., 5) of the curve
    arch: Array  # (..., f) of the architecture, f = 0 without features


class InputScores(NamedTuple):
    """The maps from inputs to normal scores; the leading axis is the column."""

    curve: NormalScores  # of (5,)
    arch: NormalScores  # of (f,)


class Regression(NamedTuple):
    """A conditioned Gaussian process."""

    maps: InputScores
    target: NormalScores
    inputs: Inputs  # (n, ...) of the training curves; rows that do not count hold 0
    used: Array  # (n,) bool, rows that count
    hyper: gp.Hyperparameters
    factor: Array  # (n, n) Cholesky factor of the covariance over the amplitude
    weights: Array  # (n,) its inverse times the targets


def kernel_ridge(epochs: int) -> Extrapolator:
    """Predicts by Gaussian-process regression on curve and architecture.

    Inputs are `levels_and_slope` of the first epochs and the features, inputs and target
    as normal scores. The covariance is a linear kernel of the curve, one of the features,
    and the product of Gaussian ones of both, with length-scales and noise of the largest
    evidence (`gp.fit`). The mean is that of kernel ridge regression
    with the noise as its ridge.

    Args:
      epochs: number of epochs that are read of each curve.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for epochs below 1.
    """
    check_sizes(epochs=epochs)

    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> Regression:
        raw = raw_inputs(curves[:, :epochs], features)
        used = valid & jnp.isfinite(final) & finite_rows(raw)
        maps, inputs = fit_inputs(raw, used)
        target = fit_normal_scores(final, used)
        y = jnp.where(used, to_scores(target, final), 0.0)
        parts = _parts(inputs, inputs)
        linear = inputs.curve @ inputs.curve.T
        correlation = lambda p, scales: linear + _covariance(p, scales)  # noqa: E731
        hyper = gp.fit(correlation, parts, y, used, _prior(y))
        gram = correlation(parts, hyper.scales)
        gram = gp.padded_covariance(gram, used, hyper.noise)
        factor = jnp.linalg.cholesky(gram)
        weights = cho_solve((factor, True), y)
        return Regression(maps, target, inputs, used, hyper, factor, weights)

    def predict(
        params: Regression, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        row = raw_inputs(
            curve[None, :epochs], None if features is None else features[None]
        )
        inputs = to_inputs(params.maps, row)
        cross = _covariance(_parts(inputs, params.inputs), params.hyper.scales)
        cross = (cross + inputs.curve @ params.inputs.curve.T)[0]
        cross = jnp.where(params.used, cross, 0.0)
        white = solve_triangular(params.factor, cross, lower=True)
        own = _covariance(_parts(inputs, inputs), params.hyper.scales)
        prior = (own + inputs.curve @ inputs.curve.T)[0, 0] + params.hyper.noise
        variance = params.hyper.amplitude * jnp.maximum(prior - white @ white, 1e-6)
        std = jnp.where(params.used.sum() >= 2, jnp.sqrt(variance), jnp.inf)
        mean, std = value_moments(params.target, cross @ params.weights, std)
        fine = finite_rows(row)[0]
        return jnp.where(fine, mean, jnp.nan), jnp.where(fine, std, jnp.nan)

    return Extrapolator(fit, predict, epochs)


def raw_inputs(starts: Array, features: Array | None) -> Inputs:
    """Summaries of starts of curves (n, F), beside their features (n, f), as they are."""
    if features is None:
        features = jnp.zeros((len(starts), 0), starts.dtype)
    return Inputs(jax.vmap(levels_and_slope)(starts), jnp.asarray(features))


def finite_rows(inputs: Inputs) -> Array:
    """(n,) bool, the rows of inputs that are finite everywhere."""
    return jnp.isfinite(inputs.curve).all(1) & jnp.isfinite(inputs.arch).all(1)


def fit_inputs(raw: Inputs, used: Array) -> tuple[InputScores, Inputs]:
    """The maps to normal scores of the rows `used`, and all rows mapped (unused: 0)."""
    columns = jax.vmap(fit_normal_scores, (1, None))
    maps = InputScores(columns(raw.curve, used), columns(raw.arch, used))
    mapped = to_inputs(maps, raw)
    return maps, Inputs(*(jnp.where(used[:, None], part, 0.0) for part in mapped))


def to_inputs(maps: InputScores, raw: Inputs) -> Inputs:
    """Rows of raw inputs as normal scores, each part divided by the root of its size."""

    def scaled(found: NormalScores, part: Array) -> Array:
        scores = jax.vmap(to_scores, (0, 1), 1)(found, part)
        return scores / max(part.shape[1], 1) ** 0.5

    return Inputs(scaled(maps.curve, raw.curve), scaled(maps.arch, raw.arch))


def _parts(a: Inputs, b: Inputs) -> Array:
    """(3, n, m): squared distances of curves and of features, and products of features."""
    squares = [((x[:, None] - y[None]) ** 2).sum(-1) for x, y in zip(a, b, strict=True)]
    return jnp.stack([*squares, a.arch @ b.arch.T])


def _covariance(parts: Array, scales: Array) -> Array:
    """Product of Gaussian kernels plus a linear kernel of the features, (n, m).

    Args:
      parts: (3, n, m) of `_parts`.
      scales: (3,) lengths that the inputs of each part are divided by.
    """
    weights = scales**-2
    gaussian = jnp.exp(-0.5 * (weights[0] * parts[0] + weights[1] * parts[1]))
    return gaussian + weights[2] * parts[2]


def _prior(y: Array) -> gp.HyperparameterPrior:
    """Features may matter less than curves: longer lengths."""
    values = (jnp.array([1.0, 2.0, 2.0]), 0.7, 0.1, 1.0)
    return gp.HyperparameterPrior(*(jnp.asarray(v, y.dtype) for v in values))
