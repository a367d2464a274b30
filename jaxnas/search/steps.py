"""One step of a run: ask, evaluate and tell, in sequence or with simulated workers.

`run` in `loop` repeats a step. A step takes its number and a carry (state, records) and
returns the carry after it; records are the account of the budget, the trace and, for
several workers, the evaluations in flight.

An evaluation of a simulated worker takes as long as it costs. A step of such a run is the
end of one evaluation: `tell` receives the result, and the worker gets the next query.
With w workers, `ask` is w - 1 steps ahead of `tell`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.search.base import Search
from jaxnas.types import Array, Query, Result, State, Trace, asked

# Ask = (step (), state) -> Query, with the randomness of that step.
Ask = Callable[[Any, State], Query]
# Answer = Query -> Result, with the key of the run.
Answer = Callable[[Query], Result]
# Step = (step (), carry) -> carry.
Step = Callable[[Array, tuple], tuple]


class Account(NamedTuple):
    """Spent cost, as a sum of two floats so that many small costs add up exactly."""

    spent: Array  # ()
    rest: Array  # (), what rounding left out of `spent`
    budget: Array  # ()


def open_account(dtype: Any, budget: Any) -> Account:
    """Account of a budget () from which nothing has been spent."""
    zero = jnp.zeros((), dtype)
    return Account(zero, zero, jnp.asarray(budget, dtype))


def _charge(account: Account, cost: Array) -> tuple[Account, Array]:
    """Pays costs (b,) in order, each if it fits; returns which of them did, (b,) bool."""

    def one(account: Account, cost: Array) -> tuple[Account, Array]:
        fits = cost <= (account.budget - account.spent) - account.rest
        paid = jnp.where(fits, cost, 0)
        # Knuth's exact sum of two floats.
        total = account.spent + paid
        back = total - account.spent
        lost = (account.spent - (total - back)) + (paid - back)
        return account._replace(spent=total, rest=account.rest + lost), fits

    return jax.lax.scan(one, account, cost)


def ask_and_answer(
    ask: Ask, answer: Answer, step: Any, state: State
) -> tuple[Query, Result]:
    """Asks a query and evaluates it; the result of idle slots is masked."""
    query = ask(step, state)
    return query, _mask_idle(query, answer(query))


def _mask_idle(query: Query, result: Result) -> Result:
    """Sets idle slots to NaN at cost 0, whatever the evaluator returned for them."""
    active = asked(query)
    several = result.objectives
    return Result(
        jnp.where(active, result.score, jnp.nan),
        jnp.where(active[:, None], result.curve, jnp.nan),
        jnp.where(active, result.cost, 0),
        None if several is None else jnp.where(active[:, None], several, jnp.nan),
    )


def _within_budget(
    account: Account | None, query: Query, result: Result
) -> tuple[Account | None, Query, Result]:
    """Pays for a query; slots that exceed the budget become idle."""
    if account is None:
        return account, query, result
    account, fits = _charge(account, result.cost)
    query = query._replace(start=jnp.where(fits, query.start, query.epoch))
    return account, query, _mask_idle(query, result)


def empty_trace(query: Query, result: Result, num_steps: int) -> Trace:
    """Trace of zeros for `num_steps` steps with queries and results of these shapes."""
    one = Trace(query, result.score, result.cost, result.cost, result.objectives)
    return jax.tree.map(lambda x: jnp.zeros((num_steps, *x.shape), x.dtype), one)


def _write(
    trace: Trace, step: Array, query: Query, result: Result, time: Array
) -> Trace:
    """Writes one step to a trace; `time` (b,) is when each slot finished."""
    put = jax.lax.dynamic_update_index_in_dim
    new = Trace(query, result.score, result.cost, time, result.objectives)
    return jax.tree.map(lambda all, one: put(all, one, step, 0), trace, new)


def sequential(search: Search, ask: Ask, answer: Answer) -> Step:
    """Step of a run with one worker; the carry is (state, (account, trace))."""

    def step(i: Array, carry: tuple) -> tuple:
        state, (account, trace) = carry
        query, result = ask_and_answer(ask, answer, i, state)
        account, query, result = _within_budget(account, query, result)
        state = search.tell(state, query, result)
        # The slots of a step are evaluated side by side.
        begin = jnp.where(i > 0, trace.time[jnp.maximum(i - 1, 0)].max(), 0)
        trace = _write(trace, i, query, result, begin + result.cost)
        return state, (account, trace)

    return step


class Flight(NamedTuple):
    """The evaluations in flight, one for each of w workers."""

    query: Query  # (w, ...)
    result: Result  # (w, ...), known already, as the run is simulated
    time: Array  # (w,), when each finishes
    number: Array  # (w,) int32, the step that asked it; -1 before the first
    free: Array  # () int32, the worker that is given the next query


def idle_flight(query: Query, result: Result, workers: int) -> Flight:
    """Flight of idle workers, free at time 0, with the shapes of one query and result."""
    query, result = jax.tree.map(
        lambda x: jnp.zeros((workers, *x.shape[1:]), x.dtype), (query, result)
    )
    number = jnp.full(workers, -1, jnp.int32)
    time = jnp.zeros(workers, result.cost.dtype)
    return Flight(query, _mask_idle(query, result), time, number, jnp.int32(0))


def asynchronous(
    search: Search, ask: Ask, answer: Answer, workers: int, num_steps: int
) -> Step:
    """Step of a run with several workers; the carry is (state, (account, trace, flight)).

    Args:
      search: that asks one architecture a step.
      ask: of the search.
      answer: the evaluator.
      workers: evaluations in flight at a time, at least 2.
      num_steps: evaluations of the run; later steps ask nothing and only tell.
    """

    def step(i: Array, carry: tuple) -> tuple:
        state, (account, trace, flight) = carry
        # The free worker finished in the last step: it has nothing in flight.
        now, free = flight.time[flight.free], flight.free
        epoch = flight.query.epoch.at[free].set(flight.query.start[free])
        aware = search.expect(state, flight.query._replace(epoch=epoch))
        query, result = ask_and_answer(ask, answer, i, aware)
        # Past the last step nothing is asked, and the queries in flight finish.
        late = i >= num_steps
        query = query._replace(epoch=jnp.where(late, query.start, query.epoch))
        result = _mask_idle(query, result)
        account, query, result = _within_budget(account, query, result)
        query, result = jax.tree.map(
            lambda all, one: all.at[free].set(one[0]),
            (flight.query, flight.result),
            (query, result),
        )
        finish = jnp.where(late, jnp.inf, now + result.cost[free])
        time = flight.time.at[free].set(finish)
        number = flight.number.at[free].set(i)
        done = _first_to_finish(time, number, i)
        query_done, result_done = jax.tree.map(lambda x: x[done][None], (query, result))
        state = search.tell(state, query_done, result_done)
        row = jnp.maximum(i - (workers - 1), 0)
        trace = _write(trace, row, query_done, result_done, time[done][None])
        flight = Flight(query, result, time, number, done.astype(jnp.int32))
        return state, (account, trace, flight)

    return step


def _first_to_finish(time: Array, number: Array, step: Array) -> Array:
    """Worker () that finishes first; of several, the one whose query was asked first."""
    return jnp.argmin(jnp.where(time == time.min(), number, step + 1))
