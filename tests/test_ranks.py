"""Ranks and correlations against scipy's, and sums of ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnas import ensembles, ranks

pytestmark = pytest.mark.usefixtures("quick_compilation")


def scores(seed, num=150):
    """Two correlated scores with ties, -inf and fifty decades."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 40, num).astype(float)
    b = a + rng.integers(-12, 12, num)
    b[rng.random(num) < 0.1] = -np.inf
    return 10.0**a, b


def test_ordinals_keep_order_ties_and_sign():
    score = np.array([3e49, -np.inf, 0.0, 3e49, np.nan, -2.0, 1e-300])
    assert ranks.ordinal(score).tolist() == [2, -2, 0, 2, -2, -1, 1]
    assert ranks.ordinal([-1.0, -2.0]).tolist() == [0, -1]
    assert ranks.ordinal([5, 7]).dtype == np.int32
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="must be a vector"):
            ranks.ordinal(wrong)


def test_average_ranks_are_those_of_scipy():
    _, b = scores(0)
    order = ranks.ordinal(b)
    np.testing.assert_allclose(ranks.average_ranks(order), stats.rankdata(order))
    weights = np.random.default_rng(1).integers(0, 3, len(b))
    expected = stats.rankdata(np.repeat(order, weights))
    found = np.repeat(np.asarray(ranks.average_ranks(order, 1.0 * weights)), weights)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_correlations_are_those_of_scipy(name):
    ours = getattr(ranks, name)
    theirs = getattr(stats, name + ("r" if name == "spearman" else "tau"))
    for seed, num in ((0, 150), (1, 1100), (2, 2)):
        a, b = scores(seed, num)
        x, y = ranks.ordinal(a), ranks.ordinal(b)
        np.testing.assert_allclose(ours(x, y), theirs(x, y)[0], rtol=1e-5, atol=1e-6)
        weights = ranks.bootstrap_weights(jax.random.key(seed), 3, num)
        np.testing.assert_array_equal(weights.sum(1), num)
        if num == 2:
            continue  # A sample of one thing alone has no correlation.
        rows = [np.repeat(np.arange(num), w.astype(int)) for w in np.asarray(weights)]
        expected = [theirs(x[r], y[r])[0] for r in rows]
        np.testing.assert_allclose(ours(x, y, weights), expected, rtol=1e-5, atol=1e-6)


def test_thousands_of_different_scores_are_not_rounded_alike():
    x = np.arange(15625)
    y = np.concatenate([x[:5000][::-1], x[5000:]])
    few = np.minimum(x, 2)  # all but two are equal
    for a, b in ((x, y), (few, few), (few, y)):
        for ours, theirs in (
            (ranks.spearman, stats.spearmanr),
            (ranks.kendall, stats.kendalltau),
        ):
            np.testing.assert_allclose(ours(a, b), theirs(a, b)[0], rtol=5e-6)


def test_correlations_without_variation_and_of_other_lengths():
    for function in (ranks.spearman, ranks.kendall):
        assert np.isnan(function(np.zeros(4, int), np.arange(4)))
        with pytest.raises(ValueError, match="one length"):
            function(np.arange(4), np.arange(5))
        with pytest.raises(ValueError, match="wanted integers"):
            function(np.arange(4.0), np.arange(4))


def test_the_best_are_the_first_among_equals():
    order = np.array([1, 3, 3, -5, 2])
    assert ranks.top(order, 3).tolist() == [1, 2, 4]
    assert ranks.recall(order, np.array([0, 1, 0, 3, 2]), 2, 3) == 0.5
    with pytest.raises(ValueError, match="count must be 1 to 5, not 6"):
        ranks.top(order, 6)


def test_sums_of_log_ranks():
    a, b = scores(4)
    expected = np.log(stats.rankdata(a) / 150) + np.log(stats.rankdata(b) / 150)
    np.testing.assert_allclose(ensembles.log_rank_sum([a, b]), expected, atol=1e-6)
    with_nan = np.where(np.isneginf(b), np.nan, b)
    np.testing.assert_allclose(ensembles.log_rank_sum([with_nan, a]), expected, 1e-5)
    for wrong in ([], [a, b[:9]]):
        with pytest.raises(ValueError, match="of the same architectures, found"):
            ensembles.log_rank_sum(wrong)


def test_the_convex_combination_scales_both_and_makes_minus_infinity_zero():
    first, second = np.array([-np.inf, 5.0, 10.0]), np.array([0.0, 4.0, 1.0])
    combined = ensembles.convex_combination(first, second, 0.75)
    np.testing.assert_allclose(combined, [0, 0.75 / 2 + 0.25, 0.75 + 0.0625])
    for wrong in (np.zeros(3), np.array([np.nan, 0, 1]), np.array([np.inf, 0, 1])):
        with pytest.raises(ValueError, match="cannot be scaled"):
            ensembles.convex_combination(first, wrong)
    with pytest.raises(ValueError, match="share must be 0 to 1"):
        ensembles.convex_combination(first, second, 1.5)


def test_sums_of_ranks_do_not_depend_on_x64(x64):
    a, b = scores(5)
    expected = ensembles.log_rank_sum([a, b])
    with jax.enable_x64(False):
        np.testing.assert_allclose(ensembles.log_rank_sum([a, b]), expected, atol=1e-6)
    assert ranks.spearman(*map(ranks.ordinal, (a, b))).dtype == jnp.float64
