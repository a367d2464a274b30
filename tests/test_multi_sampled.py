"""Several objectives over sampled candidates: posteriors, batches, and runs in bounds."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxnas.pareto import Objective
from jaxnas.search import multi_objective, simulate
from jaxnas.search.common import train_from_scratch
from jaxnas.search.gp import proposals, sampled_gp, sampled_search
from jaxnas.search.multi_objective import sampled_gp as several
from jaxnas.spaces import base
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 4)
EVERY = base.every(SPACE)
GAIN = Objective("gain")
PRICE = Objective("price", direction="minimise", bound=4.0, optimised=False)
BOUNDED = (GAIN, PRICE)
STEPS = 16


def halves(arch):
    hot = (arch[:, None] == jnp.arange(3)).astype(float) / 2
    return hot[:2].reshape(-1), hot[2:].reshape(-1)


def table():
    """Scores (81, 2): what gains much is expensive."""
    gain = EVERY @ [1.0, 2, 3, 1] + (EVERY[:, 0] == EVERY[:, 2])
    price = EVERY @ [1.0, 1, 2, 0] + 0.5 * (EVERY[:, 1] == 1)
    return np.stack([gain, -price], 1).astype(np.float32)


def evaluate(scores, key, query):
    scores = scores[base.rank(SPACE, query.arch)]
    first = scores[:, 0]
    return Result(first, first[:, None], jnp.ones_like(first), scores)


@functools.cache
def make(batch=1):
    candidates = proposals.mixture(
        proposals.uniform(SPACE, 20), proposals.mutants(SPACE, 20, parents=3)
    )
    return multi_objective.bayesopt_sampled(
        SPACE, [halves], BOUNDED, candidates, init=6, batch=batch
    )


@functools.cache
def fitted():
    """Twelve evaluations: one lacks the price, one failed."""
    embed, prior = sampled_search.embedder(SPACE, [halves], 1.0)
    rows = np.random.default_rng(0).permutation(len(EVERY))[:12]
    arch, scores = jnp.asarray(EVERY[rows]), table()[rows]
    scores[3, 1] = scores[7] = np.nan
    query = Query(arch, jnp.full(12, 20), jnp.zeros(12, jnp.int32))
    described = query, jax.vmap(SPACE.identity)(arch), embed(arch)
    state = several.empty(arch[:0], embed(arch[:0]), prior, 2)
    state = several.append(BOUNDED, several.grow(state, 15), *described, scores)
    state = jax.jit(functools.partial(several.refit, prior))(state)
    return embed, described, scores, state


def test_every_objective_has_the_posterior_of_the_evaluations_that_have_it():
    embed, (query, ids, points), scores, state = fitted()
    candidates = embed(jnp.asarray(EVERY[:9]))
    mean, std = several.posteriors_at(state, candidates)
    assert mean.shape == std.shape == (2, 9)
    for j, rows in enumerate([np.arange(12), np.delete(np.arange(12), 3)]):
        hyper, standardisation = jax.tree.map(
            lambda x, j=j: x[j], (state.hyper, state.standardisation)
        )
        used = scores[rows, j]
        # The failure counts as the worst, and has no part in the mean.
        np.testing.assert_allclose(standardisation.floor, np.nanmin(used), rtol=1e-6)
        np.testing.assert_allclose(standardisation.mean, np.nanmean(used), rtol=1e-5)
        one = sampled_gp.SampledGPState(
            query.arch[rows],
            ids[rows],
            tuple(part[:, rows] for part in points),
            jnp.asarray(used),
            jnp.int32(len(rows)),
            jnp.bool_(True),
            hyper,
            standardisation,
        )
        alone = sampled_gp.posterior_at(one, candidates)
        np.testing.assert_allclose(mean[j], alone.mean, rtol=1e-4, atol=1e-4)
        noisy = np.sqrt(alone.std**2 + alone.noise)
        np.testing.assert_allclose(std[j], noisy, rtol=1e-3)


def test_parents_are_the_best_by_bounds_and_then_by_gain():
    *_, scores, state = fitted()
    within = np.where(scores[:, 1] >= -4, scores[:, 0], -np.inf)
    assert np.argmax(state.score) == np.argmax(within)
    order = np.argsort(-np.asarray(state.score[:12]), kind="stable")
    feasible = np.isfinite(within) & ~np.isnan(scores[:, 1])
    assert feasible[order[: feasible.sum()]].all()
    assert set(order[-2:].tolist()) == {3, 7}


def test_runs_learn_within_the_bound_and_repeat_nothing():
    keys = jax.random.split(jax.random.key(5), 4)
    trace = simulate(keys, make(), Partial(evaluate, jnp.asarray(table())), STEPS)
    rows = np.asarray(base.rank(SPACE, trace.query.arch))[..., 0]
    assert all(len(set(row)) == STEPS for row in rows.tolist())
    scores = np.asarray(trace.objectives)[:, :, 0]
    np.testing.assert_array_equal(scores, table()[rows])
    best = np.where(scores[..., 1] >= -4, scores[..., 0], -np.inf).max(1)
    optimum = table()[table()[:, 1] >= -4, 0].max()
    assert (best == optimum).mean() >= 0.75


def test_a_batch_has_no_repeats_and_an_idle_slot_changes_nothing():
    embed, (query, ids, points), scores, state = fitted()
    search = make(3)
    asked = jax.jit(search.ask)(jax.random.key(1), state)
    new = np.asarray(base.rank(SPACE, asked.arch)).tolist()
    assert len(set(new)) == 3
    assert not set(new) & set(np.asarray(base.rank(SPACE, query.arch)).tolist())
    idle = train_from_scratch(asked.arch, 0)
    result = evaluate(jnp.asarray(table()), None, idle)
    for after in (search.tell(state, idle, result), search.expect(state, idle)):
        jax.tree.map(np.testing.assert_array_equal, after, state)
    believed = search.expect(state, asked)
    assert believed.count == 15 and np.isfinite(believed.objectives[12:]).all()


def test_other_objectives_and_sizes_are_refused():
    with pytest.raises(ValueError, match="at least one objective must be optimised"):
        multi_objective.bayesopt_sampled(SPACE, [halves], [PRICE])
    with pytest.raises(ValueError, match="init must be at least 2"):
        multi_objective.bayesopt_sampled(SPACE, [halves], BOUNDED, init=1)


def test_ten_random_evaluations_are_the_default():
    search = multi_objective.bayesopt_sampled
    assert inspect.signature(search).parameters["init"].default == 10
