"""Several objectives: a benchmark of a table with further columns or functions.

    latency = Objective("latency", "milliseconds", "minimise")
    both = with_objectives(benchmark, {latency: milliseconds})

The first objective is the target of the benchmark.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks.base import Benchmark, bind, true_scores
from jaxnas.benchmarks.tabular import LookupTable, find_row, lookup_table
from jaxnas.pareto.objectives import (
    Objective,
    as_scores,
    as_values,
    score_bounds,
    validate_objectives,
    violation,
)
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result

# A column (n,) over the rows of the table, or arch (d,) -> () value.
Values = np.ndarray | Array | Callable[[Array], Array]
# What measurements write in place of a value that is not there.
_SENTINEL = -1


def with_objectives(
    benchmark: Benchmark,
    further: Mapping[Objective, Values],
    *,
    bound: float | None = None,
    missing: bool = False,
) -> Benchmark:
    """Adds objectives to a benchmark, which every evaluation then returns.

    Args:
      benchmark: of a table, where columns are given. Its target is the first objective.
      further: for each further objective its values, in the unit of the objective: (n,)
        by row of the table, as `Benchmark.archs`; or a function of an architecture.
      bound: of the first objective, see `Objective.bound`.
      missing: whether columns may have NaN, where nothing was measured.

    Raises: `ValueError` for an objective that is given twice, for a benchmark without a
      table, for a column of another length, for columns with an infinity, with NaN that
      `missing` does not allow, or with -1 among values of at least 0, which stands for
      what was not measured; and for bounds that no architecture of the table meets.
    """
    first = Objective(*benchmark.target, bound=bound)
    objectives = validate_objectives((first, *further))
    columns = []
    for objective, values in further.items():
        if callable(values):
            # A `Partial` within another would hide its arrays: they would be constants of
            # the compiled program, and each device would have a program of its own.
            kept = isinstance(values, Partial)
            columns.append(values if kept else Partial(values))
            continue
        table = _table_for(objective, benchmark)
        values = _checked_column(objective, values, table, missing)
        read = bind(_read_column, benchmark.space)
        columns.append(Partial(read, table, jnp.asarray(values, jnp.float32)))
    evaluate = Partial(bind(_evaluate, objectives), benchmark.evaluate, tuple(columns))
    named = ", ".join(f"{o.name} ({o.unit})" for o in objectives[1:])
    several = dataclasses.replace(
        benchmark,
        evaluate=evaluate,
        objectives=objectives,
        description=f"{benchmark.description}, {named}",
    )
    if several.archs is not None and any(o.bound is not None for o in objectives):
        require_feasible(objectives, objective_scores(several))
    return several


def require_feasible(
    objectives: Sequence[Objective], scores: np.ndarray, none: str = "nothing"
) -> None:
    """Checks that bounds can be met.

    Args:
      objectives: m of them.
      scores: (n, m), higher is better.
      none: the subject of the message, such as "none of 100 samples".

    Raises: `ValueError` if no row of the scores is feasible, with the closest one.
    """
    beyond = np.asarray(violation(jnp.asarray(scores), score_bounds(objectives)))
    if not (beyond > 0).all():
        return
    closest = np.asarray(as_values(objectives, scores[np.argmin(beyond)]))
    pairs = [(o, v) for o, v in zip(objectives, closest, strict=True)]
    pairs = [(o, v) for o, v in pairs if o.bound is not None]
    wanted = " and ".join(
        f"{o.name} at {'most' if o.direction == 'minimise' else 'least'} {o.bound:g}"
        for o, _ in pairs
    )
    nearest = " and ".join(f"{o.name} {v:g}" for o, v in pairs)
    raise ValueError(f"{none} has {wanted}: the closest has {nearest}")


def _table_for(objective: Objective, benchmark: Benchmark) -> LookupTable:
    """The table that has a column; `ValueError` if the benchmark has none."""
    try:
        return lookup_table(benchmark)
    except (AttributeError, IndexError):
        raise ValueError(
            f"{benchmark.description} has no rows: wanted a function of an architecture "
            f"for {objective.name}"
        ) from None


def _checked_column(
    objective: Objective, values: Values, table: LookupTable, missing: bool
) -> np.ndarray:
    """A column as float64; `ValueError` as `with_objectives` raises."""
    values, num = np.asarray(values, np.float64), len(table.row)
    name = objective.name
    if values.shape != (num,):
        raise ValueError(
            f"{name} must have a value for each of {num} rows, not {values.shape}"
        )
    absent, others = values == _SENTINEL, values[values != _SENTINEL]
    if absent.any() and (not others.size or np.nanmin(others) >= 0):
        raise ValueError(
            f"{name} is {_SENTINEL} in {absent.sum():,} of {num:,} rows and at least 0 in "
            "all others: write NaN where it was not measured, and allow missing values"
        )
    if np.isinf(values).any():
        raise ValueError(f"{name} is infinite in {np.isinf(values).sum():,} rows")
    if np.isnan(values).any() and not missing:
        raise ValueError(
            f"{name} is NaN in {np.isnan(values).sum():,} of {num:,} rows: allow missing "
            "values to search with what was measured"
        )
    return values


def _read_column(space: Space, table: LookupTable, values: Array, arch: Array) -> Array:
    """The value () of an architecture (d,); NaN if the table lacks it."""
    row = find_row(space, table, arch)
    return jnp.where(row < 0, jnp.nan, values[row])


def _evaluate(
    objectives: tuple[Objective, ...],
    evaluate: Partial,
    columns: tuple[Partial, ...],
    key: Array,
    query: Query,
) -> Result:
    """Evaluates a query, and all further objectives of its architectures."""
    result = evaluate(key, query)
    values = [jax.vmap(column)(query.arch) for column in columns]
    scores = as_scores(objectives[1:], jnp.stack(values, -1))
    both = jnp.concatenate([result.score[:, None], scores], -1)
    return result._replace(objectives=both)


def objective_scores(benchmark: Benchmark) -> np.ndarray:
    """Scores (n, m) of all architectures of a benchmark, in the order of its `archs`.

    The first column is the true score, see `Benchmark.truth`.

    Raises: `ValueError` for a benchmark whose architectures or truth are not known.
    """
    if benchmark.archs is None or not benchmark.objectives:
        raise ValueError(f"{benchmark.description} is no table with several objectives")
    first = true_scores(benchmark, benchmark.archs)
    archs = jnp.asarray(benchmark.archs, jnp.int32)
    further = _further_scores(benchmark.objectives, benchmark.evaluate.args[1], archs)
    return np.concatenate([np.asarray(first)[:, None], np.asarray(further)], 1)


@functools.partial(jax.jit, static_argnums=0)
def _further_scores(
    objectives: tuple[Objective, ...], columns: tuple[Partial, ...], archs: Array
) -> Array:
    """Scores (n, m - 1) of all objectives but the first, of architectures (n, d)."""

    def one(arch: Array) -> Array:
        return jnp.stack([column(arch) for column in columns])

    return as_scores(objectives[1:], jax.lax.map(one, archs, batch_size=8192))
