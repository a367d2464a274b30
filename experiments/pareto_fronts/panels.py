"""Panels of a comparison: an accuracy against costs, and the front to compare with.

Searches see the accuracy that is fed back and the costs; their fronts are also judged by
the accuracy that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import pareto
from jaxnas.benchmarks.base import Benchmark
from jaxnas.benchmarks.several import Values
from jaxnas.pareto import Objective
from jaxnas.search.common import train_from_scratch
from jaxnas.types import Array, Query

# (arch (..., d), scores (..., m) as seen) -> scores (..., m) with the accuracy reported.
Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Panel(NamedTuple):
    """A benchmark of several objectives, and the scores that runs are compared with."""

    benchmark: Benchmark
    # (n, m) scores as searches see them: of a table all, otherwise random architectures
    # and the front of long searches
    seen: np.ndarray
    reported: np.ndarray  # (n, m) the same with the accuracy that is reported
    reference: np.ndarray  # (m,), of `seen`
    reference_reported: np.ndarray  # (m,), of `reported`
    judge: Judge  # of runs
    # How good the costs are, or what the front is of, beside the name of the panel.
    note: str = ""


class Runs(NamedTuple):
    """The evaluations of one method on one panel."""

    seen: np.ndarray  # (seeds, t, m) scores, as the search saw them
    reported: np.ndarray  # (seeds, t, m) the same with the accuracy that is reported


def make_panel(
    benchmark: Benchmark, seen: np.ndarray, reported: np.ndarray, judge: Judge
) -> Panel:
    """Makes a panel whose reference points are those of its fronts.

    Args:
      benchmark: of m objectives.
      seen: (n, m) scores of the architectures that runs are compared with.
      reported: (n, m) the same with the accuracy that is reported.
      judge: of runs.
    """
    reference, other = (np.asarray(_reference_point(s)) for s in (seen, reported))
    return Panel(benchmark, seen, reported, reference, other, judge)


_reference_point: Callable[..., Array] = jax.jit(pareto.reference_point)


def costs_of(
    name: str,
    cost: Callable[[str], tuple[Objective, Values]],
    bounds: Sequence[float],
) -> dict[Objective, Values]:
    """The objectives of a panel beside accuracy, and the values of each.

    Args:
      name: one or two costs, joined by "+".
      cost: the objective and the values of one.
      bounds: the worst feasible value of each; empty: none.

    Raises: `ValueError` for more than two costs, for another number of bounds, and for a
      cost that is given twice.
    """
    names = name.split("+")
    if len(names) > 2:
        raise ValueError(f"a panel has at most two costs, not {name}")
    parts = [cost(part) for part in names]
    if bounds and len(bounds) != len(parts):
        raise ValueError(
            f"--bounds must have a value for each cost of {name}, not {len(bounds)} for "
            f"{len(parts)}"
        )
    if bounds:
        pairs = zip(parts, bounds, strict=True)
        parts = [(o._replace(bound=bound), values) for (o, values), bound in pairs]
    if len({objective.name for objective, _ in parts}) < len(parts):
        # Two latencies, say: the devices tell them apart.
        pairs = zip(parts, names, strict=True)
        parts = [(o._replace(name=f"{o.name} {n}"), values) for (o, values), n in pairs]
    if len({objective.name for objective, _ in parts}) < len(parts):
        raise ValueError(f"a cost of {name} is given twice")
    return dict(parts)


def scores_of(benchmark: Benchmark, archs: np.ndarray) -> np.ndarray:
    """Evaluates architectures (b, d): scores (b, m)."""
    return np.asarray(
        _scores(benchmark.evaluate, train_from_scratch(jnp.asarray(archs)))
    )


@jax.jit
def _scores(evaluate: Callable, query: Query) -> Array:
    return evaluate(None, query).objectives
