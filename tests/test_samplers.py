"""The samplers of BOHB and PriorBand on a handful of evaluations, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.search.fidelity import kde, priorband, samplers
from jaxnas.spaces import base

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
ARCH = jnp.asarray([[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 0, 4]], jnp.int32)


def density(*counts):
    return kde.Density(ARCH, jnp.asarray(counts, bool), jnp.zeros(3))


def observations(score, level, done):
    columns = jnp.asarray(level, jnp.int32), jnp.asarray(done, bool)
    return samplers.Observations(ARCH, jnp.asarray(score), *columns, jnp.arange(1, 3))


def test_the_best_candidate_is_likely_among_the_good_and_not_among_the_bad():
    # Bandwidths of 0: every candidate is one of the good rows.
    good, bad = density(1, 1, 0, 0), density(0, 1, 1, 0)
    best = kde.best_candidate(jax.random.key(0), SPACE, good, bad, 32)
    np.testing.assert_array_equal(best, ARCH[0])
    # A single candidate is a good row, each of them equally often.
    draw = jax.vmap(lambda key: kde.best_candidate(key, SPACE, good, bad, 1))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(1), 200)))
    first, second = ((drawn == row).all(1).sum() for row in np.asarray(ARCH[:2]))
    assert first + second == 200 and 70 < first < 130


def test_the_memory_holds_the_latest_rows():
    seen = observations([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0], [1, 1, 1, 1])
    rows = jnp.asarray([1, 1, 0, 1], bool)
    arch, score, valid = kde._latest(seen, rows, 2)
    np.testing.assert_array_equal(arch, ARCH[jnp.asarray([3, 1])])
    np.testing.assert_allclose(score, [0.4, 0.2])
    assert valid.all()
    assert kde._latest(seen, rows, 4)[2].sum() == 3


def test_shares_are_likelihoods_weighted_by_rank():
    seen = observations([0.1, 0.4, 0.3, 0.2], [1, 1, 1, 1], [1, 1, 1, 1])
    rng = np.random.default_rng(0)
    prior = [rng.uniform(0.1, 1, c) for c in SPACE.choices]
    logits = samplers.prior_logits(SPACE, prior)
    mask = jnp.asarray(samplers.choice_mask(SPACE))
    near = priorband.near_incumbent(mask, priorband.incumbent(seen), 0.6)
    # The best two of four: ranks 2 and 1 of rows 1 and 2.
    chance = [
        sum(
            weight * np.prod([np.exp(table)[j, ARCH[row, j]] for j in range(3)])
            for weight, row in ((2, 1), (1, 2))
        )
        for table in (near, logits)
    ]
    to_near, to_prior = priorband.shares(seen, near, jnp.asarray(logits), 2)
    np.testing.assert_allclose(to_near, chance[0] / sum(chance), 1e-5)
    np.testing.assert_allclose(to_prior, 1 - to_near, 1e-6)
    short = seen._replace(level=jnp.zeros(4, jnp.int32))
    assert priorband.shares(short, near, jnp.asarray(logits), 2)[0] == 0
