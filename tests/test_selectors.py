"""What a Gaussian process search asks: one by one, or a batch chosen together."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.stats import norm

from jaxnas import acquisition, gp
from jaxnas.predictors import pool as pools
from jaxnas.predictors import pool_gp
from jaxnas.search.gp import pool_search as bo
from jaxnas.search.gp import selectors, shortlists
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, features
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

# The embedding forgets the last position, so every one is that of two architectures.
SPACE = base.product("toy", (3, 3, 3, 2))
BOUND = acquisition.confidence_bound(4.0)
SELECTORS = {
    "best": selectors.maximise(),
    "uniform": selectors.uniform,
    "k-DPP": selectors.kdpp(1.0),
    "k-DPP without quality": selectors.kdpp(quality=False),
    "quality alone": selectors.kdpp(1.0, diversity=False),
    "greedy": selectors.greedy_map(),
    "thompson": selectors.thompson(),
    "kriging believer": selectors.kriging_believer(),
    "GP-BUCB": selectors.kriging_believer(BOUND),
    "constant liar": selectors.constant_liar(value="best"),
    "pessimistic liar": selectors.constant_liar(value="worst"),
    "local penalisation": selectors.local_penalisation(),
}
every_selector = pytest.mark.parametrize("name", SELECTORS)


def embed(arch):
    return (features.one_hot(SPACE.choices, arch)[:9] / 2,)


EVERY = np.indices(SPACE.choices).reshape(4, -1).T
POOL = pools.make_pool(SPACE, [embed])
TABLE = np.float32(np.sin(EVERY[:, :3] @ [1.0, 2.0, 0.7]) + 0.1 * EVERY[:, 0])


@functools.cache
def state_after(num=12):
    """The posterior after `num` observations, the last of them since the last fit."""
    state = pool_gp.empty(POOL, num + 2)
    record = jax.jit(
        lambda s, p: pool_gp.append(POOL, s, p, jnp.asarray(TABLE)[p], True)
    )
    order = np.random.default_rng(0).permutation(54)
    for place in order[: num - 2]:
        state = record(state, jnp.int32(place))
    state = jax.jit(lambda s: pool_gp.refit(POOL, s, float("inf")))(state)
    for place in order[num - 2 : num]:
        state = record(state, jnp.int32(place))
        state = pool_gp.condition(POOL, state, jnp.bool_(True), True)
    return state


def select(rule, key, allowed, batch):
    return shortlists.select(
        rule, key, shortlists.of_pool(POOL, state_after()), allowed, batch
    )


@functools.cache
def ask(name, batch):
    state_after()
    return jax.jit(lambda key, allowed: select(SELECTORS[name], key, allowed, batch))


def truth():
    """Mean and covariance of all 27 embeddings, by the textbook in double precision."""
    state = state_after()
    count = int(state.count)
    with jax.enable_x64(True):
        part = np.asarray(POOL.embeddings.parts[0], float).T
        apart = np.abs(part[:, None] - part[None]).sum(-1)
        kernel = np.exp(-apart / np.asarray(state.hyper.scales, float)[0])
        rows = np.asarray(POOL.embeddings.column)[np.asarray(state.index)[:count]]
        z = np.asarray(gp.standardise(state.standardisation, state.score))[:count]
        found = gp.posterior(
            jnp.array(kernel[np.ix_(rows, rows)]),
            jnp.array(kernel[rows]),
            jnp.array(kernel),
            jnp.array(z, float),
            jnp.ones(count, bool),
            jnp.array(float(state.hyper.noise)),
        )
    scale = float(state.hyper.amplitude)
    return np.asarray(found.mean), scale * np.asarray(found.cov), rows, z


def test_the_joint_posterior_is_the_textbooks():
    rows = np.array([3, 0, 7, 7, 20])
    mean, cov, distance = pool_gp.joint_posterior(POOL, state_after(), jnp.array(rows))
    wanted_mean, wanted_cov, *_ = truth()
    np.testing.assert_allclose(mean, wanted_mean[rows], atol=1e-3)
    np.testing.assert_allclose(cov, wanted_cov[np.ix_(rows, rows)], atol=1e-3)
    np.testing.assert_array_equal(cov, cov.T)
    assert distance[2, 3] == 0 and (np.asarray(distance)[0, 1:] > 0).all()


def test_conditioning_is_one_more_observation():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    prior = jnp.asarray(root @ root.T, jnp.float32)
    one = gp.condition(jnp.zeros(6), prior, jnp.int32(2), jnp.float32(1.5), 0.3)
    seen = jnp.ones(1, bool)
    y, noise = jnp.array([1.5]), jnp.float32(0.3)
    wanted = gp.posterior(prior[2:3, 2:3], prior[2:3], prior, y, seen, noise)
    np.testing.assert_allclose(one.mean, wanted.mean, atol=1e-4)
    np.testing.assert_allclose(one.cov, wanted.cov, atol=1e-4)


@every_selector
def test_a_batch_is_different_new_ones(name):
    allowed = ~state_after().seen
    for seed in range(20):
        chosen = np.asarray(ask(name, 4)(jax.random.key(seed), allowed))
        assert len(set(chosen)) == 4 and np.asarray(allowed)[chosen].all()
        if name != "uniform":  # No two of one embedding while there are others.
            assert len(set(np.asarray(POOL.embeddings.column)[chosen])) == 4
        again = ask(name, 4)(jax.random.key(seed), allowed)
        np.testing.assert_array_equal(chosen, again)


@every_selector
def test_the_last_ones_are_asked_too(name):
    """Fewer embeddings than a batch has places, and then fewer candidates than that."""
    row = np.asarray(POOL.embeddings.column)
    few = np.isin(row, [4, 9])
    chosen = np.asarray(ask(name, 4)(jax.random.key(0), jnp.asarray(few)))
    assert sorted(chosen) == list(np.flatnonzero(few))


@every_selector
def test_keys_differ_where_there_is_chance(name):
    allowed = ~state_after().seen
    keys = jax.random.split(jax.random.key(1), 30)
    sets = {tuple(sorted(map(int, ask(name, 4)(key, allowed)))) for key in keys}
    if "k-DPP" in name or name in ("uniform", "thompson", "quality alone"):
        assert len(sets) > 5
    else:
        row = np.asarray(POOL.embeddings.column)
        assert len({tuple(sorted(row[list(s)])) for s in sets}) == 1


def batches_of(name, allowed, num=4000, batch=2):
    keys = jax.random.split(jax.random.key(2), num)
    state_after()
    one = lambda key: select(SELECTORS[name], key, allowed, batch)  # noqa: E731
    return np.sort(np.asarray(jax.jit(lambda ks: jax.lax.map(one, ks))(keys)), 1)


@pytest.mark.parametrize("name", ["k-DPP", "k-DPP without quality", "quality alone"])
def test_pairs_come_as_often_as_their_determinants_say(name):
    """One architecture of each of 7 embeddings, by brute force over the 21 pairs."""
    row = np.asarray(POOL.embeddings.column)
    places = np.sort([np.flatnonzero(row == r)[0] for r in range(2, 23, 3)])
    allowed = jnp.zeros(54, bool).at[places].set(True)
    mean, cov, *_ = truth()
    mean, cov = mean[row[places]], cov[np.ix_(row[places], row[places])]
    q = np.ones(7) if "without" in name else np.exp(mean)
    kernel = q[:, None] * cov * q
    if name == "quality alone":
        kernel = np.diag(np.diag(kernel))
    pairs = list(itertools.combinations(range(7), 2))
    weight = np.array([np.linalg.det(kernel[np.ix_(p, p)]) for p in pairs])
    drawn = batches_of(name, allowed)
    counts = np.array([(drawn == places[list(p)]).all(1).sum() for p in pairs])
    assert counts.sum() == len(drawn)
    expected = len(drawn) * weight / weight.sum()
    often = expected > 5
    chi2 = ((counts - expected)[often] ** 2 / expected[often]).sum()
    assert chi2 < 50  # at most 20 degrees of freedom: the 0.9998 quantile


def fold(mean, cov, place, value, noise):
    """The posterior after one more observation, by the textbook."""
    gain = cov[:, place] / (cov[place, place] + noise)
    return mean + gain * (value - mean[place]), cov - np.outer(gain, cov[place])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kriging believer", "mean"),
        ("GP-BUCB", "mean"),
        ("constant liar", "best"),
        ("pessimistic liar", "worst"),
    ],
)
def test_believers_and_liars(name, value):
    state = state_after()
    mean, cov, rows, z = truth()
    noise = float(state.hyper.noise * state.hyper.amplitude)
    best = target = z.max()
    row = np.asarray(POOL.embeddings.column)
    allowed = ~state.seen
    free = np.zeros(27, bool)
    free[row[np.asarray(allowed)]] = True
    wanted = []
    for _ in range(4):
        std = np.sqrt(np.maximum(np.diag(cov), 0))
        if name == "GP-BUCB":
            utility = mean + 2 * std
        else:
            u = (mean - target) / np.maximum(std, 1e-9)
            utility = np.maximum(std, 1e-9) * (u * norm.cdf(u) + norm.pdf(u))
        place = int(np.argmax(np.where(free, utility, -np.inf)))
        wanted.append(place)
        value_at = {"mean": mean[place], "best": best, "worst": mean.min()}[value]
        mean, cov = fold(mean, cov, place, value_at, noise)
        free[place], target = False, max(target, value_at)
    chosen = row[np.asarray(ask(name, 4)(jax.random.key(0), allowed))]
    assert list(chosen) == wanted


def test_local_penalisation_by_hand():
    state = state_after()
    mean, cov, rows, z = truth()
    std, best = np.sqrt(np.maximum(np.diag(cov), 1e-12)), z.max()
    part = np.asarray(POOL.embeddings.parts[0], float).T
    apart = np.abs(part[:, None] - part[None]).sum(-1)
    apart = apart / float(state.hyper.scales[0])
    row = np.asarray(POOL.embeddings.column)
    allowed = np.asarray(~state.seen)
    free = np.zeros(27, bool)
    free[row[allowed]] = True
    rise = np.abs(mean[:, None] - mean)[np.ix_(free, free)]
    far = apart[np.ix_(free, free)] + np.eye(free.sum())
    slope, top = (rise / far).max(), max(best, mean[free].max())
    u = (mean - best) / std
    utility = std * (u * norm.cdf(u) + norm.pdf(u))
    wanted = []
    for _ in range(4):
        place = int(np.argmax(np.where(free, utility, -np.inf)))
        wanted.append(place)
        reach = slope * apart[place] - top + mean[place]
        utility = utility * norm.cdf(reach / std[place])
        free[place] = False
    chosen = row[np.asarray(ask("local penalisation", 4)(jax.random.key(0), allowed))]
    assert list(chosen) == wanted


def test_thompson_draws_the_best_of_the_joint_posterior():
    mean, cov, *_ = truth()
    row = np.asarray(POOL.embeddings.column)
    first = [int(np.flatnonzero(row == r)[0]) for r in range(27)]
    allowed = jnp.zeros(54, bool).at[jnp.array(first)].set(True)
    drawn = row[batches_of("thompson", allowed, batch=1)[:, 0]]
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(cov + 1e-9 * np.eye(27))
    wanted = (mean[:, None] + root @ rng.normal(size=(27, 100_000))).argmax(0)
    ours, theirs = (np.bincount(x, minlength=27) / len(x) for x in (drawn, wanted))
    assert 0.5 * np.abs(ours - theirs).sum() < 0.05  # total variation


def shortlist_of(rule, mean, std):
    """The places that a selector compares, of candidates with this posterior."""
    num, seen = len(mean), []

    def joint(rows):
        seen.append(np.asarray(rows))
        m = len(rows)
        return jnp.asarray(mean)[rows], jnp.eye(m), jnp.ones((m, m))

    row, one = jnp.arange(num), jnp.float32(1)
    here = shortlists.CandidatePosterior(
        row, jnp.asarray(mean), jnp.asarray(std), one, one, joint
    )
    shortlists.select(rule, jax.random.key(0), here, jnp.ones(num, bool), 2)
    return set(seen[0].tolist())


MEAN = np.float32([4.0, 3.9, 3.8, 3.7, 3.0, 2.9, 2.2, 2.0, 0.0, 0.0])
STD = np.float32([0.1, 0.1, 0.1, 0.1, 0.4, 0.5, 1.0, 1.2, 2.0, 2.0])
# Weights of which no two have the same four largest.
WEIGHTS = {
    "mean": MEAN,
    "variance": STD**2,
    "q^2 variance": np.exp(MEAN) ** 2 * STD**2,
    "q variance": np.exp(MEAN) * STD**2,
    "bound": MEAN + 2 * STD,
}


def largest(weight):
    return frozenset(np.argsort(-weight)[:4].tolist())


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (selectors.kdpp(1.0, size=4), "q^2 variance"),
        (selectors.greedy_map(1.0, size=4), "q^2 variance"),
        (selectors.kdpp(1.0, quality=False, size=4), "variance"),
        (selectors.thompson(size=4), "bound"),
        (selectors.kriging_believer(BOUND, size=4), "bound"),
    ],
)
def test_the_shortlist_has_the_largest_weights(rule, name):
    assert len({largest(weight) for weight in WEIGHTS.values()}) == len(WEIGHTS)
    assert shortlist_of(rule, MEAN, STD) == largest(WEIGHTS[name])


def test_nan_utilities_ask_nothing_twice():
    def broken(key, mean, std, best):
        return mean * jnp.nan

    search = bo.bayesopt(POOL, init=2, select=selectors.maximise(broken))

    def evaluate(key, query):
        score = jnp.asarray(TABLE)[base.rank(SPACE, query.arch)]
        return Result(score, score[:, None], jnp.ones_like(score))

    key = jax.random.split(jax.random.key(0), 1)
    arch = np.asarray(simulate(key, search, Partial(evaluate), 10).query.arch)
    assert len(np.unique(arch.reshape(10, 4), axis=0)) == 10


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: selectors.kdpp(0.0), "temperature must be positive, not 0.0"),
        (
            lambda: selectors.greedy_map(float("nan")),
            "temperature must be positive, not",
        ),
        (
            lambda: selectors.kdpp(quality=False, diversity=False),
            "quality or diversity",
        ),
        (lambda: selectors.kdpp(size=0), "size must be at least 1, not 0"),
        (
            lambda: selectors.constant_liar(value="x"),
            "value must be one of best, worst, not",
        ),
        (
            lambda: select(selectors.kdpp(size=3), None, jnp.ones(54, bool), 4),
            "a shortlist of 3 has no batch of 4",
        ),
    ],
)
def test_bad_settings_are_named(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
