"""What a trace of scores says about a search. Higher score is better.

Scores are arrays (..., t) in the order of evaluation, NaN where an evaluation failed; a
trace (seeds, steps, b) is reshaped to (seeds, steps * b) first. NumPy and JAX arrays
alike go in; JAX arrays come out.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnas.types import Array


def _cummax(x: Array) -> Array:
    return jax.lax.cummax(x, axis=x.ndim - 1)


def best_so_far(score: ArrayLike) -> Array:
    """The best score (..., t) up to each evaluation; NaN until one has succeeded."""
    best = _cummax(_comparable(score))
    return jnp.where(best == -jnp.inf, jnp.nan, best)


def incumbent(score: ArrayLike) -> Array:
    """The index (..., t) int32 of the best evaluation so far, the first among equals.

    It is -1 until an evaluation has succeeded.
    """
    score = _comparable(score)
    best = _cummax(score)
    before = jnp.concatenate(
        [jnp.full_like(best[..., :1], -jnp.inf), best[..., :-1]], axis=-1
    )
    index = jnp.arange(score.shape[-1], dtype=jnp.int32)
    return _cummax(jnp.where(score > before, index, -1))


def at_incumbent(score: ArrayLike, other: ArrayLike) -> Array:
    """Another metric (..., t) of the architecture that has the best score so far.

    This is what a search that sees only `score` (say, validation accuracy) would report
    as its test accuracy: NaN until an evaluation has succeeded.
    """
    index, other = incumbent(score), _floating(other)
    if index.shape != other.shape:
        raise ValueError(
            f"score and other must have one shape, not {index.shape} and {other.shape}"
        )
    value = jnp.take_along_axis(other, jnp.maximum(index, 0), axis=-1)
    return jnp.where(index < 0, jnp.nan, value)


def regret(score: ArrayLike, optimum: ArrayLike) -> Array:
    """How far (..., t) the best score so far is below `optimum`, which broadcasts."""
    return jnp.asarray(optimum) - best_so_far(score)


def queries_to(score: ArrayLike, target: ArrayLike, tol: float = 0.0) -> Array:
    """Evaluations (...) until a score is at least `target - tol`; inf if none is.

    Args:
      score: (..., t).   target: (...), or one number for all.
    """
    reached = _floating(score) >= jnp.asarray(target)[..., None] - tol
    first = jnp.argmax(reached, axis=-1) + 1.0
    return jnp.where(reached.any(-1), first, jnp.inf)


def median(x: ArrayLike, axis: int = 0) -> Array:
    """The median over `axis`, where inf stands for 'never'.

    It is inf once half of the values are: `jnp.median` gives NaN there, from inf * 0.
    """
    x = jnp.sort(_floating(x), axis=axis)
    num = x.shape[axis]
    if num == 0:
        raise ValueError("the median of no values is not defined")
    low, high = (jnp.take(x, i, axis=axis) for i in ((num - 1) // 2, num // 2))
    return jnp.where(low == high, low, (low + high) / 2)


def mean_and_sem(x: ArrayLike, axis: int = 0) -> tuple[Array, Array]:
    """The mean over `axis` and its standard error, sqrt(sample variance / n).

    The standard error of one value is NaN.
    """
    x = _floating(x)
    num = x.shape[axis]
    sem = jnp.std(x, axis=axis, ddof=1) / jnp.sqrt(num) if num > 1 else jnp.nan
    mean = jnp.mean(x, axis=axis)
    return mean, jnp.broadcast_to(sem, mean.shape)


def wilson(hits: int, num: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share of which `hits` of `num` were seen (Wilson, 1927).

    Raises: `ValueError` unless 0 <= hits <= num, num is positive and 0 < level < 1.
    """
    if not (0 <= hits <= num and num > 0 and 0 < level < 1):
        raise ValueError(f"no interval of {hits} of {num} at the level {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, total = hits / num, num + z * z
    middle = (hits + z * z / 2) / total
    half = z / total * math.sqrt(num * share * (1 - share) + z * z / 4)
    # Rounding must not leave 0 or 1 outside.
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return (0.0 if not hits else low), (1.0 if hits == num else high)


def _floating(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def _comparable(score: ArrayLike) -> Array:
    """Scores (..., t), where a failed one is worse than all."""
    score = _floating(score)
    if score.ndim == 0 or score.shape[-1] == 0:
        raise ValueError(
            f"score must have evaluations (..., t), not shape {score.shape}"
        )
    return jnp.where(jnp.isnan(score), -jnp.inf, score)
