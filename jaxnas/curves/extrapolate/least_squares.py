"""Least-squares fits of families of curves, many curves at once.

Variable projection (Golub and Pereyra, 1973): intercept and factor of `families` have a
closed form, and Levenberg-Marquardt steps with Kaufman's (1975) derivatives move the two
coordinates of the shape. A grid over the coordinates is divided into parts, whose best
points are the starts. Curves are on the last axis of every array, and all families are one
compiled loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate.families import Coordinates, Family
from jaxnas.curves.extrapolate.family_arrays import (
    GRID_SIZE,
    Constants,
    evaluate_shape,
    stack,
)
from jaxnas.precision import full_precision
from jaxnas.types import Array

# Least absolute value of the factor of a family with a sign.
_LEAST_FACTOR = 1e-6
_TINY = 1e-30


class Fits(NamedTuple):
    """Fits of k families to b curves."""

    intercept: Array  # (k, b) c
    factor: Array  # (k, b) s
    z: Array  # (k, 2, b) coordinates of the shape, 0 where the family has fewer
    square: Array  # (k, b) sum of squared residuals


class Data(NamedTuple):
    """b curves of n epochs, with the curves on the last axis."""

    x: Array  # (n, 1) epochs
    y: Array  # (n, b) values
    weight: Array  # (n, b) 1 at observed epochs, else 0


def fit(
    families: Sequence[Family],
    curves: Array,
    observed: Array,
    starts: int = 4,
    steps: int = 12,
) -> Fits:
    """Fits all families to all curves from several starts, and keeps the best.

    Args:
      families: k families.
      curves: (b, n) values between 0 and 1 at epochs 1 to n.
      observed: (b, n) bool; where False, the curve may hold anything.
      starts: number of starting points of each fit, a divisor of 256.
      steps: Levenberg-Marquardt steps from each.

    Returns: for each curve and family the fit with the least sum of squared residuals,
      which is infinite if none is finite.
    Raises: `ValueError` for another number of starts.
    """
    if starts < 1 or GRID_SIZE % starts:
        raise ValueError(f"starts must be a divisor of {GRID_SIZE}, not {starts}")
    constants = stack(families)
    data = _data(curves, observed)
    num = curves.shape[0]
    repeat = lambda a: jnp.tile(a, (1, starts))  # noqa: E731
    repeated = Data(data.x, repeat(data.y), repeat(data.weight))

    def fit_family(constants: Constants) -> Fits:
        begin = _starting_points(families, constants, data, starts)
        fits = _refine(families, constants, repeated, begin, steps)
        best = jnp.argmin(fits.square.reshape(starts, num), 0)
        at = best * num + jnp.arange(num)
        return Fits(*(part[..., at] for part in fits))

    return jax.lax.map(fit_family, constants)


def _data(curves: Array, observed: Array) -> Data:
    """Curves (b, n) with the epochs first, 0 where not observed."""
    x = jnp.arange(1, curves.shape[1] + 1).astype(curves.dtype)[:, None]
    y = jnp.where(observed, curves, 0.0).T
    return Data(x, y, observed.T.astype(curves.dtype))


@full_precision
def _starting_points(
    families: Sequence[Family], constants: Constants, data: Data, num: int
) -> Array:
    """Chooses the best point of each of `num` parts of the grid.

    Args:
      families: k families.
      constants: of one family.
      data: b curves.
      num: number of starts.

    Returns: coordinates (2, num b), the starts of one curve b apart.
    """
    grid = constants.grid.astype(data.y.dtype)
    size = grid.shape[1]
    shapes = evaluate_shape(families, constants.index, (grid[:1], grid[1:]), data.x)
    y, weight = data.y, data.weight
    first, second = shapes.T @ weight, (shapes**2).T @ weight
    cross = shapes.T @ (weight * y)
    count, total = weight.sum(0), (weight * y).sum(0)
    intercept, factor = _linear(constants, first, second, cross, count, total)
    # Sum of squared residuals, less that of squared values, which no point changes.
    square = factor**2 * second + intercept**2 * count - 2 * factor * cross
    square = square + 2 * intercept * (factor * first - total)
    square = jnp.where(jnp.isfinite(square), square, jnp.inf)
    parts = square.reshape(num, size // num, -1)
    at = jnp.argmin(parts, 1) + (size // num) * jnp.arange(num)[:, None]
    return grid[:, at.reshape(-1)]


def _linear(
    constants: Constants,
    first: Array,
    second: Array,
    cross: Array,
    count: Array,
    total: Array,
) -> tuple[Array, Array]:
    """Solves for intercept and factor, from sums over the observed epochs.

    Args:
      constants: of the family.
      first: (..., b) sum of the shape.
      second: (..., b) sum of its square.
      cross: (..., b) sum of its product with the values.
      count: (b,) number of epochs.
      total: (b,) sum of the values.

    Returns: intercept and factor, (..., b) each; the factor has the sign of the family.
    """
    count = jnp.maximum(count, 1)
    with_intercept = constants.intercept.astype(first.dtype)
    spread = second - with_intercept * first**2 / count
    slope = cross - with_intercept * first * total / count
    slope = slope / jnp.maximum(spread, _TINY)
    sign = constants.sign.astype(first.dtype)
    signed = sign * jnp.maximum(sign * slope, _LEAST_FACTOR)
    slope = jnp.where(constants.sign == 0, slope, signed)
    slope = jnp.where(constants.factor > 0, slope, 1.0)
    return with_intercept * (total - slope * first) / count, slope


class _Point(NamedTuple):
    """Points of b searches, with the linear fits there and their derivatives."""

    z: Coordinates  # (b,) each
    intercept: Array  # (b,)
    factor: Array  # (b,)
    square: Array  # (b,)
    gradient: Coordinates  # (b,) each, of half the square
    # Entries (0, 0), (0, 1) and (1, 1) of J' J, (b,) each, J as of Kaufman.
    normal: tuple[Array, Array, Array]


def _refine(
    families: Sequence[Family], constants: Constants, data: Data, z: Array, steps: int
) -> Fits:
    """Makes Levenberg-Marquardt steps, of which those that do not improve are undone.

    Args:
      families: k families.
      constants: of one family.
      data: b curves.
      z: (2, b) coordinates to start from.
      steps: number of steps.

    Returns: the fits of the family, without the leading axis.
    """
    low, high = constants.low.astype(z.dtype), constants.high.astype(z.dtype)

    def step(carry: tuple[_Point, Array], _: None) -> tuple[tuple[_Point, Array], None]:
        point, damping = carry
        move = _step(point, damping, low, high)
        z = tuple(jnp.clip(point.z[i] - move[i], low[i], high[i]) for i in (0, 1))
        new = _evaluate(families, constants, data, (z[0], z[1]))
        better = new.square < point.square
        point = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, point)
        return (point, damping * jnp.where(better, 0.2, 6.0)), None

    begin = _evaluate(families, constants, data, (z[0], z[1]))
    damping = jnp.full_like(begin.square, 1e-2)
    (end, _), _ = jax.lax.scan(step, (begin, damping), None, steps)
    return Fits(end.intercept, end.factor, jnp.stack(end.z), end.square)


def _evaluate(
    families: Sequence[Family], constants: Constants, data: Data, z: Coordinates
) -> _Point:
    """Solves the linear problem at coordinates, and differentiates its residual.

    Args:
      families: k families.
      constants: of one family.
      data: b curves.
      z: coordinates (b,) each.
    """
    x, y, weight = data
    at = lambda a, b: evaluate_shape(families, constants.index, (a, b), x)  # noqa: E731
    ones, zeros = jnp.ones_like(z[0]), jnp.zeros_like(z[0])
    value, first_tangent = jax.jvp(at, z, (ones, zeros))
    _, second_tangent = jax.jvp(at, z, (zeros, ones))
    # Centred, so that single precision keeps the small variation of flat shapes.
    count = jnp.maximum(weight.sum(0), 1)
    fitted = constants.intercept.astype(y.dtype)
    centre = fitted * (weight * value).sum(0) / count
    value = value - centre
    terms = (value, value**2, value * y)
    first, second, cross = ((weight * term).sum(0) for term in terms)
    total = (weight * y).sum(0)
    intercept, factor = _linear(constants, first, second, cross, count, total)
    residual = weight * (intercept + factor * value - y)
    columns = [weight * factor * t for t in (first_tangent, second_tangent)]
    # Projected: intercept and factor compensate for part of every change.
    columns = [c - weight * fitted * c.sum(0) / count for c in columns]
    along = constants.factor.astype(y.dtype) / jnp.maximum(second, _TINY)
    columns = [c - weight * value * ((c * value).sum(0) * along) for c in columns]
    # The gradient needs no further term: the residual is orthogonal to the projection.
    gradient = tuple((c * residual).sum(0) for c in columns)
    pairs = ((0, 0), (0, 1), (1, 1))
    normal = tuple((columns[i] * columns[j]).sum(0) for i, j in pairs)
    intercept = intercept - factor * centre
    square = (residual**2).sum(0)
    square = jnp.where(jnp.isfinite(square), square, jnp.inf)
    return _Point(z, intercept, factor, square, gradient, normal)  # pyright: ignore


def _step(point: _Point, damping: Array, low: Array, high: Array) -> Coordinates:
    """Solves (J' J + damping diag(J' J)) move = gradient (Marquardt, 1963).

    A coordinate at a bound that the descent would leave is held.

    Args:
      point: b points.
      damping: (b,).
      low: (2,) lower bounds of the coordinates.
      high: (2,) upper bounds.

    Returns: the moves (b,) of both coordinates, to be subtracted.
    """
    held = [
        ((z <= low[i]) & (g > 0)) | ((z >= high[i]) & (g < 0))
        for i, (z, g) in enumerate(zip(point.z, point.gradient, strict=True))
    ]
    a, b, d = point.normal
    tiny = jnp.finfo(a.dtype).tiny ** 0.5
    a, d = (jnp.maximum(v, tiny) * (1 + damping) for v in (a, d))
    b = jnp.where(held[0] | held[1], 0.0, b)
    g, h = (jnp.where(f, 0.0, v) for f, v in zip(held, point.gradient, strict=True))
    determinant = jnp.maximum(a * d - b * b, 1e-7 * a * d)
    return (d * g - b * h) / determinant, (a * h - b * g) / determinant
