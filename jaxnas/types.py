"""The few types through which everything flows. Higher score is better everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array

# A query to the last epoch that a benchmark has, whatever that is.
FULL_TRAINING = 2**31 - 1


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
    """A labelled directed acyclic graph; vertex 0 is the input, the last the output."""

    adj: Array  # (v, v) bool, strictly upper triangular: adj[i, j] is an edge i -> j
    ops: Array  # (v,) int32, operation label; -1 where a vertex has none to count
    mask: Array  # (v,) bool, the vertices that are part of the graph


class Query(NamedTuple):
    """What to train: each architecture from epoch `start` (0: from nothing) to `epoch`.

    A slot with `epoch == start` asks for nothing.
    """

    arch: Array  # (b, d) int32
    epoch: Array  # (b,) int32
    start: Array  # (b,) int32


class Result(NamedTuple):
    """What came back; a failed or unasked slot has a NaN score."""

    score: Array  # (b,), higher is better
    curve: Array  # (b, e), the score by epoch, NaN past the query's epoch
    cost: Array  # (b,), what the increment cost, in the benchmark's unit


class Trace(NamedTuple):
    """Everything a run asked and got, step by step."""

    query: Query  # leading axes (steps, b); (seeds, steps, b) from `simulate`
    score: Array  # (steps, b)
    cost: Array  # (steps, b)


# Evaluate = (key, Query) -> Result: a table, a surrogate and a training run alike.
Evaluate = Callable[[Array, Query], Result]
# State is any pytree of arrays: every search has its own.
State = Any
