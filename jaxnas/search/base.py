"""The search protocol: pure functions, and the stages in which a state grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result, State


class Stage(NamedTuple):
    """A stretch of a run in which the state keeps its size."""

    end: int  # the state has room for this many steps; a shorter run stops before it
    every: int  # steps between two calls of `refresh`


# The end of a stage that no run reaches: of a state that does not grow.
UNLIMITED = 2**30


def one_stage(num_steps: int) -> tuple[Stage, ...]:
    """The stages of a search whose state neither grows nor is refreshed."""
    del num_steps
    return (Stage(UNLIMITED, UNLIMITED),)


def _same_size(state: State, end: int) -> State:
    del end
    return state


def _same(state: State) -> State:
    return state


def _unaware(state: State, query: Query) -> State:
    del query
    return state


def _accepts_all(arch: Array) -> Array:
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
      refresh: state -> state, for work that is too long for every step, such as fitting
        hyper-parameters; `run` calls it as the stages say.
      expect: (state, Query) -> state to ask from while the query is in flight, with room
        for its slots; asynchronous runs ask from it and go on from the state without.
        Default: what is in flight does not matter.
      accepts: arch (d,) -> () bool, what `tell` can be told; default: everything.
      stages: num_steps -> the stages of a run of that length. They are a function of the
        step: those of a longer run begin with the same ones.
      candidates: (n, d), all that it chooses from; None: any of the space.
      space: of the architectures that it asks for.

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
    candidates: Array | None = None
    stages: Callable[[int], tuple[Stage, ...]] = field(
        default=one_stage, metadata={"static": True}
    )
    space: Space | None = field(default=None, metadata={"static": True})

    def __post_init__(self):
        for name in ("init", "ask", "tell", "grow", "refresh", "expect", "accepts"):
            function = getattr(self, name)
            if callable(function) and not isinstance(function, Partial):
                object.__setattr__(self, name, Partial(function))


def checked_stages(search: Search, num_steps: int) -> tuple[Stage, ...]:
    """The stages of a run, which follow on each other and reach its end."""
    if not isinstance(num_steps, Integral) or num_steps < 1:
        raise ValueError(
            f"num_steps must be a whole number of at least 1, not {num_steps!r}"
        )
    stages, begin = tuple(search.stages(num_steps)), 0
    for end, every in stages:
        if end <= begin or every < 1:
            raise ValueError(
                f"a stage from {begin} to {end} with a refresh every {every} steps: "
                "wanted at least one step of each"
            )
        if begin >= num_steps:
            raise ValueError(f"a stage begins at {begin}, after the {num_steps} steps")
        begin = end
    if begin < num_steps:
        raise ValueError(f"the stages end at {begin}, before the {num_steps} steps")
    return stages
