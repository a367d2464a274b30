"""The search protocol: pure functions, and the stages in which a state grows.

`ask` of a search returns a `Query`, the query is evaluated, and `tell` receives the
`Result`. `loop.run` does this within a compiled program, `drive` from Python with real
evaluations. The arrays of a state have static sizes; a search whose state depends on the
length of the run grows it between stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.pareto.objectives import Objective
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result, State


class Stage(NamedTuple):
    """A part of a run in which the state keeps its size."""

    end: int  # steps that the state has room for; a shorter run stops before it
    every: int  # steps between two calls of `refresh`, the first at the stage's begin


# End of the only stage of a state that does not grow: no run is that long.
UNLIMITED = 2**30


def one_stage(num_steps: int) -> tuple[Stage, ...]:
    """Stages of a search whose state neither grows nor is refreshed."""
    del num_steps
    return (Stage(UNLIMITED, UNLIMITED),)


def _same_size(state: State, end: int) -> State:
    """Default of `Search.grow`."""
    del end
    return state


def _same(state: State) -> State:
    """Default of `Search.refresh`."""
    return state


def _unaware(state: State, query: Query) -> State:
    """Default of `Search.expect`."""
    del query
    return state


def _accepts_all(arch: Array) -> Array:
    """Default of `Search.accepts`."""
    del arch
    return jnp.bool_(True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Search:
    """A search as pure functions, and how its state grows.

    Attributes:
      init: key -> state.
      ask: (key, state) -> Query; reads the state and uses randomness.
      tell: (state, Query, Result) -> state; uses no randomness. Idle slots change
        nothing, see `types.asked`.
      grow: (state, end) -> state that has room for `end` steps; `end` is a Python int.
      refresh: state -> state, for work that takes too long for every step, such as
        fitting hyperparameters; `run` calls it as the stages say.
      expect: (state, Query) -> state to ask from while the query is in flight.
        Asynchronous runs ask from it, with room for the query's slots, and then continue
        from the state before it. Default: what is in flight is ignored.
      accepts: arch (d,) -> () bool, whether `tell` can use its evaluation. Default: always.
      stages: num_steps -> the stages of a run of that length. The stages of a longer run
        begin with those of a shorter one.
      abandon: (state, Query) -> state after trainings that ended without a score: what
        was asked is not asked again, and nothing is learned from it. Default: None; a
        search around it then asks from a state that expects them (`expect`), each time.
      candidates: (n, d) int32, every architecture that may be asked; None: any of the
        space.
      space: of the architectures that are asked.
      objectives: that the scores of results are of, if the search was made for several.

    A search is a pytree: functions that need large arrays take them as the leading
    arguments of a `jax.tree_util.Partial`, so that `jit` sees data and not constants.
    """

    init: Callable[[Array], State]
    ask: Callable[[Array, State], Query]
    tell: Callable[[State, Query, Result], State]
    grow: Callable[[State, int], State] = _same_size
    refresh: Callable[[State], State] = _same
    expect: Callable[[State, Query], State] = _unaware
    accepts: Callable[[Array], Array] = _accepts_all
    abandon: Callable[[State, Query], State] | None = None
    candidates: Array | None = None
    stages: Callable[[int], tuple[Stage, ...]] = field(
        default=one_stage, metadata={"static": True}
    )
    space: Space | None = field(default=None, metadata={"static": True})
    objectives: tuple[Objective, ...] = field(default=(), metadata={"static": True})

    def __post_init__(self):
        names = "init ask tell grow refresh expect accepts abandon"
        for name in names.split():
            function = getattr(self, name)
            if callable(function) and not isinstance(function, Partial):
                object.__setattr__(self, name, Partial(function))

    def __repr__(self) -> str:
        """The names of `ask`, which tells the algorithm, and of the space."""
        space = None if self.space is None else self.space.name
        return f"Search(ask={_name(self.ask)}, space={space!r})"


def _name(function: Callable) -> str:
    """The qualified name of a function, within any number of `Partial`s."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)


def require_objectives(search: Search, objectives: Sequence[Objective]) -> None:
    """Checks that results are of the objectives that a search was made for.

    Another number of objectives is left to the `tell` of the search, which refuses it.

    Args:
      search: whose objectives may be unknown, as those of a random search.
      objectives: of the results, in their order.

    Raises: `ValueError` with the first pair that differs.
    """
    if len(objectives) != len(search.objectives):
        return
    for made, given in zip(search.objectives, objectives, strict=True):
        if made != given:
            raise ValueError(f"the search was made for {made}, not for {given}")


def checked_stages(search: Search, num_steps: int) -> tuple[Stage, ...]:
    """Stages of a run, checked to be in order and to reach its end.

    Args:
      search: whose stages they are.
      num_steps: length of the run, at least 1.

    Raises: `ValueError` for a number of steps that is not a positive integer, and for
      stages that are empty, superfluous or too few.
    """
    if not isinstance(num_steps, Integral) or num_steps < 1:
        raise ValueError(
            f"num_steps must be a whole number of at least 1, not {num_steps!r}"
        )
    stages, begin = tuple(search.stages(num_steps)), 0
    for end, every in stages:
        if end <= begin or every < 1:
            raise ValueError(
                f"a stage from {begin} to {end} with a refresh every {every} steps: "
                "both must be at least one step"
            )
        if begin >= num_steps:
            raise ValueError(f"a stage begins at {begin}, after the {num_steps} steps")
        begin = end
    if begin < num_steps:
        raise ValueError(f"the stages end at {begin}, before the {num_steps} steps")
    return stages
