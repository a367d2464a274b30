"""Hypervolume of a set of points, exact in up to three objectives.

The hypervolume is the size of the region that is dominated by a point of the set and
dominates the reference point (Zitzler and Thiele, 1999).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.pareto.dominance import non_dominated
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_shapes


@full_precision
def hypervolume(scores: Array, reference: Array, valid: Array | None = None) -> Array:
    """Computes the hypervolume, in O(n log n) for two objectives and O(n^2) for three.

    Args:
      scores: (n, m) with m from 1 to 3, higher is better. Points that are not better than
        the reference in every objective, or lack a value, add nothing.
      reference: (m,), worse than what is of interest.
      valid: (n,) bool, rows that count; default: all.

    Returns: (), in the product of the units of the objectives.
    Raises: `ValueError` for shapes that do not fit together, and for other m.
    """
    scores, reference = jnp.asarray(scores), jnp.asarray(reference)
    check_shapes(scores=(scores, "nm"), reference=(reference, "m"))
    volumes = {1: _length, 2: _area, 3: _volume}
    if scores.shape[1] not in volumes:
        raise ValueError(f"wanted 1 to 3 objectives, not {scores.shape[1]}")
    counts = ~jnp.isnan(scores).any(1)
    if valid is not None:
        check_shapes(scores=(scores, "nm"), valid=(valid, "n"))
        counts &= valid
    above = jnp.where(jnp.isnan(scores), 0.0, jnp.maximum(scores - reference, 0.0))
    return volumes[scores.shape[1]](above, counts)


def hypervolume_so_far(scores: Array, reference: Array) -> Array:
    """Computes the hypervolume after each evaluation.

    Args:
      scores: (t, m) in the order of evaluation, higher is better.
      reference: (m,).

    Returns: (t,), which never falls.
    Raises: `ValueError` as `hypervolume` does.
    """
    scores = jnp.asarray(scores)
    so_far = jnp.tri(len(scores), dtype=bool)  # row t: evaluations 0 to t
    return jax.vmap(hypervolume, (None, None, 0))(scores, reference, so_far)


def reference_point(
    scores: Array, valid: Array | None = None, margin: float = 0.1
) -> Array:
    """Places a reference point beyond the nadir of a front.

    nadir - margin (ideal - nadir), with the best values of the front as ideal and its
    worst values as nadir: every point of the front has a hypervolume of its own.

    Args:
      scores: (n, m), higher is better; points that lack a value do not count.
      valid: (n,) bool, rows that count, of which there is at least one; default: all.
      margin: distance from the nadir, relative to the range of the front.

    Returns: (m,).
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores = jnp.asarray(scores)
    complete = ~jnp.isnan(scores).any(-1)
    front = non_dominated(scores, complete if valid is None else complete & valid)
    nadir = jnp.where(front[:, None], scores, jnp.inf).min(0)
    ideal = jnp.where(front[:, None], scores, -jnp.inf).max(0)
    return nadir - margin * (ideal - nadir)


def _length(above: Array, valid: Array) -> Array:
    """Length () that points (n, 1) dominate above 0."""
    return jnp.where(valid, above[:, 0], 0.0).max(initial=0.0)


def _area(above: Array, valid: Array) -> Array:
    """Area () that points (n, 2) dominate above 0."""
    order = jnp.argsort(-above[:, 0])
    # A row that does not count has height 0, so that the order is the same for any mask.
    height = jnp.where(valid, above[:, 1], 0.0)[order]
    return _staircase(above[order, 0], height)


def _volume(above: Array, valid: Array) -> Array:
    """Volume () that points (n, 3) dominate above 0, as a sum of slices of the third."""
    order = jnp.argsort(-above[:, 0])
    width, depth, level = above[order].T
    depth = jnp.where(valid[order], depth, 0.0)
    levels = -jnp.sort(-level)
    thickness = levels - jnp.append(levels[1:], 0.0)

    def slice_area(bottom: Array) -> Array:
        return _staircase(width, jnp.where(level >= bottom, depth, 0.0))

    # One after another: the slices of many points side by side would need n^2 memory.
    return jax.lax.map(slice_area, levels, batch_size=64) @ thickness


def _staircase(width: Array, height: Array) -> Array:
    """Area () below a union of rectangles from the origin; widths (n,) descend."""
    top = jax.lax.cummax(height)
    rise = top - jnp.append(jnp.zeros_like(top[:1]), top[:-1])
    return width @ rise
