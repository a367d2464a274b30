"""The samplers of BOHB and PriorBand on a handful of evaluations, by hand."""

import inspect

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


def observations(score, level, done, begun=None):
    masks = (jnp.asarray(x, bool) for x in (done, done if begun is None else begun))
    columns = jnp.asarray(level, jnp.int32), *masks
    return samplers.Observations(ARCH, jnp.asarray(score), *columns, jnp.arange(1, 3))


def test_the_best_candidate_is_likely_among_the_good_and_not_among_the_bad():
    # Bandwidths of 0: every candidate is one of the good rows.
    densities = density(1, 1, 0, 0), density(0, 1, 1, 0)

    def draw(key, candidates):
        valid = jax.vmap(SPACE.is_valid)
        return kde.best_candidate(key, SPACE, *densities, candidates, valid)

    np.testing.assert_array_equal(draw(jax.random.key(0), 32), ARCH[0])
    # A single candidate is a good row, each of them equally often.
    drawn = jax.vmap(lambda key: draw(key, 1))(jax.random.split(jax.random.key(1), 200))
    equal = (np.asarray(drawn)[:, None] == np.asarray(ARCH[:2])).all(-1)
    assert equal.any(1).all() and 70 < equal[:, 0].sum() < 130


def test_shrinkage_is_the_james_stein_weight_of_the_uniform_distribution():
    arch = np.random.default_rng(0).integers(0, [2, 3, 5], (30, 3))
    arch[:, 1] = 1  # certain
    counts = np.arange(30) < 20
    expected = []
    for position, num in enumerate(SPACE.choices):
        p = np.bincount(arch[counts, position], minlength=num) / 20
        weight = (p * (1 - p)).sum() / 19 / ((p - 1 / num) ** 2).sum()
        expected.append(min(weight, 1) * (num - 1) / num)
    widths = kde.shrinkage(SPACE, jnp.asarray(arch), jnp.asarray(counts))
    np.testing.assert_allclose(widths, expected, 1e-5)
    assert widths[1] == 0 < widths[0]


def test_a_choice_between_two_and_none_at_all_have_densities_too():
    space = base.product("toy", (2, 1, 3))
    one = kde.Density(
        jnp.asarray([[0, 0, 1]]), jnp.ones(1, bool), jnp.asarray([0.2, 0.0, 0.5])
    )
    x = jnp.asarray([[0, 0, 1], [1, 0, 1], [1, 0, 0]])
    expected = [0.8 * 0.5, 0.2 * 0.5, 0.2 * 0.25]
    density = np.exp(kde.log_density(space, one, x))
    np.testing.assert_allclose(density, expected, 1e-4)


def test_an_architecture_is_known_if_a_row_that_has_begun_equals_it():
    score, level = [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 0]
    seen = observations(score, level, done=[1, 0, 0, 1], begun=[1, 1, 0, 1])
    archs = jnp.concatenate([ARCH, ARCH[:1].at[0, 2].add(1)])
    assert kde.known(seen, archs).tolist() == [True, True, False, True, False]


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
    # The last level has too few: of three at the first level the best one counts.
    lower = seen._replace(level=jnp.asarray([0, 0, 0, 1], jnp.int32))
    likely = [
        np.prod([np.exp(table)[j, ARCH[1, j]] for j in range(3)])
        for table in (near, logits)
    ]
    found = priorband.shares(lower, near, jnp.asarray(logits), 2)[0]
    np.testing.assert_allclose(found, likely[0] / sum(likely), 1e-5)
    # Two evaluations at the last level are just enough; the better one counts.
    two = seen._replace(done=jnp.asarray([1, 1, 0, 0], bool))
    enough = priorband.shares(two, near, jnp.asarray(logits), 2)[0]
    np.testing.assert_allclose(enough, likely[0] / sum(likely), 1e-5)
    short = seen._replace(level=jnp.zeros(4, jnp.int32))
    assert priorband.shares(short, near, jnp.asarray(logits), 2)[0] == 0


def test_the_ratio_of_priorbands_rungs_is_the_published_one():
    parameters = inspect.signature(priorband.priorband_sampler).parameters
    assert parameters["eta"].default == 3
