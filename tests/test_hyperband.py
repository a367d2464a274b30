"""Hyperband (Li et al., 2018), written on the protocol: rungs, idle slots and budgets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.search.base import Search
from jaxnas.search.loop import simulate
from jaxnas.spaces.moves import sample
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array, Query, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

# The brackets of NAS-Bench-201 (R = 512, r = 12, eta = 3, at most 200 epochs):
# configurations, epoch, and the epoch that they have reached.
RUNGS = np.array(
    [(27, 18, 0), (9, 56, 18), (3, 170, 56), (1, 200, 170)]
    + [
        (12, 56, 0),
        (4, 170, 56),
        (1, 200, 170),
        (6, 170, 0),
        (2, 200, 170),
        (4, 200, 0),
    ]
)


class HyperbandState(NamedTuple):
    """The last rung that was evaluated."""

    rung: Array  # ()
    arch: Array  # (27, d), best first
    score: Array  # (27,)


def hyperband(space):
    rungs, width = jnp.asarray(RUNGS, jnp.int32), int(RUNGS[:, 0].max())

    def init(key):
        arch = jnp.zeros((width, len(space.choices)), jnp.int32)
        return HyperbandState(jnp.int32(0), arch, jnp.full(width, -jnp.inf))

    def ask(key, state):
        num, epoch, start = rungs[state.rung % len(rungs)]
        keys = jax.random.split(key, width)
        new = jax.vmap(lambda key: sample(key, space))(keys)
        best = state.arch[jnp.argsort(-state.score)]
        arch = jnp.where(start == 0, new, best)
        idle = jnp.arange(width) >= num
        return Query(arch, jnp.where(idle, start, epoch), jnp.full(width, start))

    def tell(state, query, result):
        wanted = asked(query)
        score = jnp.where(wanted & ~jnp.isnan(result.score), result.score, -jnp.inf)
        new = HyperbandState(state.rung + 1, query.arch, score)
        return jax.tree.map(lambda a, b: jnp.where(wanted.any(), a, b), new, state)

    return Search(init, ask, tell, space=space)


def runs(num_steps, **settings):
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=200)
    evaluate = getattr(benchmark, "evaluate", benchmark)
    keys = jax.random.split(jax.random.key(0), 3)
    return simulate(keys, hyperband(SPACE), evaluate, num_steps, **settings)


def test_an_iteration_has_the_published_evaluations_and_epochs():
    trace = runs(10)
    wanted = np.asarray(asked(trace.query))
    np.testing.assert_array_equal(wanted.sum(2), np.tile(RUNGS[:, 0], (3, 1)))
    assert wanted.sum((1, 2)).tolist() == [69] * 3
    assert np.asarray(trace.cost).sum((1, 2)).tolist() == [4238] * 3
    assert np.isnan(trace.score)[~wanted].all() and not trace.cost[~wanted].any()


def test_every_rung_keeps_the_best_of_the_one_before():
    trace = runs(10)
    for i in range(3):
        for rung in np.flatnonzero(RUNGS[:, 2] > 0):
            num = RUNGS[rung, 0]
            score = np.asarray(trace.score[i, rung - 1])[: RUNGS[rung - 1, 0]]
            best = trace.query.arch[i, rung - 1][np.argsort(-score)[:num]]
            np.testing.assert_array_equal(trace.query.arch[i, rung, :num], best)


def test_a_budget_of_epochs_is_never_exceeded_and_nearly_spent():
    trace = runs(40, budget=2000.0)
    spent = np.asarray(trace.cost, np.float64).sum((1, 2))
    # What is left is less than the cheapest increment.
    assert (spent <= 2000).all() and (spent > 2000 - 18).all()
