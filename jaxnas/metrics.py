"""Metrics of a trace of scores, computed on the host. Higher score is better.

Scores are arrays (..., t) in the order of evaluation, NaN where an evaluation failed; a
trace (seeds, steps, b) is reshaped to (seeds, steps * b) first. A trace with idle slots
goes through `compact`, so that positions count evaluations.

    asked = types.asked(query)
    score, cost = compact(asked, score, cost)
    grid = cost_grid(cost)
    mean, sem = mean_and_sem(at_cost(cost, best_so_far(score), grid))

NumPy and JAX arrays go in, NumPy arrays come out. Values that are picked out of the input
keep its precision; sums, differences and means are float64, whatever JAX is set to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.typing import ArrayLike

Host: TypeAlias = np.ndarray[Any, Any]


def best_so_far(score: ArrayLike) -> Host:
    """Computes the score of the incumbent after each evaluation.

    Args:
      score: (..., t); -inf counts as a failed evaluation, as NaN does.

    Returns: (..., t), NaN until an evaluation has succeeded.
    """
    best = np.maximum.accumulate(_comparable(score), axis=-1)
    return np.where(best == -np.inf, np.nan, best)


def incumbent(score: ArrayLike) -> Any:
    """Finds the incumbent after each evaluation, the first among equals.

    Args:
      score: (..., t); may be traced, as searches call this inside compiled programs.

    Returns: (..., t) indices, -1 until an evaluation has succeeded: int64 on the host, or
      a traced int32 array for traced scores.
    """
    if isinstance(score, core.Tracer):
        index = _first_of_best(jnp, jax.lax.cummax, jnp.asarray(score))
        return index.astype(jnp.int32)
    cummax = lambda x, axis: np.maximum.accumulate(x, axis=axis)  # noqa: E731
    return _first_of_best(np, cummax, _floating(score))


def at_incumbent(score: ArrayLike, other: ArrayLike) -> Host:
    """Looks up another metric of the incumbent after each evaluation.

    Such as the test accuracy, for a search that sees only validation accuracies.

    Args:
      score: (..., t) that the search sees.
      other: (..., t) metric to report.

    Returns: (..., t), NaN until an evaluation has succeeded.
    Raises: `ValueError` for different shapes.
    """
    index, other = incumbent(score), _floating(other)
    if index.shape != other.shape:
        raise ValueError(
            f"score and other must have one shape, not {index.shape} and {other.shape}"
        )
    value = np.take_along_axis(other, np.maximum(index, 0), axis=-1)
    return np.where(index < 0, np.nan, value)


def regret(score: ArrayLike, optimum: ArrayLike) -> Host:
    """Computes the simple regret: how far the incumbent is below the optimum.

    The optimum is rounded to the precision of the scores first: the best architecture has
    no regret in float32 although its float64 score is another number.

    Args:
      score: (..., t).
      optimum: the best score there is; it broadcasts.

    Returns: (..., t) float64, NaN until an evaluation has succeeded.
    """
    best = best_so_far(score).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf is NaN
        return _rounded(optimum, score) - best


def queries_to(score: ArrayLike, target: ArrayLike, tol: float = 0.0) -> Host:
    """Counts the evaluations until a score is at least `target - tol`.

    Args:
      score: (..., t).
      target: (...), or one number for all, rounded to the precision of the scores.
      tol: tolerance.

    Returns: (...) float64, inf if the target is never reached.
    """
    _require_evaluations(np.shape(score))
    reached = _floating(score) >= _rounded(target, score)[..., None] - tol
    return np.where(reached.any(-1), np.argmax(reached, axis=-1) + 1.0, np.inf)


def compact(asked: ArrayLike, *values: ArrayLike) -> tuple[Host, ...]:
    """Moves the slots that asked for an evaluation to the front, in their order.

    Args:
      asked: (..., t) bool, as from `types.asked`.
      *values: arrays (..., t): scores, costs, rows of a table.

    Returns: arrays (..., t) float, in the order of `values`, NaN past the slots asked. A
      run of m evaluations has them in its first m places.
    Raises: `ValueError` if `asked` is not boolean, or a shape differs from its own.
    """
    asked = np.asarray(asked)
    if asked.dtype != bool or asked.ndim == 0:
        raise ValueError(
            f"asked must be bool (..., t), not {asked.dtype} {asked.shape}"
        )
    order = np.argsort(~asked, axis=-1, kind="stable")
    front = np.take_along_axis(asked, order, axis=-1)
    moved = []
    for value in map(_floating, values):
        if value.shape != asked.shape:
            raise ValueError(
                f"values must have the shape {asked.shape} of asked, not {value.shape}"
            )
        moved.append(np.where(front, np.take_along_axis(value, order, -1), np.nan))
    return tuple(moved)


def cut_short(asked: ArrayLike, cost: ArrayLike, time: ArrayLike) -> Host:
    """Tells whether a run with a budget reached its last step before its budget.

    Args:
      asked: (..., steps, b) bool, which slots asked for something.
      cost: (..., steps, b), what each slot cost, of the trace.
      time: (..., steps, b), when each slot finished, of the trace.

    Returns: (...) bool; True where all that was started last was evaluated, so that more
      steps would have spent more. With several workers the last to start is seldom the
      last to finish.
    """
    begin = np.asarray(time, np.float64) - np.asarray(cost, np.float64)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(begin).max((-2, -1), keepdims=True)
    last = begin >= begin.max((-2, -1), keepdims=True) - rounding
    return (np.asarray(asked, bool) | ~last).all((-2, -1))


def at_cost(cost: ArrayLike, value: ArrayLike, grid: ArrayLike) -> Host:
    """Evaluates a metric at budgets, as a step function of the cost spent.

    Args:
      cost: (..., t) of each evaluation, at least 0, in any unit; 0 for an idle slot, NaN
        past the last evaluation. Summed in float64.
      value: (..., t) after each evaluation, such as `best_so_far` or `regret`.
      grid: (g,) budgets, in the unit of `cost`.

    Returns: (..., g), the value after the last evaluation whose cumulative cost is at
      most the budget; NaN where the budget pays for no evaluation. Beyond its own total
      a run keeps its last value.
    Raises: `ValueError` for shapes that differ and for negative costs.
    """
    total, value = _cumulative(cost), _floating(value)
    grid = np.asarray(grid, np.float64)
    if total.shape != value.shape or grid.ndim != 1 or np.isnan(grid).any():
        raise ValueError(
            "cost and value must have one shape and grid be numbers (g,), not "
            f"{total.shape}, {value.shape} and {grid.shape}"
        )
    at = np.full((*value.shape[:-1], len(grid)), np.nan, value.dtype)
    for run in np.ndindex(value.shape[:-1]):
        spent = ~np.isnan(total[run])
        # Index 0 is for budgets below the first evaluation.
        values = np.concatenate([[np.nan], value[run][spent]])
        at[run] = values[np.searchsorted(total[run][spent], grid, side="right")]
    return at


def cost_grid(cost: ArrayLike, num: int = 200) -> Host:
    """Makes budgets for `at_cost`, evenly spaced in their logarithm.

    They reach from the least that a run spends on its first evaluation that costs
    anything to the most that a run spends in all, so the last point shows whole runs.

    Args:
      cost: (..., t), as for `at_cost`.
      num: number of budgets, at least 2.

    Returns: (num,) float64.
    Raises: `ValueError` unless costs are finite, at least 0, and one is positive.
    """
    total = _cumulative(cost)
    if num < 2 or not (total > 0).any() or np.isinf(total).any():
        raise ValueError(
            f"wanted finite costs, one of them positive, and num from 2, not {num}"
        )
    return np.geomspace(total[total > 0].min(), total[total > 0].max(), num)


def median(x: ArrayLike, axis: int = 0) -> Host:
    """Computes the median over an axis, where inf stands for 'never'.

    It is inf once half of the values are: `np.median` gives NaN there, from inf * 0.
    NaN counts as larger than all numbers.
    """
    x = np.sort(np.asarray(_floating(x), np.float64), axis=axis)
    num = x.shape[axis]
    if num == 0:
        raise ValueError("the median of no values is not defined")
    low, high = (np.take(x, i, axis=axis) for i in ((num - 1) // 2, num // 2))
    with np.errstate(invalid="ignore"):  # the middle of -inf and inf is NaN
        return np.where(low == high, low, low / 2 + high / 2)


def mean_and_sem(x: ArrayLike, axis: int = 0) -> tuple[Host, Host]:
    """Computes the mean over an axis and its standard error, sqrt(sample variance / n).

    Returns: both in float64. The standard error of one value is NaN, and so are both of
      no values.
    """
    x = np.asarray(_floating(x), np.float64)
    num = x.shape[axis]
    with np.errstate(over="ignore", invalid="ignore"):  # inf has no variance
        total = x.sum(axis)
        mean = total / num if num else np.full_like(total, np.nan)
        if num < 2:
            return mean, np.full_like(mean, np.nan)
        return mean, np.std(x, axis=axis, ddof=1) / np.sqrt(num)


def wilson(hits: int, num: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share of which `hits` of `num` were seen (Wilson, 1927).

    Raises: `ValueError` unless 0 <= hits <= num, num is positive and 0 < level < 1.
    """
    # SciPy takes longer to import than all of this library.
    from scipy.stats import binomtest

    if not (0 <= hits <= num and num > 0 and 0 < level < 1):
        raise ValueError(f"no interval of {hits} of {num} at the level {level}")
    low, high = binomtest(hits, num).proportion_ci(level, method="wilson")
    return float(low), float(high)


def _floating(x: ArrayLike) -> Host:
    """`x` on the host; integers and bfloat16 become float64."""
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)


def _rounded(x: ArrayLike, score: ArrayLike) -> Host:
    """`x` as float64, after rounding to the precision of the scores."""
    dtype = np.asarray(score).dtype
    with np.errstate(over="ignore"):
        x = np.asarray(x)
        x = x.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else x
        return x.astype(np.float64)


def _comparable(score: ArrayLike) -> Host:
    """Scores (..., t), -inf where an evaluation failed."""
    score = _floating(score)
    _require_evaluations(score.shape)
    return np.where(np.isnan(score), -np.inf, score)


def _first_of_best(xp: Any, cummax: Any, score: Any) -> Any:
    """`incumbent` in terms of an array namespace and its cumulative maximum."""
    _require_evaluations(score.shape)
    axis = score.ndim - 1
    score = xp.where(xp.isnan(score), -xp.inf, score)
    best = cummax(score, axis=axis)
    before = xp.concatenate(
        [xp.full_like(best[..., :1], -xp.inf), best[..., :-1]], axis=-1
    )
    index = xp.arange(score.shape[-1])
    return cummax(xp.where(score > before, index, -1), axis=axis)


def _cumulative(cost: ArrayLike) -> Host:
    """Costs (..., t) summed up, NaN where they are NaN."""
    cost = np.asarray(_floating(cost), np.float64)
    _require_evaluations(cost.shape)
    if (cost < 0).any():
        raise ValueError(f"costs must be at least 0, found {np.nanmin(cost)}")
    return np.where(np.isnan(cost), np.nan, np.nancumsum(cost, axis=-1))


def _require_evaluations(shape: tuple[int, ...]) -> None:
    if not shape or not shape[-1]:
        raise ValueError(
            f"wanted evaluations (..., t) with t from 1, not shape {shape}"
        )
