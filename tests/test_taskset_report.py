"""The report on TaskSet: draws, bars, processes, weights of mixtures, and bad settings."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from experiments import taskset_report
from experiments.curves import taskset

EPOCHS = 20


def synthetic(number):
    """Curves whose last values depend on a feature alone, and the features."""
    rng = np.random.default_rng(number)
    features = rng.normal(size=(150, 2))
    top = 0.5 + 0.4 * np.tanh(features[:, :1])
    curves = top * (1 - np.exp(-np.arange(EPOCHS) / 5)) + 0.05
    return curves + rng.normal(0, 0.003, curves.shape), features


@pytest.fixture(autouse=True)
def tasks(monkeypatch):
    monkeypatch.setattr(taskset, "task", synthetic)
    monkeypatch.setattr(taskset, "NUM_TASKS", 2)


def test_every_configuration_of_a_draw_is_trained_and_some_are_not_complete():
    sizes = set()
    for seed in range(8):
        sample = taskset.draw(0, seed)
        assert sample.lengths.sum() == 400 and len(sample.lengths) == 100
        assert 1 <= sample.lengths.min() and sample.lengths.max() <= EPOCHS
        rows = sample.unfinished
        np.testing.assert_array_equal(sample.last, sample.curves[rows][:, -1])
        sizes.add(len(rows))
    assert len(sizes) > 3  # from few long trainings to many short ones


def test_bars_hold_the_mass_of_normals_and_all_that_is_outside():
    mean, std = np.array([0.3, 0.01]), np.array([0.1, 0.2])
    bars = taskset.of_normals(mean, std)
    np.testing.assert_allclose(bars.sum(1), 1)
    assert bars[1, 0] == pytest.approx(stats.norm.cdf(0.001, 0.01, 0.2), abs=1e-6)
    log, square = taskset.scores(bars, np.array([0.3005, 0.0]))
    assert log[0] == pytest.approx(stats.norm.logpdf(0.3005, 0.3, 0.1), abs=1e-3)
    assert log[1] == pytest.approx(np.log(1000 * bars[1, 0]))
    assert square[0] == pytest.approx(0.0005**2, abs=1e-6)
    logs = taskset.of_normals(np.log(mean), std, 0.003)
    below = stats.norm.cdf(np.log(0.203), np.log(0.3), 0.1)
    assert logs[0, :200].sum() == pytest.approx(below, abs=1e-6)


def test_a_process_over_configurations_learns_from_the_others():
    sample = taskset.draw(0, 3)
    alone, shared = (
        taskset.scores(taskset.curve_process(flag, 0.0)(sample), sample.last)
        for flag in (False, True)
    )
    assert shared[1].mean() < alone[1].mean() / 2
    assert shared[0].mean() > alone[0].mean() + 0.2


def test_weights_of_a_mixture_are_those_of_its_draws():
    rng = np.random.default_rng(0)
    which = rng.random(3000) < 0.3
    values = np.where(which, rng.normal(0, 1, 3000), rng.normal(2, 0.5, 3000))
    parts = stats.norm.pdf(values, 0, 1), stats.norm.pdf(values, 2, 0.5)
    groups = np.where(np.arange(3000) < 2990, 4, 7)
    weights = taskset_report.fit_weights([(np.stack(parts, 1), groups)])
    assert weights.shape == (15, 2)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[4], [0.3, 0.7], atol=0.03)
    # A group without trainings has the weights of all.
    np.testing.assert_allclose(weights[0], [0.3, 0.7], atol=0.03)


def test_the_report_mixes_parts_and_goes_on(tmp_path, monkeypatch):
    parts = ("curve gp, arch",)
    monkeypatch.setattr(taskset_report, "PARTS", parts)
    config = taskset_report.Config(
        ("mixture", "last value", *parts), 2, 1, out=str(tmp_path / "r")
    )
    header, rows = taskset_report.main(config)
    means = {tuple(row[:2]): row[2:] for row in rows}
    assert set(means) == {(t, m) for t in ("all", 0, 1) for m in config.methods}
    at = header.index("mse_difference") - 2
    assert means["all", "last value"][at] > 0
    one = taskset.draw(1, 1001)
    fitted = taskset_report._fitted("mixture", 1, 1)
    want = taskset.scores(fitted(one), one.last)[0].mean()
    lines = (tmp_path / "r/draws.csv").read_text().splitlines()
    found = next(line for line in lines if line.startswith("1,1,mixture"))
    assert float(found.split(",")[3]) == pytest.approx(want, abs=1e-3)
    monkeypatch.setattr(taskset_report, "_scores", None)
    assert taskset_report.main(config)[1] == rows
    # Scores of other data are computed again.
    monkeypatch.setattr(taskset_report, "array_digest", lambda *_: "other")
    with pytest.raises(TypeError, match="not callable"):
        taskset_report.main(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("mean",)}, "no method mean: choose from mixture"),
        ({"draws": 0}, "--draws"),
        ({"base_seed": 2}, "--base-seed must be at least --tuning 5"),
    ],
)
def test_bad_settings_are_refused(change, message):
    config = dataclasses.replace(taskset_report.Config(), **change)
    with pytest.raises(ValueError, match=message):
        taskset_report.main(config)


def test_nothing_is_written_without_the_curves(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("JAXNAS_SHARED", str(tmp_path))
    taskset.task.cache_clear()
    config = taskset_report.Config(("last value",), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="no such file: .*curves_taskset.npz"):
        taskset_report.main(config)
    assert not (tmp_path / "out").exists()


def test_values_are_fractions_and_diverged_trainings_are_0(shared, monkeypatch):
    monkeypatch.undo()
    loss = np.load(shared / "data/curves_taskset.npz")["t05_valid_loss"]
    curves, features = taskset.task(5)
    assert curves.min() == 0 and curves.max() == 1 and np.isnan(loss).any()
    assert (curves[np.isnan(loss)] == 0).all()
    row, epoch = np.unravel_index(np.nanargmin(loss), loss.shape)
    assert curves[row, epoch] == 1
    assert abs(features.mean()) < 1e-6 and features.shape == (1000, 8)
