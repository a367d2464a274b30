"""Bayesian optimisation: its posterior, its choices, and that it finds the optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.spatial.distance import cdist

from jaxnas import acquisition, gp, metrics
from jaxnas.predictors import pool as pools
from jaxnas.predictors import pool_gp
from jaxnas.search.gp import pool_search as bo
from jaxnas.search.gp import schedule, selectors
from jaxnas.search.loop import run, simulate
from jaxnas.spaces import base, features
from jaxnas.types import FULL_TRAINING, Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

# With one stage to compile after the random start.
INIT, STEPS = 5, 25


def halves(choices):
    """Hamming distance in the first and in the last positions: two parts."""
    cut = sum(choices[: len(choices) // 2])

    def parts(arch):
        hot = features.one_hot(choices, arch) / 2
        return hot[:cut], hot[cut:]

    return parts


SPACE = base.product("toy", (3,) * 4)


@functools.cache
def pool_of(space):
    return pools.make_pool(space, [halves(space.choices)])


@functools.cache
def make(capacity=None, acquire=acquisition.expected_improvement):
    select = selectors.maximise(acquire)
    return bo.bayesopt(pool_of(SPACE), init=INIT, capacity=capacity, select=select)


def evaluate(space, table, key, query):
    del key
    score = table[base.rank(space, query.arch)]
    return Result(score, score[:, None], jnp.ones_like(score))


def additive(space, seed, failing=0.0):
    """A sum of effects, one for each choice at each position; some cells are NaN."""
    rng = np.random.default_rng(seed)
    effects = [rng.normal(size=c) for c in space.choices]
    table = functools.reduce(np.add.outer, effects).reshape(-1)
    table[rng.random(len(table)) < failing] = np.nan
    return jnp.float32(table)


def evaluator(seed=0, failing=0.0):
    table = additive(SPACE, seed, failing)
    return Partial(evaluate_toy, table)


def evaluate_toy(table, key, query):
    return evaluate(SPACE, table, key, query)


def seeds(*numbers):
    return jax.vmap(jax.random.key)(jnp.array(numbers))


@jax.jit
def run_jitted(key, search, evaluate):
    return run(key, search, evaluate, STEPS)


@functools.cache
def run_of(seed, failing=0.0):
    return run_jitted(jax.random.key(seed), make(), evaluator(failing=failing))


def codes(arch):
    return np.asarray(arch).reshape(*arch.shape[:-3], -1, 4) @ [27, 9, 3, 1]


def from_scratch(pool, state):
    """The posterior over the distinct embeddings, by the textbook."""
    parts = [np.asarray(p, float).T for p in pool.embeddings.parts]
    scales = np.asarray(state.hyper.scales, float)
    apart = sum(
        cdist(p, p, "cityblock") / s for p, s in zip(parts, scales, strict=True)
    )
    kernel, count = np.exp(-apart), int(state.count)
    rows = np.asarray(pool.embeddings.column)[np.asarray(state.index)[:count]]
    z = np.asarray(gp.standardise(state.standardisation, state.score))[:count]
    noise = float(state.hyper.noise)
    found = gp.posterior(
        jnp.array(kernel[np.ix_(rows, rows)]),
        jnp.array(kernel[rows]),
        jnp.array(kernel),
        jnp.array(z),
        jnp.ones(count, bool),
        jnp.array(noise),
    )
    return np.asarray(found.mean), np.diag(np.asarray(found.cov))


@pytest.mark.parametrize("failing", [0.0, 0.3])
def test_the_incremental_posterior_is_the_textbooks(failing):
    state, trace = run_of(4, failing)
    assert state.count == STEPS
    known = state.index[: state.count]
    np.testing.assert_array_equal(known, codes(trace.query.arch))
    np.testing.assert_array_equal(state.score[:STEPS], trace.score[:, 0])
    seen = np.zeros(81, bool)
    seen[np.asarray(known)] = True
    np.testing.assert_array_equal(state.seen, seen)
    with jax.enable_x64(True):
        mean, variance = from_scratch(pool_of(SPACE), state)
    np.testing.assert_allclose(state.mean, mean, atol=2e-3)
    np.testing.assert_allclose(1 - state.variance_reduction, variance, atol=2e-3)


@functools.cache
def after_steps(capacity, num_steps=STEPS):
    """The state after the same observations, whatever would have been asked."""
    search, table = make(capacity), additive(SPACE, 0)
    tell, refresh = jax.jit(search.tell), jax.jit(search.refresh)
    order = np.random.default_rng(0).permutation(81)
    state, begin = search.init(jax.random.key(0)), 0
    for end, every in search.stages(num_steps):
        state = search.grow(state, end)
        for step in range(begin, min(end, num_steps)):
            if (step - begin) % every == 0:
                state = refresh(state)
            arch = base.unrank(SPACE, order[step])[None]
            query = Query(arch, jnp.ones(1, jnp.int32), jnp.zeros(1, jnp.int32))
            state = tell(state, query, evaluate_toy(table, None, query))
        begin = end
    return state


def test_growing_and_fixed_arrays_give_the_same_posterior():
    growing, fixed = after_steps(None), after_steps(40)
    assert growing.index.shape == (60,) and fixed.index.shape == (40,)
    np.testing.assert_array_equal(growing.index[:STEPS], fixed.index[:STEPS])
    np.testing.assert_array_equal(growing.seen, fixed.seen)
    both = ((*s.hyper, *s.standardisation) for s in (growing, fixed))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(growing.mean, fixed.mean, atol=1e-3)
    np.testing.assert_allclose(
        growing.variance_reduction, fixed.variance_reduction, atol=1e-3
    )


def test_a_refit_changes_nothing_but_the_hyper_parameters():
    """Rebuilt from nothing with the same ones, the posterior is the incremental one."""
    state = after_steps(40)
    rebuilt = jax.jit(make(40).refresh)(state)
    with jax.enable_x64(True):
        mean, variance = from_scratch(pool_of(SPACE), rebuilt)
    np.testing.assert_allclose(rebuilt.mean, mean, atol=2e-3)
    np.testing.assert_allclose(1 - rebuilt.variance_reduction, variance, atol=2e-3)
    again = jax.jit(make(40).refresh)(rebuilt)
    np.testing.assert_array_equal(again.mean, rebuilt.mean)


@pytest.mark.parametrize("failing", [0.0, 0.4, 1.0])
def test_nothing_is_asked_twice_and_failures_are_survived(failing):
    for seed in (1, 2, 3):
        _, trace = run_of(seed, failing)
        assert trace.query.arch.dtype == jnp.int32
        assert (trace.query.epoch == FULL_TRAINING).all()
        assert (trace.query.start == 0).all()
        assert np.isnan(trace.score).any() == (failing > 0)
        assert len(set(codes(trace.query.arch))) == STEPS


def test_a_whole_pool_can_be_used_up():
    arch = base.every(SPACE)[::3][:STEPS]
    pool = pools.make_pool(SPACE, [halves(SPACE.choices)], arch=arch)
    search = bo.bayesopt(pool, init=INIT)
    (row,) = codes(simulate(seeds(0), search, evaluator(), STEPS).query.arch)
    assert sorted(row) == sorted(arch @ [27, 9, 3, 1])


def test_seeds_differ():
    one, two = (codes(run_of(seed)[1].query.arch) for seed in (1, 2))
    assert (one[:INIT] != two[:INIT]).any() and (one[INIT:] != two[INIT:]).any()


# Of 14 steps a process learns in two stages: the first of them has to grow.
@pytest.mark.parametrize(("batch", "steps"), [(2, 14), (7, 4)])
def test_batches_are_new_and_the_posterior_is_the_textbooks(batch, steps):
    search = bo.bayesopt(pool_of(SPACE), init=INIT, batch=batch)
    program = jax.jit(lambda key: run(key, search, evaluator(), steps))
    state, trace = program(jax.random.key(0))
    assert trace.query.arch.shape == (steps, batch, 4) and state.count == batch * steps
    asked = codes(trace.query.arch[:, None])
    assert len(set(asked.reshape(-1))) == batch * steps
    known = state.index[: batch * steps]
    np.testing.assert_array_equal(known, asked.reshape(-1))
    with jax.enable_x64(True):
        mean, variance = from_scratch(pool_of(SPACE), state)
    np.testing.assert_allclose(state.mean, mean, atol=2e-3)
    np.testing.assert_allclose(1 - state.variance_reduction, variance, atol=2e-3)
    with pytest.raises(ValueError, match="the pool has 81 architectures: not enough"):
        jax.eval_shape(lambda key: run(key, search, evaluator(), 90), seeds(0)[0])


def test_mutants_of_the_best_are_asked_once_there_are_scores():
    mutants = bo.mutants(parents=1, children=20)
    search = bo.bayesopt(pool_of(SPACE), init=INIT, candidates=mutants)
    trace = simulate(seeds(1, 2), search, evaluator(), 12)
    for arch, score in zip(trace.query.arch[:, :, 0], trace.score[..., 0], strict=True):
        apart = (arch[:, None] != arch[None]).sum(-1)
        for step in range(INIT, 12):
            best = int(np.argmax(score[:step]))
            assert apart[step, best] == 1
    first = trace.query.arch[:, :INIT, 0]
    assert ((first[:, 1:, None] != first[:, None, :-1]).sum(-1) > 1).any()


def test_mutants_are_distinct_new_neighbours_or_else_all_that_are_new():
    pool, best = pool_of(SPACE), 40
    apart = (np.asarray(pool.arch) != np.asarray(pool.arch[best])).sum(1)
    scored = pool_gp.empty(pool, 2)._replace(
        index=jnp.array([best, 0]), score=jnp.array([1.0, jnp.nan])
    )
    one, many, few = (
        jax.jit(bo.mutants(parents=2, children=c, size=s))
        for c, s in ((1, 100), (200, 100), (200, 3))
    )
    key, nothing = jax.random.key(0), jnp.zeros(len(apart), bool)
    state = scored._replace(seen=nothing.at[best].set(True))
    assert np.flatnonzero(one(key, pool, state)) in np.flatnonzero(apart == 1)
    np.testing.assert_array_equal(many(key, pool, state), apart == 1)
    assert few(key, pool, state).sum() == 3
    state = scored._replace(seen=jnp.asarray(apart <= 1))
    np.testing.assert_array_equal(many(key, pool, state), apart > 1)


def test_the_first_ones_are_uniform():
    table = evaluator()
    first = simulate(seeds(*range(300)), make(), table, INIT).query.arch
    counts = np.bincount(codes(first).reshape(-1), minlength=81)
    expected = 300 * INIT / 81
    assert ((counts - expected) ** 2 / expected).sum() < 133  # 80 d.o.f., 0.9998


def test_architectures_of_a_class_count_as_one():
    """The last position does not matter: 27 architectures, the smallest kept."""
    same = lambda arch: base.rank(SPACE, arch) // 3  # noqa: E731
    every = np.indices(SPACE.choices).reshape(4, -1).T
    shuffled = np.random.default_rng(0).permutation(every)
    pool = pools.make_pool(SPACE, [halves(SPACE.choices)], arch=shuffled, same=same)
    np.testing.assert_array_equal(pool.arch, every[::3])
    found = jax.vmap(pools.index_of, (None, 0))(pool, jnp.asarray(every))
    np.testing.assert_array_equal(found, np.arange(81) // 3)


def test_an_architecture_that_the_pool_lacks_is_not_taken_for_another():
    every = base.every(SPACE)
    pool = pools.make_pool(SPACE, [halves(SPACE.choices)], arch=every[10:60:2])
    found = jax.vmap(pools.index_of, (None, 0))(pool, jnp.asarray(every))
    wanted = np.full(81, -1)
    wanted[10:60:2] = np.arange(25)
    np.testing.assert_array_equal(found, wanted)
    search = bo.bayesopt(pool, init=2, capacity=4)
    accepted = jax.vmap(search.accepts)(jnp.asarray(every))
    np.testing.assert_array_equal(accepted, wanted >= 0)
    state = search.init(seeds(0)[0])
    one = jnp.ones(1, jnp.int32)
    query = Query(jnp.asarray(every[11:12]), one, 0 * one)
    after = search.tell(
        state, query, Result(jnp.ones(1), jnp.ones((1, 1)), jnp.ones(1))
    )
    assert after.count == 0 and not after.seen.any()


SEVEN = base.product("toy", (3,) * 7)


def test_it_finds_the_optimum_sooner_than_random_search():
    """Additive objectives on 2,187 cells, random search without repeats."""
    search = bo.bayesopt(pool_of(SEVEN), init=10)
    num, steps = 20, 50
    table = additive(SEVEN, 7)

    def evaluate_seven(table, key, query):
        return evaluate(SEVEN, table, key, query)

    trace = simulate(seeds(*range(num)), search, Partial(evaluate_seven, table), steps)
    ours = np.asarray(metrics.queries_to(trace.score[..., 0], table.max()))
    rng = np.random.default_rng(1)
    theirs = 1 + rng.integers(2187, size=num)  # where a permutation has the best
    assert (ours < theirs).mean() >= 0.95
    assert np.median(ours) < 40


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ([[0, 0, 0, 0], [0, 3, 0, 0]], r"choices 0..2 at position 1, not 3"),
        ([[0.5, 0, 0, 0]], "must be integers, not float64"),
        ([[0, 0]], r"must be \(n, 4\) with n >= 1, not \(1, 2\)"),
        (np.zeros((0, 4), int), r"with n >= 1, not \(0, 4\)"),
    ],
)
def test_pools_of_what_are_no_choices_are_refused(arch, words):
    with pytest.raises(ValueError, match=words):
        pools.make_pool(SPACE, [halves(SPACE.choices)], arch=np.array(arch))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init": 1}, "init must be between 2 and the pool's 81, not 1"),
        ({"init": 82}, "init must be between 2 and the pool's 81, not 82"),
        ({"capacity": 4, "init": 5}, "capacity must be between init = 5, .* not 4"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"batch": 82}, "batch must be at most the pool's 81, not 82"),
        ({"batch": 1.5}, "batch must be a whole number, not 1.5"),
        ({"init": 2.5}, "init must be a whole number, not 2.5"),
        ({"capacity": 82}, "capacity must be .* the pool's 81, not 82"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words) as error:
        bo.bayesopt(pool_of(SPACE), **settings)
    assert "\n" not in str(error.value)


def test_the_first_stage_ends_after_twice_the_random_steps():
    stages = schedule.refit_stages(10, 200)
    assert stages == ((10, 10), (20, 2), (60, 10), (150, 30), (200, 50))


def test_the_ends_of_stages_stay_as_they_are():
    # Other ends would be other bits of long runs, of which there is no golden trace.
    stages = schedule.refit_stages(2, 12_000)
    assert [end for end, _ in stages] == [
        2, 4, 8, 20, 60, 150, 200, 300, 500, 800, 1200, 2000, 3000, 5000, 8000, 12_000,
    ]  # fmt: skip
    assert [every for _, every in stages[4:9]] == [10, 30, 50, 100, 100]


@pytest.mark.parametrize("init", [1, 2, 5, 10, 33])
def test_stages_cover_a_run_and_begin_a_longer_one(init):
    whole = schedule.refit_stages(init, 5000)
    for num_steps in [*range(1, 401), 997]:
        found = schedule.refit_stages(init, num_steps)
        assert found == whole[: len(found)]
        begin = 0
        for end, every in schedule.refit_stages(init, num_steps):
            assert end > begin and begin < num_steps and 1 <= every <= end - begin
            begin = end
        assert begin >= num_steps
