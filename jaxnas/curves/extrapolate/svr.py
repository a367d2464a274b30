"""LC-SVR: nu-support-vector regression of final values (Baker et al., 2018).

Cost C, nu and the width gamma of the Gaussian kernel are those of a fixed design that
predict held-out folds best; the dual of each is solved by `nu_svr`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.curves.extrapolate import nu_svr
from jaxnas.curves.extrapolate.inputs import (
    InputScores,
    finite_rows,
    fit_training,
    raw_inputs,
    to_inputs,
)
from jaxnas.curves.extrapolate.normal_scores import NormalScores, value_moments
from jaxnas.curves.extrapolate.summaries import values_and_differences
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.precision import full_precision
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.types import Array, check_sizes

FOLDS = 3
# Largest number of solver steps for each design. Half of the designs converge within 150;
# designs that need more than this are hardly ever the best.
_STEPS = 1000
# Ranges of C and gamma, log-uniform. C is in the unit of the targets.
_RELEASED = {"cost": (1e-5, 10.0), "gamma": (1e-5, 10.0)}
_SCALED = {"cost": (1e-2, 1e2), "gamma": (1e-2, 10.0)}


class Machine(NamedTuple):
    """A fitted regression function, in the units of its targets."""

    rows: Array  # (n, p) training inputs
    coef: Array  # (n,) of the kernel functions
    intercept: Array  # ()
    gamma: Array  # () of the kernel exp(-gamma |x - x'|^2)
    std: Array  # () root mean square of the residuals of held-out folds


class ScoredMachine(NamedTuple):
    """A regression function of normal scores, and the maps to and from them."""

    maps: InputScores
    target: NormalScores
    machine: Machine


def lc_svr(epochs: int, draws: int = 128) -> Extrapolator:
    """Predicts by nu-support-vector regression on curve and architecture.

    Inputs are those of `kernel_ridge`: five levels and slopes of the curve and the
    features, inputs and target as normal scores. Of `draws` points (C, nu,
    gamma), which fill their ranges evenly, the one with the largest mean coefficient of
    determination on three interleaved folds is taken. The standard deviation is the root
    mean squared error on these folds.

    Two thirds of the inputs of `released_lc_svr` are differences, whose noise dominates
    every distance, and a few networks that failed to train decide its targets' scale: on
    200 curves of NAS-Bench-201 it ranks networks worse than the last value does.

    Args:
      epochs: number of epochs that are read of each curve.
      draws: number of points that are tried.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(epochs=epochs, draws=draws)
    designs = _designs(draws, **_SCALED)

    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> ScoredMachine:
        raw = raw_inputs(curves[:, :epochs], features)
        maps, target, inputs, y, used = fit_training(raw, final, valid)
        rows = jnp.concatenate(inputs, 1)
        fold = (jnp.cumsum(used) - 1) % FOLDS
        return ScoredMachine(maps, target, _fit(rows, y, used, fold, designs))

    def predict(
        params: ScoredMachine, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        row = None if features is None else features[None]
        raw = raw_inputs(curve[None, :epochs], row)
        inputs = to_inputs(params.maps, raw)
        mean = evaluate(params.machine, jnp.concatenate(inputs, 1)[0])
        mean, std = value_moments(params.target, mean, params.machine.std)
        finite = finite_rows(raw)[0]
        return jnp.where(finite, mean, jnp.nan), jnp.where(finite, std, jnp.nan)

    return Extrapolator(fit, predict, epochs, FOLDS)


def released_lc_svr(
    epochs: int,
    draws: int = 1000,
    inputs: Callable[[Array], Array] = values_and_differences,
) -> Extrapolator:
    """Predicts as the programs of Yan et al. (2021): LC-SVR on unscaled inputs.

    Hyperparameters are scored by the mean coefficient of determination on three contiguous
    folds, which in a search are ordered by time. The programs draw them at random; here
    they fill the same ranges evenly.

    Args:
      epochs: number of epochs that are read of each curve.
      draws: number of points that are tried.
      inputs: function of the first values (epochs,) of a curve, returns (p,).

    Returns: an extrapolator; features, if there are any, come before the other inputs.
    Raises: `ValueError` for less than three epochs, and for draws below 1.
    """
    check_sizes(epochs=epochs, draws=draws)
    if epochs < 3:
        raise ValueError(f"second differences need 3 epochs, not {epochs}")
    designs = _designs(draws, **_RELEASED)

    def row(curve: Array, features: Array | None) -> Array:
        start = inputs(curve[:epochs])
        return start if features is None else jnp.concatenate([features, start])

    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> Machine:
        rows = jax.vmap(row, (0, None if features is None else 0))(curves, features)
        used = valid & jnp.isfinite(final) & jnp.isfinite(rows).all(1)
        rows, y = jnp.where(used[:, None], rows, 0.0), jnp.where(used, final, 0.0)
        fold = (jnp.cumsum(used) - 1) * FOLDS // jnp.maximum(used.sum(), 1)
        return _fit(rows, y, used, fold, designs)

    def predict(
        params: Machine, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        mean = evaluate(params, row(curve, features))
        return mean, jnp.where(jnp.isfinite(mean), params.std, jnp.nan)

    return Extrapolator(fit, predict, epochs, FOLDS)


def _designs(
    num: int, cost: tuple[float, float], gamma: tuple[float, float]
) -> np.ndarray:
    """(num, 3) points (C, nu, gamma) that fill their ranges evenly.

    Args:
      num: number of points.
      cost: range of C, log-uniform.
      gamma: range of gamma, log-uniform; nu is uniform between 0 and 1.
    """
    uniform = gp.low_discrepancy(num, 3).T
    log = lambda u, low, high: low * (high / low) ** u  # noqa: E731
    return np.stack([log(uniform[0], *cost), uniform[1], log(uniform[2], *gamma)], 1)


def _fit(
    rows: Array, y: Array, used: Array, fold: Array, designs: np.ndarray
) -> Machine:
    """Fits the best design to all rows that count.

    Args:
      rows: (n, p) inputs.
      y: (n,) targets.
      used: (n,) bool, rows that count.
      fold: (n,) number of the fold of each row, below `FOLDS`.
      designs: (num, 3) points (C, nu, gamma).
    """
    squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)

    def score(design: Array) -> tuple[Array, Array]:
        return held_out(squares, y, used, fold, design)

    tried = jnp.asarray(designs, y.dtype)
    scores, errors = jax.lax.map(score, tried, batch_size=16)
    best = jnp.argmax(nan_to_neg_inf(scores))
    cost, nu, gamma = tried[best]
    dual = nu_svr.solve(jnp.exp(-gamma * squares), y, used, cost, nu)
    std = jnp.where(used.sum() >= FOLDS, errors[best], jnp.inf)
    return Machine(rows, dual.coef, dual.intercept, gamma, std)


@full_precision
def held_out(
    squares: Array, y: Array, used: Array, fold: Array, design: Array
) -> tuple[Array, Array]:
    """Scores one point of the design on held-out folds.

    Args:
      squares: (n, n) squared distances of the inputs.
      y: (n,) targets.
      used: (n,) bool, the rows that count.
      fold: (n,) number of the fold of each row.
      design: (3,) C, nu and gamma.

    Returns: the mean coefficient of determination () over the folds, and the root mean
      squared error () over all rows.
    """
    cost, nu, gamma = design
    gram = jnp.exp(-gamma * squares)

    def one(number: Array) -> tuple[Array, Array]:
        test = used & (fold == number)
        dual = nu_svr.solve(gram, y, used & ~test, cost, nu, max_steps=_STEPS)
        error = jnp.where(test, gram @ dual.coef + dual.intercept - y, 0.0)
        mean = jnp.where(test, y, 0.0).sum() / jnp.maximum(test.sum(), 1)
        total = jnp.where(test, (y - mean) ** 2, 0.0).sum()
        square = (error**2).sum()
        return 1 - square / jnp.maximum(total, jnp.finfo(y.dtype).tiny), square

    scores, totals = jax.vmap(one)(jnp.arange(FOLDS))
    return scores.mean(), jnp.sqrt(totals.sum() / jnp.maximum(used.sum(), 1))


@full_precision
def evaluate(machine: Machine, row: Array) -> Array:
    """Evaluates the regression function () at an input (p,)."""
    squares = ((machine.rows - row) ** 2).sum(-1)
    return jnp.exp(-machine.gamma * squares) @ machine.coef + machine.intercept
