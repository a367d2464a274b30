"""Benchmarks: tables, curve tables, surrogates and trainings share one interface.

    benchmark = open_benchmark("nb201.npz", dataset="cifar10-valid", split="valid",
                               epochs=200, seed="random", curves=True)
    trace = loop.simulate(keys, search, benchmark.evaluate, num_steps=100)
    regret = benchmark.optimum - true_scores(benchmark, trace.query.arch)

Higher scores are better: a target to minimise is negated when the benchmark is made, and
`as_value` turns scores back into values for display.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.pareto.objectives import Objective
from jaxnas.spaces.base import Space
from jaxnas.types import PERCENT as PERCENT
from jaxnas.types import Array, Query, Result
from jaxnas.types import Direction as Direction
from jaxnas.types import Target as Target
from jaxnas.types import as_score as as_score
from jaxnas.types import as_value as as_value


@functools.cache
def bind(function: Callable[..., Any], setting: Hashable) -> Callable[..., Any]:
    """Binds the first argument of the function of a benchmark.

    Compiled programs are kept by the identity of the functions that they are given, so
    all benchmarks of one setting must share one object.

    Args:
      function: of a setting and further arguments, at the top level of its module.
      setting: the static argument, such as a space.
    """
    return functools.partial(function, setting)


class Level(NamedTuple):
    """A fidelity level: an epoch after which the score is known."""

    epoch: int
    # Whether the training is that of the previous level, continued. Otherwise it is a
    # separate training with a schedule of this length, which costs its full price.
    continues: bool


def continued_levels(epochs: Iterable[int]) -> tuple[Level, ...]:
    """Levels of one training whose scores are known after these epochs."""
    return tuple(Level(int(epoch), i > 0) for i, epoch in enumerate(epochs))


def separate_levels(epochs: Iterable[int]) -> tuple[Level, ...]:
    """Levels of separate trainings with schedules of these lengths."""
    return tuple(Level(int(epoch), False) for epoch in epochs)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["evaluate", "truth", "optimum", "archs"],
    meta_fields=[
        "space",
        "levels",
        "target",
        "cost_unit",
        "description",
        "objectives",
    ],
)
@dataclass(frozen=True, eq=False)
class Benchmark:
    """An evaluator of queries and its metadata.

    A pytree: all arrays, including those in `evaluate` and `truth`, are data to `jit`.

    Attributes:
      space: the architectures to search over.
      evaluate: (key, Query) -> Result. An epoch past the schedule means its last one. An
        unknown architecture has a NaN score and cost 0, as an idle slot does. Trainings
        run on the host and cannot be traced.
      levels: fidelity levels, ascending, one for each column of `Result.curve`.
      target: the quantity behind the scores, with its unit and direction.
      cost_unit: of `Result.cost`, "seconds" or "epochs".
      truth: arch (d,) -> () true score, NaN for an unknown architecture; None if true
        scores are not known.
      optimum: () the best true score; None if it is not known.
      archs: (n, d) int32, the known architectures; None if every one of the space is.
      description: one line for every result to print.
      objectives: of `Result.objectives`; empty if results have one score alone.

    Raises: `ValueError` for levels that do not ascend from epoch 1, and a wrong target.
    """

    space: Space
    evaluate: Partial
    levels: tuple[Level, ...]
    target: Target
    cost_unit: str
    truth: Partial | None = None
    optimum: Array | None = None
    archs: Array | np.ndarray | None = None
    description: str = field(default="", kw_only=True)
    objectives: tuple[Objective, ...] = field(default=(), kw_only=True)

    def __post_init__(self):
        epochs = [0, *(level.epoch for level in self.levels)]
        if len(epochs) < 2 or any(np.diff(epochs) < 1):
            raise ValueError(f"levels must ascend from epoch 1, found {epochs[1:]}")
        self.target.validated()

    @property
    def epochs(self) -> int:
        """The last epoch of the schedule."""
        return self.levels[-1].epoch

    def __call__(self, key: Array, query: Query) -> Result:
        """`evaluate`."""
        return self.evaluate(key, query)


def true_scores(benchmark: Benchmark, archs: Array | np.ndarray) -> Array:
    """The true scores (...) of architectures (..., d); NaN where not known.

    Raises: `ValueError` for a benchmark without a known truth.
    """
    if benchmark.truth is None:
        raise ValueError(f"the truth of {benchmark.description} is not known")
    return _mapped(benchmark.truth, jnp.asarray(archs, jnp.int32))


@jax.jit
def _mapped(truth: Partial, archs: Array) -> Array:
    flat = archs.reshape(-1, archs.shape[-1])
    return jax.lax.map(truth, flat, batch_size=8192).reshape(archs.shape[:-1])
