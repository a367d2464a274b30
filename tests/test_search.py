"""The search protocol, and what every search promises; a new one joins `SEARCHES`."""

import dataclasses
import functools
import os
import subprocess
import sys
from collections import Counter, deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drive_toy import linear_ensemble
from jax.tree_util import Partial

from jaxnas.kernels import feature_maps
from jaxnas.predictors.pool import make_pool
from jaxnas.search import common, evolution
from jaxnas.search.base import Search, Stage, checked_stages
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.proposals import mixture, mutants, uniform
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.local_search import local_search
from jaxnas.search.loop import run, simulate
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.random import random_search
from jaxnas.spaces import base, features
from jaxnas.types import FULL_TRAINING, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHOICES = (5,) * 6
SPACE = base.product("toy", CHOICES)
STEPS = 40


@functools.cache
def whole_pool():
    hot = features.one_hot_encoder(CHOICES)
    return make_pool(SPACE, [lambda arch: (hot(arch),)])


# name -> batch -> a search of SPACE with room for STEPS steps.
SEARCHES = {
    "random": lambda batch: random_search(SPACE, batch=batch),
    "random without repeats": lambda batch: random_search(
        SPACE, batch=batch, capacity=STEPS * batch
    ),
    "evolution": lambda batch: regularized_evolution(
        SPACE, population=12, tournament=4, init=6, batch=batch
    ),
    "local search": lambda batch: local_search(SPACE, init=6, batch=batch),
    "bananas": lambda batch: bananas(
        SPACE,
        features.one_hot_encoder(CHOICES),
        capacity=STEPS * batch,
        init=10,
        round_size=6,
        candidates=30,
        ensemble=linear_ensemble,
        batch=batch,
    ),
    "bayesopt": lambda batch: bayesopt(whole_pool(), batch=batch),
    "bayesopt sampled": lambda batch: bayesopt_sampled(
        SPACE,
        [feature_maps.hamming_features(SPACE)],
        mixture(uniform(SPACE, 50), mutants(SPACE, 50)),
        batch=batch,
    ),
}
every_search = pytest.mark.parametrize("name", SEARCHES)


@functools.cache
def make(name, batch=1):
    """One search object for all tests of it, so that its programs are compiled once."""
    return SEARCHES[name](batch)


@functools.cache
def by_step(name, batch=1):
    search = make(name, batch)
    functions = search.init, search.ask, search.tell, search.refresh
    return tuple(map(jax.jit, functions))


TRACED = []


def evaluate(table, noise, key, query):
    TRACED.append(query.arch.shape)
    score = table[base.rank(SPACE, query.arch)]
    score += noise * jax.random.normal(key, score.shape)
    return Result(score, score[:, None], jnp.ones_like(score))


evaluate_jitted = jax.jit(evaluate)


@functools.cache
def objective(failing=lambda code: code < 0, noise=0.0):
    """A random table with structure; `failing` marks the scores that are NaN."""
    rng = np.random.default_rng(0)
    index = np.arange(SPACE.size)
    arch = np.asarray(jax.vmap(lambda i: base.unrank(SPACE, i))(index))
    effect = rng.normal(size=(6, 5))[np.arange(6), arch].sum(1)
    score = effect + 0.3 * rng.normal(size=SPACE.size)
    table = np.where(failing(index), np.nan, score)
    return Partial(evaluate, jnp.asarray(table, jnp.float32), jnp.float32(noise))


def noisy():
    return objective(noise=0.1)


def seeds(*numbers):
    return jax.vmap(jax.random.key)(jnp.array(numbers))


def three_runs(name, *, numbers=(1, 2, 3), objective=None):
    objective = noisy() if objective is None else objective
    return simulate(seeds(*numbers), make(name), objective, STEPS)


def many_runs(name, times, **kwargs):
    """`three_runs` of different seeds, several times: (3 * times, STEPS, ...)."""
    parts = [
        three_runs(name, numbers=range(10 + 3 * i, 13 + 3 * i), **kwargs)
        for i in range(times)
    ]
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def by_hand(key, name, evaluate, num_steps, batch=1, until=None):
    """`run` as a Python loop over ask and tell, from its documentation alone."""
    search, (init, ask, tell, refresh) = make(name, batch), by_step(name, batch)
    key_init, key_run = jax.random.split(key)
    key_evaluate = jax.random.fold_in(key_run, np.uint32(2**32 - 1))
    state, queries, scores = init(key_init), [], []
    stages, end, every = iter(search.stages(num_steps)), 0, 1
    for step in range(num_steps if until is None else until):
        if step == end:
            begin, (end, every) = step, next(stages)
            state = search.grow(state, end)
        if (step - begin) % every == 0:
            state = refresh(state)
        query = ask(jax.random.split(jax.random.fold_in(key_run, step))[0], state)
        result = evaluate_jitted(*evaluate.args, key_evaluate, query)
        state = tell(state, query, result)
        queries.append(query.arch)
        scores.append(result.score)
    return state, np.stack(queries), np.stack(scores)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# What every search promises.


@every_search
def test_compiled_runs_equal_python_loops(name):
    trace = three_runs(name)
    assert trace.query.arch.shape == (3, STEPS, 1, 6)
    assert trace.score.shape == trace.cost.shape == (3, STEPS, 1)
    for i, key in enumerate(seeds(1, 2, 3)):
        _, arch, score = by_hand(key, name, noisy(), STEPS)
        np.testing.assert_array_equal(trace.query.arch[i], arch)
        np.testing.assert_allclose(trace.score[i], score, atol=1e-6)


@every_search
def test_side_by_side_equals_one_after_another(name):
    keys = seeds(1, 2, 3)
    trace = simulate(keys, make(name), noisy(), STEPS, batch_size=3)
    np.testing.assert_array_equal(trace.query.arch, three_runs(name).query.arch)


@every_search
@pytest.mark.parametrize("steps", [3, 19, 26])
def test_a_short_run_begins_a_long_one(name, steps):
    """Bit for bit: a run that is made longer goes on with what is there."""
    trace = simulate(seeds(1, 2, 3), make(name), noisy(), steps)
    same(trace, jax.tree.map(lambda x: x[:, :steps], three_runs(name)))
    stages = make(name).stages
    assert stages(STEPS)[: len(stages(steps))] == stages(steps)


@every_search
def test_several_architectures_in_a_step(name):
    _, arch, score = by_hand(jax.random.key(0), name, objective(), 12, batch=2)
    assert (
        arch.shape == (12, 2, 6) and arch.dtype == np.int32 and score.shape == (12, 2)
    )
    assert len(np.unique(arch.reshape(24, 6), axis=0)) > 18


@every_search
def test_queries_have_the_promised_form(name):
    query = three_runs(name).query
    assert {x.dtype for x in jax.tree.leaves(query)} == {jnp.dtype("int32")}
    assert query.epoch.shape == query.start.shape == (3, STEPS, 1)
    assert (query.epoch == FULL_TRAINING).all() and (query.start == 0).all()
    assert (query.arch >= 0).all() and (query.arch < 5).all()


@every_search
def test_seeds_differ_and_keys_repeat(name):
    first, again = three_runs(name), three_runs(name, numbers=(3, 9, 1))
    assert (first.query.arch[0, 0] != first.query.arch[1, 0]).any()
    same(
        jax.tree.map(lambda x: x[0], first),
        jax.tree.map(lambda x: x[2], again),
    )


@every_search
def test_a_program_is_traced_once(name):
    three_runs(name)
    before = len(TRACED)
    three_runs(name, numbers=(7, 8, 9), objective=objective(lambda c: c % 5 == 0))
    assert len(TRACED) == before


@every_search
def test_a_state_can_be_stored_and_taken_up_again(name):
    state, *_ = by_hand(jax.random.key(5), name, objective(), STEPS, until=STEPS // 2)
    stored = [np.array(x) for x in jax.tree.leaves(state)]
    restored = jax.tree.unflatten(jax.tree.structure(state), map(jnp.asarray, stored))
    _, ask, tell, refresh = by_step(name)
    for step in range(STEPS // 4):
        both = []
        for before in (refresh(state), refresh(restored)):
            query = ask(jax.random.key(step), before)
            result = evaluate_jitted(*objective().args, jax.random.key(step), query)
            both.append(tell(before, query, result))
        state, restored = both
        same(state, restored)


@every_search
@pytest.mark.parametrize("failing", [lambda c: c % 3 != 0, lambda c: c >= 0])
def test_failed_evaluations_are_survived(name, failing):
    trace = three_runs(name, objective=objective(failing))
    assert np.isnan(trace.score).any()
    assert (trace.query.arch >= 0).all() and (trace.query.arch < 5).all()
    # It still searches: hardly anything is asked twice.
    for arch in trace.query.arch:
        assert len(np.unique(arch[:, 0], axis=0)) > 0.7 * STEPS


@every_search
def test_no_key_is_used_twice(name):
    noiseless = objective()

    def one_step(key):
        search = make(name)
        key_init, key_ask, key_evaluate = jax.random.split(key, 3)
        state = search.grow(search.init(key_init), STEPS)
        query = search.ask(key_ask, state)
        state = search.tell(state, query, noiseless(key_evaluate, query))
        return search.refresh(state)

    with jax.debug_key_reuse(True):  # which looks at what is traced
        jax.jit(one_step).trace(jax.random.key(0))


@pytest.mark.parametrize("name", [name for name in SEARCHES if "random" not in name])
def test_it_finds_better_ones_than_random_search(name):
    guided, random = (
        many_runs(n, 7, objective=objective()).score.max((1, 2)).mean()
        for n in (name, "random")
    )
    assert guided > random + 0.3


BAD = [
    (lambda: random_search(SPACE, batch=0), "batch must be at least 1, not 0"),
    (lambda: random_search(SPACE, epoch=0), "epoch must be at least 1, not 0"),
    (lambda: random_search(SPACE, capacity=0), "capacity must be at least 1, not 0"),
    (lambda: random_search(SPACE, capacity=15626), "capacity must be .* 15625 .* toy"),
    (
        lambda: random_search(SPACE, same=lambda arch: arch[0]),
        "same needs a capacity, the number of evaluations of the run",
    ),
    (lambda: regularized_evolution(SPACE, population=0), "population must be at least"),
    (
        lambda: regularized_evolution(SPACE, tournament=-1),
        "tournament must be at least",
    ),
    (lambda: regularized_evolution(SPACE, init=0), "init must be at least 1, not 0"),
]


def test_a_search_and_a_pool_are_shown_in_a_line():
    line = repr(regularized_evolution(SPACE))
    assert line.startswith("Search(ask=regularized_evolution") and SPACE.name in line
    search = regularized_evolution(SPACE)
    assert "space=None" in repr(Search(search.init, abs, search.tell))
    pool = make_pool(SPACE, [feature_maps.hamming_features(SPACE)])
    assert repr(pool) == f"Pool(space={SPACE.name!r}, arch={pool.arch.shape})"
    assert len(line) < 100


@pytest.mark.parametrize(("build", "words"), BAD)
def test_bad_sizes_are_named(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


# The loop itself.


@pytest.mark.parametrize("batch_size", [2, 9])
def test_the_batch_size_changes_nothing(batch_size):
    keys = seeds(1, 2, 3, 4, 5)
    trace = simulate(keys, make("random"), noisy(), STEPS, batch_size=batch_size)
    three = jax.tree.map(lambda x: x[:3], trace)
    np.testing.assert_array_equal(three.query.arch, three_runs("random").query.arch)
    np.testing.assert_allclose(three.score, three_runs("random").score, atol=1e-6)


def test_run_is_what_simulate_does():
    program = jax.jit(lambda key: run(key, make("evolution"), objective(), STEPS))
    state, trace = program(jax.random.key(2))
    all_three = three_runs("evolution", objective=objective())
    same(trace, jax.tree.map(lambda x: x[1], all_three))
    assert state.age == STEPS


def test_every_run_has_one_key_of_its_own_for_evaluations():
    pure_noise = Partial(evaluate, jnp.zeros(SPACE.size), jnp.float32(1))
    trace = three_runs("random", objective=pure_noise)
    assert (
        len(np.unique(trace.score)) == 3
        and (trace.score[:, 1:] == trace.score[:, :1]).all()
    )


def counting_search():
    """Asks how many steps and refreshes there were, to an epoch that is the size."""

    def ask(key, state):
        steps, refreshes, room = state
        arch = jnp.stack([steps, refreshes, 0, 0, 0, 0])
        return common.train_from_scratch(arch[None], len(room))

    return Search(
        init=lambda key: (jnp.int32(0), jnp.int32(0), jnp.zeros(0)),
        ask=ask,
        tell=lambda state, query, result: (state[0] + 1, *state[1:]),
        grow=lambda state, end: (*state[:2], jnp.zeros(end)),
        refresh=lambda state: (state[0], state[1] + 1, state[2]),
        stages=lambda num_steps: (Stage(2, 2), Stage(8, 3), Stage(num_steps, 1)),
    )


def test_a_search_of_one_step_that_accepts_everything():
    search = random_search(base.product("toy", (5,)))
    assert checked_stages(search, 1)[0].end >= 1
    assert search.accepts(jnp.array([4]))


def test_a_state_grows_and_is_refreshed_as_the_stages_say():
    query = simulate(seeds(0, 1), counting_search(), objective(), 10).query
    for i in range(2):
        np.testing.assert_array_equal(query.arch[i, :, 0, 0], range(10))
        refreshes = [1, 1, 2, 2, 2, 3, 3, 3, 4, 5]
        np.testing.assert_array_equal(query.arch[i, :, 0, 1], refreshes)
        sizes = [2] * 2 + [8] * 6 + [10] * 2
        np.testing.assert_array_equal(query.epoch[i, :, 0], sizes)


def test_bad_experiments_are_refused():
    search, keys = make("random"), seeds(0, 1)
    with pytest.raises(
        ValueError, match="num_steps must be a whole number of at least 1, not 0"
    ):
        simulate(keys, search, objective(), 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        simulate(keys, search, objective(), 5, batch_size=0)
    with pytest.raises(ValueError, match="41 steps of 1 are 41, more than 40"):
        simulate(keys, make("random without repeats"), objective(), STEPS + 1)


DEVICES = """
import sys; sys.path.insert(0, "tests")
import jax
import test_search as t

one, search, noisy = jax.devices()[:1], t.make("random"), t.noisy()
keys = t.seeds(1, 2, 3)
alone = t.simulate(keys, search, noisy, 9, devices=one)
for batch_size in (None, 2):
    spread = t.simulate(keys, search, noisy, 9, batch_size=batch_size)
    t.same(alone.query, spread.query)
    print(len(alone.score.devices()), len(spread.score.devices()))
last = jax.devices()[1:]
other = t.simulate(keys, search, noisy, 9, devices=last)
t.same(alone.query, other.query)
print(other.score.devices() == {*last})
"""


def test_two_devices_give_what_one_gives():
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", DEVICES],
        cwd=os.path.dirname(os.path.dirname(__file__)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:3] == ["1 2", "1 2", "True"]


# Random search.


def codes(trace):
    arch = np.asarray(trace.query.arch)
    return arch.reshape(len(arch), -1, 6) @ 5 ** np.arange(6)


def test_random_search_is_uniform():
    arch = many_runs("random", 17).query.arch.reshape(-1, 6)
    for position in range(6):
        counts = np.bincount(arch[:, position], minlength=5)
        expected = len(arch) / 5
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < 23.5  # 0.9999 quantile with 4 degrees of freedom


def test_with_a_capacity_nothing_is_repeated():
    search = random_search(SPACE, batch=4, capacity=400)
    trace = simulate(seeds(0, 1, 2), search, objective(), 100)
    assert [len(set(row)) for row in codes(trace)] == [400] * 3


def test_without_one_repeats_occur():
    trace = many_runs("random", 17)
    assert min(len(set(row)) for row in codes(trace)) < STEPS


def test_sampling_of_new_ones_in_a_space_that_is_nearly_used_up():
    small, seen = base.product("small", (2, 2)), jnp.array([True, False, False])
    known = jax.vmap(small.identity)(jnp.array([[0, 0], [0, 1], [1, 0]]))
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = lambda key: common.sample_new(key, small, 3, known, seen)  # noqa: E731
    rows = jax.jit(jax.vmap(draw))(keys)
    assert (rows >= 0).all() and (rows < 2).all()
    # Three are new. One misses all five tries with probability 4^-5, 2^-5, (3/4)^5.
    complete = [len({tuple(a) for a in row} - {(0, 0)}) == 3 for row in rows.tolist()]
    wanted = (1 - 4**-5) * (1 - 2**-5) * (1 - 0.75**5)
    assert abs(np.mean(complete) - wanted) < 0.05


# Evolution.


def members(state):
    num = min(int(state.age), state.score.shape[0])
    rows = zip(np.asarray(state.arch)[:num], np.asarray(state.score)[:num], strict=True)
    return Counter(
        (*arch.tolist(), float(np.nan_to_num(s, nan=-9))) for arch, s in rows
    )


@pytest.mark.parametrize("replace", [evolution.oldest, evolution.worst])
@pytest.mark.parametrize(("init", "batch"), [(3, 1), (15, 2)])
def test_the_population_is_that_of_a_deque(replace, init, batch):
    search = regularized_evolution(
        SPACE, population=8, tournament=3, init=init, replace=replace, batch=batch
    )
    ask, tell = jax.jit(search.ask), jax.jit(search.tell)
    failing = objective(lambda code: code % 4 == 0)
    state, population, age = search.init(jax.random.key(0)), deque(), 0
    for step in range(30):
        query = ask(jax.random.key(step), state)
        result = evaluate_jitted(*failing.args, jax.random.key(step), query)
        for arch in query.arch.tolist():
            if age >= init:  # a child: one position away from some member
                assert any(np.sum(np.array(m[:6]) != arch) == 1 for m in population)
            age += 1
        for arch, score in zip(query.arch.tolist(), result.score, strict=True):
            population.append((*arch, float(np.nan_to_num(score, nan=-9))))
            if len(population) > 8 and replace is evolution.oldest:
                population.popleft()
            elif len(population) > 8:
                population.remove(min(population, key=lambda m: m[6]))
        state = tell(state, query, result)
        assert members(state) == Counter(population)


def crowd(scores):
    """A full population whose members differ in all six positions."""
    num = len(scores)
    arch = jnp.tile(jnp.arange(num, dtype=jnp.int32)[:, None], (1, 6))
    return evolution.EvolutionState(arch, jnp.array(scores), jnp.int32(num))


def parents_of_many(state, num=3000, **settings):
    search = regularized_evolution(SPACE, population=4, epoch=12, **settings)
    ask = jax.jit(jax.vmap(search.ask, (0, None)))
    query = ask(jax.random.split(jax.random.key(1), num), state)
    assert (query.epoch == 12).all() and (query.start == 0).all()
    children = query.arch[:, 0]
    # Five of the six positions are still the parent's, and one is not.
    parents = jnp.sort(children, axis=1)[:, 2]
    assert (jnp.sum(children != parents[:, None], axis=1) == 1).all()
    return np.asarray(parents)


def test_the_tournament_has_the_right_odds():
    parents = parents_of_many(crowd([1.0, 3.0, float("nan"), 2.0]), tournament=2)
    shares = np.bincount(parents, minlength=4) / len(parents)
    # Of 16 pairs the best wins 7, the next 5, the third 3, the failed one 1.
    np.testing.assert_allclose(shares, np.array([3, 7, 1, 5]) / 16, atol=0.04)


def test_a_failed_member_is_no_parent_of_anyone():
    state = crowd([-9e9, float("nan"), -9.5e9, float("nan")])
    assert set(parents_of_many(state, tournament=60)) == {0}


def test_a_growing_population_has_no_parents_in_empty_slots():
    state = crowd([1.0, 2.0, 9.0, 9.0])._replace(age=jnp.int32(2))
    assert set(parents_of_many(state, tournament=3, init=2)) == {0, 1}


def test_a_changed_search_compiles_nothing_anew():
    search = regularized_evolution(SPACE)
    changed = dataclasses.replace(search, space=SPACE)
    assert jax.tree.structure(changed) == jax.tree.structure(search)
