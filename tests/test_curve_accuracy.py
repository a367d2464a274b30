"""Metrics of predicted curves, agreement with other seeds, and splits."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxnas.curves import accuracy, repeated, splits

# Names of the reference program.
REFERENCE = {
    "mse": "mse",
    "rmse": "rmse",
    "r2": "r2",
    "kendall_tau": "kendall",
    "kendall_tau_2_dec": "kendall_2_decimals",
    "kendall_tau_1_dec": "kendall_1_decimal",
    "spearmanr": "spearman",
}


def curves(num, epochs=5, seed=0):
    return np.random.default_rng(seed).normal(90, 1, (num, epochs))


def test_all_metrics_are_those_of_the_reference(curve_oracle):
    names = ("metric_y_true", "metric_y_pred")
    expected = curve_oracle["metrics"]
    found = accuracy.curve_scores(*(curve_oracle[name] for name in names))
    wanted = {
        last.replace("last_epoch", "final") + ours: expected[last + theirs]
        for last in ("", "last_epoch_")
        for theirs, ours in REFERENCE.items()
    }
    assert len(wanted) == 14 and found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_ties_and_constant_epochs():
    true = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [1.0, 4.0]])
    predicted = np.array([[1, 0.11], [2, 0.12], [3, 0.94], [4, 0.93]])
    found = accuracy.by_epoch(true, predicted)
    assert all(np.isnan(found[n][0]) for n in ("r2", "kendall", "spearman"))
    tau = stats.kendalltau(true[:, 1], [0.1, 0.1, 0.9, 0.9])[0]
    assert found["kendall_1_decimal"][1] == pytest.approx(tau)
    assert found["kendall_2_decimals"][1] == found["kendall"][1] > tau
    assert np.isnan(accuracy.curve_scores(true, predicted, ["r2"])["r2"])
    assert accuracy.curve_scores(true, true, ["r2"])["final_r2"] == 1


def test_bad_curves_are_refused():
    true = curves(3)
    with pytest.raises(ValueError, match=r"true \(3, 5\), predicted \(3, 4\)"):
        accuracy.by_epoch(true, true[:, :4])
    with pytest.raises(ValueError, match="predicted: 1 of 3 curves .* row 2"):
        accuracy.by_epoch(true, np.where(np.arange(3)[:, None] == 2, np.nan, true))
    with pytest.raises(ValueError, match="unknown metric 'tau': wanted some of mse"):
        accuracy.by_epoch(true, true, ["tau"])
    with pytest.raises(ValueError, match="2 curves or more"):
        accuracy.by_epoch(true[:1], true[:1])


def test_divergence_is_that_of_gaussians():
    true, drawn = curves(2 * 7).reshape(2, 7, 5), curves(2 * 9, seed=1).reshape(2, 9, 5)
    found = repeated.gaussian_kl(true, 2 * drawn)
    # By the matrices of the definition, for one architecture.
    m, m_drawn = true[1].mean(0), 2 * drawn[1].mean(0)
    s, s_drawn = np.diag(true[1].var(0, ddof=1)), np.diag(4 * drawn[1].var(0, ddof=1))
    inverse = np.linalg.inv(s_drawn)
    log = np.linalg.slogdet(s_drawn)[1] - np.linalg.slogdet(s)[1]
    whole = log - 5 + (m - m_drawn) @ inverse @ (m - m_drawn) + np.trace(inverse @ s)
    assert found[1].mean() == pytest.approx(whole / 10)
    np.testing.assert_allclose(repeated.gaussian_kl(true, true), 0, atol=1e-12)


def test_divergence_of_seeds_that_agree():
    true = np.array([[[1.0, 2.0], [1.0, 3.0]]])
    assert np.isinf(repeated.gaussian_kl(true, true + 1)).tolist() == [[True, False]]
    assert repeated.gaussian_kl(true, true + 1, 0.5)[0, 0] == pytest.approx(2)
    with pytest.raises(ValueError, match="1 seeds and 2 draws"):
        repeated.gaussian_kl(true[:, :1], true)


@pytest.mark.parametrize("num", (20, 33, 100))
def test_fewer_than_a_twentieth_of_real_curves_reach_a_spike(num):
    real = np.round(curves(num), 1)
    spikes = real.max(1) - real[:, -1]
    threshold = repeated.spike_threshold(real)
    assert (spikes >= threshold).mean() >= 0.05 > (spikes >= threshold + 1e-9).mean()
    assert repeated.spike_share(real, real) == (spikes > threshold).mean()
    assert repeated.spike_share(-real, -real, maximise=False) < 0.05
    assert repeated.spike_share(real, np.sort(real)) == 0
    best = np.sort(real)[:, -1:]
    for height, share in ((1e-6, 1), (-1e-6, 0)):
        last = best - threshold - height
        assert repeated.spike_share(real, np.append(real, last, 1)) == share


def test_other_seeds_as_a_table():
    truth = curves(400)[:, None]
    seeds = truth + np.random.default_rng(1).normal(0, 1, (400, 4, 5))
    found = [repeated.seed_reference(seeds, m, ["kendall", "mse"]) for m in (1, 2, 3)]
    # The error of a mean of m seeds against another one is 1 + 1 / m.
    for m, one in enumerate(found, 1):
        assert one["mse"] == pytest.approx(1 + 1 / m, rel=0.1)
    taus = [one["final_kendall"] for one in found]
    assert taus == sorted(taus) and taus[0] < taus[2] - 0.02
    with pytest.raises(ValueError, match="others must be below 4"):
        repeated.seed_reference(seeds, 4)


def test_a_split_keeps_groups_and_loses_no_row():
    groups = np.arange(1000) % 300 + 7
    key = jax.random.key(0)
    parts = splits.split(key, groups, (0.8, 0.1, 0.1))
    assert [len(set(groups[rows])) for rows in parts] == [240, 30, 30]
    assert sorted(np.concatenate(parts)) == list(range(1000))
    order = np.random.default_rng(0).permutation(1000)
    again = splits.split(key, groups[order], (0.8, 0.1, 0.1))
    assert [set(order[rows]) for rows in again] == [set(rows) for rows in parts]
    other = splits.split(jax.random.key(1), groups, (0.8, 0.1, 0.1))
    assert set(other[2]) != set(parts[2])
    sizes = [len(rows) for rows in splits.split(key, np.arange(15625), (0.9, 0.1))]
    assert sizes == [14062, 1563]
    rows = np.random.default_rng(1).integers(0, 3, (500, 4))  # of 81 architectures
    of_rows = splits.split(key, rows, (0.8, 0.1, 0.1))
    names = [set(map(tuple, rows[part])) for part in of_rows]
    assert [len(part) for part in names] == [64, 8, 9]
    with pytest.raises(ValueError, match=r"too few architectures \(2\)"):
        splits.split(key, groups[:2], (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match="of sum 1"):
        splits.split(key, groups, (0.8, 0.1))


def test_strata_are_split_by_themselves():
    key, arch = jax.random.key(0), np.arange(130)
    strata = np.array(["rs"] * 100 + ["de"] * 30)
    found = splits.split(key, arch, (0.8, 0.1, 0.1), strata)
    for name, sizes in (("rs", [80, 10, 10]), ("de", [24, 3, 3])):
        assert [(strata[part] == name).sum() for part in found] == sizes
    # Proposed once more by another search, whose name comes later: nothing moves.
    both = splits.split(
        key, np.r_[arch, arch[:5]], (0.8, 0.1, 0.1), np.r_[strata, ["tpe"] * 5]
    )
    for part, before in zip(both, found, strict=True):
        np.testing.assert_array_equal(part[part < 130], before)
        assert set(part[part >= 130] - 130) == set(part[part < 5])
    with pytest.raises(ValueError, match="strata must be"):
        splits.split(key, arch, (0.8, 0.2), strata[:3])


def test_one_optimiser_left_out():
    optimisers = ["re"] * 30 + ["rs"] * 50 + ["de"] * 20
    found = list(
        splits.leave_one_optimiser_out(jax.random.key(0), optimisers, np.arange(100))
    )
    assert [one.optimiser for one in found] == ["de", "re", "rs"]
    assert [tuple(map(len, one[1:])) for one in found] == [
        (72, 8, 20),
        (63, 7, 30),
        (45, 5, 50),
    ]
    for one in found:
        assert {optimisers[row] for row in one.test} == {one.optimiser}
        assert sorted(np.concatenate(one[1:])) == list(range(100))
    with pytest.raises(ValueError, match="two optimisers or more"):
        next(splits.leave_one_optimiser_out(jax.random.key(0), ["re"] * 3, np.ones(3)))
