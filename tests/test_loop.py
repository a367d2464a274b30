"""Budgets, simulated workers and idle slots, against plain Python loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_search as contract
from jax.tree_util import Partial

from jaxnas import metrics
from jaxnas.search import steps
from jaxnas.search.base import Search
from jaxnas.search.common import train_from_scratch
from jaxnas.search.loop import run, simulate
from jaxnas.spaces import base
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE, STEPS = contract.SPACE, 24
every_search = contract.every_search


def costs(table, cost, key, query):
    """Scores and costs by rank; the costs are not round."""
    del key
    rank = base.rank(SPACE, query.arch)
    score = table[rank]
    return Result(score, score[:, None], cost[rank])


@functools.cache
def priced():
    rng = np.random.default_rng(3)
    cost = jnp.asarray(10 ** rng.uniform(-1, 1, SPACE.size), jnp.float32)
    table = jnp.asarray(rng.normal(size=SPACE.size), jnp.float32)
    return Partial(costs, table, cost)


@functools.cache
def traces(name, batch=1, budget=None, workers=1):
    keys = contract.seeds(1, 2)
    search = contract.make(name, batch)
    settings = {"budget": budget, "workers": workers}
    return jax.tree.map(np.asarray, simulate(keys, search, priced(), STEPS, **settings))


def asked(trace):
    return trace.query.epoch > trace.query.start


@every_search
@pytest.mark.parametrize("batch", [1, 2])
def test_a_budget_is_kept_and_used(name, batch):
    free, limited = traces(name, batch), traces(name, batch, 10.0)
    for i in range(2):
        spent = 0.0
        for step in range(STEPS):
            for slot in range(batch):
                query, cost = limited.query, limited.cost[i, step, slot]
                arch = jnp.asarray(query.arch[i, step])
                price = np.float64(priced().args[1][base.rank(SPACE, arch)[slot]])
                fits = spent + price <= 10
                assert asked(limited)[i, step, slot] == fits
                assert cost == (np.float32(price) if fits else 0)
                assert np.isnan(limited.score[i, step, slot]) != fits
                spent += price if fits else 0
        assert spent <= 10 < free.cost[i].sum()
        # Until something does not fit, nothing has changed.
        first = int(np.argmin(asked(limited)[i].all(1)))
        np.testing.assert_array_equal(
            free.query.arch[i, : first + 1], limited.query.arch[i, : first + 1]
        )


def test_many_small_costs_add_up_exactly():
    """In single precision 1e7 + 0.25 would be 1e7, and the budget never used up."""

    def ask(key, state):
        return train_from_scratch(jnp.zeros((1, 6), jnp.int32), 1)

    def evaluate(key, query):
        one = jnp.ones(1)
        return Result(one, one[:, None], one * 0.1)

    search = Search(lambda key: (), ask, lambda state, query, result: state)
    trace = jax.jit(lambda key: run(key, search, evaluate, 5000, budget=301.0)[1])
    total = np.asarray(trace(jax.random.key(0)).cost, np.float64).sum()
    assert 301.0 - 0.11 < total <= 301.0


def by_events(key, name, workers):
    """The event loop that `workers` stands for, from its documentation alone."""
    search = contract.make(name)
    init, ask, tell, refresh = contract.by_step(name)
    expect = jax.jit(search.expect)
    key_init, key_run = jax.random.split(key)
    step_key = lambda i: jax.random.split(jax.random.fold_in(key_run, i))[0]  # noqa: E731
    starts, begin = {}, 0
    for end, every in search.stages(STEPS):
        starts |= {s: end if s == begin else None for s in range(begin, end, every)
                   if s < STEPS}  # fmt: skip
        begin = end
    state, num_told, clock, flying, done = init(key_init), 0, 0.0, [], []
    for number in range(STEPS + workers - 1):
        if num_told in starts and (num_told or not number):
            end = starts.pop(num_told)
            state = search.grow(state, end + workers - 1) if end else state
            state = refresh(state)
        if number < STEPS:
            aware = state
            if flying:
                several = [one[2] for one in flying]
                query = jax.tree.map(lambda *xs: jnp.concatenate(xs), *several)
                aware = expect(aware, query)
            query = ask(step_key(number), aware)
            result = priced()(None, query)
            finish = np.float32(clock) + np.float32(result.cost[0])
            flying.append((finish, number, query, result))
        if number >= workers - 1:
            flying.sort(key=lambda one: one[:2])
            clock, _, query, result = flying.pop(0)
            state, num_told = tell(state, query, result), num_told + 1
            done.append((np.asarray(query.arch[0]), float(result.score[0]), clock))
    return done


@every_search
def test_workers_are_an_event_loop(name):
    trace = traces(name, workers=3)
    for i, key in enumerate(contract.seeds(1, 2)):
        archs, scores, times = zip(*by_events(key, name, 3), strict=True)
        np.testing.assert_array_equal(trace.query.arch[i, :, 0], archs)
        np.testing.assert_allclose(trace.score[i, :, 0], scores)
        np.testing.assert_allclose(trace.time[i, :, 0], times, rtol=1e-5)
        assert (np.diff(times) >= 0).all()


@every_search
def test_one_worker_is_the_sequential_run(name):
    """The event loop with one worker; the clock is what has been spent."""
    trace = traces(name)
    for i, key in enumerate(contract.seeds(1, 2)):
        archs, _, times = zip(*by_events(key, name, 1), strict=True)
        np.testing.assert_array_equal(trace.query.arch[i, :, 0], archs)
        np.testing.assert_allclose(trace.time[i, :, 0], times, rtol=1e-5)


def test_workers_have_less_to_wait_for():
    trace = traces("random", workers=3)
    total, longest = trace.cost.sum((1, 2)), trace.cost.max((1, 2))
    assert (trace.time[:, -1, 0] < 0.6 * total).all()
    assert (trace.time[:, -1, 0] >= np.maximum(total / 3, longest) * 0.999).all()


@pytest.mark.parametrize("name", ["random without repeats", "bananas", "bayesopt"])
def test_what_is_in_flight_is_not_asked_again(name):
    for run_of in traces(name, workers=4).query.arch[:, :, 0]:
        assert len(np.unique(run_of, axis=0)) == STEPS


def test_a_budget_holds_for_all_workers_together():
    trace = traces("random", budget=15.0, workers=3)
    assert (trace.cost.astype(np.float64).sum((1, 2)) <= 15.0).all()
    assert (~asked(trace)).any() and asked(trace).any()


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_it_is_told_whether_the_budget_or_the_steps_ended_a_run(workers):
    limited = traces("evolution", budget=8.0, workers=workers)
    free = traces("evolution", budget=1e6, workers=workers)
    for trace, wanted in ((limited, False), (free, True)):
        given = asked(trace), trace.cost, trace.time
        assert metrics.cut_short(*given).tolist() == [wanted] * 2


def test_budgets_that_are_none_are_refused():
    for budget in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="the budget must be at least 0, not"):
            simulate(
                contract.seeds(0), contract.make("random"), priced(), 4, budget=budget
            )


def test_batches_and_several_workers_are_refused():
    with pytest.raises(ValueError, match="asks 2 architectures a step: simulated work"):
        simulate(contract.seeds(0), contract.make("random", 2), priced(), 4, workers=2)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        simulate(contract.seeds(0), contract.make("random"), priced(), 4, workers=0)


# Idle slots.


def query_of(archs, epoch):
    start = jnp.full(len(archs), 2, jnp.int32)
    return Query(jnp.asarray(archs, jnp.int32), jnp.asarray(epoch, jnp.int32), start)


def result_of(*scores):
    score = jnp.array(scores, jnp.float32)
    return Result(score, score[:, None], jnp.ones_like(score))


@every_search
def test_idle_slots_change_no_state(name):
    search, tell = contract.make(name), jax.jit(contract.make(name).tell)
    state, *_ = contract.by_hand(
        jax.random.key(5), name, contract.objective(), contract.STEPS, until=23
    )
    rng = np.random.default_rng(0)
    one, two, three = base.every(SPACE)[rng.integers(0, SPACE.size, 3)]
    nothing = query_of([one, two], [2, 1]), result_of(3.0, jnp.nan)
    contract.same(tell(state, *nothing), state)
    contract.same(jax.jit(search.expect)(state, nothing[0]), state)
    mixed = query_of([one, two, three], [2, 5, 0]), result_of(jnp.nan, 1.5, 9.0)
    alone = query_of([two], [5]), result_of(1.5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, tell(state, *mixed), tell(state, *alone))


@every_search
def test_an_evaluator_that_answers_idle_slots_is_not_believed(name):
    """`run` tells NaN and no cost, whatever comes back for a slot that asks nothing."""
    search = contract.make(name)

    def lazy(key, state):
        query = search.ask(key, state)
        return query._replace(epoch=query.start)

    def checked(state, query, result):
        ok = jnp.isnan(result.score).all() & (result.cost == 0).all()
        return search.tell(state, query, result), ok & jnp.isnan(result.curve).all()

    def tell(state, query, result):
        after, ok = checked(state[0], query, result)
        return after, ok & state[1]

    idle = Search(
        lambda key: (search.init(key), True),
        lambda key, state: lazy(key, state[0]),
        tell,
        lambda state, end: (search.grow(state[0], end), state[1]),
        stages=search.stages,
    )
    state, trace = jax.jit(lambda key: run(key, idle, priced(), 6))(jax.random.key(0))
    assert state[1] and np.isnan(trace.score).all() and not trace.cost.any()


@every_search
def test_every_search_runs_in_double_precision(name, x64):
    """With a pool in double precision, and with one made before that was switched on."""
    keys = jax.random.split(jax.random.key(1), 2)
    before = simulate(keys, contract.make(name), priced(), 14)
    contract.whole_pool.cache_clear()
    after = simulate(keys, contract.SEARCHES[name](1), priced(), 14)
    contract.whole_pool.cache_clear()
    first = 5  # the random start asks the same in any precision
    for trace in (before, after):
        assert np.isfinite(trace.score).all() and trace.query.arch.dtype == jnp.int32
        np.testing.assert_array_equal(
            trace.query.arch[:, :first], before.query.arch[:, :first]
        )


def test_what_rounding_leaves_out_of_a_sum_is_kept():
    cost = np.full(3000, 0.1, np.float32)
    for budget in (17.7, 100.0, 250.0):
        account = steps.open_account(jnp.float32, budget)
        spent, fits = jax.jit(steps._charge)(account, cost)
        num = int(np.float64(np.float32(budget)) / np.float64(cost[0]))
        assert fits.sum() == num and fits[:num].all()
        total = np.float64(spent.spent) + np.float64(spent.rest)
        np.testing.assert_allclose(total, num * np.float64(cost[0]), 1e-9)
