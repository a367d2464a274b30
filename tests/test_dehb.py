"""DEHB: Hyperband at first, then children of the populations that a Python loop keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.search.common import train_from_scratch
from jaxnas.search.fidelity import brackets
from jaxnas.search.fidelity.dehb import dehb, population_sizes, to_point
from jaxnas.search.fidelity.hyperband import DONE, hyperband, make_schedule
from jaxnas.search.loop import simulate
from jaxnas.spaces import base
from jaxnas.types import Result, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
BRACKETS = brackets.hyperband_brackets((1, 3, 9), 3)
SCHEDULE = make_schedule(BRACKETS)
FIRST = len(SCHEDULE.epoch)
STEPS = 4 * FIRST


@functools.cache
def runs(crossover=0.5, factor=0.5, workers=1, steps=STEPS, early=False):
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=9)
    if crossover is None:
        search = hyperband(SPACE, BRACKETS)
    else:
        rates = {"crossover": crossover, "factor": factor}
        search = dehb(SPACE, BRACKETS, **rates, early=early)
    keys = jax.random.split(jax.random.key(0), 3)
    trace = simulate(keys, search, benchmark, steps, workers=workers)
    return jax.tree.map(lambda x: np.asarray(x)[:, :, 0], trace)


def populations(trace, seed):
    """Yields the child of each step after the first iteration with what it came from.

    These are the architecture, its parent, and the pool that the donors were of.
    """
    sizes = population_sizes(SCHEDULE)
    members, told = [[] for _ in sizes], [0] * len(sizes)
    for i in range(STEPS):
        slot = i % FIRST
        level, size = SCHEDULE.level[slot], SCHEDULE.size[slot]
        arch = trace.query.arch[seed, i].tolist()
        score = trace.score[seed, i]
        parent = told[level] % sizes[level]
        if i >= FIRST:
            at = level if SCHEDULE.opens[slot] else level - 1
            best = sorted(members[at], key=lambda m: -m[1])
            pool = best if SCHEDULE.opens[slot] else best[:size]
            pool = pool if len(pool) >= 3 else sum(members, [])
            yield arch, members[level][parent][0], [m[0] for m in pool], i
        if told[level] < sizes[level]:
            members[level].append((arch, score))
        elif score >= members[level][parent][1]:
            members[level][parent] = arch, score
        told[level] += 1


def test_the_first_iteration_is_that_of_hyperband():
    ours, theirs = (runs(c, steps=FIRST).query for c in (0.5, None))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def early_children(trace, seed):
    """The children of the first iteration, each with the pool that its donors were of."""
    members = [[] for _ in SCHEDULE.epochs]
    for i in range(FIRST):
        level, arch = SCHEDULE.level[i], trace.query.arch[seed, i].tolist()
        if SCHEDULE.opens[i] and SCHEDULE.first[i] > 0:
            yield arch, members[level] if len(members[level]) >= 3 else sum(members, [])
        members[level].append(arch)


def test_later_brackets_of_the_first_iteration_may_begin_with_children():
    given = {"factor": 1e-6, "steps": FIRST, "early": True}
    trace, plain = runs(crossover=1.0, **given), runs(None, steps=FIRST)
    end = np.flatnonzero(SCHEDULE.opens & (SCHEDULE.first > 0))[0]
    np.testing.assert_array_equal(trace.query.arch[:, :end], plain.query.arch[:, :end])
    np.testing.assert_array_equal(trace.query.epoch, plain.query.epoch)
    np.testing.assert_array_equal(trace.query.start, plain.query.start)
    num = 0
    for seed in range(3):
        for arch, pool in early_children(trace, seed):
            assert arch in pool, seed
            num += 1
    assert num == 3 * (SCHEDULE.opens & (SCHEDULE.first > 0)).sum()
    # A parent that the population does not have is uniformly random, not a corner.
    alone = runs(crossover=0.0, **given)
    archs = [arch for seed in range(3) for arch, _ in early_children(alone, seed)]
    assert sum(np.count_nonzero(arch) > 1 for arch in archs) > len(archs) / 3


def test_a_child_without_crossover_differs_from_its_parent_at_one_position():
    trace = runs(crossover=0.0)
    changed = 0
    for seed in range(3):
        for arch, parent, _, i in populations(trace, seed):
            differs = np.not_equal(arch, parent).sum()
            assert differs <= 1, (seed, i)
            changed += differs
            assert trace.query.start[seed, i] == 0
            assert trace.query.epoch[seed, i] == SCHEDULE.epoch[i % FIRST]
    assert changed > 20


def test_a_mutant_of_no_difference_is_a_member_of_the_pool():
    trace = runs(crossover=1.0, factor=1e-6)
    for seed in range(3):
        for arch, _, pool, i in populations(trace, seed):
            assert arch in pool, (seed, i)


def test_a_mutant_of_equal_members_is_that_member():
    search = dehb(SPACE, BRACKETS, crossover=1.0, factor=0.5)
    state = search.init(jax.random.key(0))
    arch = jnp.asarray([1, 1, 2], jnp.int32)
    state = state._replace(
        slots=state.slots._replace(status=jnp.full_like(state.slots.status, DONE)),
        point=jnp.broadcast_to(to_point(SPACE, arch), state.point.shape),
        member=jnp.ones_like(state.member),
        count=jnp.full_like(state.count, 100),
    )
    query = jax.jit(search.ask)(jax.random.key(1), state)
    np.testing.assert_array_equal(query.arch[0], arch)


def test_a_mutant_at_the_border_of_the_cube_is_inside():
    search = dehb(SPACE, BRACKETS, crossover=1.0, factor=0.5)
    state = search.init(jax.random.key(0))
    # At the first position 1 / 8 and 3 / 8, whose mutants are 0, 1 / 8 ... 1 / 2.
    first = jnp.arange(state.point[..., :1].size).reshape(*state.point.shape[:2]) % 2
    point = jnp.broadcast_to(to_point(SPACE, jnp.zeros(3, int)), state.point.shape)
    state = state._replace(
        slots=state.slots._replace(status=jnp.full_like(state.slots.status, DONE)),
        point=point.at[..., 0].add(first / 4),
        member=jnp.ones_like(state.member),
        count=jnp.full_like(state.count, 100),
    )
    ask = jax.jit(jax.vmap(search.ask, (0, None)))
    arch = ask(jax.random.split(jax.random.key(1), 300), state).arch
    assert set(arch[..., 0].ravel().tolist()) == {0, 1, 2}


def test_what_is_in_flight_counts_at_its_own_level():
    search = dehb(SPACE, BRACKETS)
    state = search.init(jax.random.key(0))
    query = train_from_scratch(jnp.zeros((1, 3), jnp.int32), 3)
    after = jax.jit(search.expect)(state, query)
    np.testing.assert_array_equal(after.count - state.count, [0, 1, 0])


@pytest.mark.parametrize(("batch", "workers"), [(FIRST, 1), (1, FIRST)])
def test_no_child_is_bred_of_what_is_in_flight(batch, workers):
    """Empty places of the populations are points at a corner, of choices 0."""
    space = base.product("plain", (5,) * 6)
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), space, epochs=9)
    search = dehb(space, BRACKETS, early=True, batch=batch)
    keys, steps = jax.random.split(jax.random.key(0), 200), 3 * FIRST // batch
    trace = simulate(keys, search, benchmark, steps, workers=workers)
    first = np.asarray(trace.query.arch).reshape(200, -1, 6)[:, :FIRST]
    used = np.asarray(asked(trace.query)).reshape(200, -1)[:, :FIRST]
    zeros = np.where(used, (first == 0).mean(-1), np.nan)
    # 200 x 6 draws: a standard error of 0.012 around 1 / 5, more by what is promoted.
    assert np.nanmax(np.nanmean(zeros, 0)) < 0.35


def test_a_child_as_good_as_its_parent_replaces_it():
    search = dehb(SPACE, BRACKETS)
    state = search.init(jax.random.key(0))
    state = state._replace(
        slots=state.slots._replace(status=jnp.full_like(state.slots.status, DONE)),
        score=jnp.full_like(state.score, 0.5),
        member=jnp.ones_like(state.member),
        count=jnp.full_like(state.count, 100 * population_sizes(SCHEDULE)[0]),
    )
    arch = jnp.asarray([3, 0, 4], jnp.int32)
    for score, replaced in ((0.5, True), (0.4, False)):
        scores = jnp.full(1, score)
        result = Result(scores, scores[:, None], jnp.ones(1))
        told = search.tell(state, train_from_scratch(arch[None], 1), result)
        replaced_by = (told.point[0] == to_point(SPACE, arch)).all(-1)
        assert replaced_by.any() == replaced


def test_workers_are_never_idle():
    trace = runs(workers=3)
    assert asked(trace.query).all()
    reached = {
        (tuple(a), e)
        for a, e in zip(trace.query.arch[0].tolist(), trace.query.epoch[0], strict=True)
    }
    for arch, start in zip(
        trace.query.arch[0].tolist(), trace.query.start[0], strict=True
    ):
        assert start == 0 or (tuple(arch), start) in reached


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0.0}, "factor must be above 0"),
        ({"crossover": 1.5}, "crossover must be between 0 and 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"brackets": ()}, "at least one bracket"),
        ({"brackets": ((brackets.Rung(2, 9, 0),),)}, "wanted at least 3"),
    ],
)
def test_bad_input_is_one_error_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        dehb(SPACE, **({"brackets": BRACKETS} | options))
