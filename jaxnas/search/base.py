"""The search protocol, and the only search loop of the library."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial

from jaxnas.types import Array, Evaluate, Query, Result, State, Trace


class Stage(NamedTuple):
    """A stretch of a run in which the state keeps its size."""

    end: int  # the state has to have room for this many steps
    every: int  # steps between two calls of `refresh`; divides the stage's length


def _one_stage(num_steps: int) -> tuple[Stage, ...]:
    return (Stage(num_steps, num_steps),)


def _same_size(state: State, end: int) -> State:
    del end
    return state


def _same(state: State) -> State:
    return state


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Search:
    """A search as three pure functions, and how its state grows.

    Attributes:
      init: key -> state.
      ask: (key, state) -> Query; reads the state and uses randomness.
      tell: (state, Query, Result) -> state; uses no randomness.
      grow: (state, end) -> state that has room for `end` steps; `end` is a Python int.
      refresh: state -> state, for work that is too long for every step, such as fitting
        hyper-parameters; `run` calls it as the stages say.
      stages: num_steps -> the stages of a run of that length.

    A search is a pytree: functions that need large arrays take them as the leading
    arguments of a `jax.tree_util.Partial`, so that `jit` sees data and not constants.
    """

    init: Callable[[Array], State]
    ask: Callable[[Array, State], Query]
    tell: Callable[[State, Query, Result], State]
    grow: Callable[[State, int], State] = _same_size
    refresh: Callable[[State], State] = _same
    stages: Callable[[int], tuple[Stage, ...]] = field(
        default=_one_stage, metadata={"static": True}
    )

    def __post_init__(self):
        for name in ("init", "ask", "tell", "grow", "refresh"):
            function = getattr(self, name)
            if callable(function) and not isinstance(function, Partial):
                object.__setattr__(self, name, Partial(function))


def checked_stages(search: Search, num_steps: int) -> tuple[Stage, ...]:
    """The stages of a run, which have to follow on each other up to its end."""
    if not isinstance(num_steps, Integral) or num_steps < 1:
        raise ValueError(
            f"num_steps must be a whole number of at least 1, not {num_steps!r}"
        )
    stages, begin = tuple(search.stages(num_steps)), 0
    for end, every in stages:
        if end <= begin or every < 1 or (end - begin) % every:
            raise ValueError(
                f"a stage from {begin} to {end} with a refresh every {every} steps: "
                "wanted a stage of at least one step, and a divisor of its length"
            )
        begin = end
    if begin != num_steps:
        raise ValueError(f"the stages end at {begin}: wanted the end at {num_steps}")
    return stages


def run(
    key: Array, search: Search, evaluate: Evaluate, num_steps: int
) -> tuple[State, Trace]:
    """Runs `num_steps` rounds of ask, evaluate, tell.

    Step i draws its randomness from (key, i) alone. So a longer run begins as a shorter
    one, unless the stages of the search depend on its length.

    Returns: the last state, and the trace with leading axis (num_steps,).
    Raises: `ValueError` if `num_steps` is below 1, or not covered by the stages.
    """
    stages = checked_stages(search, num_steps)
    key_init, key_run = jax.random.split(key)
    step_key = lambda i: jax.random.split(jax.random.fold_in(key_run, i))  # noqa: E731
    keys = jax.vmap(step_key)(jnp.arange(num_steps))

    def step(state: State, key: Array) -> tuple[State, Trace]:
        key_ask, key_evaluate = key
        query = search.ask(key_ask, state)
        result = evaluate(key_evaluate, query)
        state = search.tell(state, query, result)
        return state, Trace(query, result.score, result.cost)

    def segment(state: State, keys: Array) -> tuple[State, Trace]:
        return jax.lax.scan(step, search.refresh(state), keys)

    state, traces, begin = search.init(key_init), [], 0
    for end, every in stages:
        rounds = keys[begin:end].reshape(-1, every, *keys.shape[1:])
        state, trace = jax.lax.scan(segment, search.grow(state, end), rounds)
        traces.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trace))
        begin = end
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), *traces)


def simulate(
    keys: Array,
    search: Search,
    evaluate: Evaluate,
    num_steps: int,
    *,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> Trace:
    """Runs a whole experiment, one run per key, as one compiled program.

    Args:
      keys: (s,) PRNG keys, one per run.
      search, evaluate: as for `run`. Give large tables as arguments of a
        `jax.tree_util.Partial`; a plain closure makes them constants of the program.
      num_steps: rounds of each run, at least 1.
      batch_size: how many runs a device does side by side. Default: one after another on
        a CPU, which is faster there, and all at once on an accelerator.
      devices: the devices to spread the runs over. Default: all local ones.

    Returns: a `Trace` with leading axes (s, num_steps).
    """
    checked_stages(search, num_steps)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if keys.ndim != 1 or not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise ValueError(
            "keys must be a vector of PRNG keys, as from jax.random.split, not "
            f"{keys.dtype} {keys.shape}"
        )
    if keys.shape[0] == 0:
        raise ValueError("keys must hold at least one key")
    devices = tuple(devices or jax.local_devices())
    num_runs = keys.shape[0]
    devices = devices[: max(1, num_runs)]
    if batch_size is None:
        batch_size = 1 if devices[0].platform == "cpu" else num_runs
    # Every device gets as many runs as the others; the surplus is cut off again.
    wanted = -(-num_runs // len(devices)) * len(devices)
    padded = keys[jnp.arange(wanted) % num_runs]
    if not isinstance(evaluate, Partial):
        evaluate = Partial(evaluate)
    trace = _simulate(padded, search, evaluate, num_steps, batch_size, devices)
    return jax.tree.map(lambda x: x[:num_runs], trace)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _simulate(keys, search, evaluate, num_steps, batch_size, devices):
    def runs(keys, search, evaluate):
        one = lambda key: run(key, search, evaluate, num_steps)[1]  # noqa: E731
        if batch_size >= keys.shape[0] > 1:
            return jax.vmap(one)(keys)
        return jax.lax.map(one, keys, batch_size=batch_size if batch_size > 1 else None)

    if len(devices) == 1:
        return runs(keys, search, evaluate)
    seeds, all_of_it = PartitionSpec("seeds"), PartitionSpec()
    mesh = Mesh(devices, ("seeds",))
    specs = (seeds, all_of_it, all_of_it)
    spread = jax.shard_map(
        runs, mesh=mesh, in_specs=specs, out_specs=seeds, check_vma=False
    )
    return spread(keys, search, evaluate)
