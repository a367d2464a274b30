"""Wasserstein-1 distances that have a closed form: on a line and on a tree.

On a tree the mass on the two sides of an edge can only be balanced across that edge, so
W1 is the L1 distance between two fixed vectors of weighted subtree masses (Evans and
Matsen, 2012; Le et al., 2019). A line is the special case of a chain. All functions are
pure, differentiable in masses, positions and lengths, and take one pair: `vmap` them.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.transport.masses import promote_floating, require_equal_totals
from jaxnas.types import Array, check_shapes


def wasserstein_line(u: Array, v: Array, x: Array, y: Array) -> Array:
    """W1 between mass `u` (n,) at positions `x` (n,) and `v` (m,) at `y` (m,).

    The integral of the absolute difference of the two distribution functions. Masses are
    non-negative with equal totals; positions need no order and may repeat.

    Returns: () distance, in the unit of the positions.
    Raises: `ValueError` for unequal totals, where the values are known; in a compiled
      program the value is then the integral up to the last position.
    """
    check_shapes(u=(u, "n"), x=(x, "n"), v=(v, "m"), y=(y, "m"))
    require_equal_totals(u, v)
    u, v, x, y = promote_floating(u, v, x, y)
    position = jnp.concatenate([x, y])
    order = jnp.argsort(position)
    position = position[order]
    surplus = jnp.cumsum(jnp.concatenate([u, -v])[order])
    return jnp.sum(jnp.abs(surplus[:-1]) * jnp.diff(position))


def wasserstein_tree(u: Array, v: Array, subtrees: Array, lengths: Array) -> Array:
    """W1 between masses `u` (l,) and `v` (l,) on the nodes of a tree.

    Args:
      subtrees: (e, l) 0/1, row i marks the nodes below edge i; see `subtrees_of`.
      lengths: (e,) non-negative edge lengths.
      u: (l,) masses.
      v: (l,) masses.

    Returns: () distance. With unequal totals the difference is created at the root.
    """
    check_shapes(u=(u, "l"), v=(v, "l"))
    u, v = promote_floating(u, v)
    return jnp.sum(jnp.abs(tree_embedding(u - v, subtrees, lengths)))


@full_precision
def tree_embedding(mass: Array, subtrees: Array, lengths: Array) -> Array:
    """Embeds masses on a tree so that their L1 distances are `wasserstein_tree`.

    Args:
      mass: (l,) on the nodes.
      subtrees: (e, l), as for `wasserstein_tree`.
      lengths: (e,), as for `wasserstein_tree`.

    Returns: (e,) weighted subtree masses.
    """
    check_shapes(mass=(mass, "l"), subtrees=(subtrees, "el"), lengths=(lengths, "e"))
    mass = jnp.asarray(mass, jnp.result_type(float, mass))
    return lengths * (jnp.asarray(subtrees, mass.dtype) @ mass)


def subtrees_of(parent: np.ndarray | list[int]) -> np.ndarray:
    """Makes the `subtrees` argument for a rooted tree given by the parent of each node.

    Args:
      parent: (n,) the index of each node's parent, -1 for the one root.

    Returns: (n, n) bool, row i marks node i and all nodes below it: edge i leads from
      node i to its parent. The root's row has every node; give it length 0.

    Raises: `ValueError` unless there is one root and no cycle.
    """
    above = np.asarray(parent)
    num = len(above)
    if above.ndim != 1 or not np.issubdtype(above.dtype, np.integer):
        raise ValueError(
            f"parent is a vector of integers, not {above.dtype} {above.shape}"
        )
    if (above == -1).sum() != 1 or above.min() < -1 or above.max() >= num:
        raise ValueError(
            f"parent has one -1 and else 0..{num - 1}, not {above.tolist()}"
        )
    below = np.eye(num, dtype=bool)
    node = above.copy()
    for _ in range(num):
        has = np.flatnonzero(node >= 0)
        below[node[has], has] = True
        node[has] = above[node[has]]
    if (node >= 0).any():
        raise ValueError(f"parent has a cycle: {above.tolist()}")
    return below


def farey_sequence(order: int) -> np.ndarray:
    """Lists the fractions in [0, 1] with denominators up to `order`, ascending.

    Returns: (n, 2) int32, numerators and denominators.
    Raises: `ValueError` for an order below 1.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order}")
    fractions = {(p // math.gcd(p, q), q // math.gcd(p, q)) for q in range(1, order + 1)
             for p in range(q + 1)}  # fmt: skip
    return np.array(sorted(fractions, key=lambda f: f[0] / f[1]), np.int32)


@full_precision
def layer_embedding(mass: Array, num_layers: Array, *, shift: int) -> Array:
    """An embedding of histograms over layers whose L1 distances are exactly W1.

    Layer i of M stands at (i + shift) / M on the line. All such positions for up to v
    layers are Farey fractions of order v, so W1 is a sum over one fixed grid.

    Args:
      mass: (v,) non-negative, by layer; layers from `num_layers` on are empty.
      num_layers: () int, M, between 1 and v.
      shift: 0 or 1.

    Returns: (number of Farey fractions - 1,) in the dtype of `mass`, of floats.
    """
    grid = farey_sequence(mass.shape[0])
    layer = jnp.arange(mass.shape[0])
    # (i + shift) / M <= p / q, in integers: rounding would move mass across a grid point.
    reached = (layer + shift) * grid[:-1, 1:] <= grid[:-1, :1] * num_layers
    gaps = np.diff(grid[:, 0] / grid[:, 1])
    mass = jnp.asarray(mass, jnp.result_type(float, mass))
    return jnp.asarray(gaps, mass.dtype) * (reached.astype(mass.dtype) @ mass)
