"""Dominance, hypervolume and its expected improvement, against brute force and pymoo."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import pareto
from jaxnas.pareto import Objective

pytestmark = pytest.mark.usefixtures("quick_compilation")


def points(seed, num, m, *, missing=0):
    """Points on a coarse grid, so that ties and repeats occur."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 8, (num, m)).astype(np.float32)
    values[rng.integers(0, num, missing), rng.integers(0, m, missing)] = np.nan
    return values


def dominates(p, q):
    p, q = np.nan_to_num(p, nan=-np.inf), np.nan_to_num(q, nan=-np.inf)
    return (p >= q).all() and (p > q).any()


def front_of(values, rows):
    return {i for i in rows if not any(dominates(values[j], values[i]) for j in rows)}


@pytest.mark.parametrize("m", [1, 2, 3])
def test_fronts_are_those_of_the_definition(m):
    values, valid = points(m, 40, m, missing=4), np.arange(40) % 5 > 0
    left, ranks, number = set(np.flatnonzero(valid)), np.full(40, 40), 0
    assert set(np.flatnonzero(pareto.non_dominated(values, valid))) == front_of(
        values, left
    )
    while left:
        first = front_of(values, left)
        ranks[list(first)] = number
        left, number = left - first, number + 1
    np.testing.assert_array_equal(pareto.domination_rank(values, valid), ranks)


@pytest.mark.parametrize("last", [0, 3])
def test_the_front_of_many_points_is_that_of_all_pairs(last):
    # So many that two objectives are sorted; a third one is constant.
    values, valid = points(last, 1100, 2, missing=9), np.arange(1100) % 5 > 0
    values[:500, 0] += np.random.default_rng(1).random(500)
    values[:, 0] = np.where(np.arange(1100) % 7 == last, -np.inf, values[:, 0])
    three = np.column_stack([values, np.ones(1100)])
    front = np.asarray(pareto.non_dominated(values, valid))
    np.testing.assert_array_equal(front, pareto.non_dominated(three, valid))
    worst = np.full_like(values, np.nan)
    np.testing.assert_array_equal(pareto.non_dominated(worst, valid), valid)
    assert 1 < front.sum() < 50


def test_bounds_rank_feasible_points_first_and_the_rest_by_violation():
    scores = jnp.array([[1.0, 1], [2, 2], [9, 9], [8, 8], [0, 3], [7, 7]])
    violation = jnp.array([0, 0, 2, 1, 0, jnp.inf])
    rank = pareto.constrained_rank(scores, violation, jnp.arange(6) != 0)
    assert rank.tolist() == [12, 0, 7, 6, 0, 8]
    rank = pareto.constrained_rank(scores, violation)
    assert rank.tolist() == [1, 0, 7, 6, 0, 8]


def test_crowding_by_hand():
    scores = jnp.array([[0.0, 4], [1, 3], [3, 1], [4, 0], [0.5, 0.5]])
    rank = jnp.array([0, 0, 0, 0, 1])
    widths = np.array([np.inf, 0.75 + 0.75, 0.75 + 0.75, np.inf, np.inf])
    np.testing.assert_allclose(pareto.crowding_distance(scores, rank), widths)
    missing = scores.at[3, 0].set(jnp.nan)
    assert not np.isnan(pareto.crowding_distance(missing, rank)).any()


def volume_by_cells(values, reference):
    """The hypervolume of integer points by counting unit cells."""
    m = values.shape[1]
    cells = itertools.product(*(range(int(r), 8) for r in reference))
    return sum(
        any((p >= np.array(c) + 1).all() for p in values if not np.isnan(p).any())
        for c in cells
        if len(c) == m
    )


@pytest.mark.parametrize("m", [1, 2, 3])
def test_hypervolume_counts_cells(m):
    function = jax.jit(pareto.hypervolume)
    for seed in range(3):
        values, reference = points(10 + seed, 12, m, missing=2), np.arange(m) * 1.0
        expected = volume_by_cells(values, reference)
        assert function(values, reference) == expected
        valid = np.arange(12) % 3 > 0
        expected = volume_by_cells(values[valid], reference)
        assert function(values, reference, valid) == expected
    so_far = pareto.hypervolume_so_far(values, reference)
    each = [volume_by_cells(values[: t + 1], reference) for t in range(12)]
    np.testing.assert_array_equal(so_far, each)


def test_hypervolume_of_nothing_and_of_four():
    assert pareto.hypervolume(jnp.zeros((0, 2)), jnp.zeros(2)) == 0
    with pytest.raises(ValueError, match="1 to 3 objectives, not 4"):
        pareto.hypervolume(jnp.zeros((3, 4)), jnp.zeros(4))


def test_the_reference_point_is_beyond_the_nadir_of_the_front():
    scores = jnp.array([[0.0, 10], [4, 0], [-50, 5], [jnp.nan, 99], [100, 100]])
    reference = pareto.reference_point(scores, jnp.arange(5) < 4)
    np.testing.assert_allclose(reference, [-0.4, -1.0], rtol=1e-6)


@pytest.mark.parametrize("m", [2, 3])
def test_indicators_are_those_of_pymoo(m):
    hv = pytest.importorskip("pymoo.indicators.hv", reason="pymoo is not installed").HV
    from pymoo.indicators.igd_plus import IGDPlus
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    values = np.random.default_rng(m).random((60, m)).astype(np.float32)
    front = values[np.asarray(pareto.non_dominated(values))] + 0.1
    ranks = NonDominatedSorting().do(-values, return_rank=True)[1]
    np.testing.assert_array_equal(pareto.domination_rank(values), ranks)
    volume = pareto.hypervolume(values, np.full(m, 0.1))
    assert volume == pytest.approx(hv(ref_point=np.full(m, -0.1))(-values), rel=1e-5)
    distance = pareto.igd_plus(values, front)
    assert distance == pytest.approx(IGDPlus(-front)(-values), rel=1e-5)


def test_igd_plus_by_hand():
    front = jnp.array([[0.0, 4.0], [4.0, 0.0]])
    scores = jnp.array([[0.0, 1.0], [5.0, 5.0], [jnp.nan, 9.0]])
    assert pareto.igd_plus(scores, front) == 0
    valid = jnp.array([True, False, True])
    assert pareto.igd_plus(scores, front, valid) == pytest.approx((3 + 4) / 2)
    assert pareto.igd_plus(scores, front, jnp.zeros(3, bool)) == np.inf


def test_attainment_by_hand():
    runs = jnp.array([[[0.0, 3], [2, 1]], [[1, 2], [jnp.nan, 9]], [[2, 0], [0, 5]]])
    grid, inf = jnp.array([0.0, 1, 2, 3]), np.inf
    surfaces = pareto.attainment_surfaces(runs, grid, jnp.array([1 / 3, 2 / 3, 1]))
    expected = [[5, 2, 1, -inf], [3, 1, 0, -inf], [2, 0, -inf, -inf]]
    np.testing.assert_array_equal(surfaces, expected)


@pytest.mark.parametrize("seed", range(3))
def test_expected_improvement_is_the_mean_of_improvements(seed):
    rng = np.random.default_rng(seed)
    front = np.asarray(rng.normal(size=(9, 2)), np.float32)
    valid, reference = np.arange(9) < 7, np.array([-0.8, -0.5], np.float32)
    mean, std = rng.normal(size=(2, 4)), rng.uniform(0.2, 1.0, (2, 4))
    function = jax.jit(pareto.expected_hypervolume_improvement)
    expected = function(mean, std, front, reference, valid)
    draws = mean[..., None] + std[..., None] * rng.normal(size=(2, 4, 4000))
    draws = jnp.asarray(np.moveaxis(draws, 0, -1), jnp.float32)  # (4, 4000, 2)
    base = pareto.hypervolume(front, reference, valid)

    def improvement(draw):
        with_draw = jnp.concatenate([front[:7], draw[None]])
        return pareto.hypervolume(with_draw, reference) - base

    each = np.asarray(jax.jit(jax.vmap(jax.vmap(improvement)))(draws))
    error = each.std(1) / np.sqrt(each.shape[1])
    assert (np.abs(expected - each.mean(1)) < 4 * error + 1e-6).all()


def test_improvement_is_the_difference_of_hypervolumes():
    rng = np.random.default_rng(3)
    front, values = (rng.normal(size=(n, 2)).astype(np.float32) for n in (9, 40))
    valid, reference = np.arange(9) < 7, np.array([-0.8, -0.5], np.float32)
    base = pareto.hypervolume(front, reference, valid)

    def difference(value):
        with_value = jnp.concatenate([front[:7], value[None]])
        return pareto.hypervolume(with_value, reference) - base

    improvement = pareto.hypervolume_improvement(values.T, front, reference, valid)
    np.testing.assert_allclose(improvement, jax.vmap(difference)(values), atol=1e-5)
    assert 5 < (np.asarray(improvement) > 0).sum() < 35
    one = pareto.hypervolume_improvement(
        values[:, :1].T, front[:, :1], reference[:1], valid
    )
    best = max(front[:7, 0].max(), reference[0])
    np.testing.assert_allclose(one, np.maximum(values[:, 0] - best, 0), atol=1e-6)


def test_expected_improvement_without_a_front_is_a_product():
    mean, std = jnp.array([[0.3], [-0.2]]), jnp.array([[0.5], [2.0]])
    reference, none = jnp.array([0.1, 0.4]), jnp.full((3, 2), jnp.nan)
    of_one = pareto.expected_hypervolume_improvement
    both = of_one(mean, std, none, reference)
    alone = [
        of_one(mean[j, None], std[j, None], none[:, :1], reference[j, None])
        for j in (0, 1)
    ]
    np.testing.assert_allclose(both, alone[0] * alone[1], rtol=1e-6)


def test_the_best_of_random_scalarisations_is_the_hypervolume():
    """Zhang and Golovin (2020), lemma 5, with c_2 = pi / 4."""
    values = jnp.array([[0.2, 1.0], [0.7, 0.6], [0.9, 0.1]])
    reference = jnp.zeros(2)
    keys = jax.random.split(jax.random.key(0), 4000)
    value = jax.vmap(pareto.hypervolume_scalarisation, (0, None, None))
    best = value(keys, values.T, reference)[0].max(1) ** 2
    volume = pareto.hypervolume(values, reference)
    assert best.mean() * np.pi / 4 == pytest.approx(float(volume), rel=0.03)


ACCURACY = Objective("accuracy", "percent")
LATENCY = Objective("latency", "milliseconds", "minimise", bound=20.0)


def test_values_become_scores_and_bounds_their_violation():
    objectives = ACCURACY, LATENCY
    values = np.array([[90, 15.0], [95, 30], [99, np.nan]])
    scores = pareto.as_scores(objectives, values)
    np.testing.assert_array_equal(scores, values * [1, -1])
    np.testing.assert_array_equal(pareto.as_values(objectives, scores), values)
    violation = pareto.violation(scores, pareto.score_bounds(objectives))
    np.testing.assert_allclose(violation, [0, 0.5, np.inf])


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([ACCURACY, ACCURACY], "accuracy is given 2 times"),
        ([ACCURACY._replace(direction="up")], "maximise or minimise, not 'up'"),
        ([LATENCY._replace(bound=np.nan)], "bound of latency must be finite, not nan"),
        ([ACCURACY._replace(optimised=False)], "neither optimised nor bounded"),
        ([LATENCY._replace(optimised=False)], "at least one .* found latency"),
        ([], "at least one .* found none"),
        (["accuracy"], "must be an Objective, not 'accuracy'"),
    ],
)
def test_wrong_objectives_are_refused(objectives, message):
    with pytest.raises(ValueError, match=message):
        pareto.validate_objectives(objectives)
