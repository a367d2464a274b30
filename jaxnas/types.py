"""The types that several packages exchange, and checks of shapes.

A search asks a `Query`, a benchmark answers with a `Result`, and a `Trace` is what a run
of both leaves. Higher score is better everywhere.

NaN is a value everywhere in the library (a failed evaluation, an idle slot, an
epoch without a record, a correlation without variation), also inside compiled programs.
With `jax_debug_nans` such a program raises FloatingPointError where nothing is wrong, so
that setting cannot be used with this library; `jax_debug_infs` cannot either, because a
failed evaluation is compared as -inf.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

Array = jax.Array

# The epoch of a query for the last epoch of a benchmark, however long its schedule is.
FULL_TRAINING = 2**31 - 1


def check_sizes(**sizes: int) -> None:
    """Raises `ValueError` for the first size, by name, that is below 1 or not whole."""
    for name, size in sizes.items():
        if not isinstance(size, Integral):
            raise ValueError(f"{name} must be a whole number, not {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def check_shapes(**expected: tuple[Any, str]) -> None:
    """Compares the shapes of arrays that belong together.

        check_shapes(gram=(gram, "nn"), y=(y, "n"), noise=(noise, ""))

    Args:
      **expected: by name, an array and a letter for each of its axes; axes of the same
        letter must have the same length.

    Raises: `ValueError` that names all arrays with the expected and the given shapes.
    """
    sizes: dict[str, int] = {}
    for value, axes in expected.values():
        shape = np.shape(value)
        lengths = [
            sizes.setdefault(axis, n) for axis, n in zip(axes, shape, strict=False)
        ]
        if len(shape) != len(axes) or lengths != list(shape):
            form = ", ".join(f"{n} ({', '.join(a)})" for n, (_, a) in expected.items())
            given = ", ".join(f"{n} {np.shape(v)}" for n, (v, _) in expected.items())
            raise ValueError(f"wanted {form}; found {given}")


class FeatureKind(NamedTuple):
    """The kind of image features; only features of one kind are comparable."""

    name: str  # of the extractor and the size of its images: "lite0-taps-64px"
    width: int  # F, numbers of an image


class Features(NamedTuple):
    """Features of m images."""

    x: np.ndarray  # (m, F) float32
    kind: FeatureKind


def require_kind(features: Any, kind: FeatureKind) -> Any:
    """Returns the array of features if they are of the kind that a model was trained on.

    Args:
      features: arrays `x` (..., F) of a `kind`, such as `Features`.
      kind: of the model.

    Returns: `features.x`.
    Raises: `ValueError`, naming both kinds, for features of another name or width.
    """
    width = features.x.shape[-1] if features.x.ndim else 0
    if features.kind != kind or width != kind.width:
        raise ValueError(
            f"the model was trained on features {kind.name!r} of width {kind.width}, "
            f"not {features.kind.name!r} of width {width}"
        )
    return features.x


class Graph(NamedTuple):
    """A labelled directed acyclic graph from vertex 0 to the last vertex.

    A cell with several inputs has a super-source as vertex 0, with an edge to each of
    them, and one with several outputs a super-sink as its last vertex; both have the
    label -1. An architecture of several graphs, such as a normal and a reduction cell,
    has one function of `Space.graphs` for each.
    """

    adj: Array  # (v, v) bool, strictly upper triangular: adj[i, j] is an edge i -> j
    ops: Array  # (v,) int32, operation label; -1 for a vertex without one
    mask: Array  # (v,) bool, the vertices of the graph; the rest is padding


Direction = Literal["maximise", "minimise"]
_DIRECTIONS: tuple[Direction, ...] = ("maximise", "minimise")
Values = TypeVar("Values", Array, np.ndarray, float)


class Target(NamedTuple):
    """The quantity that is optimised; its values are any finite numbers."""

    name: str  # such as "accuracy", "loss", "SSIM"
    unit: str  # such as "percent", "nats", "seconds"; "1" for a number without one
    direction: Direction = "maximise"

    def validated(self) -> Target:
        """Returns itself; `ValueError` for a wrong direction, an empty name or unit."""
        for what, text in (("name", self.name), ("unit", self.unit)):
            if not isinstance(text, str) or not text:
                raise ValueError(f"a target needs a {what}, found {text!r}")
        if self.direction not in _DIRECTIONS:
            expected = " or ".join(_DIRECTIONS)
            raise ValueError(
                f"the direction of {self.name} must be {expected}, not {self.direction!r}"
            )
        return self


PERCENT = Target("accuracy", "percent")


def as_score(target: Target, values: Values) -> Values:
    """Converts values of a target to scores: higher is better."""
    return -values if target.direction == "minimise" else values


def as_value(target: Target, scores: Values) -> Values:
    """Converts scores to values of the target, for display; inverse of `as_score`."""
    return as_score(target, scores)


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
    # (b,) int32, the repetition of the training: another number is another seed of a
    # table, another initialisation. None is 0 for all. The same architecture and
    # repetition give the same values within a run, however often they are asked for.
    seed: Array | None = None


def asked(query: Query) -> Array:
    """Finds the slots of a query that ask for something, (b,) bool; the others are idle."""
    return query.epoch > query.start


def seed_of(query: Query) -> Array:
    """Reads the repetition (b,) int32 that each slot asks for; 0 if the query has none."""
    return jax.numpy.zeros_like(query.epoch) if query.seed is None else query.seed


class Result(NamedTuple):
    """The answer to a query.

    Idle slots have a NaN score and cost 0, failed evaluations a NaN score at their cost.
    Benchmarks of several objectives also return the score of each, the first of which is
    `score`: `pareto.Objective` has their names, directions and bounds.
    """

    score: Array  # (b,), higher is better; NaN, at cost 0, if no epoch is recorded
    curve: Array  # (b, e), score by stored epoch, NaN past the query's; e is static
    cost: (
        Array  # (b,), of the training from `start` to `epoch`, in the benchmark's unit
    )
    # (b, m), score of each objective; NaN for one that failed or was not measured
    objectives: Array | None = None


class Trace(NamedTuple):
    """All queries and results of a run, step by step."""

    query: Query  # leading axes (steps, b); (seeds, steps, b) from `simulate`
    score: Array  # (steps, b)
    cost: Array  # (steps, b)
    # (steps, b), when each evaluation finished on the simulated clock, in units of the
    # cost: the slots of a step run side by side, and so do several workers.
    time: Array
    objectives: Array | None = None  # (steps, b, m), of benchmarks that have several


# Evaluate = (key, Query) -> Result: a table, a surrogate and a training alike. A run has
# one key for all its queries. Randomness derives from it by architecture and repetition,
# so that a training that goes on is the same training.
Evaluate = Callable[[Array, Query], Result]
# Any pytree of arrays: every search has a state type of its own.
State = Any
