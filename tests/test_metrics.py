"""Metrics against plain Python loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import metrics

pytestmark = pytest.mark.usefixtures("quick_compilation")


def noisy_scores(seed=0, shape=(7, 40), failed=0.3):
    """Few distinct values, so that ties occur, and NaN at random, also at the start."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 12, shape).astype(np.float32)
    score[rng.random(shape) < failed] = np.nan
    score[0, :5] = np.nan
    score[1] = np.nan
    return score


def slow_incumbent(row):
    index, out = -1, []
    for i, value in enumerate(row):
        if not math.isnan(value) and (index < 0 or value > row[index]):
            index = i
        out.append(index)
    return out


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_incumbent_and_what_follows_from_it(array):
    score = noisy_scores()
    other = np.random.default_rng(1).normal(size=score.shape).astype(np.float32)
    index = np.array([slow_incumbent(row) for row in score])
    none = index < 0
    assert none[0, :5].all() and none[1].all() and not none[2:, -1].any()

    assert metrics.incumbent(array(score)).dtype == jnp.int32
    np.testing.assert_array_equal(metrics.incumbent(array(score)), index)
    for function, values in [
        (metrics.best_so_far(array(score)), score),
        (metrics.at_incumbent(array(score), array(other)), other),
    ]:
        wanted = np.take_along_axis(values, np.maximum(index, 0), 1)
        np.testing.assert_array_equal(function, np.where(none, np.nan, wanted))
    np.testing.assert_array_equal(
        metrics.regret(array(score), 12.0), 12 - metrics.best_so_far(score)
    )


def test_any_number_of_leading_axes_and_jit():
    score = noisy_scores(shape=(6, 20))
    cube = score.reshape(2, 3, 20)
    for function in (metrics.best_so_far, metrics.incumbent):
        whole = jax.jit(function)(cube)
        np.testing.assert_array_equal(whole.reshape(6, 20), function(score))
        np.testing.assert_array_equal(function(score[2]), function(score)[2])


def test_integers_are_scores_too():
    np.testing.assert_array_equal(metrics.best_so_far([3, 1, 4, 1]), [3, 3, 4, 4])
    np.testing.assert_array_equal(metrics.queries_to(np.array([3, 1, 4]), 4), 3)


def test_queries_to_counts_from_one():
    score = noisy_scores()
    for target in (0.0, 8.0, 11.0, 13.0):
        slow = []
        for row in score:
            hits = [i + 1 for i, value in enumerate(row) if value >= target]
            slow.append(hits[0] if hits else math.inf)
        np.testing.assert_array_equal(metrics.queries_to(score, target), slow)
    assert np.isinf(metrics.queries_to(score, 13.0)).all()


def test_queries_to_within_a_tolerance_and_with_a_target_for_each_run():
    score = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(metrics.queries_to(score, 2.1, tol=0.2), [2, 2])
    np.testing.assert_array_equal(metrics.queries_to(score, [1.0, 3.5]), [1, np.inf])


@pytest.mark.parametrize("num", [1, 2, 5, 8])
def test_median_is_numpys_where_that_is_defined(num):
    x = np.random.default_rng(num).normal(size=(num, 3)).astype(np.float32)
    np.testing.assert_allclose(metrics.median(x), np.median(x, 0), rtol=1e-6)
    np.testing.assert_allclose(metrics.median(x, 1), np.median(x, 1), rtol=1e-6)


def test_median_with_runs_that_never_arrive():
    inf = np.inf
    assert metrics.median(np.array([3.0, inf, 1.0])) == 3
    assert metrics.median(np.array([3.0, 5.0, 4.0, inf])) == 4.5
    # Two of four arrive: the middle lies between a number and never.
    assert metrics.median(np.array([3.0, inf, 1.0, inf])) == inf
    assert metrics.median(np.array([3.0, inf, inf, inf])) == inf


def test_mean_and_standard_error():
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    mean, sem = metrics.mean_and_sem(x)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sem, x.std(0, ddof=1) / 3, rtol=1e-5)
    mean, sem = metrics.mean_and_sem(x, axis=1)
    np.testing.assert_allclose(sem, x.std(1, ddof=1) / 2, rtol=1e-5)
    mean, sem = metrics.mean_and_sem(x[:1])
    np.testing.assert_array_equal(mean, x[0])
    assert sem.shape == (4,) and np.isnan(sem).all()


def test_shapes_that_make_no_sense():
    with pytest.raises(ValueError, match=r"one shape, not \(3,\) and \(4,\)"):
        metrics.at_incumbent(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"not shape \(2, 0\)"):
        metrics.best_so_far(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="no values"):
        metrics.median(np.zeros(0))
