"""What a search is run on: tables, curves, surrogates and trainings have one form.

    benchmark = tabular.benchmark(SPACE, table, dataset="cifar10", split="valid",
                                  epochs=200, seed="random", curves=True)
    trace = loop.simulate(keys, search, benchmark.evaluate, num_steps=100)
    regret = benchmark.optimum - true_scores(benchmark, trace.query.arch)

Scores are targets of which higher is better: one that is minimised is negated where a
benchmark is made, and turned back by `as_value` for people.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result

Direction = Literal["maximise", "minimise"]
DIRECTIONS: tuple[Direction, ...] = ("maximise", "minimise")
Values = TypeVar("Values", Array, np.ndarray, float)


class Target(NamedTuple):
    """What is optimised: any finite numbers.

    Raises (from `checked`): `ValueError` for another direction, or an empty name or unit.
    """

    name: str  # such as "accuracy", "loss", "SSIM"
    unit: str  # such as "percent", "nats", "seconds"; "1" for a number without one
    direction: Direction = "maximise"

    def checked(self) -> Target:
        """This target, or `ValueError` that says what is wrong with it."""
        for what, text in (("name", self.name), ("unit", self.unit)):
            if not isinstance(text, str) or not text:
                raise ValueError(f"a target needs a {what}, found {text!r}")
        if self.direction not in DIRECTIONS:
            wanted = " or ".join(DIRECTIONS)
            raise ValueError(
                f"the direction of {self.name} must be {wanted}, not {self.direction!r}"
            )
        return self


PERCENT = Target("accuracy", "percent")


class Level(NamedTuple):
    """An epoch after which scores are known."""

    epoch: int
    # Whether its training is that of the level before, which goes on; otherwise it is a
    # training of its own, with a schedule of this length, and costs all of it.
    continues: bool


def continued(epochs: Iterable[int]) -> tuple[Level, ...]:
    """The levels of one training whose scores are known after these epochs."""
    return tuple(Level(int(epoch), i > 0) for i, epoch in enumerate(epochs))


def separate(epochs: Iterable[int]) -> tuple[Level, ...]:
    """The levels of schedules of these lengths, each a training of its own."""
    return tuple(Level(int(epoch), False) for epoch in epochs)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["evaluate", "truth", "optimum", "archs"],
    meta_fields=["space", "levels", "target", "cost_unit", "description"],
)
@dataclass(frozen=True, eq=False)
class Benchmark:
    """Something that answers queries, and what is known of it.

    A pytree: arrays, those in `evaluate` and `truth` too, are data to `jit`.

    Attributes:
      space: of the architectures that can be asked for.
      evaluate: (key, Query) -> Result. A query past the last epoch is one to it; an
        architecture that is not known has a NaN score and cost 0, as an idle slot has.
        That of a training runs on the host and cannot be traced.
      levels: the epochs after which scores are known, ascending; those of the curve of a
        `Result`, in the same order.
      target: what the scores are, and which direction of it is better.
      cost_unit: of `Result.cost`, "seconds" or "epochs".
      truth: arch (d,) -> () the score that the architecture is worth, NaN if that is not
        known; None if there is no such function.
      optimum: () the best true score; None if it is not known.
      archs: (n, d) int32, the architectures that are known; None if any of the space is.
      description: one line for every result to print.

    Raises: `ValueError` for levels that do not ascend from 1, or a target of no direction.
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

    def __post_init__(self):
        epochs = [0, *(level.epoch for level in self.levels)]
        if len(epochs) < 2 or any(np.diff(epochs) < 1):
            raise ValueError(f"levels must ascend from epoch 1, found {epochs[1:]}")
        self.target.checked()

    @property
    def epochs(self) -> int:
        """The last epoch of the schedule."""
        return self.levels[-1].epoch

    def __call__(self, key: Array, query: Query) -> Result:
        """`evaluate`."""
        return self.evaluate(key, query)


def as_score(target: Target, values: Values) -> Values:
    """Values of a target as scores, of which higher is better."""
    return -values if target.direction == "minimise" else values


def as_value(target: Target, scores: Values) -> Values:
    """Scores as values of the target, for people: the inverse of `as_score`."""
    return as_score(target, scores)


def true_scores(benchmark: Benchmark, archs: Array | np.ndarray) -> Array:
    """What architectures (..., d) are worth, (...) in scores; NaN if not known.

    Raises: `ValueError` for a benchmark without a known truth.
    """
    if benchmark.truth is None:
        raise ValueError(f"the truth of {benchmark.description} is not known")
    return _mapped(benchmark.truth, jnp.asarray(archs, jnp.int32))


@jax.jit
def _mapped(truth: Partial, archs: Array) -> Array:
    flat = archs.reshape(-1, archs.shape[-1])
    return jax.lax.map(truth, flat, batch_size=8192).reshape(archs.shape[:-1])
