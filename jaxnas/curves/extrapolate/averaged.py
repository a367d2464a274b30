"""Regression of final values, averaged over the hyperparameters of its kernel.

As `regression`, with a Matern kernel, and in place of the most probable hyperparameters a
mean over a design of them: the integral of Rasmussen and Williams (2006, eq. 5.3) by
quasi-Monte Carlo.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from jaxnas import gp
from jaxnas.batching import map_each
from jaxnas.curves.extrapolate.inputs import (
    Inputs,
    TrainingScores,
    finite_rows,
    fit_training,
    raw_inputs,
    to_inputs,
)
from jaxnas.curves.extrapolate.normal_scores import value_moments
from jaxnas.curves.extrapolate.regression import (
    Process,
    input_parts,
    kernel_prior,
    score_moments,
)
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.precision import full_precision
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.types import Array, check_sizes


class AveragedRegression(NamedTuple):
    """Processes with p hyperparameters, and the probability of each."""

    training: TrainingScores  # of n curves
    processes: Process  # leading axis (p,)
    probability: Array  # (p,)


def averaged_gp(epochs: int, points: int = 64) -> Extrapolator:
    """Predicts by Gaussian processes on curve and architecture, averaged.

    Inputs, target and prior are those of `kernel_ridge`; the kernel is

        K = u'u* + (1 + r) exp(-r) + v'v* / c^2
        r^2 = 3 (|u - u*|^2 / a^2 + |v - v*|^2 / b^2)

    of the inputs u of the curve and v of the architecture. Points of a design of a, b, c
    and the noise, which fill their prior evenly, are weighed by their marginal likelihood
    with the best amplitude. The prediction has the moments of the mixture.

    Args:
      epochs: number of epochs that are read of each curve.
      points: number p of points of the design.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(epochs=epochs, points=points)
    design = gp.normal_design(points, 4)

    @full_precision
    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> AveragedRegression:
        training = fit_training(raw_inputs(curves[:, :epochs], features), final, valid)
        prior = kernel_prior(training.y)
        medians = jnp.append(prior.scales, prior.noise)
        spread = jnp.append(jnp.full(3, prior.spread), prior.noise_spread)
        values = medians * jnp.exp(spread * jnp.asarray(design, medians.dtype))
        evidence, processes = map_each(lambda v: _conditioned(training, v), values)
        probability = jax.nn.softmax(nan_to_neg_inf(evidence))
        return AveragedRegression(training, processes, probability)

    @full_precision
    def predict(
        params: AveragedRegression, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        training, share = params.training, params.probability
        row = None if features is None else features[None]
        raw = raw_inputs(curve[None, :epochs], row)
        inputs = to_inputs(training.maps, raw)
        one = lambda p: score_moments(_kernel, training, p, inputs)  # noqa: E731
        means, variances = jax.vmap(one)(params.processes)
        mean = share @ means
        std = jnp.sqrt(share @ (variances + (means - mean) ** 2))
        std = jnp.where(training.used.sum() >= 2, std, jnp.inf)
        mean, std = value_moments(training.target, mean, std)
        finite = finite_rows(raw)[0]
        return jnp.where(finite, mean, jnp.nan), jnp.where(finite, std, jnp.nan)

    return Extrapolator(fit, predict, epochs)


def _conditioned(training: TrainingScores, value: Array) -> tuple[Array, Process]:
    """The log marginal likelihood (), and the process that is conditioned.

    Args:
      training: of n curves.
      value: (4,) three scales and the noise.
    """
    inputs, y, used = training.inputs, training.y, training.used
    scales, noise = value[:-1], value[-1]
    gram = _kernel(inputs, inputs, scales)
    evidence, amplitude = gp.profile_log_marginal(gram, y, used, noise)
    factor = jnp.linalg.cholesky(gp.padded_covariance(gram, used, noise))
    hyper = gp.Hyperparameters(scales, noise, amplitude)
    return evidence, Process(hyper, factor, cho_solve((factor, True), y))


def _kernel(a: Inputs, b: Inputs, scales: Array) -> Array:
    """K (n, m) of inputs (n, ...) and (m, ...), with scales (3,) = (a, b, c)."""
    parts, weights = input_parts(a, b), scales**-2
    # The root has no derivative at 0, and float32 distances may fall below it.
    square = 3 * (weights[0] * parts[0] + weights[1] * parts[1])
    distance = jnp.sqrt(jnp.maximum(square, 1e-12))
    matern = (1 + distance) * jnp.exp(-distance)
    return a.curve @ b.curve.T + matern + weights[2] * parts[2]
