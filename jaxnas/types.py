"""The few types through which everything flows. Higher score is better everywhere."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array

# A query to the last epoch that a benchmark has, whatever that is.
FULL_TRAINING = 2**31 - 1


def check_sizes(**sizes: int) -> None:
    """Raises `ValueError` for the first size that is below 1, or not whole."""
    for name, size in sizes.items():
        if not isinstance(size, Integral):
            raise ValueError(f"{name} must be a whole number, not {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def check_shapes(**wanted: tuple[Any, str]) -> None:
    """Compares shapes: a letter for each axis, the same letter for the same length.

    check_shapes(gram=(gram, "nn"), y=(y, "n"), noise=(noise, ""))

    Raises: `ValueError` that names all of them.
    """
    sizes: dict[str, int] = {}
    for value, axes in wanted.values():
        shape = np.shape(value)
        known = [
            sizes.setdefault(axis, n) for axis, n in zip(axes, shape, strict=False)
        ]
        if len(shape) != len(axes) or known != list(shape):
            form = ", ".join(f"{n} ({', '.join(a)})" for n, (_, a) in wanted.items())
            found = ", ".join(f"{n} {np.shape(v)}" for n, (v, _) in wanted.items())
            raise ValueError(f"wanted {form}; found {found}")


class Graph(NamedTuple):
    """A labelled directed acyclic graph from vertex 0 to the last vertex.

    A cell with several inputs has a super-source as vertex 0, with an edge to each of
    them, and one with several outputs a super-sink as its last vertex; both have the
    label -1. An architecture of several graphs, such as a normal and a reduction cell,
    has one function of `Space.graphs` for each.
    """

    adj: Array  # (v, v) bool, strictly upper triangular: adj[i, j] is an edge i -> j
    ops: Array  # (v,) int32, operation label; -1 where a vertex has none to count
    mask: Array  # (v,) bool, the vertices that are part of the graph


class Query(NamedTuple):
    """What to train: each architecture from epoch `start` (0: untrained) to `epoch`.

    Both are points on the benchmark's own schedule, which does not depend on them: a
    training to epoch 3 that goes on to epoch 9 is the training to epoch 9. Schedules of
    another length are another benchmark, or another level of it.

    A slot with `epoch <= start` is idle: it asks for nothing, costs nothing, and changes
    no search's state; see `asked`.
    """

    arch: Array  # (b, d) int32
    epoch: Array  # (b,) int32
    start: Array  # (b,) int32
    # (b,) int32, which repetition of the training: another number is another seed of a
    # table, another initialisation. None is 0 for all. The same architecture and
    # repetition give the same values within a run, however often they are asked for.
    seed: Array | None = None


def asked(query: Query) -> Array:
    """Which slots (b,) of a query ask for something; the others are idle."""
    return query.epoch > query.start


def seed_of(query: Query) -> Array:
    """The repetition (b,) int32 that each slot asks for."""
    return jax.numpy.zeros_like(query.epoch) if query.seed is None else query.seed


class Result(NamedTuple):
    """What came back. Idle slots have a NaN score and cost 0, failed ones a NaN score."""

    score: Array  # (b,), higher is better; NaN, at cost 0, where no epoch is known
    curve: (
        Array  # (b, e), score by stored epoch, NaN past the query's epoch; e is static
    )
    cost: Array  # (b,), what the increment cost, in the benchmark's unit


class Trace(NamedTuple):
    """Everything a run asked and got, step by step."""

    query: Query  # leading axes (steps, b); (seeds, steps, b) from `simulate`
    score: Array  # (steps, b)
    cost: Array  # (steps, b)
    # (steps, b), when each evaluation finished on the simulated clock, in units of the
    # cost: the slots of a step run side by side, and so do several workers.
    time: Array


# Evaluate = (key, Query) -> Result: a table, a surrogate and a training alike. A run has
# one key for all its queries, from which what is random follows by architecture and
# repetition, so that a training that goes on is the same training.
Evaluate = Callable[[Array, Query], Result]
# State is any pytree of arrays: every search has its own.
State = Any
