"""BANANAS: what it asks, against brute force; what its networks learn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import acquisition
from jaxnas.predictors.ensemble import mlp_ensemble
from jaxnas.search.loop import run, simulate
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.neural_queue import ensemble_scorer, is_new
from jaxnas.spaces import base, features, moves
from jaxnas.spaces.nasbench201 import SPACE as NB201
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHOICES = (4, 3, 4, 3, 2)
NUM = int(np.prod(CHOICES))
WEIGHTS = np.random.default_rng(0).normal(size=sum(CHOICES)).astype(np.float32)


SPACE = base.product("toy", CHOICES)
ENCODE = features.one_hot_encoder(CHOICES)


def value(arch):
    return ENCODE(jnp.asarray(arch, jnp.int32)) @ WEIGHTS


def evaluate(key, query):
    del key
    score = jax.vmap(value)(query.arch)
    return Result(score, score[:, None], jnp.ones_like(score))


def oracle(key, x, y, count, pool):
    """An ensemble that knows the truth, exactly."""
    return jnp.stack([pool @ WEIGHTS] * 2)


def mean_only(key, mean, std, best):
    return mean


def slow_candidates(archs, scores, parents, candidates):
    """The new neighbours of the best, in the order of their parents."""
    best = sorted(range(len(archs)), key=lambda i: -scores[i])[:parents]
    listed = []
    for i in best:
        around, valid = moves.neighbours(SPACE, jnp.array(archs[i]))
        for arch, ok in zip(around.tolist(), valid.tolist(), strict=True):
            if ok and arch not in archs and arch not in listed:
                listed.append(arch)
    return listed[:candidates]


SETTINGS = dict(init=10, round_size=5, candidates=12, parents=3, ensemble=oracle)
SETTINGS |= dict(acquire=mean_only)


@functools.cache
def oracle_run():
    search = bananas(SPACE, ENCODE, **SETTINGS)
    _, trace = jax.jit(lambda key: run(key, search, evaluate, 40))(jax.random.key(0))
    return trace.query.arch[:, 0].tolist(), trace.score[:, 0].tolist()


def test_every_round_asks_the_best_of_the_new_neighbours():
    archs, scores = oracle_run()
    for begin in range(10, 40, 5):
        pool = slow_candidates(archs[:begin], scores[:begin], 3, 12)
        pool.sort(key=lambda arch: -float(value(arch)))
        # Near the end fewer are left than a round asks; random ones follow them.
        num = min(5, len(pool))
        assert num == 5 or begin > 10
        assert archs[begin : begin + num] == pool[:num]


def test_nothing_is_asked_twice():
    archs, _ = oracle_run()
    assert len({tuple(arch) for arch in archs}) == 40


def test_when_the_neighbours_run_out_random_ones_are_asked():
    # A space of isolated vectors: one position changed is never valid.
    bits = base.product("bits", (2,) * 8)
    even = dataclasses.replace(
        bits, is_valid=lambda arch: arch.sum() % 2 == 0, size=128
    )
    search = bananas(
        even,
        features.one_hot_encoder(even.choices),
        init=8,
        round_size=4,
        ensemble=lambda key, x, y, count, pool: jnp.zeros((2, len(pool))),
    )
    score = lambda key, q: Result(q.arch.sum(1) * 1.0, q.arch * 1.0, q.arch[:, 0] * 1.0)  # noqa: E731
    _, trace = jax.jit(lambda key: run(key, search, score, 40))(jax.random.key(0))
    archs = trace.query.arch[:, 0]
    assert (archs.sum(1) % 2 == 0).all()
    assert len({tuple(a) for a in archs.tolist()}) >= 38


def test_predictions_that_are_not_numbers_are_survived():
    search = bananas(
        SPACE,
        ENCODE,
        init=10,
        round_size=5,
        ensemble=lambda key, x, y, count, pool: jnp.full((2, len(pool)), jnp.nan),
    )
    _, trace = jax.jit(lambda key: run(key, search, evaluate, 20))(jax.random.key(0))
    assert len({tuple(a) for a in trace.query.arch[:, 0].tolist()}) == 20


def test_the_ensemble_sees_standardised_scores_and_failures_as_the_worst():
    seen = []

    def spy(key, x, y, count, pool):
        jax.debug.callback(lambda *args: seen.append(args), x, y, count)
        return jnp.zeros((2, len(pool)))

    def failing(key, query):
        result = evaluate(key, query)
        odd = query.arch[:, 0] % 2 == 1
        return result._replace(score=jnp.where(odd, jnp.nan, 50 + 9 * result.score))

    search = bananas(SPACE, ENCODE, init=12, round_size=4, ensemble=spy)
    _, trace = jax.jit(lambda key: run(key, search, failing, 20))(jax.random.key(3))
    jax.effects_barrier()
    assert [int(count) for _, _, count in seen] == [12, 16]
    for x, y, count in seen:
        score = np.asarray(trace.score[:count, 0])
        failed = np.isnan(score)
        assert 0 < failed.sum() < count
        wanted = (score - np.nanmean(score)) / np.nanstd(score)
        np.testing.assert_allclose(y[:count][~failed], wanted[~failed], atol=1e-4)
        np.testing.assert_allclose(y[:count][failed], np.nanmin(wanted), atol=1e-4)
        assert (y[count:] == 0).all()
        archs = trace.query.arch[:count, 0]
        np.testing.assert_array_equal(x[:count], jax.vmap(ENCODE)(archs))


def test_without_any_success_all_targets_are_zero():
    targets = []

    def spy(key, x, y, count, pool):
        targets.append(y)
        return jnp.zeros((2, len(pool)))

    state = bananas(SPACE, ENCODE, init=12, capacity=12).init(jax.random.key(0))
    seen = jnp.arange(12) < 3
    score = ensemble_scorer(ENCODE, spy, mean_only, float("inf"))
    score(jax.random.key(1), state._replace(count=jnp.int32(3)), seen, state.arch)
    np.testing.assert_array_equal(targets[0], np.zeros(12))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_stages_are_the_start_and_rounds(batch):
    search = bananas(SPACE, ENCODE, init=20, round_size=10, batch=batch)
    for num_steps in range(1, 401):
        check_stages(search, num_steps, batch)
    assert search.stages(400)[: len(search.stages(30))] == search.stages(30)


def check_stages(search, num_steps, batch):
    begin, refreshes = 0, []
    for end, every in search.stages(num_steps):
        assert end > begin and begin < num_steps
        refreshes += [batch * s for s in range(begin, min(end, num_steps), every)]
        begin = end
    assert begin >= num_steps
    assert refreshes == [0, *range(20, num_steps * batch, 10)]


def test_ask_and_tell_with_a_fixed_capacity_ask_the_same():
    search = bananas(SPACE, ENCODE, capacity=40, **SETTINGS)
    ask, tell, refresh = map(jax.jit, (search.ask, search.tell, search.refresh))
    key_init, key_run = jax.random.split(jax.random.key(0))
    state = search.grow(search.init(key_init), 40)
    for step, wanted in enumerate(oracle_run()[0]):
        if step % 5 == 0:  # also before there is anything to learn from
            state = refresh(state)
        query = ask(jax.random.fold_in(key_run, step), state)
        assert query.arch[0].tolist() == wanted
        state = tell(state, query, evaluate(key_run, query))
    with pytest.raises(ValueError, match="41 steps of 1 are 41, more than 40"):
        search.stages(41)


@pytest.mark.parametrize("seed", range(5))
def test_is_new_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    code, valid = rng.integers(0, 30, 40), rng.random(40) < 0.6
    known, seen = rng.integers(0, 30, 12), rng.random(12) < 0.7
    taken, slow = set(known[seen]), []
    one = jax.vmap(base.product("numbers", (30,)).identity)
    ids, others = (one(jnp.array(x)[:, None]) for x in (code, known))
    for c, ok in zip(code, valid, strict=True):
        slow.append(bool(ok and c not in taken))
        taken |= {c} if ok else set()
    np.testing.assert_array_equal(
        is_new(ids, jnp.array(valid), others, jnp.array(seen)), slow
    )


# The networks.

NETWORKS = mlp_ensemble(members=3, layers=3, width=16, epochs=40)


@functools.cache
def networks():
    return jax.jit(NETWORKS)


def training_data(num=90):
    key_x, key_noise = jax.random.split(jax.random.key(0))
    arch = jax.vmap(lambda key: moves.sample(key, SPACE))(jax.random.split(key_x, num))
    x = jax.vmap(ENCODE)(arch)
    y = x @ WEIGHTS + 0.05 * jax.random.normal(key_noise, (num,))
    return x, y


def test_the_networks_learn_and_generalise():
    x, y = training_data()
    predicted = networks()(jax.random.key(1), x, y, jnp.int32(60), x)
    assert predicted.shape == (3, 90) and predicted.dtype == x.dtype
    for rows, least in ((slice(0, 60), 0.97), (slice(60, 90), 0.85)):
        corr = np.corrcoef(predicted.mean(0)[rows], y[rows])[0, 1]
        assert corr > least
    error = np.abs(predicted.mean(0)[:60] - y[:60]).mean()
    assert error < 0.25 * np.abs(y[:60] - np.median(y[:60])).mean()


def test_rows_beyond_the_count_do_not_exist():
    x, y = training_data()
    key, count = jax.random.key(1), jnp.int32(60)
    before = networks()(key, x, y, count, x)
    after = networks()(key, x.at[60:].set(jnp.nan), y.at[60:].set(jnp.nan), count, x)
    np.testing.assert_array_equal(before, after)


def test_members_differ_and_the_same_key_gives_the_same():
    x, y = training_data()
    first, again, other = (
        networks()(jax.random.key(k), x, y, jnp.int32(60), x) for k in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any() and (first[1] != first[2]).any()
    assert (first != other).any(0).all()


def test_the_number_of_minibatches_grows_with_the_history():
    # With one step the loss of 33 rows and of 64 differ from those of 32 by a second.
    single = mlp_ensemble(members=1, layers=1, width=4, epochs=1, learning_rate=1e-3)
    x, y = training_data()
    y = jnp.full_like(y, 100.0)  # so that every step moves the output the same way
    fit = jax.jit(single)
    outputs = [
        float(fit(jax.random.key(0), x, y, jnp.int32(n), x[:1])[0, 0])
        for n in (2, 32, 33, 64, 65)
    ]
    moves = np.diff(outputs)
    # Rows differ a little with the count; a whole further step moves much more.
    assert moves[1] > 5 * abs(moves[0]) and moves[3] > 5 * abs(moves[2])


def test_the_whole_search_with_its_networks_on_nasbench201():
    search = bananas(
        NB201,
        features.one_hot_encoder(NB201.choices),
        ensemble=mlp_ensemble(members=3, layers=2, width=16, epochs=30),
    )
    effect = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5)), jnp.float32)
    optimum = effect.max(1).sum()

    def additive(key, query):
        score = effect[jnp.arange(6), query.arch].sum(1)
        return Result(score, score[:, None], jnp.ones_like(score))

    trace = simulate(jax.random.split(jax.random.key(0), 4), search, additive, 70)
    best = trace.score.max((1, 2))
    # The best of 70 random ones is about 0.7 standard deviations worse than this.
    assert (best > optimum - 0.3 * jnp.sqrt(effect.var(1).sum())).all()


BAD = [
    (
        dict(capacity=9, init=10),
        "capacity must be .* init = 10 and the 288 .* toy, not 9",
    ),
    (dict(capacity=289), "capacity must be between .* not 289"),
    (dict(init=0), "init must be at least 1, not 0"),
    (dict(round_size=0), "round_size must be at least 1"),
    (dict(candidates=0), "candidates must be at least 1"),
    (dict(parents=-2), "parents must be at least 1, not -2"),
    (dict(batch=0), "batch must be at least 1"),
    (dict(epoch=0), "epoch must be at least 1"),
    (dict(batch=3), "init = 20 must be a multiple of batch = 3"),
    (dict(batch=4), "round_size = 10 must be a multiple of batch = 4"),
]


@pytest.mark.parametrize(("settings", "words"), BAD)
def test_bad_sizes_are_named(settings, words):
    with pytest.raises(ValueError, match=words) as error:
        bananas(SPACE, ENCODE, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["members", "layers", "width", "epochs", "minibatch"])
def test_bad_network_sizes_are_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        mlp_ensemble(**{name: 0})
    with pytest.raises(ValueError, match="learning_rate must be positive, not -1.0"):
        mlp_ensemble(learning_rate=-1.0)


def test_the_default_is_independent_thompson_sampling():
    # The search hands the ensemble's moments to the acquisition and nothing else.
    calls = []

    def spy(key, mean, std, best):
        calls.append((mean.shape, std.shape, best.shape))
        return acquisition.thompson(key, mean, std, best)

    two = [
        bananas(SPACE, ENCODE, init=10, ensemble=oracle, **settings)
        for settings in ({}, {"acquire": spy})
    ]
    keys = jax.random.split(jax.random.key(0), 2)
    first, second = (simulate(keys, search, evaluate, 20) for search in two)
    np.testing.assert_array_equal(first.query.arch, second.query.arch)
    assert calls and {shape[2] for shape in calls} == {()}
