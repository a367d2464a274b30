"""Indicators of fronts: distance to a true front, and what repeated runs attain."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.types import Array, check_shapes


def igd_plus(scores: Array, front: Array, valid: Array | None = None) -> Array:
    """Computes the modified inverted generational distance, IGD+.

    The mean over a true front of the distance to the nearest point of the set, of which
    only what is missing counts: d+ = |max(z - a, 0)| (Ishibuchi et al., 2015, eq. 18).

    Args:
      scores: (n, m) of the set, higher is better; points that lack a value do not count.
      front: (k, m), the true front. Objectives should be scaled alike.
      valid: (n,) bool, rows of `scores` that count; default: all.

    Returns: (), 0 where the set attains the whole front, inf for an empty set.
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores, front = jnp.asarray(scores), jnp.asarray(front)
    check_shapes(scores=(scores, "nm"), front=(front, "km"))
    counts = ~jnp.isnan(scores).any(1)
    if valid is not None:
        check_shapes(scores=(scores, "nm"), valid=(valid, "n"))
        counts &= valid

    def nearest(point: Array) -> Array:
        missing = jnp.linalg.norm(jnp.maximum(point - scores, 0.0), axis=1)
        return jnp.where(counts, missing, jnp.inf).min(initial=jnp.inf)

    return jax.lax.map(nearest, front, batch_size=64).mean()


def attained(scores: Array, grid: Array, valid: Array | None = None) -> Array:
    """Finds the best second objective of points whose first is at least a threshold.

    Args:
      scores: (n, 2), higher is better; points that lack a value do not count.
      grid: (g,) thresholds of the first objective.
      valid: (n,) bool, rows that count; default: all.

    Returns: (g,), -inf where no point reaches the threshold.
    Raises: `ValueError` for shapes that do not fit together, and for other than two
      objectives.
    """
    scores, grid = jnp.asarray(scores), jnp.asarray(grid)
    check_shapes(scores=(scores, "nm"), grid=(grid, "g"))
    if scores.shape[1] != 2:
        raise ValueError(f"wanted 2 objectives, not {scores.shape[1]}")
    counts = ~jnp.isnan(scores).any(1)
    counts = counts if valid is None else counts & valid
    reaches = counts & (scores[:, 0] >= grid[:, None])
    return jnp.where(reaches, scores[:, 1], -jnp.inf).max(1, initial=-jnp.inf)


def attainment_surfaces(scores: Array, grid: Array, levels: Array) -> Array:
    """Computes what shares of repeated runs attain (Grunert da Fonseca et al., 2001).

    A run attains a point that one of its own weakly dominates. The surface of a level is
    the best second objective that at least this share of the runs attains: level 0.5 is
    the median front, and levels 0.25 and 0.75 are a band around it.

    Args:
      scores: (runs, n, 2), higher is better; NaN does not count.
      grid: (g,) thresholds of the first objective.
      levels: (k,) shares of the runs, above 0 and at most 1.

    Returns: (k, g), -inf where fewer runs reach the threshold.
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores = jnp.asarray(scores)
    check_shapes(scores=(scores, "rnm"), grid=(grid, "g"), levels=(levels, "k"))
    best = jax.vmap(attained, (0, None))(scores, grid)
    descending = -jnp.sort(-best, axis=0)
    runs = len(scores)
    # 0.3 of 10 runs are 3, although 10 * 0.3 is slightly more in binary.
    number = jnp.ceil(jnp.asarray(levels) * runs - 1e-4).astype(jnp.int32)
    return descending[jnp.clip(number, 1, runs) - 1]
