"""Gromov-Wasserstein distances between small graphs, many pairs at once.

The problem is quadratic and not convex: every solver finds a local optimum. This one is
the proximal point method (Xu et al., 2019): each step solves a linear problem whose
entropy is relative to the plan before, so that the entropy fades as the steps converge
and leaves no bias. All pairs take the same number of steps; each is solved by scaling a
kernel, as in `entropic`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.transport import entropic
from jaxnas.transport.masses import promote_floating, promote_problem
from jaxnas.types import Array


def gromov_wasserstein(
    x: Array,
    y: Array,
    u: Array,
    v: Array,
    *,
    epsilon: float = 0.2,
    num_steps: int = 10,
    num_scalings: int = 10,
) -> Array:
    """Computes the Gromov-Wasserstein discrepancy of two structures.

    It is the minimum over plans P of sum (x_ik - y_jl)^2 P_ij P_kl (Memoli, 2011).

    Of 200 random pairs of NAS-Bench-201 cells, directed edges on paths to the output,
    values differ from those of POT's conditional gradient, of mean 0.10, by 0.009 in
    the mean, with a rank correlation of 0.971. Both are local optima: ours is lower by more
    than 0.001 in 12% of the pairs, and higher in 48% (25% with 20 steps).

    Args:
      x: (n, n, ...) structure matrices, such as adjacency matrices; they need not be
        symmetric. Trailing axes are pairs.
      y: (m, m, ...) structure matrices.
      u: (n, ...) masses of the vertices, 0 for padding.
      v: (m, ...) masses, of the same totals.
      epsilon: weight of the entropy of a step, in the unit of the squared entries of the
        structures. Half of it takes twice as many steps; with a large one the steps do
        not converge in time.
      num_steps: linear problems.
      num_scalings: Sinkhorn iterations for each of them.

    Returns: (...) values of plans with exactly these marginals: not below the minimum.
    Raises: `ValueError` for other shapes; and, outside compiled programs, for unequal
      totals.
    """
    shape = np.shape(x)[:1] + np.shape(y)[:1] + np.shape(x)[2:]
    settings = (epsilon, num_steps, num_scalings)
    return _proximal(x, y, u, v, np.zeros(shape, np.float32), 1.0, *settings)


def fused_gromov_wasserstein(
    x: Array,
    y: Array,
    u: Array,
    v: Array,
    cost: Array,
    *,
    alpha: float = 0.5,
    epsilon: float = 0.2,
    num_steps: int = 10,
    num_scalings: int = 10,
) -> Array:
    """Computes the fused Gromov-Wasserstein discrepancy, of structure and labels.

    It is the minimum over plans P of (1 - alpha) <cost, P> + alpha sum (x_ik - y_jl)^2
    P_ij P_kl (Vayer et al., 2019, eq. 3, with squared loss).

    Of the same 200 pairs, with the costs of labels of `kernels.graph_distances`, values
    differ from POT's, of mean 0.42, by 0.005 in the mean; rank correlation 0.998.

    Args:
      x: (n, n, ...), as for `gromov_wasserstein`, and so are the others.
      y: (m, m, ...) structure matrices.
      u: (n, ...) masses.
      v: (m, ...) masses.
      cost: (n, m, ...) between the labels of vertices.
      alpha: from 0 (labels alone: transport) to 1 (structure alone).
      epsilon: weight of the entropy of a step.
      num_steps: linear problems.
      num_scalings: Sinkhorn iterations for each of them.

    Returns: (...).
    Raises: `ValueError` as `gromov_wasserstein`.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if np.shape(cost)[:2] != (len(u), len(v)):
        raise ValueError(
            f"wanted costs {(len(u), len(v))} of {len(u)} and {len(v)} vertices, found "
            f"{np.shape(cost)}"
        )
    settings = (epsilon, num_steps, num_scalings)
    (cost,) = promote_floating(cost)
    return _proximal(x, y, u, v, (1 - alpha) * cost, alpha, *settings)


@full_precision
def _proximal(
    x: Array,
    y: Array,
    u: Array,
    v: Array,
    linear: Array | np.ndarray,
    alpha: float,
    epsilon: float,
    num_steps: int,
    num_scalings: int,
) -> Array:
    """Runs the proximal point method.

    Args:
      x: (n, n, ...) structures.
      y: (m, m, ...) structures.
      u: (n, ...) masses.
      v: (m, ...) masses.
      linear: (n, m, ...) linear part of the objective.
      alpha: weight of the quadratic part.
      epsilon: weight of the entropy of a step.
      num_steps: linear problems.
      num_scalings: Sinkhorn iterations for each of them.

    Returns: (...) linear plus alpha times quadratic part at the last plan.
    """
    entropic.require_solver_settings(epsilon, num_steps)
    entropic.require_solver_settings(epsilon, num_scalings)
    x, y, linear, u, v = promote_problem(x, y, linear, u, v)
    if x.shape[:2] != (u.shape[0],) * 2 or y.shape[:2] != (v.shape[0],) * 2:
        raise ValueError(
            f"structures of {u.shape[0]} and {v.shape[0]} vertices are square, not of "
            f"shapes {x.shape} and {y.shape}"
        )
    # sum_kl (x_ik - y_jl)^2 P_kl is a sum of squares, which depends on the marginals
    # alone (Peyre et al., 2016, prop. 1), less twice x P y'. The gradient is that plus the
    # same for the transposed structures.
    ahead = _squares(x, y, u, v)
    behind = _squares(x.swapaxes(0, 1), y.swapaxes(0, 1), u, v)
    both_x = jnp.concatenate([x, x.swapaxes(0, 1)], 0)
    both_y = jnp.concatenate([y.swapaxes(0, 1), y], 0)

    def products(plan: Array) -> Array:
        """x P y' + x' P y, in two products of matrices."""
        left = jnp.einsum("ik...,kl...->il...", both_x, plan)
        left = jnp.concatenate(jnp.split(left, 2), 1)
        return jnp.einsum("ik...,kl...->il...", left, both_y)

    def step(_: Array, plan: Array) -> Array:
        gradient = linear + alpha * (ahead + behind - 2 * products(plan))
        cost = entropic.subtract_minima(gradient, u, v)
        kernel = plan * jnp.exp(-cost / epsilon)
        return entropic.plan_from(entropic.scale_kernel(kernel, u, v, num_scalings))

    plan = jax.lax.fori_loop(0, num_steps, step, _start(u, v))
    # Rounding corrects marginals by a product of masses, a bad plan: leave it little.
    plan = entropic.plan_from(entropic.scale_kernel(plan, u, v, 5 * num_scalings))
    plan = entropic.round_to_marginals(plan, u, v)
    quadratic = (ahead + behind) / 2 - products(plan)
    return jnp.sum((linear + alpha * quadratic) * plan, (0, 1))


def _start(u: Array, v: Array) -> Array:
    """The initial plan: the product of the masses, a little heavier at equal indices.

    From the product itself, vertices that a symmetry of the graph exchanges would stay
    matched to each other half and half: a saddle, at which the steps never move on.
    """
    offset = jnp.arange(u.shape[0])[:, None] - jnp.arange(v.shape[0])[None]
    near = jnp.exp(-0.01 * offset.astype(u.dtype) ** 2)
    return near.reshape(*near.shape, *[1] * (u.ndim - 1)) * u[:, None] * v[None]


def _squares(x: Array, y: Array, u: Array, v: Array) -> Array:
    """sum_k x_ik^2 u_k + sum_l y_jl^2 v_l, (n, m, ...)."""
    of_x = jnp.einsum("ik...,k...->i...", x**2, u)
    of_y = jnp.einsum("jl...,l...->j...", y**2, v)
    return of_x[:, None] + of_y[None]
