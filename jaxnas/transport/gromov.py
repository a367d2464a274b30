"""Gromov-Wasserstein distances between small graphs, many pairs at once.

The problem is a quadratic one, and not convex: every solver finds a local optimum. Ours
is the proximal point method (Xu et al., 2019): each step solves a linear problem whose
entropy is relative to the plan before, so that the entropy fades as the steps converge
and leaves no bias. All pairs take the same number of steps, by scaling the kernel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

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
    """How much two structures differ: min sum (x_ik - y_jl)^2 P_ij P_kl (Memoli, 2011).

    Of 200 random pairs of NAS-Bench-201 cells, directed edges on paths to the output,
    values differ from those of POT's conditional gradient, of mean 0.10, by 0.009 in
    the mean, with a rank correlation of 0.971. Both are local optima: ours is lower by more
    than 0.001 in 12% of the pairs, and higher in 48% (25% with 20 steps).

    Args:
      x, y: (n, n, ...) and (m, m, ...) structure matrices, such as adjacency matrices;
        they need not be symmetric. Trailing axes are pairs.
      u, v: (n, ...) and (m, ...) masses of the vertices, of equal totals, 0 for padding.
      epsilon: the weight of the entropy of a step, in the unit of the squared entries
        of the structures. Half of it takes twice as many steps; too large a one
        does not arrive.
      num_steps: linear problems.  num_scalings: Sinkhorn steps for each of them.

    Returns: (...) the value of a plan with exactly these marginals: not below the least.
    Raises: `ValueError` for other shapes, and for unequal totals where the values are
      known, which they are not in a compiled program.
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
    """Structure and labels together (Vayer et al., 2019, eq. 3, with squared loss).

    The least of (1 - alpha) <cost, P> + alpha sum (x_ik - y_jl)^2 P_ij P_kl.

    Of the same 200 pairs, with the costs of labels of `kernels.graph_distances`, values
    differ from POT's, of mean 0.42, by 0.005 in the mean; rank correlation 0.998.

    Args:
      cost: (n, m, ...) between the labels of vertices.
      alpha: from 0 (labels alone: transport) to 1 (structure alone).
      x, y, u, v, epsilon, num_steps, num_scalings: as for `gromov_wasserstein`.

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


def _proximal(x, y, u, v, linear, alpha, epsilon, num_steps, num_scalings) -> Array:
    """The value of linear plus alpha times quadratic, where the steps end."""
    entropic.require_solver_settings(epsilon, num_steps)
    entropic.require_solver_settings(epsilon, num_scalings)
    x, y, linear, u, v = promote_problem(x, y, linear, u, v)
    if x.shape[:2] != (u.shape[0],) * 2 or y.shape[:2] != (v.shape[0],) * 2:
        raise ValueError(
            f"structures of {u.shape[0]} and {v.shape[0]} vertices are square, not of "
            f"shapes {x.shape} and {y.shape}"
        )
    # sum_kl (x_ik - y_jl)^2 P_kl is what the squares give, which depends on the
    # marginals alone (Peyre et al., 2016, prop. 1), less twice x P y'. The gradient has
    # the same for the transposed structures.
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
    # What is still amiss would be put right by a product, which is a bad plan.
    plan = entropic.plan_from(entropic.scale_kernel(plan, u, v, 5 * num_scalings))
    plan = entropic.round_to_marginals(plan, u, v)
    quadratic = (ahead + behind) / 2 - products(plan)
    return jnp.sum((linear + alpha * quadratic) * plan, (0, 1))


def _start(u: Array, v: Array) -> Array:
    """The product of the masses, a little heavier where places are near.

    From the product itself, vertices that a symmetry of the graph exchanges would stay
    matched to each other half and half: a saddle, at which the steps never move on.
    """
    places = jnp.arange(u.shape[0])[:, None] - jnp.arange(v.shape[0])[None]
    near = jnp.exp(-0.01 * places.astype(u.dtype) ** 2)
    return near.reshape(*near.shape, *[1] * (u.ndim - 1)) * u[:, None] * v[None]


def _squares(x: Array, y: Array, u: Array, v: Array) -> Array:
    of_x = jnp.einsum("ik...,k...->i...", x**2, u)
    of_y = jnp.einsum("jl...,l...->j...", y**2, v)
    return of_x[:, None] + of_y[None]
