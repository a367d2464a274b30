"""LC-SVR: nu-support-vector regression of final values (Baker et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.curves.extrapolate import nu_svr
from jaxnas.curves.extrapolate.normal_scores import (
    fit_normal_scores,
    to_scores,
    value_moments,
)
from jaxnas.curves.extrapolate.regression import (
    finite_rows,
    fit_inputs,
    raw_inputs,
    to_inputs,
)
from jaxnas.curves.extrapolate.summaries import values_and_differences
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.types import Array, check_sizes

FOLDS = 3
# Steps of the solver for each of the hyper-parameters that are tried, half of which need
# fewer than 150; the others are hardly ever the best.
_STEPS = 1000
# Ranges of C and gamma, log-uniform; of C in the deviations of the target.
_RELEASED = {"cost": (1e-5, 10.0), "gamma": (1e-5, 10.0)}
_SCALED = {"cost": (1e-2, 1e2), "gamma": (1e-2, 10.0)}


class Machine(NamedTuple):
    """A fitted regression; it predicts in the units of its targets."""

    rows: Array  # (n, p) training inputs
    coef: Array  # (n,)
    intercept: Array  # ()
    gamma: Array  # () of the kernel exp(-gamma |x - x'|^2)
    std: Array  # () root mean square of the residuals of held-out folds


class Svr(NamedTuple):
    """A fitted LC-SVR."""

    maps: Any  # of inputs; None for inputs as they are
    target: Any  # NormalScores; None for targets as they are
    machine: Machine


def lc_svr(epochs: int, draws: int = 128) -> Extrapolator:
    """Predicts by nu-support-vector regression on curve and architecture.

    Inputs are those of `kernel_ridge`: five levels and slopes of the curve and the
    features, inputs and target as normal scores. Of `draws` hyper-parameters C, nu and
    gamma, which fill their ranges evenly, those with the least error on three interleaved
    folds are taken.

    Why not the inputs of `released_lc_svr`: two thirds of its numbers are differences,
    whose noise dominates every distance, and a few failed networks decide its scores. On
    200 curves of NAS-Bench-201 it orders networks worse than the last value does.

    Args:
      epochs: number of epochs that are read of each curve.
      draws: hyper-parameters that are tried.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(epochs=epochs, draws=draws)
    designs = _designs(draws, **_SCALED)

    def fit(curves: Array, final: Array, valid: Array, features: Array | None) -> Svr:
        raw = raw_inputs(curves[:, :epochs], features)
        used = valid & jnp.isfinite(final) & finite_rows(raw)
        maps, inputs = fit_inputs(raw, used)
        target = fit_normal_scores(final, used)
        y = jnp.where(used, to_scores(target, final), 0.0)
        rows = jnp.concatenate(inputs, 1)
        fold = (jnp.cumsum(used) - 1) % FOLDS
        return Svr(maps, target, _fit(rows, y, used, fold, designs))

    def predict(
        params: Svr, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        one = None if features is None else features[None]
        row = raw_inputs(curve[None, :epochs], one)
        inputs = to_inputs(params.maps, row)
        mean = evaluate(params.machine, jnp.concatenate(inputs, 1)[0])
        mean, std = value_moments(params.target, mean, params.machine.std)
        fine = finite_rows(row)[0]
        return jnp.where(fine, mean, jnp.nan), jnp.where(fine, std, jnp.nan)

    return Extrapolator(fit, predict, epochs, FOLDS)


def released_lc_svr(
    epochs: int,
    draws: int = 1000,
    inputs: Callable[[Array], Array] = values_and_differences,
) -> Extrapolator:
    """LC-SVR as the programs of Yan et al. (2021) use it: nothing is scaled.

    The score of hyper-parameters is the mean coefficient of determination on three
    contiguous folds, which in a search are ordered by time. The programs draw at random,
    here the draws fill the same ranges evenly.

    Args:
      epochs: number of epochs that are read of each curve.
      draws: hyper-parameters that are tried.
      inputs: numbers of the start (epochs,) of a curve.

    Returns: an extrapolator; features, if there are any, come before the other inputs.
    Raises: `ValueError` for less than three epochs, and for draws below 1.
    """
    check_sizes(epochs=epochs, draws=draws)
    if epochs < 3:
        raise ValueError(f"second differences need 3 epochs, not {epochs}")
    designs = _designs(draws, **_RELEASED)

    def row(curve: Array, features: Array | None) -> Array:
        found = inputs(curve[:epochs])
        return found if features is None else jnp.concatenate([features, found])

    def fit(curves: Array, final: Array, valid: Array, features: Array | None) -> Svr:
        rows = jax.vmap(row, (0, None if features is None else 0))(curves, features)
        used = valid & jnp.isfinite(final) & jnp.isfinite(rows).all(1)
        rows, y = jnp.where(used[:, None], rows, 0.0), jnp.where(used, final, 0.0)
        fold = (jnp.cumsum(used) - 1) * FOLDS // jnp.maximum(used.sum(), 1)
        return Svr(None, None, _fit(rows, y, used, fold, designs))

    def predict(
        params: Svr, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        mean = evaluate(params.machine, row(curve, features))
        return mean, jnp.where(jnp.isfinite(mean), params.machine.std, jnp.nan)

    return Extrapolator(fit, predict, epochs, FOLDS)


def _designs(
    num: int, cost: tuple[float, float], gamma: tuple[float, float]
) -> np.ndarray:
    """(num, 3) of C, nu and gamma."""
    uniform = gp.low_discrepancy(num, 3).T
    log = lambda u, low, high: low * (high / low) ** u  # noqa: E731
    return np.stack([log(uniform[0], *cost), uniform[1], log(uniform[2], *gamma)], 1)


def _fit(
    rows: Array, y: Array, used: Array, fold: Array, designs: np.ndarray
) -> Machine:
    """The machine of the best hyper-parameters, fitted to all rows that count."""
    squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)

    def score(design: Array) -> tuple[Array, Array]:
        return held_out(squares, y, used, fold, design)

    tried = jnp.asarray(designs, y.dtype)
    scores, errors = jax.lax.map(score, tried, batch_size=16)
    best = jnp.argmax(jnp.where(jnp.isfinite(scores), scores, -jnp.inf))
    cost, nu, gamma = tried[best]
    dual = nu_svr.solve(jnp.exp(-gamma * squares), y, used, cost, nu)
    std = jnp.where(used.sum() >= FOLDS, errors[best], jnp.inf)
    return Machine(rows, dual.coef, dual.intercept, gamma, std)


def held_out(
    squares: Array, y: Array, used: Array, fold: Array, design: Array
) -> tuple[Array, Array]:
    """Mean coefficient of determination over the folds, and the root mean squared error.

    Args:
      squares: (n, n) squared distances of the inputs.
      y: (n,) targets.
      used: (n,) bool, the rows that count.
      fold: (n,) number of the fold of each row.
      design: (3,) C, nu and gamma.
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

    scores, squares_ = jax.vmap(one)(jnp.arange(FOLDS))
    return scores.mean(), jnp.sqrt(squares_.sum() / jnp.maximum(used.sum(), 1))


def evaluate(machine: Machine, row: Array) -> Array:
    """The regression function () at an input (p,)."""
    squares = ((machine.rows - row) ** 2).sum(-1)
    return jnp.exp(-machine.gamma * squares) @ machine.coef + machine.intercept
