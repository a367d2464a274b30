"""Regression of final values on the start of the curve and on the architecture.

Gaussian-process regression, whose mean is kernel ridge regression. Accuracies are far from
normally distributed, so it works on normal scores of inputs and target (`inputs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxnas import gp
from jaxnas.curves.extrapolate.inputs import (
    Inputs,
    TrainingScores,
    finite_rows,
    fit_training,
    raw_inputs,
    to_inputs,
)
from jaxnas.curves.extrapolate.normal_scores import value_moments
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes


class Process(NamedTuple):
    """A conditioned Gaussian process; the covariance is amplitude (K + noise I)."""

    hyper: gp.Hyperparameters
    factor: Array  # (n, n) Cholesky factor of K + noise I
    weights: Array  # (n,) (K + noise I)^-1 y


class Regression(NamedTuple):
    """Completed trainings, and a process that is conditioned on them."""

    training: TrainingScores  # of n curves
    process: Process


def kernel_ridge(epochs: int) -> Extrapolator:
    """Predicts by Gaussian-process regression on curve and architecture.

    Inputs are `levels_and_slope` of the first epochs, and the features, all of them and
    the target as normal scores. The kernel is

        K = u'u* + exp(-|u - u*|^2 / 2 a^2 - |v - v*|^2 / 2 b^2) + v'v* / c^2

    of the inputs u of the curve and v of the architecture, with a, b, c and the noise of
    the largest posterior density on a design (`gp.fit`). The mean is that of kernel ridge
    regression with the noise as ridge (Rasmussen and Williams, 2006, section 6.2.2).

    Args:
      epochs: number of epochs that are read of each curve.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for epochs below 1.
    """
    check_sizes(epochs=epochs)

    @full_precision
    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> Regression:
        raw = raw_inputs(curves[:, :epochs], features)
        training = fit_training(raw, final, valid)
        inputs, y, used = training.inputs, training.y, training.used
        linear = inputs.curve @ inputs.curve.T
        correlation = lambda parts, scales: linear + _scaled(parts, scales)  # noqa: E731
        hyper = gp.fit(
            correlation, input_parts(inputs, inputs), y, used, kernel_prior(y)
        )
        gram = _kernel(inputs, inputs, hyper.scales)
        factor = jnp.linalg.cholesky(gp.padded_covariance(gram, used, hyper.noise))
        weights = cho_solve((factor, True), y)
        return Regression(training, Process(hyper, factor, weights))

    @full_precision
    def predict(
        params: Regression, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        training = params.training
        row = None if features is None else features[None]
        raw = raw_inputs(curve[None, :epochs], row)
        inputs = to_inputs(training.maps, raw)
        mean, variance = score_moments(_kernel, training, params.process, inputs)
        std = jnp.sqrt(variance)
        std = jnp.where(training.used.sum() >= 2, std, jnp.inf)
        mean, std = value_moments(training.target, mean, std)
        finite = finite_rows(raw)[0]
        return jnp.where(finite, mean, jnp.nan), jnp.where(finite, std, jnp.nan)

    return Extrapolator(fit, predict, epochs)


@full_precision
def score_moments(
    kernel: Callable[[Inputs, Inputs, Array], Array],
    training: TrainingScores,
    process: Process,
    inputs: Inputs,
) -> tuple[Array, Array]:
    """Predicts the normal score of a target.

    Args:
      kernel: K (n, m) of inputs (n, ...), inputs (m, ...) and length-scales.
      training: of n curves.
      process: conditioned on them.
      inputs: one row (1, ...).

    Returns: mean () and variance (), which includes that of the noise.
    """
    hyper = process.hyper
    cross = kernel(inputs, training.inputs, hyper.scales)[0]
    cross = jnp.where(training.used, cross, 0.0)
    white = solve_triangular(process.factor, cross, lower=True)
    prior = kernel(inputs, inputs, hyper.scales)[0, 0] + hyper.noise
    variance = hyper.amplitude * jnp.maximum(prior - white @ white, 1e-6)
    return cross @ process.weights, variance


def _kernel(a: Inputs, b: Inputs, scales: Array) -> Array:
    """K (n, m) of inputs (n, ...) and (m, ...), with scales (3,) = (a, b, c)."""
    return a.curve @ b.curve.T + _scaled(input_parts(a, b), scales)


@full_precision
def input_parts(a: Inputs, b: Inputs) -> Array:
    """Squared distances of curves and of features, and products of features, (3, n, m)."""
    squares = [((x[:, None] - y[None]) ** 2).sum(-1) for x, y in zip(a, b, strict=True)]
    return jnp.stack([*squares, a.arch @ b.arch.T])


def _scaled(parts: Array, scales: Array) -> Array:
    """The Gaussian kernel plus the linear kernel of the features, (n, m).

    Args:
      parts: (3, n, m) of `input_parts`.
      scales: (3,) lengths that the inputs of each part are divided by.
    """
    weights = scales**-2
    gaussian = jnp.exp(-0.5 * (weights[0] * parts[0] + weights[1] * parts[1]))
    return gaussian + weights[2] * parts[2]


def kernel_prior(y: Array) -> gp.HyperparameterPrior:
    """The prior of scales and noise, in the precision of the targets `y`.

    Medians of the scales are longer for features, which may matter less than the curve.
    """
    values = (jnp.array([1.0, 2.0, 2.0]), 0.7, 0.1, 1.0)
    return gp.HyperparameterPrior(*(jnp.asarray(v, y.dtype) for v in values))
