"""Driven searches ask what compiled runs ask: in one piece, in several, with workers."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from drive_toy import (
    KEY,
    SEARCHES,
    SPACE,
    costly,
    evaluate,
    events,
    go,
    make,
    same,
    scored,
)
from jax.tree_util import Partial

from jaxnas.search.loop import run
from jaxnas.search.random import random_search
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

STEPS, WORKERS = 24, 4
every_search = pytest.mark.parametrize("name", SEARCHES)


def never(text):
    raise AssertionError(text)


@functools.cache
def compiled(name, workers):
    """Architectures and scores of `loop.run`, in the order of finishing."""
    search = make(name)
    one = jax.jit(lambda key: run(key, search, evaluate, STEPS, workers=workers)[1])
    trace = one(jax.random.key(KEY))
    archs = [SPACE.to_string(a) for a in np.asarray(trace.query.arch[:, 0])]
    return archs, trace.score[:, 0], trace.cost[:, 0]


def by_hand(name):
    """Ask and tell, from the documentation of `Search` alone."""
    search, asked = make(name), []
    key_init, key_run = jax.random.split(jax.random.key(KEY))
    ask, tell, refresh = map(jax.jit, (search.ask, search.tell, search.refresh))
    state, begin = search.init(key_init), 0
    for end, every in search.stages(STEPS):
        state = search.grow(state, end)
        for step in range(begin, min(end, STEPS)):
            if (step - begin) % every == 0:
                state = refresh(state)
            query = ask(jax.random.split(jax.random.fold_in(key_run, step))[0], state)
            text = SPACE.to_string(query.arch[0])
            score, cost = (np.array([x], "f4") for x in costly(text).values())
            state = tell(state, query, Result(score, score[:, None], cost))
            asked.append(text)
        begin = end
    return asked


@every_search
def test_one_history_however_it_is_made(name, tmp_path):
    search = make(name)
    whole = go(tmp_path / "whole", search, STEPS, function=costly)
    archs, scores, costs = compiled(name, 1)
    assert [e.arch for e in whole] == archs == by_hand(name)
    np.testing.assert_array_equal([e.score for e in whole], scores)
    np.testing.assert_array_equal([e.cost for e in whole], costs)
    assert {e.epoch for e in whole} == ({12} if name == "bayesopt" else {None})
    # A restart at half of the steps, and a run made longer.
    half = tmp_path / "half"
    assert scored(go(half, search, STEPS // 2, function=costly)) == scored(
        whole[: STEPS // 2]
    )
    same(go(half, search, STEPS, function=costly), whole)
    # And a shorter one, for which everything is there.
    same(go(half, search, 5, function=never), whole[:5])


class Simulated:
    """An executor of workers on a simulated clock: tasks take what they cost."""

    def __init__(self):
        self.clock, self.running, self.number = 0.0, [], 0

    def submit(self, function, *args):
        found = function(*args)
        job = Job(self, np.float32(self.clock) + np.float32(found.cost), found)
        self.running.append(job)
        return job


class Job:
    def __init__(self, executor, finish, found):
        self.executor, self.found = executor, found
        self.order = finish, found.step

    def done(self):
        return self is min(self.executor.running, key=lambda job: job.order)

    def result(self):
        self.executor.clock = self.order[0]
        self.executor.running.remove(self)
        return self.found


@every_search
def test_workers_ask_what_simulated_ones_ask(name, tmp_path):
    options = dict(executor=Simulated(), workers=WORKERS)
    found = go(tmp_path, make(name), STEPS, function=costly, **options)
    archs, scores, costs = compiled(name, WORKERS)
    assert [e.arch for e in found] == archs
    np.testing.assert_array_equal([e.score for e in found], scores)
    assert [e.step for e in found] != list(range(STEPS))
    assert archs != compiled(name, 1)[0] or name == "random"


class Scripted(Simulated):
    """Tasks finish in the order that is given."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def submit(self, function, *args):
        job = super().submit(function, *args)
        job.order = self.steps.index(job.found.step), 0
        return job


@every_search
def test_killed_with_workers_it_goes_on_with_the_same_asks(name, tmp_path):
    path = tmp_path / "history.jsonl"
    options = dict(search=make(name), steps=STEPS, function=costly, workers=WORKERS)
    found = go(tmp_path, executor=Simulated(), **options)
    asked = [e["arch"] for e in events(tmp_path, "asked")]
    order, lines = [e.step for e in found], path.read_bytes().splitlines(True)
    for cut in (2, 5, 18, 33):
        path.write_bytes(b"".join(lines[:cut]) + lines[cut][: cut % 3 * 9])
        ran = Scripted(order)
        same(go(tmp_path, executor=ran, **options), found)
        assert [e["arch"] for e in events(tmp_path, "asked")] == asked
        # No more than what is not in the history was run again.
        kept = path.read_bytes().splitlines(True)[:cut]
        assert kept == lines[:cut]


def test_in_flight_are_run_again_with_fewer_and_with_more_workers(tmp_path):
    path, search = tmp_path / "history.jsonl", make("bayesopt")
    options = dict(search=search, function=costly)
    found = go(tmp_path, executor=Simulated(), steps=STEPS, workers=4, **options)
    lines = path.read_bytes().splitlines(True)
    for workers in (1, 2):
        path.write_bytes(b"".join(lines[:21]))
        again = go(
            tmp_path, executor=Simulated(), steps=STEPS + 4, workers=workers, **options
        )
        assert len({e.arch for e in again}) == STEPS + 4  # none is asked twice
        before = [e["arch"] for e in events(tmp_path, "asked")][:12]
        assert [SPACE.to_string(np.array(a[0])) for a in before] == [
            next(e.arch for e in again if e.step == step) for step in range(12)
        ]
        assert again[:8] == found[:8]


def idle():
    """Batches whose second slot is idle; in every third step, both are."""
    inner = random_search(SPACE, batch=2, epoch=12)

    def ask(key, state):
        query = inner.ask(key, state)
        return query._replace(epoch=np.array([12, 0]) * (state.count % 3 != 2))

    def tell(state, query, result):
        del query, result
        return state._replace(count=state.count + 1)

    return dataclasses.replace(inner, ask=Partial(ask), tell=Partial(tell))


def test_idle_slots_run_nothing_and_are_told(tmp_path):
    calls = []
    function = lambda text: calls.append(text) or 1.0  # noqa: E731
    found = go(tmp_path, idle(), 6, function=function)
    assert [(e.step, e.slot) for e in found] == [(0, 0), (1, 0), (3, 0), (4, 0)]
    assert calls == [e.arch for e in found]
    assert len(events(tmp_path, "asked")) == 6
    assert go(tmp_path, idle(), 6, function=never) == found
