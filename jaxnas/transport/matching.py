"""Exact transport between few points of equal mass: an assignment.

The dynamic programme over subsets of columns has no data-dependent control flow, so many
problems run side by side in one compiled program, unlike the Hungarian algorithm.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# The dynamic programme has an entry for each subset of columns: 4,096 for 12.
MAX_COLUMNS = 12


def assignment(
    cost: Array, leave_x: Array | None = None, leave_y: Array | None = None
) -> Array:
    """Computes the least cost of a matching of rows and columns.

    This is transport between points that all have mass 1, some of which may stay unmatched
    at a price: an optimal plan of a linear programme over this polytope is a matching
    (Birkhoff). The least cost over all subsets of columns is found row by row (Bellman,
    1962; Held and Karp, 1962): exact, n m 2^(m-1) additions. Between n and n points of
    mass 1 / n, divide the result by n: then it is the Wasserstein distance.

    Args:
      cost: (n, m, ...), inf where a pair is forbidden. Trailing axes are problems.
      leave_x: (n, ...) prices of unmatched rows; None: all rows must be matched.
      leave_y: (m, ...) prices of unmatched columns. A padded row or column has price 0
        and costs inf.

    Returns: (...) least cost, inf where there is no matching.
    Raises: `ValueError` for more than 12 columns; and if there is no price and n is not
      m, which leaves no matching.
    """
    prices = [p for p in (leave_x, leave_y) if p is not None]
    # Integers have no inf, which is what a forbidden pair costs.
    cost = jnp.asarray(cost, jnp.result_type(float, cost, *prices))
    num_x, num_y = cost.shape[:2]
    trailing = cost.shape[2:]
    for name, price, num in (("x", leave_x, num_x), ("y", leave_y, num_y)):
        if price is not None and jnp.shape(price) != (num, *trailing):
            raise ValueError(
                f"wanted leave_{name} {(num, *trailing)} for costs {cost.shape}, "
                f"found {jnp.shape(price)}"
            )
    if num_y > MAX_COLUMNS:
        raise ValueError(
            f"an exact assignment is for at most {MAX_COLUMNS} columns, not {num_y}: "
            "sinkhorn is for more"
        )
    if leave_x is None and leave_y is None and num_x != num_y:
        raise ValueError(
            f"{num_x} rows and {num_y} columns cannot all be matched: give prices"
        )
    nothing = jnp.full((1, *trailing), jnp.inf, cost.dtype)
    if leave_x is None:
        leave_x = jnp.broadcast_to(nothing, (num_x, *trailing))
    if leave_y is None:
        leave_y = jnp.broadcast_to(nothing, (num_y, *trailing))
    empty = jnp.broadcast_to(nothing, (2**num_y - 1, *trailing))
    best = jnp.concatenate([jnp.zeros_like(nothing), empty])

    def add(best: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
        """`best` (2^m, ...): the least cost that uses exactly this subset of columns."""
        costs, leave = row
        new = best + leave
        for j in range(num_y):
            # By whether column j is in the subset: bit j of its number.
            by_bit = (2 ** (num_y - 1 - j), 2, 2**j, *trailing)
            with_j = best.reshape(by_bit)[:, 0] + costs[j]
            out, within = jnp.moveaxis(new.reshape(by_bit), 1, 0)
            new = jnp.stack([out, jnp.minimum(within, with_j)], 1)
            new = new.reshape(best.shape)
        return new, None

    best, _ = jax.lax.scan(add, best, (cost, leave_x))
    number = np.arange(2**num_y).reshape(-1, *[1] * len(trailing))
    for j in range(num_y):
        unused = (number >> j) % 2 == 0
        best = best + jnp.where(unused, leave_y[j], 0.0)
    return best.min(0)
