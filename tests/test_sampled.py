"""Bayesian optimisation over drawn candidates: its posterior, its protocol, its choices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxnas import gp
from jaxnas.benchmarks.synthetic import synthetic
from jaxnas.kernels import distances
from jaxnas.kernels.gram import laplace
from jaxnas.search import bayesopt, pool, proposals, sampled, selectors, shortlists
from jaxnas.search import posterior as pool_posterior
from jaxnas.search import sampled_posterior as posterior
from jaxnas.search.loop import run, simulate
from jaxnas.spaces import base
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 4)
EVERY = base.every(SPACE)
INIT, STEPS = 4, 20


def halves(arch):
    """Two parts, the second of which forgets the last position."""
    hot = (arch[:, None] == jnp.arange(3)).astype(float) / 2
    return hot[:2].reshape(-1), hot[2:3].reshape(-1)


def constant(arch):
    return (jnp.ones(3),)


OBJECTIVE = synthetic(jax.random.key(5), SPACE)


@functools.cache
def make(batch=1, name="best", **settings):
    rule = {"best": selectors.best(), "kdpp": selectors.kdpp(size=20)}[name]
    candidates = proposals.mixture(
        proposals.uniform(SPACE, 20), proposals.mutants(SPACE, 20, parents=3)
    )
    settings = {"init": INIT, "batch": batch, "select": rule} | settings
    return sampled.bayesopt_sampled(SPACE, [halves], candidates, **settings)


def seeds(*numbers):
    return jax.vmap(jax.random.key)(jnp.array(numbers))


@functools.cache
def runs(batch=1, name="best", steps=STEPS, failing=False):
    search = make(batch, name)
    return simulate(seeds(1, 2, 3), search, broken if failing else OBJECTIVE, steps)


def _broken(key, query):
    result = OBJECTIVE(key, query)
    return result._replace(score=jnp.full_like(result.score, jnp.nan))


broken = Partial(_broken)


@functools.cache
def state_after(num=12):
    """The history of `num` evaluations, the last two of them since the fit."""
    embed, prior = sampled._embedding(SPACE, [constant, halves], 1.0)
    arch = jnp.asarray(np.random.default_rng(0).permutation(EVERY)[:num])
    query = Query(arch, jnp.full(num, 20), jnp.zeros(num, jnp.int32))
    known = jax.vmap(SPACE.identity)(arch), embed(arch)
    score = OBJECTIVE(jax.random.key(0), query).score
    state = posterior.grown(posterior.empty(arch[:0], embed(arch[:0]), prior), num + 3)
    late = jnp.arange(num) >= num - 2
    first = query._replace(epoch=jnp.where(late, 0, 20))
    state = posterior.record(state, first, *known, score)
    state = posterior.refit(prior, state, float("inf"))
    last = query._replace(epoch=jnp.where(late, 20, 0))
    return embed, prior, posterior.record(state, last, *known, score)


def test_the_posterior_is_that_of_the_pool():
    """At all candidates of a small space, with the same hyper-parameters."""
    embed, prior, state = state_after()
    cells = pool.make_pool(SPACE, [halves])
    whole = pool_posterior.empty(cells, len(state.score))
    for arch, score in zip(state.arch[:12], state.score, strict=False):
        index = pool.index_of(cells, arch)
        whole = pool_posterior.record(cells, whole, index, score, True)
        if whole.count == 10:
            whole = whole._replace(hyper=state.hyper, target=state.target)
            fit = lambda *_: state.hyper  # noqa: E731
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gp, "fit", fit)
                whole = pool_posterior.refit(cells, whole, float("inf"))
        elif whole.count > 10:
            whole = pool_posterior.extend(cells, whole, jnp.bool_(True), True)
    theirs = shortlists.of_pool(cells, whole)
    ours = posterior.at(state, embed(jnp.asarray(EVERY)))
    row = theirs.row
    np.testing.assert_allclose(ours.mean, theirs.mean[row], atol=1e-4)
    np.testing.assert_allclose(ours.std, theirs.std[row], atol=1e-4)
    np.testing.assert_allclose(
        [ours.best, ours.noise], [theirs.best, theirs.noise], rtol=1e-6
    )
    some = jnp.array([3, 80, 41, 42])
    for a, b in zip(ours.joint(some), theirs.joint(row[some]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    # Candidates of one embedding are recognised.
    groups = {tuple(np.flatnonzero(row == r)) for r in range(27)}
    assert {tuple(np.flatnonzero(ours.row == r)) for r in np.unique(ours.row)} == groups


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
        z = np.asarray(gp.apply_target(state.target, state.score), float)[:num]
        noise = jnp.array(float(state.hyper.noise))
        matrices = kernel(seen, seen), kernel(seen, points), kernel(points, points)
        wanted = gp.posterior(*matrices, z, np.ones(num, bool), noise)
    ours = posterior.at(state, embed(jnp.asarray(EVERY)))
    amplitude = float(state.hyper.amplitude)
    std = np.sqrt(amplitude * np.maximum(np.diag(wanted.cov), 0))
    np.testing.assert_allclose(ours.mean, wanted.mean, atol=1e-4)
    np.testing.assert_allclose(ours.std, std, atol=1e-3)


def test_the_first_of_equal_rows():
    rows = np.random.default_rng(0).integers(0, 3, (200, 3))
    found = posterior.same_as(jnp.asarray(rows))
    wanted = [np.flatnonzero((rows == row).all(1))[0] for row in rows]
    np.testing.assert_array_equal(found, wanted)


# The protocol.


@pytest.mark.parametrize(("batch", "name"), [(1, "best"), (3, "kdpp")])
def test_runs_are_reproducible_and_have_no_repeats(batch, name):
    trace, again = (
        runs(batch, name),
        simulate(seeds(9, 1), make(batch, name), OBJECTIVE, STEPS),
    )
    np.testing.assert_array_equal(trace.query.arch[0], again.query.arch[1])
    assert (trace.query.arch[0] != trace.query.arch[1]).any()
    for arch in np.asarray(trace.query.arch):
        assert len(np.unique(arch.reshape(-1, 4), axis=0)) == batch * STEPS
    short = simulate(seeds(1, 2, 3), make(batch, name), OBJECTIVE, 13)
    np.testing.assert_array_equal(short.query.arch, trace.query.arch[:, :13])


def test_failures_are_survived():
    arch = np.asarray(runs(failing=True).query.arch)
    assert all(len(np.unique(a[:, 0], axis=0)) == STEPS for a in arch)


def _state(num, room):
    """A fitted state after `num` steps, and the search that made it."""
    search = make(2)
    state = run(jax.random.key(3), search, OBJECTIVE, num)[0]
    return search, search.refresh(search.grow(state, room))


def test_idle_slots_change_nothing():
    search, state = _state(5, 12)
    query = search.ask(jax.random.key(0), state)
    idle = query._replace(start=query.epoch)
    nothing = Result(jnp.full(2, jnp.nan), jnp.full((2, 1), jnp.nan), jnp.zeros(2))
    for after in (search.tell(state, idle, nothing), search.expect(state, idle)):
        jax.tree.map(np.testing.assert_array_equal, state, after)
    half = query._replace(start=query.start.at[0].set(query.epoch[0]))
    told = search.tell(state, half, OBJECTIVE(jax.random.key(0), half))
    assert told.count == state.count + 1
    np.testing.assert_array_equal(told.arch[state.count], query.arch[1])


def test_what_is_in_flight_is_believed_and_not_asked_again():
    search, state = _state(5, 12)
    query = search.ask(jax.random.key(0), state)
    aware = search.expect(state, query)
    embed = state_after()[0]
    before, after = (posterior.at(s, embed(query.arch)) for s in (state, aware))
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-3)
    assert (after.std < 0.8 * before.std).all()
    other = search.ask(jax.random.key(0), aware)
    assert not (query.arch[:, None] == other.arch).all(-1).any()
    # Before the first fit nothing is learnt from what is only expected.
    fresh = search.grow(search.init(jax.random.key(0)), 12)
    for _ in range(3):
        fresh = search.expect(fresh, search.ask(jax.random.key(1), fresh))
    assert fresh.count == 6 and not fresh.fitted


def test_workers_have_no_repeats():
    state, trace = run(jax.random.key(0), make(), OBJECTIVE, STEPS, workers=3)
    assert state.count == STEPS
    assert len(np.unique(trace.query.arch[:, 0], axis=0)) == STEPS


def test_double_precision_is_kept(x64):
    search = sampled.bayesopt_sampled(SPACE, [halves], init=2)
    state = search.grow(search.init(jax.random.key(0)), 4)
    assert {x.dtype for x in jax.tree.leaves(state.points)} == {np.dtype("float64")}
    assert state.score.dtype == state.hyper.noise.dtype == np.float64
    trace = simulate(seeds(1), search, OBJECTIVE, 4)
    assert len(np.unique(trace.query.arch[0, :, 0], axis=0)) == 4


# Candidates.


def test_mutants_are_walks_from_the_best():
    space = base.product("long", (4,) * 9)
    history = jax.vmap(lambda key: base.sample(key, space))(seeds(*range(8)))
    score = jnp.array([1.0, jnp.nan, 5.0, 3.0, 4.0, 0.0, 9.0, 9.0])
    state = posterior.SampledState(
        history, *[None] * 2, score, jnp.int32(6), *[None] * 3
    )
    drawn = proposals.mutants(space, 12, parents=3, depth=2)(jax.random.key(0), state)
    assert drawn.shape == (12, 9)
    for i, walk in enumerate(np.asarray(drawn).reshape(6, 2, 9)):
        parent = np.asarray(history[[2, 4, 3][i % 3]])
        assert (walk[0] != parent).sum() == (walk[1] != walk[0]).sum() == 1
    # With fewer evaluations than parents, and none of them a success.
    few = state._replace(score=score * jnp.nan, count=jnp.int32(2))
    drawn = proposals.mutants(space, 50, parents=5)(jax.random.key(0), few)
    apart = (np.asarray(drawn)[:, None] != np.asarray(history[:2])).sum(-1)
    assert (apart.min(1) == 1).all()


def test_only_new_valid_candidates_are_allowed():
    """Those seen, repeated and invalid are not; random ones join where too few are left."""
    part = base.restricted(SPACE, EVERY[EVERY[:, 0] > 0])
    _, _, state = state_after()
    state = state._replace(identity=jax.vmap(SPACE.identity)(state.arch))
    fresh = EVERY[(EVERY[:, 0] > 0)]
    fresh = fresh[~(fresh[:, None] == np.asarray(state.arch[:12])).all(-1).any(1)][:3]
    seen = np.asarray([a for a in np.asarray(state.arch[:12]) if a[0] > 0])[:2]
    drawn = jnp.asarray(np.concatenate([EVERY[:1], fresh, seen, fresh[1:]]))
    arch, allowed = sampled.new_ones(jax.random.key(0), part, state, drawn, 2)
    assert list(allowed) == [False, True, True, True] + [False] * 6
    arch, allowed = sampled.new_ones(jax.random.key(0), part, state, drawn[4:], 4)
    more = np.asarray(arch)[np.asarray(allowed)]
    assert allowed.sum() == 2 + 4 and len(np.unique(more, axis=0)) == 6
    assert (more[:, 0] > 0).all()


def test_generators_of_old_ones_end_in_random_search():
    stuck = lambda key, state: state.arch[:1]  # noqa: E731
    search = sampled.bayesopt_sampled(SPACE, [halves], stuck, init=2)
    arch = np.asarray(simulate(seeds(1, 2), search, OBJECTIVE, 12).query.arch)
    assert all(len(np.unique(a[:, 0], axis=0)) == 12 for a in arch)


def test_classes_count_once():
    search = make(same=lambda arch: arch[0] * 3 + arch[1])
    arch = np.asarray(simulate(seeds(1, 2), search, OBJECTIVE, 7).query.arch)
    assert all(len(np.unique(a[:, 0, :2], axis=0)) == 7 for a in arch)


def test_whole_space_as_candidates_gives_what_the_pool_gives():
    """The same posterior leads to the same choice, step by step."""
    everything = lambda key, state: jnp.asarray(EVERY)  # noqa: E731
    search = sampled.bayesopt_sampled(SPACE, [distances.hamming(SPACE)], everything)
    cells = pool.make_pool(SPACE, [distances.hamming(SPACE)])
    cells = dataclasses.replace(cells, prior=search.ask.args[0])
    whole = bayesopt.bayesopt(cells)
    state = search.grow(search.init(jax.random.key(0)), 25)
    other = whole.grow(whole.init(jax.random.key(0)), 25)
    for step in range(16):
        if step in (10, 13):
            state, other = search.refresh(state), whole.refresh(other)
        query = whole.ask(jax.random.key(step), other)
        if step > 10:
            ours = search.ask(jax.random.key(step), state)
            utility = shortlists.of_pool(cells, other).mean
            places = [int(pool.index_of(cells, q.arch[0])) for q in (query, ours)]
            rows = np.asarray(cells.embedding.row)[places]
            np.testing.assert_allclose(*np.asarray(utility)[rows], atol=1e-3)
        result = OBJECTIVE(jax.random.key(0), query)
        state, other = (
            search.tell(state, query, result),
            whole.tell(other, query, result),
        )
    assert state.count == other.count == 16


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
            lambda: sampled.bayesopt_sampled(SPACE, [constant]),
            "all architectures have the same embedding",
        ),
    ],
)
def test_bad_settings_are_named(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
