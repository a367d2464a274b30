"""Improvement of the hypervolume by a new point: exact, expected, and by random weights.

Acquisitions of Bayesian optimisation with an independent posterior for each objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.types import Array, check_shapes

_MIN_STD = 1e-9


# Above = (objective, threshold ()) -> (q,), how far each candidate is above a threshold.
_Above = Callable[[int, Array], Array]


def expected_hypervolume_improvement(
    mean: Array, std: Array, front: Array, reference: Array, valid: Array | None = None
) -> Array:
    """Computes the exact expected hypervolume improvement in one or two objectives.

    Independent objectives make the expectation of the improvement within a strip of
    `hypervolume_improvement` a product of expected improvements:

        EHVI(x) = sum_k [EI_1(a_k) - EI_1(a_{k+1})] EI_2(b_{k+1})

    with the front (a_k, b_k) sorted by a (Emmerich et al., 2016; Yang et al., 2019). It
    takes O(n log n + f q) for f points in the front of n.

    Args:
      mean: (m, q) of each objective at q points, m is 1 or 2, higher is better.
      std: (m, q) standard deviations.
      front: (n, m) observed points. Dominated ones, and those not better than the
        reference, change nothing.
      reference: (m,); a bound of an objective that exceeds it can take its place.
      valid: (n,) bool, rows of `front` that count; default: all.

    Returns: (q,), at least 0.
    Raises: `ValueError` for shapes that do not fit together, and for other m.
    """
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    check_shapes(mean=(mean, "mq"), std=(std, "mq"))
    std = jnp.maximum(std, _MIN_STD)

    def above(j: int, threshold: Array) -> Array:
        return _expected_above(mean[j], std[j], threshold)

    return _improvement(above, mean, front, reference, valid)


def hypervolume_improvement(
    values: Array, front: Array, reference: Array, valid: Array | None = None
) -> Array:
    """Computes the exact hypervolume improvement of points in one or two objectives.

    The region above the front is cut into strips of the first objective. In each the
    improvement is a product of the part of the strip and the height above the front.

    Args:
      values: (m, q) of each objective at q points, m is 1 or 2, higher is better.
      front: (n, m) observed points, as for `expected_hypervolume_improvement`.
      reference: (m,), as there.
      valid: (n,) bool, rows of `front` that count; default: all.

    Returns: (q,), at least 0; 0 for points that the front dominates.
    Raises: `ValueError` for shapes that do not fit together, and for other m.
    """
    values = jnp.asarray(values)

    def above(j: int, threshold: Array) -> Array:
        return jnp.maximum(values[j] - threshold, 0.0)

    return _improvement(above, values, front, reference, valid)


def _improvement(
    above: _Above,
    values: Array,
    front: Array,
    reference: Array,
    valid: Array | None,
) -> Array:
    """Sums the improvement (q,) over the strips, of candidates like `values` (m, q)."""
    front = jnp.asarray(front)
    check_shapes(values=(values, "mq"), front=(front, "nm"), reference=(reference, "m"))
    if values.shape[0] not in (1, 2):
        raise ValueError(f"wanted 1 or 2 objectives, not {values.shape[0]}")
    counts = (front > reference).all(1)
    counts = counts if valid is None else counts & valid
    if values.shape[0] == 1:
        best = jnp.where(counts, front[:, 0], -jnp.inf).max(initial=-jnp.inf)
        return above(0, jnp.maximum(best, reference[0]))
    begins, heights, num = _strips(front, reference, counts)

    def add(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, right = carry  # of the first objective, at the right end of strip k
        k = num - k
        left = above(0, begins[k])
        # The two are close for a narrow strip: rounding must not make it negative.
        part = jnp.maximum(left - right, 0.0)
        return total + part * above(1, heights[k]), left

    zero = jnp.zeros_like(values[0])
    # As many rounds as the front has points: its size is no static capacity.
    return jax.lax.fori_loop(0, num + 1, add, (zero, zero))[0]


def _strips(
    front: Array, reference: Array, counts: Array
) -> tuple[Array, Array, Array]:
    """Cuts the first objective into strips at the points of the front.

    Args:
      front: (n, 2).
      reference: (2,).
      counts: (n,) bool, rows that count.

    Returns: begin (n + 1,) and height of the front (n + 1,) of each strip, and the
      number () int32 of the last one; rows after it are padding.
    """
    # Rows that do not count become the reference, whose strip is empty.
    front = jnp.where(counts[:, None], front, reference)
    order = jnp.lexsort((front[:, 1], front[:, 0]))
    first, second = front[order].T
    # The highest point at or to the right of each.
    height = jax.lax.cummax(second, reverse=True)
    after = jnp.append(height[1:], reference[1])
    on_front = counts[order] & (second > after)
    num = on_front.sum(dtype=jnp.int32)
    kept = jnp.argsort(~on_front, stable=True)
    begins = jnp.append(reference[0], first[kept])
    heights = jnp.append(height[kept], reference[1]).at[num].set(reference[1])
    return begins, heights, num


def hypervolume_scalarisation(
    key: Array, values: Array, reference: Array
) -> tuple[Array, Array]:
    """Scalarises points by a random direction from the reference.

        s(y) = min_j max(0, (y_j - r_j) / w_j)

    with w uniform on the positive part of the unit sphere. The mean of the best s^m over
    directions is the hypervolume, up to a constant (Zhang and Golovin, 2020, lemma 5).

    Args:
      key: () PRNG key of the direction.
      values: (m, q), higher is better.
      reference: (m,).

    Returns: s (q,), and the direction w (m,).
    """
    check_shapes(values=(values, "mq"), reference=(reference, "m"))
    direction = jnp.abs(jax.random.normal(key, reference.shape, values.dtype))
    direction = jnp.maximum(direction / jnp.linalg.norm(direction), 1e-3)
    above = jnp.maximum(values - reference[:, None], 0.0)
    return (above / direction[:, None]).min(0), direction


def _expected_above(mean: Array, std: Array, threshold: Array) -> Array:
    """E max(Y - threshold, 0) (q,) of normal variables, at least 0."""
    u = (mean - threshold) / std
    cdf = 0.5 * jax.lax.erfc(-u / math.sqrt(2))
    pdf = jnp.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)
    return std * jnp.maximum(u * cdf + pdf, 0.0)
