"""The search loop of the library: ask, evaluate and tell, over steps and seeds.

`run` is one run of a search and can be traced; `simulate` runs a whole experiment, one run
for each key, as one compiled program. Sequential runs, runs with a budget and runs of
several simulated workers are one loop with different steps, see `steps`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial

from jaxnas.benchmarks.base import Benchmark
from jaxnas.search import steps
from jaxnas.search.base import Search, Stage, checked_stages, require_objectives
from jaxnas.search.common import evaluation_key
from jaxnas.types import Array, Evaluate, Query, State, Trace, check_sizes


def run(
    key: Array,
    search: Search,
    evaluate: Evaluate,
    num_steps: int,
    *,
    budget: float | Array | None = None,
    workers: int = 1,
) -> tuple[State, Trace]:
    """Runs `num_steps` steps of ask, evaluate and tell.

    Step i asks with randomness from (key, i) alone, and stages are a function of the
    step, so a longer run begins like a shorter one. All evaluations have one key.

    Args:
      key: PRNG key of the run.
      search: what to ask.
      evaluate: (key, Query) -> Result, such as a table, a surrogate or a training.
      num_steps: steps of the run, at least 1.
      budget: the largest total cost, in the benchmark's unit. An increment that does not
        fit the rest is not started: its slot is idle. `metrics.cut_short` is True
        for runs that reach their last step before that.
      workers: evaluations in flight at a time, each as long as its cost. They finish in
        the order of the simulated clock, and a step is the end of one: `tell` receives
        its result, and the next query is asked from a state that expects those in flight
        (`Search.expect`). One worker is the sequential run. More than one is for searches
        that ask one architecture a step.

    Returns: the last state, and the trace with leading axis (num_steps,).
    Raises: `ValueError` if `num_steps` or `workers` is below 1, or for several workers
      and a search that asks batches.
    """
    check_sizes(workers=workers)
    stages = checked_stages(search, num_steps)
    key_init, key_run = jax.random.split(key)
    answer = functools.partial(evaluate, evaluation_key(key_run))

    def ask(i: Array, state: State) -> Query:
        return search.ask(jax.random.split(jax.random.fold_in(key_run, i))[0], state)

    state = search.init(key_init)
    shapes = functools.partial(steps.ask_and_answer, ask, answer, 0)
    query, result = jax.eval_shape(shapes, state)
    dtype = result.cost.dtype
    account = None if budget is None else steps.open_account(dtype, budget)
    trace = steps.empty_trace(query, result, num_steps)
    if workers == 1:
        step = steps.sequential(search, ask, answer)
        carry = state, (account, trace)
        return _in_stages(search, stages, num_steps, 0, carry, step)
    if result.cost.shape != (1,):
        raise ValueError(
            f"the search asks {result.cost.shape[0]} architectures a step: simulated "
            "workers take one each, so the batch must be 1"
        )
    step = steps.asynchronous(search, ask, answer, workers, num_steps)
    carry = state, (account, trace, steps.idle_flight(query, result, workers))
    return _in_stages(search, stages, num_steps, workers - 1, carry, step)


def _in_stages(
    search: Search,
    stages: tuple[Stage, ...],
    num_steps: int,
    ahead: int,
    carry: tuple,
    step: steps.Step,
) -> tuple[State, Trace]:
    """Repeats a step; the state grows and is refreshed as the stages say.

    Args:
      search: whose state is the first entry of the carry.
      stages: of the run.
      num_steps: steps of the run.
      ahead: steps by which asking is ahead of telling, which the stages count.
      carry: (state, records), where the second record is the trace.
      step: of `steps`.
    """
    begin = 0
    for end, every in stages:
        carry = search.grow(carry[0], end + ahead), *carry[1:]
        stage = begin, min(end, num_steps), every
        carry = _one_stage(search, stage, ahead, carry, step)
        begin = end
    state, records = carry
    return state, records[1]


def _one_stage(
    search: Search,
    stage: tuple[int, int, int],
    ahead: int,
    carry: tuple,
    step: steps.Step,
) -> tuple:
    """Repeats a step from the begin to the end of a stage, with a refresh every so often.

    Args:
      search: whose state is the first entry of the carry.
      stage: begin, end and steps between two refreshes.
      ahead: steps by which asking is ahead of telling.
      carry: (state, records).
      step: of `steps`.
    """
    begin, end, every = stage
    shift = ahead if begin else 0

    def first(r: Any) -> Any:
        """First step of round r."""
        return begin + r * every

    def one_round(r: Array, carry: tuple) -> tuple:
        carry = search.refresh(carry[0]), *carry[1:]
        low = first(r) + jnp.where(r > 0, ahead, shift)
        high = jnp.minimum(first(r + 1), end) + ahead
        return jax.lax.fori_loop(low, high, step, carry)

    rounds = -(-(end - begin) // every)
    return jax.lax.fori_loop(0, rounds, one_round, carry)


def simulate(
    keys: Array,
    search: Search,
    evaluate: Evaluate | Benchmark,
    num_steps: int,
    *,
    budget: float | None = None,
    workers: int = 1,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> Trace:
    """Runs a whole experiment, one run for each key, as one compiled program.

    Args:
      keys: (s,) PRNG keys, one for each run.
      search: as for `run`.
      evaluate: as for `run`, or a `Benchmark`. Give large tables as arguments of a
        `jax.tree_util.Partial`; a plain closure makes them constants of the program.
      num_steps: steps of each run, at least 1.
      budget: as for `run`.
      workers: as for `run`.
      batch_size: runs that a device executes side by side. Default: one after another on
        a CPU, which is faster there, and all at once on an accelerator.
      devices: over which the runs are spread. Default: all local devices.

    Returns: a `Trace` with leading axes (s, num_steps). The epochs of its queries are at
      most the last one of a `Benchmark`.
    Raises: `ValueError` for keys that are not a vector of PRNG keys, for sizes or a
      budget out of range, and for a benchmark of other objectives than the search's.
    """
    checked_stages(search, num_steps)
    if isinstance(evaluate, Benchmark):
        require_objectives(search, evaluate.objectives)
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
    num_padded = -(-num_runs // len(devices)) * len(devices)
    padded = keys[jnp.arange(num_padded) % num_runs]
    if len(devices) == 1 and devices[0] != jax.local_devices()[0]:
        padded = jax.device_put(padded, devices[0])
    if budget is not None and not budget >= 0:
        raise ValueError(f"the budget must be at least 0, not {budget}")
    last = evaluate.epochs if isinstance(evaluate, Benchmark) else None
    if isinstance(evaluate, Benchmark):
        evaluate = evaluate.evaluate
    if not isinstance(evaluate, Partial):
        evaluate = Partial(evaluate)
    limit = None if budget is None else jnp.asarray(budget, float)
    settings = num_steps, workers, batch_size, devices
    trace = _simulate(padded, search, evaluate, limit, *settings)
    trace = jax.tree.map(lambda x: x[:num_runs], trace)
    if last is None:
        return trace
    epoch = jnp.minimum(trace.query.epoch, last)
    return trace._replace(query=trace.query._replace(epoch=epoch))


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _simulate(
    keys: Array,
    search: Search,
    evaluate: Evaluate,
    budget: Array | None,
    num_steps: int,
    workers: int,
    batch_size: int,
    devices: tuple[Any, ...],
) -> Trace:
    """Compiled part of `simulate`, with a multiple of the devices as number of keys."""

    def runs(
        keys: Array, search: Search, evaluate: Evaluate, budget: Array | None
    ) -> Trace:
        """Runs of one device."""
        settings = {"budget": budget, "workers": workers}
        one = lambda key: run(key, search, evaluate, num_steps, **settings)[1]  # noqa: E731
        if batch_size >= keys.shape[0] > 1:
            return jax.vmap(one)(keys)
        return jax.lax.map(one, keys, batch_size=batch_size if batch_size > 1 else None)

    if len(devices) == 1:
        return runs(keys, search, evaluate, budget)
    seeds, replicated = PartitionSpec("seeds"), PartitionSpec()
    mesh = Mesh(devices, ("seeds",))
    specs = (seeds, replicated, replicated, replicated)
    spread = jax.shard_map(
        runs, mesh=mesh, in_specs=specs, out_specs=seeds, check_vma=False
    )
    return spread(keys, search, evaluate, budget)
