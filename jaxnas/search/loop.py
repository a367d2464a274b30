"""The only search loop of the library: ask, evaluate, tell, over seeds.

Sequential runs, runs with a budget, and runs of several simulated workers are one loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial

from jaxnas.benchmarks.base import Benchmark
from jaxnas.search.base import Search, Stage, checked_stages
from jaxnas.search.common import evaluation_key
from jaxnas.types import (
    Array,
    Evaluate,
    Query,
    Result,
    State,
    Trace,
    asked,
    check_sizes,
)


def run(
    key: Array,
    search: Search,
    evaluate: Evaluate,
    num_steps: int,
    *,
    budget: float | Array | None = None,
    workers: int = 1,
) -> tuple[State, Trace]:
    """Runs `num_steps` rounds of ask, evaluate, tell.

    Step i asks with randomness from (key, i) alone, and stages are a function of the
    step, so a longer run begins as a shorter one. All evaluations have one key.

    Args:
      budget: the largest total cost, in the benchmark's unit. An increment that does not
        fit what is left is not started: its slot is idle. `metrics.cut_short`
        tells whether the run reached its last step before that.
      workers: evaluations in flight at a time, each as long as its cost. They finish in
        the order of the simulated clock, and a step is one that finishes: it is told, and
        the next is asked with those in flight known (`Search.expect`). One worker is the
        sequential run. More than one is for searches that ask one architecture a step.

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
    query, result = jax.eval_shape(lambda state: _asked(ask, answer, 0, state), state)
    account = None if budget is None else Account.new(result.cost.dtype, budget)
    trace = jax.tree.map(
        lambda x: jnp.zeros((num_steps, *x.shape), x.dtype),
        _record(query, result, result.cost),
    )
    if workers == 1:
        step = _sequential(search, ask, answer)
        carry = state, (account, trace)
        return _in_stages(search, stages, num_steps, 0, carry, step)
    if result.cost.shape != (1,):
        raise ValueError(
            f"the search asks {result.cost.shape[0]} architectures a step: simulated "
            "workers take one each, so wanted a batch of 1"
        )
    step = _asynchronous(search, ask, answer, workers, num_steps)
    flight = _grounded(query, result, workers)
    carry = state, (account, trace, flight)
    return _in_stages(search, stages, num_steps, workers - 1, carry, step)


class Account(NamedTuple):
    """What has been spent, in two words, so that a long sum of small costs is exact."""

    spent: Array  # ()
    rest: Array  # (), what rounding left out of `spent`
    budget: Array  # ()

    @classmethod
    def new(cls, dtype: Any, budget: Any) -> Account:
        zero = jnp.zeros((), dtype)
        return cls(zero, zero, jnp.asarray(budget, dtype))


def _charge(account: Account, cost: Array) -> tuple[Account, Array]:
    """Pays costs (b,) in order, as far as each fits; whether it did, (b,)."""

    def one(account: Account, cost: Array) -> tuple[Account, Array]:
        fits = cost <= (account.budget - account.spent) - account.rest
        paid = jnp.where(fits, cost, 0)
        # Knuth's exact sum of two floats.
        total = account.spent + paid
        back = total - account.spent
        lost = (account.spent - (total - back)) + (paid - back)
        return account._replace(spent=total, rest=account.rest + lost), fits

    return jax.lax.scan(one, account, cost)


def _asked(
    ask: Callable, evaluate: Callable, i: Any, state: State
) -> tuple[Query, Result]:
    """What is asked, and what comes back; whatever an evaluator says of idle slots."""
    query = ask(i, state)
    return query, _settled(query, evaluate(query))


def _settled(query: Query, result: Result) -> Result:
    wanted = asked(query)
    return Result(
        jnp.where(wanted, result.score, jnp.nan),
        jnp.where(wanted[:, None], result.curve, jnp.nan),
        jnp.where(wanted, result.cost, 0),
    )


def _afforded(
    account: Account | None, query: Query, result: Result
) -> tuple[Account | None, Query, Result]:
    """The same, with the slots idle that the budget has no room for."""
    if account is None:
        return account, query, result
    account, fits = _charge(account, result.cost)
    query = query._replace(start=jnp.where(fits, query.start, query.epoch))
    return account, query, _settled(query, result)


def _record(query: Query, result: Result, time: Array) -> Trace:
    return Trace(query, result.score, result.cost, time)


def _put(trace: Trace, step: Array, new: Trace) -> Trace:
    put = jax.lax.dynamic_update_index_in_dim
    return jax.tree.map(lambda all, one: put(all, one, step, 0), trace, new)


def _sequential(search: Search, ask: Callable, evaluate: Callable) -> Callable:
    def step(i: Array, carry: tuple) -> tuple:
        state, (account, trace) = carry
        query, result = _asked(ask, evaluate, i, state)
        account, query, result = _afforded(account, query, result)
        state = search.tell(state, query, result)
        # The slots of a step are evaluated side by side.
        begin = jnp.where(i > 0, trace.time[jnp.maximum(i - 1, 0)].max(), 0)
        new = _record(query, result, begin + result.cost)
        return state, (account, _put(trace, i, new))

    return step


class _Flight(NamedTuple):
    """The evaluations in flight, one for each worker."""

    query: Query  # (workers, ...)
    result: Result  # (workers, ...), known already, as simulations do
    time: Array  # (workers,), when each finishes
    number: Array  # (workers,) int32, the step that asked it
    free: Array  # () int32, the worker that is asked for next


def _grounded(query: Query, result: Result, workers: int) -> _Flight:
    """No worker has anything to do: idle slots, which finish at time 0."""
    query, result = jax.tree.map(
        lambda x: jnp.zeros((workers, *x.shape[1:]), x.dtype), (query, result)
    )
    number = jnp.full(workers, -1, jnp.int32)
    time = jnp.zeros(workers, result.cost.dtype)
    return _Flight(query, _settled(query, result), time, number, jnp.int32(0))


def _asynchronous(
    search: Search, ask: Callable, evaluate: Callable, workers: int, num_steps: int
) -> Callable:
    def step(i: Array, carry: tuple) -> tuple:
        state, (account, trace, flight) = carry
        # The worker that is free finished in the last step: it has nothing in flight.
        now, free = flight.time[flight.free], flight.free
        epoch = flight.query.epoch.at[free].set(flight.query.start[free])
        aware = search.expect(state, flight.query._replace(epoch=epoch))
        query, result = _asked(ask, evaluate, i, aware)
        # As many are asked as are told: at the end workers wait for each other.
        late = i >= num_steps
        query = query._replace(epoch=jnp.where(late, query.start, query.epoch))
        result = _settled(query, result)
        account, query, result = _afforded(account, query, result)
        query, result = jax.tree.map(
            lambda all, one: all.at[free].set(one[0]),
            (flight.query, flight.result),
            (query, result),
        )
        finish = jnp.where(late, jnp.inf, now + result.cost[free])
        time = flight.time.at[free].set(finish)
        number = flight.number.at[free].set(i)
        soonest = jnp.where(time == time.min(), number, i + 1)
        done = jnp.argmin(soonest)
        query_done, result_done = jax.tree.map(lambda x: x[done][None], (query, result))
        state = search.tell(state, query_done, result_done)
        new = _record(query_done, result_done, time[done][None])
        trace = _put(trace, jnp.maximum(i - (workers - 1), 0), new)
        flight = _Flight(query, result, time, number, done.astype(jnp.int32))
        return state, (account, trace, flight)

    return step


def _in_stages(
    search: Search,
    stages: tuple[Stage, ...],
    num_steps: int,
    ahead: int,
    carry: tuple,
    step: Callable,
) -> tuple[State, Trace]:
    """Every step in its stage: the state grows and is refreshed as the stages say.

    Args:
      ahead: steps by which asking is ahead of telling, which the stages count.
    """
    begin = 0
    for end, every in stages:
        last = min(end, num_steps)
        carry = search.grow(carry[0], end + ahead), *carry[1:]
        shift = ahead if begin else 0
        first = functools.partial(lambda r, b, e: b + r * e, b=begin, e=every)

        def one_round(r, carry, first=first, last=last, shift=shift):
            carry = search.refresh(carry[0]), *carry[1:]
            low = first(r) + jnp.where(r > 0, ahead, shift)
            high = jnp.minimum(first(r + 1), last) + ahead
            return jax.lax.fori_loop(low, high, step, carry)

        rounds = -(-(last - begin) // every)
        carry = jax.lax.fori_loop(0, rounds, one_round, carry)
        begin = end
    state, rest = carry
    return state, rest[1]


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
    """Runs a whole experiment, one run per key, as one compiled program.

    Args:
      keys: (s,) PRNG keys, one per run.
      search, evaluate: as for `run`, or a `Benchmark`. Give large tables as arguments of
        a `jax.tree_util.Partial`; a plain closure makes them constants of the program.
      num_steps: rounds of each run, at least 1.
      budget, workers: as for `run`.
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
    if budget is not None and not budget >= 0:
        raise ValueError(f"the budget must be at least 0, not {budget}")
    if isinstance(evaluate, Benchmark):
        evaluate = evaluate.evaluate
    if not isinstance(evaluate, Partial):
        evaluate = Partial(evaluate)
    limit = None if budget is None else jnp.asarray(budget, float)
    settings = num_steps, workers, batch_size, devices
    trace = _simulate(padded, search, evaluate, limit, *settings)
    return jax.tree.map(lambda x: x[:num_runs], trace)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _simulate(keys, search, evaluate, budget, num_steps, workers, batch_size, devices):
    def runs(keys, search, evaluate, budget):
        settings = {"budget": budget, "workers": workers}
        one = lambda key: run(key, search, evaluate, num_steps, **settings)[1]  # noqa: E731
        if batch_size >= keys.shape[0] > 1:
            return jax.vmap(one)(keys)
        return jax.lax.map(one, keys, batch_size=batch_size if batch_size > 1 else None)

    if len(devices) == 1:
        return runs(keys, search, evaluate, budget)
    seeds, all_of_it = PartitionSpec("seeds"), PartitionSpec()
    mesh = Mesh(devices, ("seeds",))
    specs = (seeds, all_of_it, all_of_it, all_of_it)
    spread = jax.shard_map(
        runs, mesh=mesh, in_specs=specs, out_specs=seeds, check_vma=False
    )
    return spread(keys, search, evaluate, budget)
