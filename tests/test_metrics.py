"""Metrics against plain Python loops, over arrays with NaN, ties and infinities."""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxnas import metrics

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("error"),
]

NAN, INF = math.nan, math.inf
# Few values, so that ties occur, at the scales where single precision fails.
VALUES = st.sampled_from(
    [NAN, NAN, INF, -INF, 0.0, 1.0, 2.0, 1e9, 1e9 + 1, 1e9 + 2, 1e-30, 2e-30, -5.0]
)
COSTS = st.sampled_from([NAN, 0.0, 0.0, 1.0, 2.0, 0.5, 1e9])
LEADING = st.sampled_from([(), (0,), (1,), (3,), (2, 2)])


def of_shape(shape, elements=VALUES, dtype=np.float64):
    return arrays.arrays(dtype, shape, elements=elements)


@st.composite
def runs(draw, *elements, least=1):
    """Arrays of one shape (..., t), one for each of `elements`."""
    shape = (*draw(LEADING), draw(st.integers(least, 7)))
    return [draw(of_shape(shape, each)) for each in elements]


def same(found, leading, slow, *values):
    """Compares with one slow row after another, bit for bit."""
    assert found.shape[: len(leading)] == leading
    for i in np.ndindex(leading):
        np.testing.assert_array_equal(found[i], slow(*(v[i].tolist() for v in values)))


def slow_incumbent(row):
    index, out = -1, []
    for i, value in enumerate(row):
        if value > (-INF if index < 0 else row[index]):
            index = i
        out.append(index)
    return out


def slow_at_incumbent(row, other):
    return [NAN if i < 0 else other[i] for i in slow_incumbent(row)]


@given(runs(VALUES, VALUES))
def test_incumbent_and_what_follows_from_it(drawn):
    score, other = drawn
    leading = score.shape[:-1]
    assert metrics.incumbent(score).dtype == np.int64
    same(metrics.incumbent(score), leading, slow_incumbent, score)
    same(metrics.best_so_far(score), leading, slow_at_incumbent, score, score)
    same(metrics.at_incumbent(score, other), leading, slow_at_incumbent, score, other)

    def slow_regret(row):
        return [7.0 - best for best in slow_at_incumbent(row, row)]

    same(metrics.regret(score, 7.0), leading, slow_regret, score)


@given(runs(VALUES), VALUES, st.sampled_from([0.0, 0.5]))
def test_queries_to_counts_from_one(drawn, target, tol):
    (score,) = drawn

    def slow(row):
        hits = [i + 1 for i, value in enumerate(row) if value >= target - tol]
        return hits[0] if hits else INF

    same(metrics.queries_to(score, target, tol), score.shape[:-1], slow, score)


def test_queries_to_with_a_target_for_each_run():
    score = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(metrics.queries_to(score, [1.0, 3.5]), [1, INF])


@given(runs(VALUES, COSTS, st.booleans()))
def test_compact_moves_what_was_asked_to_the_front(drawn):
    score, cost, asked = drawn[0], drawn[1], drawn[2].astype(bool)
    moved = metrics.compact(asked, score, cost)
    assert [m.shape for m in moved] == [score.shape] * 2

    def slow(row, kept):
        front = [value for value, keep in zip(row, kept, strict=True) if keep]
        return front + [NAN] * (len(row) - len(front))

    for found, value in zip(moved, (score, cost), strict=True):
        same(found, score.shape[:-1], slow, value, asked)


def test_idle_slots_are_no_evaluations():
    """Two runs that asked 2 and 3 of 4 slots, and would count all of them."""
    asked = np.array([[False, True, False, True], [True, True, False, True]])
    score = np.where(asked, [[0, 5, 0, 9], [3, 9, 0, 1.0]], NAN)
    np.testing.assert_array_equal(metrics.queries_to(score, 9), [4, 2])
    score, row = metrics.compact(asked, score, np.arange(8).reshape(2, 4))
    np.testing.assert_array_equal(metrics.queries_to(score, 9), [2, 2])
    np.testing.assert_array_equal(row, [[1, 3, NAN, NAN], [4, 5, 7, NAN]])
    for wrong in (np.zeros((2, 4)), np.bool(True)):
        with pytest.raises(ValueError, match="asked must be bool"):
            metrics.compact(wrong, score)
    with pytest.raises(ValueError, match=r"the shape \(2, 4\) of asked, not \(2, 3\)"):
        metrics.compact(asked, score[:, :3])


@given(
    runs(COSTS, VALUES),
    of_shape((3,), st.sampled_from([-1.0, 0.0, 1.0, 1.5, 3.0, 1e9, 2e9, INF])),
)
def test_values_at_a_cost(drawn, grid):
    cost, value = drawn

    def slow(costs, values):
        found = []
        for budget in grid:
            last, spent = NAN, 0.0
            for c, v in zip(costs, values, strict=True):
                spent += 0 if math.isnan(c) else c
                if not math.isnan(c) and spent <= budget:
                    last = v
            found.append(last)
        return found

    same(metrics.at_cost(cost, value, grid), cost.shape[:-1], slow, cost, value)


def test_the_order_of_idle_slots_and_of_padding_changes_no_value_at_a_cost():
    asked = np.array([True, False, False, True, True, False])
    cost = np.where(asked, [2.0, 0, 0, 3, 1, 0], 0)
    score = np.where(asked, [4.0, 0, 0, NAN, 6, 0], NAN)
    grid = np.arange(8.0)
    whole = metrics.at_cost(cost, metrics.best_so_far(score), grid)
    np.testing.assert_array_equal(whole, [NAN, NAN, 4, 4, 4, 4, 6, 6])
    moved = metrics.compact(asked, score, cost)
    for value in (metrics.best_so_far(moved[0]), metrics.regret(moved[0], 0)):
        sign = np.sign(value[0])
        np.testing.assert_array_equal(
            metrics.at_cost(moved[1], value, grid), sign * whole
        )
    # Without a running best: the padding says nothing of the last evaluation.
    assert metrics.at_cost(moved[1], moved[0], [6.0]) == 6


def test_a_grid_of_costs_covers_the_runs():
    cost = np.array([[0.0, 3, 4, NAN], [0.3, 0.1, 0.1, 0.1]], np.float32)
    grid = metrics.cost_grid(cost, 5)
    np.testing.assert_allclose(grid, np.geomspace(np.float32(0.3), 7, 5))
    position = np.broadcast_to(np.arange(4), cost.shape)
    assert metrics.at_cost(cost, position, grid)[:, -1].tolist() == [2, 3]
    assert metrics.at_cost(cost, position, grid)[:, 0].tolist() == [0, 0]
    for wrong, num in ((np.zeros(3), 5), ([INF, 1.0], 5), ([1.0], 1)):
        with pytest.raises(ValueError, match="wanted finite costs, one of them posit"):
            metrics.cost_grid(wrong, num)


def test_costs_and_grids_that_make_no_sense():
    one = np.ones(3)
    for cost, value, grid in (
        (one, np.ones(2), one),
        (one, one, np.ones((1, 2))),
        (one, one, [NAN]),
    ):
        with pytest.raises(ValueError, match="cost and value must have one shape"):
            metrics.at_cost(cost, value, grid)
    with pytest.raises(ValueError, match=r"at least 0, found -1\.0"):
        metrics.at_cost([NAN, -1.0], [1.0, 1.0], one)


@given(of_shape(arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)), st.data())
def test_median_with_runs_that_never_arrive(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))

    def slow(column):
        column = sorted(column, key=lambda v: (math.isnan(v), v))
        low, high = column[(len(column) - 1) // 2], column[len(column) // 2]
        return low if low == high else low / 2 + high / 2

    rows = np.moveaxis(x, axis, -1)
    same(metrics.median(x, axis), rows.shape[:-1], slow, rows)
    assert metrics.median([-INF, 3.0]) == -INF and metrics.median([3.0, INF]) == INF


@given(runs(VALUES, least=0), st.booleans())
def test_mean_and_standard_error(drawn, first):
    (x,) = drawn
    along = (np.moveaxis(x, -1, 0), 0) if first else (x, -1)
    mean, sem = metrics.mean_and_sem(*along)
    assert mean.shape == sem.shape == x.shape[:-1]
    for i in np.ndindex(x.shape[:-1]):
        row = x[i].tolist()
        middle = sum(row) / len(row) if row else NAN
        np.testing.assert_allclose(mean[i], middle, 1e-15, 1e-29)
        if len(row) < 2 or not math.isfinite(middle):
            assert np.isnan(sem[i])
            continue
        variance = math.fsum((v - middle) ** 2 for v in row) / (len(row) - 1)
        np.testing.assert_allclose(sem[i], math.sqrt(variance / len(row)), 1e-7)


@pytest.mark.parametrize("scale, offset", [(1, 1e9), (1e-30, 0), (1e-30, -1e-28)])
def test_scores_are_not_rounded_to_single_precision(scale, offset):
    score = offset + scale * np.arange(200.0)
    assert metrics.incumbent(score)[-1] == 199
    assert metrics.best_so_far(score)[-1] == score[-1]
    assert metrics.regret(score, score[-1])[100] == pytest.approx(99 * scale, 1e-6)
    assert metrics.queries_to(score, score[-1]) == 200
    assert metrics.median(score) == pytest.approx(score[99:101].mean(), 1e-15)
    mean, sem = metrics.mean_and_sem(score)
    assert mean == pytest.approx(score.mean(), 1e-15)
    assert sem == pytest.approx(scale * np.arange(200).std(ddof=1) / 200**0.5, 1e-6)
    assert metrics.at_cost(np.ones(200), score, [150])[0] == score[149]


@pytest.mark.parametrize("convert", [jnp.asarray, np.float32, jnp.bfloat16])
def test_scores_in_less_precision_reach_an_optimum_in_double(convert):
    """The best float32 score of a table is below its float64 value half of the time."""
    optimum = np.array([94.37, 93.1, 0.1])
    score = convert(np.stack([optimum - 1, optimum], -1))
    np.testing.assert_array_equal(metrics.queries_to(score, optimum), 2)
    found = metrics.regret(score, optimum[:, None])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 1], 0)
    assert (found[:, 0] > 0).all()


def test_what_comes_out_prints_as_it_came_in():
    score = jnp.array([94.37, 91.5], jnp.float32)
    assert str(metrics.best_so_far(score)) == "[94.37 94.37]"
    assert isinstance(metrics.best_so_far(score), np.ndarray)
    assert metrics.at_incumbent(score, score).dtype == np.float32


def test_integers_are_scores_too():
    np.testing.assert_array_equal(metrics.best_so_far([3, 1, 4, 1]), [3, 3, 4, 4])
    np.testing.assert_array_equal(metrics.queries_to(np.array([3, 1, 4]), 4), 3)


def test_an_incumbent_inside_a_compiled_program():
    score = np.random.default_rng(0).integers(0, 9, (2, 3, 20)).astype(np.float32)
    score[0, 0] = NAN
    score[0, 1, :4] = NAN
    found = jax.jit(metrics.incumbent)(score)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, metrics.incumbent(score))
    with pytest.raises(ValueError, match="wanted evaluations"):
        jax.jit(metrics.incumbent)(score[..., :0])


@given(st.integers(0, 200), st.integers(1, 200), st.sampled_from([0.5, 0.9, 0.95]))
def test_wilson_intervals_solve_wilsons_equation(hits, more, level):
    num = hits + more
    share, z = hits / num, NormalDist().inv_cdf((1 + level) / 2)
    low, high = metrics.wilson(hits, num, level)
    assert 0 <= low <= share <= high <= 1
    for p in (low, high):
        assert (share - p) ** 2 == pytest.approx(z * z * p * (1 - p) / num, 1e-6, 1e-12)


@pytest.mark.parametrize(("hits", "num"), [(2, 1), (-1, 3), (0, 0)])
def test_there_is_no_interval_of_nothing(hits, num):
    with pytest.raises(ValueError, match="no interval of"):
        metrics.wilson(hits, num)


def test_shapes_that_make_no_sense():
    with pytest.raises(ValueError, match=r"one shape, not \(3,\) and \(4,\)"):
        metrics.at_incumbent(np.zeros(3), np.zeros(4))
    for function in (metrics.best_so_far, metrics.incumbent):
        with pytest.raises(ValueError, match=r"not shape \(2, 0\)"):
            function(np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"not shape \(0,\)"):
        metrics.queries_to([], 1.0)
    with pytest.raises(ValueError, match="no values"):
        metrics.median(np.zeros(0))
