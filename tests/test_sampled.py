"""Bayesian optimisation over drawn candidates: its posterior, its protocol, its choices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxnas import gp
from jaxnas.benchmarks.synthetic import synthetic_benchmark
from jaxnas.kernels import feature_maps
from jaxnas.kernels.gram import laplace
from jaxnas.predictors import pool, pool_gp
from jaxnas.search.gp import (
    proposals,
    sampled_gp,
    sampled_search,
    selectors,
    shortlists,
)
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, moves
from jaxnas.spaces.restriction import restricted
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 4)
EVERY = base.every(SPACE)
INIT, STEPS = 4, 8


def halves(arch):
    """Two parts, the second of which forgets the last position."""
    hot = (arch[:, None] == jnp.arange(3)).astype(float) / 2
    return hot[:2].reshape(-1), hot[2:3].reshape(-1)


def constant(arch):
    return (jnp.ones(3),)


OBJECTIVE = synthetic_benchmark(jax.random.key(5), SPACE).evaluate


def _evaluate(failing, key, query):
    result = OBJECTIVE(key, query)
    return result._replace(score=jnp.where(failing, jnp.nan, result.score))


@functools.cache
def make(batch=1, name="best", **settings):
    rule = {"best": selectors.maximise(), "kdpp": selectors.kdpp(size=20)}[name]
    candidates = proposals.mixture(
        proposals.uniform(SPACE, 20), proposals.mutants(SPACE, 20, parents=3)
    )
    settings = {"init": INIT, "batch": batch, "select": rule} | settings
    return sampled_search.bayesopt_sampled(SPACE, [halves], candidates, **settings)


def seeds(*numbers):
    return jax.vmap(jax.random.key)(jnp.array(numbers))


def runs(*numbers, batch=1, name="best", failing=False):
    evaluate = Partial(_evaluate, jnp.bool_(failing))
    return simulate(seeds(*numbers), make(batch, name), evaluate, STEPS)


@functools.cache
def state_after(num=12):
    """The history of `num` evaluations, the last two of them since the fit."""
    embed, prior = sampled_search.embedder(SPACE, [constant, halves], 1.0)
    arch = jnp.asarray(np.random.default_rng(0).permutation(EVERY)[:num])
    query = Query(arch, jnp.full(num, 20), jnp.zeros(num, jnp.int32))
    known = jax.vmap(SPACE.identity)(arch), embed(arch)
    refit = jax.jit(lambda s: sampled_gp.refit(prior, s, float("inf")))
    score = OBJECTIVE(jax.random.key(0), query).score
    state = sampled_gp.grow(sampled_gp.empty(arch[:0], embed(arch[:0]), prior), num + 3)
    late = jnp.arange(num) >= num - 2
    first = query._replace(epoch=jnp.where(late, 0, 20))
    state = sampled_gp.append(state, first, *known, score)
    state = refit(state)
    last = query._replace(epoch=jnp.where(late, 20, 0))
    return embed, prior, sampled_gp.append(state, last, *known, score)


@functools.cache
def everywhere():
    """The posterior at the whole space, and jointly at four places."""
    embed, _, state = state_after()

    def posteriors(archs):
        found = sampled_gp.posterior_at(state, embed(archs))
        return found._replace(joint=None), found.joint(jnp.array(FOUR))

    return jax.jit(posteriors)(jnp.asarray(EVERY))


FOUR = [3, 80, 41, 42]


def _pool_state(monkeypatch):
    """The same history, hyper-parameters included, of a pool of the whole space."""
    _, _, state = state_after()
    cells = pool.make_pool(SPACE, [halves])
    monkeypatch.setattr(gp, "fit", lambda *_: state.hyper)
    record = jax.jit(lambda s, i, y: pool_gp.append(cells, s, i, y, True))
    refit = jax.jit(lambda s: pool_gp.refit(cells, s, float("inf")))
    extend = jax.jit(lambda s: pool_gp.condition(cells, s, jnp.bool_(True), True))
    whole = pool_gp.empty(cells, len(state.score))
    places = jax.vmap(lambda arch: pool.index_of(cells, arch))(state.arch)
    for i in range(12):
        whole = refit(whole) if i == 10 else whole
        whole = record(whole, places[i], state.score[i])
        whole = extend(whole) if i >= 10 else whole
    return shortlists.of_pool(cells, whole)


def test_the_posterior_is_that_of_the_pool(monkeypatch):
    """At all candidates of a small space, with the same hyper-parameters."""
    theirs, (ours, joint) = _pool_state(monkeypatch), everywhere()
    row = theirs.column
    np.testing.assert_allclose(ours.mean, theirs.mean[row], atol=1e-4)
    np.testing.assert_allclose(ours.std, theirs.std[row], atol=1e-4)
    np.testing.assert_allclose(
        [ours.incumbent, ours.noise], [theirs.incumbent, theirs.noise], rtol=1e-6
    )
    for a, b in zip(joint, theirs.joint(row[jnp.array(FOUR)]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    # Candidates of one embedding are recognised.
    groups = {tuple(np.flatnonzero(row == r)) for r in range(27)}
    assert {
        tuple(np.flatnonzero(ours.column == r)) for r in np.unique(ours.column)
    } == groups


def test_embeddings_that_differ_have_hashes_that_differ():
    points = EVERY.T / 2.0
    words = sampled_gp._hashes((points[:3], points[3:]), jnp.ones(2))
    assert len(np.unique(words, axis=0)) == len(EVERY)
    with pytest.raises(ValueError):
        sampled_gp._hashes((points[:3], points[3:]), jnp.ones(1))


def test_the_posterior_is_the_textbooks():
    embed, _, state = state_after()
    num, scales = 12, np.asarray(state.hyper.scales, float)
    points = [np.asarray(p, float).T for p in embed(jnp.asarray(EVERY))]
    seen = [np.asarray(p, float).T[:num] for p in state.points]

    def kernel(x, y):
        apart = [
            np.abs(a[:, None] - b[None]).sum(-1) for a, b in zip(x, y, strict=True)
        ]
        return np.asarray(laplace(jnp.asarray(np.stack(apart)), jnp.asarray(scales)))

    with jax.enable_x64(True):
        z = np.asarray(gp.standardise(state.standardisation, state.score), float)[:num]
        noise = jnp.array(float(state.hyper.noise))
        matrices = kernel(seen, seen), kernel(seen, points), kernel(points, points)
        wanted = gp.posterior(*matrices, z, np.ones(num, bool), noise)
    ours = everywhere()[0]
    amplitude = float(state.hyper.amplitude)
    std = np.sqrt(amplitude * np.maximum(np.diag(wanted.cov), 0))
    np.testing.assert_allclose(ours.mean, wanted.mean, atol=1e-4)
    np.testing.assert_allclose(ours.std, std, atol=1e-3)


def test_the_first_of_equal_rows():
    rows = np.random.default_rng(0).integers(0, 3, (200, 3))
    found = sampled_gp.first_occurrence(jnp.asarray(rows))
    wanted = [np.flatnonzero((rows == row).all(1))[0] for row in rows]
    np.testing.assert_array_equal(found, wanted)


# The protocol.


@pytest.mark.parametrize(("batch", "name"), [(1, "best"), (3, "kdpp")])
def test_runs_are_reproducible_and_have_no_repeats(batch, name):
    trace, again = (runs(*n, batch=batch, name=name) for n in ((1, 2), (9, 1)))
    np.testing.assert_array_equal(trace.query.arch[0], again.query.arch[1])
    assert (trace.query.arch[0] != trace.query.arch[1]).any()
    for arch in np.asarray(trace.query.arch):
        assert len(np.unique(arch.reshape(-1, 4), axis=0)) == batch * STEPS


def test_failures_are_survived():
    arch = np.asarray(runs(1, 2, failing=True).query.arch)
    assert all(len(np.unique(a[:, 0], axis=0)) == STEPS for a in arch)


@functools.cache
def fitted():
    """A search of batches of two in the middle of a run."""
    search = make(2)
    compiled = (jax.jit(f) for f in (search.ask, search.tell, search.expect))
    return state_after()[2], *compiled


def test_without_a_score_there_is_no_incumbent():
    state = state_after()[2]
    assert np.isfinite(sampled_gp._incumbent(state))
    failed = state._replace(score=jnp.full_like(state.score, jnp.nan))
    assert sampled_gp._incumbent(failed) == -jnp.inf


def test_idle_slots_change_nothing():
    state, ask, tell, expect = fitted()
    query = ask(jax.random.key(0), state)
    idle = query._replace(start=query.epoch)
    nothing = Result(jnp.full(2, jnp.nan), jnp.full((2, 1), jnp.nan), jnp.zeros(2))
    for after in (tell(state, idle, nothing), expect(state, idle)):
        jax.tree.map(np.testing.assert_array_equal, state, after)
    half = query._replace(start=query.start.at[0].set(query.epoch[0]))
    after = tell(state, half, OBJECTIVE(jax.random.key(0), half))
    assert after.count == state.count + 1
    np.testing.assert_array_equal(after.arch[state.count], query.arch[1])


def test_what_is_in_flight_is_believed_and_not_asked_again():
    state, ask, _, expect = fitted()
    query = ask(jax.random.key(0), state)
    aware = expect(state, query)
    embed = state_after()[0]
    before, after = (
        sampled_gp.posterior_at(s, embed(query.arch)) for s in (state, aware)
    )
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-3)
    assert (after.std < 0.8 * before.std).all()
    other = ask(jax.random.key(0), aware)
    assert not (query.arch[:, None] == other.arch).all(-1).any()
    # Before the first fit nothing is learnt from what is only expected.
    early = expect(state._replace(fitted=jnp.bool_(False)), query)
    assert early.count == 14 and not early.fitted


def test_workers_have_no_repeats():
    trace = simulate(seeds(0), make(), OBJECTIVE, STEPS, workers=3)
    assert len(np.unique(trace.query.arch[0, :, 0], axis=0)) == STEPS


def test_double_precision_is_kept(x64):
    few = proposals.uniform(SPACE, 20)
    search = sampled_search.bayesopt_sampled(SPACE, [halves], few, init=2)
    state = search.grow(search.init(jax.random.key(0)), 4)
    assert {x.dtype for x in jax.tree.leaves(state.points)} == {np.dtype("float64")}
    assert state.score.dtype == state.hyper.noise.dtype == np.float64
    trace = simulate(seeds(1), search, OBJECTIVE, 4)
    assert len(np.unique(trace.query.arch[0, :, 0], axis=0)) == 4


# Candidates.


def test_mutants_are_walks_from_the_best():
    space = base.product("long", (4,) * 9)
    history = jax.vmap(lambda key: moves.sample(key, space))(seeds(*range(8)))
    score = jnp.array([1.0, jnp.nan, 5.0, 3.0, 4.0, 0.0, 9.0, 9.0])
    state = sampled_gp.SampledGPState(
        history, *[None] * 2, score, jnp.int32(6), *[None] * 3
    )
    drawn = proposals.mutants(space, 12, parents=3, depth=2)(jax.random.key(0), state)
    assert drawn.shape == (12, 9)
    for i, walk in enumerate(np.asarray(drawn).reshape(2, 6, 9).swapaxes(0, 1)):
        parent = np.asarray(history[[2, 4, 3][i % 3]])
        assert (walk[0] != parent).sum() == (walk[1] != walk[0]).sum() == 1
    # With fewer evaluations than parents, and none of them a success.
    few = state._replace(score=score * jnp.nan, count=jnp.int32(2))
    drawn = proposals.mutants(space, 50, parents=5)(jax.random.key(0), few)
    apart = (np.asarray(drawn)[:, None] != np.asarray(history[:2])).sum(-1)
    assert (apart.min(1) == 1).all()


def test_only_new_valid_candidates_are_allowed():
    """Those seen, repeated and invalid are not; random ones join where too few are left."""
    part = restricted(SPACE, EVERY[EVERY[:, 0] > 0])
    _, _, state = state_after()
    fresh = EVERY[(EVERY[:, 0] > 0)]
    fresh = fresh[~(fresh[:, None] == np.asarray(state.arch[:12])).all(-1).any(1)][:3]
    seen = np.asarray([a for a in np.asarray(state.arch[:12]) if a[0] > 0])[:2]
    drawn = jnp.asarray(np.concatenate([EVERY[:1], fresh, seen, fresh[1:]]))
    arch, allowed = sampled_search.new_candidates(
        jax.random.key(0), part, state, drawn, 2
    )
    assert list(allowed) == [False, True, True, True] + [False] * 6
    arch, allowed = sampled_search.new_candidates(
        jax.random.key(0), part, state, drawn[4:], 4
    )
    more = np.asarray(arch)[np.asarray(allowed)]
    assert allowed.sum() == 2 + 4 and len(np.unique(more, axis=0)) == 6
    assert (more[:, 0] > 0).all()


def test_classes_count_once():
    search = make(same=lambda arch: arch[0] * 3 + arch[1])
    arch = np.asarray(simulate(seeds(1, 2), search, OBJECTIVE, 7).query.arch)
    assert all(len(np.unique(a[:, 0, :2], axis=0)) == 7 for a in arch)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: make(init=1),
            "init must be at least 2 and at most the space's 81, not",
        ),
        (lambda: make(init=82), "at most the space's 81, not 82"),
        (lambda: make(batch=0), "batch must be at least 1, not 0"),
        (lambda: make(capacity=3), "capacity must be at least 4, .* not 3"),
        (
            lambda: make().stages(82),
            "toy has 81 architectures: not enough for 82 steps",
        ),
        (lambda: make(capacity=9).stages(10), "capacity must hold every evaluation"),
        (lambda: proposals.uniform(SPACE, 0), "size must be at least 1, not 0"),
        (lambda: proposals.mutants(SPACE, depth=0), "depth must be at least 1, not 0"),
        (lambda: proposals.mixture(), "a mixture needs at least one generator"),
        (
            lambda: sampled_search.bayesopt_sampled(SPACE, [constant]),
            "all architectures have the same embedding",
        ),
    ],
)
def test_bad_settings_are_named(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


def test_a_fixed_capacity_does_not_grow():
    """A run of 25 steps ends inside a stage that has room for 60."""
    hamming = [feature_maps.hamming_features(SPACE)]
    search = sampled_search.bayesopt_sampled(SPACE, hamming, init=5, capacity=25)
    state = search.init(jax.random.key(0))
    for end, _ in search.stages(25):
        state = search.grow(state, end)
    assert len(state.score) == 25
