"""Entropic transport by a fixed number of Sinkhorn steps, for many small problems.

The plan is a kernel exp(-cost / epsilon) with scaled rows and columns (Cuturi, 2013).
Scaling the kernel itself is 25 times faster than working with logarithms, and safe in
float32: the least cost of each row, and then of each column, is taken off first, which
the scaling makes up for, so that no row or column of the kernel can vanish.
"""

from __future__ import annotations

import functools
import operator
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from jaxnas.transport.masses import promote_problem
from jaxnas.types import Array

# Its square is a float32 still, which the derivative of a division needs.
_TINY = 1e-18


class ScaledKernel(NamedTuple):
    """A kernel (n, m, ...) and the factors (n, ...), (m, ...) that make it a plan."""

    kernel: Array
    rows: Array
    columns: Array


def sinkhorn(
    cost: Array, u: Array, v: Array, *, epsilon: float = 0.05, num_steps: int = 200
) -> Array:
    """The transport cost of `sinkhorn_plan`, (...): never below the exact one.

    Raises: `ValueError` as `sinkhorn_plan`.

    Between the vertices of 200 random pairs of NAS-Bench-201 cells, with costs from 0 to
    2, it is above POT's exact values, of mean 0.81, by 0.003 in the mean and by 0.012 at
    most; their rank correlation is 0.9998.
    """
    cost, u, v = _problem(cost, u, v)
    plan = sinkhorn_plan(cost, u, v, epsilon=epsilon, num_steps=num_steps)
    return _sum(jnp.where(plan > 0, cost, 0.0) * plan)


def sinkhorn_plan(
    cost: Array, u: Array, v: Array, *, epsilon: float = 0.05, num_steps: int = 200
) -> Array:
    """A plan (n, m, ...) between masses `u` (n, ...) and `v` (m, ...), of equal totals.

    Args:
      cost: (n, m, ...) anything finite where a mass is 0: such points are padding.
        Trailing axes are problems.
      epsilon: how much entropy, in the unit of the cost.
      num_steps: of both rows and columns; what is then amiss is put right (Altschuler et
        al., 2017, algorithm 2), so that the plan has exactly these marginals.

    Raises: `ValueError` for other shapes, and for unequal totals where the values are
      known, which they are not in a compiled program.
    """
    require_solver_settings(epsilon, num_steps)
    cost, u, v = _problem(cost, u, v)
    scaled = scale_kernel(_kernel(cost, u, v, epsilon), u, v, num_steps)
    return round_to_marginals(plan_from(scaled), u, v)


def sinkhorn_divergence(
    cost: Array,
    cost_x: Array,
    cost_y: Array,
    u: Array,
    v: Array,
    *,
    epsilon: float = 0.05,
    num_steps: int = 200,
) -> Array:
    """Entropic transport without its bias (Feydy et al., 2019, eq. 3): (...).

    S(u, v) = T(u, v) - T(u, u) / 2 - T(v, v) / 2, with T the cost plus epsilon times the
    entropy of the plan relative to the product of its marginals. It is 0 for equal
    measures, and not negative where exp(-cost / epsilon) is a positive definite kernel.

    Args:
      cost, cost_x, cost_y: (n, m, ...), (n, n, ...), (m, m, ...) between x and y, within
        x, and within y.

    Raises: `ValueError` as `sinkhorn_plan`.
    """
    require_solver_settings(epsilon, num_steps)
    objective = functools.partial(entropic_cost, epsilon=epsilon, num_steps=num_steps)
    within = objective(cost_x, u, u) + objective(cost_y, v, v)
    return objective(cost, u, v) - within / 2


def entropic_cost(
    cost: Array, u: Array, v: Array, *, epsilon: float, num_steps: int
) -> Array:
    """The least of <cost, P> + epsilon KL(P | u v'), (...)."""
    require_solver_settings(epsilon, num_steps)
    cost, u, v = _problem(cost, u, v)
    plan = plan_from(scale_kernel(_kernel(cost, u, v, epsilon), u, v, num_steps))
    plan = round_to_marginals(plan, u, v)
    product = jnp.where(plan > 0, u[:, None] * v[None], 1.0)
    entropy = xlogy(plan, jnp.where(plan > 0, plan, 1.0) / product)
    return _sum(jnp.where(plan > 0, cost, 0.0) * plan + epsilon * entropy)


def scale_kernel(kernel: Array, u: Array, v: Array, num_steps: int) -> ScaledKernel:
    """Scales rows and columns of a kernel in turn, to sums `u` and then `v`."""

    def step(_: Array, columns: Array) -> Array:
        rows = u / jnp.maximum(_weighted_rows(kernel, columns), _TINY)
        return v / jnp.maximum(_weighted_columns(kernel, rows), _TINY)

    columns = jax.lax.fori_loop(0, num_steps, step, jnp.ones_like(v))
    rows = u / jnp.maximum(_weighted_rows(kernel, columns), _TINY)
    return ScaledKernel(kernel, rows, columns)


def plan_from(scaled: ScaledKernel) -> Array:
    """The plan (n, m, ...) of a scaled kernel."""
    return scaled.rows[:, None] * scaled.kernel * scaled.columns[None]


def round_to_marginals(plan: Array, u: Array, v: Array) -> Array:
    """A plan near to `plan` (n, m, ...) with exactly these marginals.

    Rows and then columns that have too much are scaled down, and what is missing is
    added as a product (Altschuler et al., 2017, algorithm 2).
    """
    plan = plan * jnp.minimum(1.0, u / jnp.maximum(plan.sum(1), _TINY))[:, None]
    plan = plan * jnp.minimum(1.0, v / jnp.maximum(plan.sum(0), _TINY))[None]
    missing_u = jnp.maximum(u - plan.sum(1), 0.0)
    missing_v = jnp.maximum(v - plan.sum(0), 0.0)
    total = jnp.maximum(missing_u.sum(0), _TINY)
    return plan + missing_u[:, None] * (missing_v / total)[None]


def subtract_minima(cost: Array, u: Array, v: Array) -> Array:
    """`cost` less the least of each row, then of each column, where there is mass.

    The same plans are optimal. Elsewhere it is inf.
    """
    mass = (u > 0)[:, None] & (v > 0)[None]
    for axis in (1, 0):
        least = jnp.min(jnp.where(mass, cost, jnp.inf), axis, keepdims=True)
        # Points without mass have no least cost.
        cost = cost - jax.lax.stop_gradient(jnp.where(least < jnp.inf, least, 0.0))
    return jnp.where(mass, cost, jnp.inf)


def _problem(*problem: Array) -> tuple[Array, ...]:
    """Cost, u and v in one type; `ValueError` for other shapes and unequal totals."""
    shapes = [np.shape(x) for x in problem]
    sides, problems = shapes[0][:2], shapes[0][2:]
    if len(sides) < 2 or shapes[1:] != [(n, *problems) for n in sides]:
        found = ", ".join(map(str, shapes))
        raise ValueError(
            f"cost, u, v must be (n, m, ...), (n, ...), (m, ...), not {found}"
        )
    return promote_problem(*problem)


def _kernel(cost: Array, u: Array, v: Array, epsilon: float) -> Array:
    return jnp.exp(-subtract_minima(cost, u, v) / epsilon)


def _weighted_rows(kernel: Array, columns: Array) -> Array:
    # Written out: a sum over an axis that is not the last takes 20 times as long on a
    # CPU. With few problems a product of matrices is as good, and compiles sooner.
    terms = (kernel[:, j] * columns[j] for j in range(kernel.shape[1]))
    return functools.reduce(operator.add, terms)


def _weighted_columns(kernel: Array, rows: Array) -> Array:
    terms = (kernel[i] * rows[i] for i in range(kernel.shape[0]))
    return functools.reduce(operator.add, terms)


def _sum(x: Array) -> Array:
    return x.sum((0, 1))


def require_solver_settings(epsilon: float, num_steps: int) -> None:
    """Raises `ValueError` for settings with which no solver can begin."""
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    if not isinstance(num_steps, Integral) or num_steps < 1:
        raise ValueError(
            f"num_steps must be a whole number of at least 1, not {num_steps!r}"
        )
