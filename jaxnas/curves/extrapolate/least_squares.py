"""Least-squares fits of families of curves, many curves at once.

Variable projection (Golub and Pereyra, 1973): intercept and factor of `families` are
solved in closed form, and Levenberg-Marquardt steps with Kaufman's (1975) derivatives move
the two coordinates of the shape. The starts are the best points of parts of a grid over
the coordinates. Curves are on the last axis of every array, and families are a loop of one
program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves.extrapolate.families import Coordinates, Family
from jaxnas.types import Array

# Points of the grid along each coordinate, and along the only one.
_SIDE, _LINE = 16, 256
# The factor of a family with a sign is at least this.
_LEAST_FACTOR = 1e-6
_TINY = 1e-30


class Fits(NamedTuple):
    """Fits of k families to b curves."""

    intercept: Array  # (k, b) c
    factor: Array  # (k, b) s
    z: Array  # (k, 2, b)
    square: Array  # (k, b) sum of squared residuals


class Constants(NamedTuple):
    """What the loop over k families knows of each."""

    index: Array  # (k,) of its shape
    grid: Array  # (k, 2, g) starting points
    low: Array  # (k, 2) bounds of the coordinates, equal where there is none
    high: Array  # (k, 2)
    sign: Array  # (k,) of the factor, 0: any
    intercept: Array  # (k,) 0 or 1: whether it is fitted
    factor: Array  # (k,) 0 or 1


class Data(NamedTuple):
    """Curves, and sums over their epochs that fits need again and again."""

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
      starts: starting points of each fit.
      steps: Levenberg-Marquardt steps from each.

    Returns: for each curve and family the fit with the least square.
    """
    constants = constants_of(families)
    data = _data(curves, observed)
    num = curves.shape[0]
    repeat = lambda a: jnp.tile(a, (1, starts))  # noqa: E731
    many = Data(data.x, repeat(data.y), repeat(data.weight))

    def one(constants: Constants) -> tuple[Array, ...]:
        begin = _starting_points(families, constants, data, starts)
        found = _refine(families, constants, many, begin, steps)
        square = found[-1].reshape(starts, num)
        best = jnp.argmin(jnp.where(jnp.isnan(square), jnp.inf, square), 0)
        at = best * num + jnp.arange(num)
        return tuple(part[..., at] for part in found)

    return Fits(*jax.lax.map(one, constants))


def constants_of(families: Sequence[Family]) -> Constants:
    """The constants of families; a family's shape is found by its position."""
    boxes = np.zeros((len(families), 2, 2))
    grids = []
    for box, family in zip(boxes, families, strict=True):
        box[: len(family.box)] = family.box or 0
        num = _LINE if len(family.box) < 2 else _SIDE
        # Inside of the box, whose edges are the limits of other shapes.
        lines = [low + (high - low) * (np.arange(num) + 0.5) / num for low, high in box]
        lines[1] = lines[1] if len(family.box) > 1 else np.zeros(1)
        grids.append(np.stack([g.ravel() for g in np.meshgrid(*lines, indexing="ij")]))
    flags = lambda name: np.array([float(getattr(f, name)) for f in families])  # noqa: E731
    arrays = (
        *(np.arange(len(families)), np.stack(grids), boxes[..., 0], boxes[..., 1]),
        *(flags(name) for name in ("sign", "intercept", "factor")),
    )
    return Constants(*map(jnp.asarray, arrays))


def shape(families: Sequence[Family], index: Array, z: Coordinates, x: Array) -> Array:
    """The shape of the family at a position, which may be traced."""
    size = jnp.broadcast_shapes(z[0].shape, x.shape)
    branches = [
        lambda z, x, f=family: jnp.broadcast_to(f.shape(z, x), size)
        for family in families
    ]
    return jax.lax.switch(index, branches, z, x)


def _data(curves: Array, observed: Array) -> Data:
    x = jnp.arange(1, curves.shape[1] + 1).astype(curves.dtype)[:, None]
    y = jnp.where(observed, curves, 0.0).T
    return Data(x, y, observed.T.astype(curves.dtype))


def _starting_points(
    families: Sequence[Family], constants: Constants, data: Data, num: int
) -> Array:
    """Coordinates (2, num b) of the best point of each of `num` parts of the grid."""
    grid = constants.grid.astype(data.y.dtype)
    size = grid.shape[1]
    given = (grid[:, None, :][0], grid[:, None, :][1])
    shapes = shape(families, constants.index, given, data.x)
    y, weight = data.y, data.weight
    sums = (
        shapes.T @ weight,
        (shapes**2).T @ weight,
        shapes.T @ (weight * y),
        weight.sum(0),
        (weight * y).sum(0),
    )
    intercept, factor = _linear(constants, *sums)
    # The square but for the sum of the squared values, from the normal equations.
    first, second, cross, total, mean = sums
    square = factor**2 * second + intercept**2 * total - 2 * factor * cross
    square = square + 2 * intercept * (factor * first - mean)
    square = jnp.where(jnp.isfinite(square), square, jnp.inf)
    parts = square.reshape(num, size // num, -1)
    at = jnp.argmin(parts, 1) + (size // num) * jnp.arange(num)[:, None]
    return grid[:, at.reshape(-1)]


def _linear(
    constants: Constants,
    first: Array,
    second: Array,
    cross: Array,
    total: Array,
    mean: Array,
) -> tuple[Array, Array]:
    """Intercept and factor of least squares, from sums over the observed epochs.

    Args:
      constants: of the family.
      first: of the shape.
      second: of its square.
      cross: of its product with the values.
      total: number of epochs.
      mean: sum of the values.
    """
    total = jnp.maximum(total, 1)
    with_intercept = constants.intercept.astype(first.dtype)
    spread = second - with_intercept * first**2 / total
    slope = (cross - with_intercept * first * mean / total) / jnp.maximum(spread, _TINY)
    sign = constants.sign.astype(first.dtype)
    signed = sign * jnp.maximum(sign * slope, _LEAST_FACTOR)
    slope = jnp.where(constants.sign == 0, slope, signed)
    slope = jnp.where(constants.factor > 0, slope, 1.0)
    return with_intercept * (mean - slope * first) / total, slope


class _Point(NamedTuple):
    """A point of the search, with the linear fit there and its derivatives."""

    z: Coordinates  # of (b,)
    intercept: Array  # (b,)
    factor: Array  # (b,)
    square: Array  # (b,)
    gradient: Coordinates  # of half the square
    normal: tuple[Array, Array, Array]  # (0, 0), (0, 1) and (1, 1) of Kaufman's J' J


def _refine(
    families: Sequence[Family], constants: Constants, data: Data, z: Array, steps: int
) -> tuple[Array, ...]:
    """Levenberg-Marquardt steps from coordinates (2, b): c, s, z (2, b) and square."""
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
    return end.intercept, end.factor, jnp.stack(end.z), end.square


def _evaluate(
    families: Sequence[Family], constants: Constants, data: Data, z: Coordinates
) -> _Point:
    """The linear fit at coordinates, the square, and derivatives along them."""
    x, y, weight = data
    at = lambda a, b: shape(families, constants.index, (a, b), x)  # noqa: E731
    ones, zeros = jnp.ones_like(z[0]), jnp.zeros_like(z[0])
    value, first_tangent = jax.jvp(at, z, (ones, zeros))
    _, second_tangent = jax.jvp(at, z, (zeros, ones))
    # Centred, so that single precision keeps the small variation of flat shapes.
    total = jnp.maximum(weight.sum(0), 1)
    fitted = constants.intercept.astype(y.dtype)
    centre = fitted * (weight * value).sum(0) / total
    value = value - centre
    sums = ((weight * a).sum(0) for a in (value, value**2, value * y))
    first, second, cross = sums
    mean = (weight * y).sum(0)
    intercept, factor = _linear(constants, first, second, cross, total, mean)
    residual = weight * (intercept + factor * value - y)
    columns = [weight * factor * t for t in (first_tangent, second_tangent)]
    # Derivatives without what a change of intercept and factor makes up for.
    columns = [c - weight * fitted * c.sum(0) / total for c in columns]
    along = constants.factor.astype(y.dtype) / jnp.maximum(second, _TINY)
    columns = [c - weight * value * ((c * value).sum(0) * along) for c in columns]
    # The residual is orthogonal to what was taken out, but for rounding errors.
    gradient = tuple((c * residual).sum(0) for c in columns)
    pairs = ((0, 0), (0, 1), (1, 1))
    normal = tuple((columns[i] * columns[j]).sum(0) for i, j in pairs)
    intercept = intercept - factor * centre
    square = (residual**2).sum(0)
    square = jnp.where(jnp.isfinite(square), square, jnp.inf)
    return _Point(z, intercept, factor, square, gradient, normal)  # pyright: ignore


def _step(point: _Point, damping: Array, low: Array, high: Array) -> Coordinates:
    """Solves (J' J + damping diag(J' J)) move = gradient inside the box.

    A coordinate at a bound that the gradient pushes against is held.
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
