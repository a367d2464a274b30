"""Asynchronous successive halving against a plain Python program."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.search import drive, presets
from jaxnas.search.common import train_from_scratch
from jaxnas.search.fidelity import kde
from jaxnas.search.fidelity.asynchronous import (
    HalvingState,
    _row_of,
    asynchronous_halving,
    promotion,
    stopping,
)
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, nasbench201
from jaxnas.types import Result, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
LEVELS = (1, 3, 9)
ETA = 3
RULES = {"promotion": promotion, "stopping": stopping}
every_rule = pytest.mark.parametrize("rule", RULES)


@functools.cache
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=9)


@functools.cache
def runs(rule, workers=1):
    search = asynchronous_halving(SPACE, LEVELS, eta=ETA, rule=RULES[rule])
    keys = jax.random.split(jax.random.key(0), 3)
    trace = simulate(keys, search, benchmark(), 60, workers=workers)
    return jax.tree.map(lambda x: np.asarray(x)[:, :, 0], trace)


class Python:
    """The rungs as dictionaries, configuration by number, and what goes on."""

    def __init__(self):
        self.rungs = [{} for _ in LEVELS]  # number -> score
        self.asked = [set() for _ in LEVELS]  # numbers that were asked to go there
        self.passed = []  # (number, level) to go on with, of the stopping rule

    def best(self, level):
        rung = self.rungs[level]
        order = sorted(rung, key=lambda number: (-rung[number], number))
        return order[: math.floor(len(rung) / ETA)]

    def promoted(self):
        for level in range(len(LEVELS) - 2, -1, -1):
            for number in self.best(level):
                if number not in self.asked[level + 1]:
                    return number, level + 1
        return None

    def goes_on(self, rule):
        if rule == "promotion":
            return self.promoted()
        return self.passed[0] if self.passed else None

    def tell(self, number, level, score):
        self.rungs[level][number] = score
        if level + 1 < len(LEVELS):
            few = len(self.rungs[level]) < ETA
            if few or number in self.best(level):
                self.passed.append((number, level + 1))


@every_rule
def test_queries_are_those_of_a_python_program(rule):
    trace = runs(rule)
    for seed in range(3):
        python, archs = Python(), []
        for i in range(60):
            arch = trace.query.arch[seed, i].tolist()
            target = python.goes_on(rule)
            if target is None:
                target = len(archs), 0
                archs.append(arch)
            number, level = target
            python.asked[level].add(number)
            python.passed = [p for p in python.passed if p != target]
            assert arch == archs[number], (seed, i)
            assert trace.query.epoch[seed, i] == LEVELS[level]
            assert trace.query.start[seed, i] == (0, *LEVELS)[level]
            python.tell(number, level, trace.score[seed, i])
        assert len(python.rungs[2]) > 1


@every_rule
def test_workers_are_never_idle_and_train_nothing_twice(rule):
    trace = runs(rule, workers=4)
    assert asked(trace.query).all()
    cost = trace.query.epoch - trace.query.start
    np.testing.assert_array_equal(trace.cost, cost)
    for seed in range(3):
        reached = {(): 0}
        begin = trace.time[seed] - trace.cost[seed]
        for i in np.argsort(trace.time[seed], kind="stable"):
            arch, start = tuple(trace.query.arch[seed, i]), trace.query.start[seed, i]
            if start:
                assert reached[arch, start] <= begin[i]
            reached.setdefault((arch, trace.query.epoch[seed, i]), trace.time[seed, i])
        # A quarter of the work each: no worker waited for another.
        assert trace.time[seed].max() < cost[seed].sum() / 4 + 9


def test_an_epoch_that_is_no_level_changes_nothing():
    search = asynchronous_halving(SPACE, LEVELS, eta=ETA)
    state = search.grow(search.init(jax.random.key(0)), 4)
    result = Result(jnp.ones(1), jnp.ones((1, 1)), jnp.ones(1))
    tell = jax.jit(search.tell)
    for epoch, count in ((2, 0), (1, 1)):
        query = train_from_scratch(jnp.zeros((1, 3), jnp.int32), epoch)
        assert tell(state, query, result).count == count


@every_rule
def test_results_straight_at_the_last_level_are_none_of_those_below(rule):
    seen = []

    def sampler(key, observations, level):
        del key, level
        jax.debug.callback(lambda *x: seen.append(x), observations)
        return jnp.zeros(3, jnp.int32)

    search = asynchronous_halving(
        SPACE, LEVELS, eta=ETA, rule=RULES[rule], sampler=sampler
    )
    state = search.grow(search.init(jax.random.key(0)), 9)
    told = [(90, 9), (91, 9), (math.nan, 9), (math.nan, 1), (50, 1), (51, 1), (50.5, 1)]
    for number, (score, epoch) in enumerate(told):
        arch = jnp.array([[number % 4, number // 4, 1]], jnp.int32)
        result = Result(jnp.full(1, score), jnp.ones((1, 1)), jnp.ones(1))
        state = search.tell(state, train_from_scratch(arch, epoch), result)
    # Of four trainings at the first level the best goes on, not two of seven; when the
    # first of them arrive they are too few to be stopped.
    if rule == "promotion":
        state = state._replace(moving=state.moving.at[5].set(True))
    passed = {"promotion": [], "stopping": [4, 5]}[rule]
    assert jnp.flatnonzero(RULES[rule](state, ETA)).tolist() == passed
    jax.jit(search.ask)(jax.random.key(0), state._replace(moving=state.top == 0))
    jax.effects_barrier()
    (observed,) = seen[0]
    rows = zip(observed.score, observed.level, observed.done, strict=True)
    wanted = [(float(score), LEVELS.index(epoch)) for score, epoch in told]
    found = [(float(score), int(level)) for score, level, done in rows if done]
    assert str(found) == str(wanted)


def test_of_equal_architectures_the_one_that_may_continue_does():
    arch = jnp.asarray([[9, 9], [1, 2], [1, 2], [1, 2], [9, 9]])
    top = jnp.asarray([0, 0, 0, 1, 0])
    state = HalvingState(
        arch, jnp.zeros((5, 3)), top, jnp.zeros(5, bool), top > 9, jnp.int32(5)
    )
    levels = jnp.asarray(LEVELS)

    def row(may, start):
        may = jnp.asarray(may, bool)
        return int(_row_of(state, may, levels, jnp.asarray([1, 2]), start))

    assert row([1, 0, 1, 1, 1], 1) == 2 and row([1, 0, 0, 1, 1], 1) == 1
    assert row([1, 0, 0, 0, 1], 3) == 3 and row([1, 1, 1, 1, 1], 9) == 5


def test_about_one_of_eta_goes_on():
    epochs = runs("promotion", workers=4).query.epoch
    counts = np.array([[(e == level).sum() for level in LEVELS] for e in epochs])
    # A training that was promoted early may not be among the best at the end.
    assert (abs(counts[:, 1] - counts[:, 0] / 3) <= 3).all()


def test_bohb_plus_learns_and_begins_no_architecture_twice():
    space, steps = nasbench201.SPACE, 150
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), space, epochs=9)
    search = presets.bohb_plus(space, (1, 3, 9))
    trace = simulate(jax.random.split(jax.random.key(0), 8), search, benchmark, steps)
    arch, epoch, start = (np.asarray(x)[:, :, 0] for x in trace.query[:3])
    begun = start == 0
    rises = []
    for seed in range(8):
        own = [tuple(a) for a in arch[seed][begun[seed]].tolist()]
        assert len(own) == len({*own}) > steps / 2
        low = np.asarray(trace.score)[seed, :, 0][begun[seed]]
        assert (epoch[seed][begun[seed]] == 1).all()
        rises.append(low[-30:].mean() - low[:14].mean())
    # The first 14 are random: there is no model of fewer evaluations.
    assert np.mean(rises) > 5 * np.std(rises) / 8**0.5


@pytest.mark.parametrize(("batch", "workers"), [(8, 1), (1, 8)])
def test_bohb_plus_begins_no_architecture_that_is_in_flight(batch, workers):
    space = nasbench201.SPACE
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), space, epochs=9)
    search = presets.bohb_plus(space, (1, 3, 9), batch=batch)
    keys = jax.random.split(jax.random.key(0), 4)
    trace = simulate(keys, search, benchmark, 160 // batch, workers=workers)
    arch = np.asarray(trace.query.arch).reshape(4, -1, 6)
    start = np.asarray(trace.query.start).reshape(4, -1)
    for seed in range(4):
        own = [tuple(a) for a in arch[seed][start[seed] == 0].tolist()]
        assert len(own) == len({*own}) > 80


def test_a_learned_sampler_and_the_driver_resume_to_the_same_asks(tmp_path):
    sampler = kde.kde_sampler(SPACE, random=0.0)
    search = asynchronous_halving(SPACE, LEVELS, sampler=sampler)
    whole = drive.optimise(jax.random.key(0), search, _objective, 24, tmp_path / "a")
    for steps in (5, 13, 24):
        parts = drive.optimise(
            jax.random.key(0), search, _objective, steps, tmp_path / "b"
        )
    key = lambda e: (e.step, e.arch, e.epoch, e.start)  # noqa: E731
    assert list(map(key, whole)) == list(map(key, parts))
    with ThreadPoolExecutor(3) as executor:
        done = drive.optimise(
            jax.random.key(0), search, _objective, 24, tmp_path / "c", executor=executor
        )
    assert not any(e.error for e in done)
    trained = {(e.arch, e.epoch) for e in done}
    assert all(e.start == 0 or (e.arch, e.start) in trained for e in done)
    assert {e.epoch for e in done} == set(LEVELS)


def _objective(arch, epoch, start):
    return {
        "score": sum(map(int, arch.split(","))) + 0.1 * epoch,
        "cost": epoch - start,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1}, "eta must be a number above 1"),
        ({"levels": (3, 3)}, "ascend"),
        ({"levels": (0.5, 3)}, "level 0 must be a whole number"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_bad_input_is_one_error_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        asynchronous_halving(SPACE, **({"levels": LEVELS} | options))
