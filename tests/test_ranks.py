"""Ranks and correlations against scipy's, and sums of ranks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
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


def test_spearman_is_that_of_scipy():
    for seed, num in ((0, 150), (1, 1100), (2, 2)):
        x, y = map(ranks.ordinal, scores(seed, num))
        found = ranks.spearman(x, y)
        np.testing.assert_allclose(found, stats.spearmanr(x, y)[0], 1e-5, 1e-6)
        weights = ranks.bootstrap_weights(jax.random.key(seed), 3, num)
        np.testing.assert_array_equal(weights.sum(1), num)
        if num == 2:
            continue  # A sample of one thing alone has no correlation.
        rows = [np.repeat(np.arange(num), w.astype(int)) for w in np.asarray(weights)]
        expected = [stats.spearmanr(x[r], y[r])[0] for r in rows]
        found = ranks.spearman(x, y, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def slow_kendall(x, y, weights):
    """Over all pairs; a pair of two copies of one thing is tied in both."""
    sign = [np.sign(z[:, None] - z) for z in (x.astype(int), y.astype(int))]
    pairs = weights[:, None] * weights
    both, *each = (
        float((pairs * a * b).sum()) for a, b in (sign, [sign[0]] * 2, [sign[1]] * 2)
    )
    return both / math.sqrt(each[0] * each[1]) if each[0] and each[1] else math.nan


@st.composite
def ordered(draw):
    """Two orders (n,) with ties, and weights (b, n)."""
    num, kinds = draw(st.integers(2, 12)), draw(st.sampled_from([2, 4, 100]))
    values = arrays.arrays(np.int32, num, elements=st.integers(-kinds, kinds))
    times = arrays.arrays(np.int32, (2, num), elements=st.integers(0, 3))
    return draw(values), draw(values), draw(times)


@given(ordered())
@pytest.mark.filterwarnings("error")
def test_kendall_is_that_of_all_pairs(drawn):
    x, y, weights = drawn
    alone = slow_kendall(x, y, np.ones(len(x)))
    np.testing.assert_allclose(ranks.kendall(x, y), alone, 1e-12, 1e-15)
    expected = [slow_kendall(x, y, each) for each in weights]
    for given_weights in (weights, weights.astype(np.float32)):
        found = ranks.kendall(x, y, given_weights)
        np.testing.assert_allclose(found, expected, 1e-12, 1e-15)
    found = ranks.kendall(x, y, weights[0])
    assert found.shape == () and found.dtype == np.float64
    np.testing.assert_array_equal(found, ranks.kendall(x, y, weights)[0])
    assert ranks.kendall(x, y, weights[:0]).shape == (0,)


@given(ordered())
def test_spearman_of_any_weights_is_that_of_scipy(drawn):
    x, y, weights = (np.resize(z, (*z.shape[:-1], 12)) for z in drawn)  # one program
    for each, found in zip(weights, ranks.spearman(x, y, weights * 1.0), strict=True):
        a, b = np.repeat(x, each), np.repeat(y, each)
        if len(set(a)) < 2 or len(set(b)) < 2:
            # Rounding may leave a little of what is 0 / 0.
            continue
        np.testing.assert_allclose(found, stats.spearmanr(a, b)[0], 1e-5, 1e-5)


def test_weights_of_kendall_are_counts():
    x = np.arange(3)
    for wrong, message in (
        ([0.5, 1, 1], "whole numbers from 0"),
        ([-1, 1, 1], "whole numbers from 0"),
        ([math.nan, 1, 1], "whole numbers from 0"),
        ([1, 1], r"must be \(3,\) or \(b, 3\), not \(2,\)"),
        (np.ones((1, 1, 3)), r"not \(1, 1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ranks.kendall(x, x, wrong)


def test_thousands_of_different_scores_are_not_rounded_alike():
    x = np.arange(15625)
    y = np.concatenate([x[:5000][::-1], x[5000:]])
    few = np.minimum(x, 2)  # all but two are equal
    for a, b in ((x, y), (few, few), (few, y)):
        found = ranks.spearman(a, b)
        np.testing.assert_allclose(found, stats.spearmanr(a, b)[0], rtol=5e-6)
    # Of the pairs, those among the first 5,000 are the other way round.
    pairs, turned = 15625 * 15624 / 2, 5000 * 4999 / 2
    assert ranks.kendall(x, y) == pytest.approx(1 - 2 * turned / pairs, 1e-14)


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
