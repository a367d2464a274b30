"""The report on extrapolators: splits, scores, resumption, and bad settings."""

import csv
import dataclasses

import numpy as np
import pytest
from scipy import stats
from test_extrapolate import saturating

from experiments import extrapolate_report
from experiments.curves import extrapolation

pytestmark = pytest.mark.usefixtures("quick_compilation")
METHODS = ("last value", "training sum", "kernel ridge, arch")


def test_a_split_is_by_architecture_and_of_one_size():
    groups = np.repeat(np.arange(80), [3, 1] * 40)
    sizes = set()
    for seed in range(5):
        known, new = extrapolation.split(seed, groups)
        assert len(known) == 100 and not set(groups[known]) & set(groups[new])
        sizes.add(len(new))
    assert sizes == {58}


def test_scores_are_those_of_normal_predictions():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=20_000), np.full(20_000, 0.5)
    true = rng.normal(mean, std)
    spearman, density, error, *cover = extrapolation.scores(true, mean, std)
    assert spearman == pytest.approx(stats.spearmanr(true, mean)[0])
    assert density == pytest.approx(-stats.norm(scale=0.5).entropy(), abs=0.02)
    assert error == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(cover, [0.5, 0.9], atol=0.01)


def test_the_report_is_written_and_goes_on(tmp_path, monkeypatch):
    curves = 100 * saturating(140, 20)
    features = curves[:, -1:] + np.random.default_rng(0).normal(0, 3, (140, 1))
    data = extrapolation.CurveData(curves, features, np.arange(140), 100.0)
    monkeypatch.setitem(extrapolation.SETS, "nb201", lambda: data)
    monkeypatch.setattr(extrapolate_report, "SHARES", (0.05,))
    config = extrapolate_report.Config(("nb201",), METHODS, 2, out=str(tmp_path / "r"))
    found = extrapolate_report.main(config)
    header, rows = found["means"]
    # The set has no training curves.
    assert {row[1] for row in rows} == {*METHODS} - {"training sum"}
    spearman = {tuple(row[1:3]): row[header.index("spearman")] for row in rows}
    assert spearman["kernel ridge, arch", 0.05] > spearman["last value", 0.05] + 0.1
    monkeypatch.setattr(extrapolate_report, "trial", None)
    assert extrapolate_report.main(config)["means"] == found["means"]
    # Extrapolators that the folder has stay in the report.
    fewer = dataclasses.replace(config, methods=METHODS[2:])
    assert sorted(extrapolate_report.main(fewer)["means"][1]) == sorted(rows)
    with (tmp_path / "r/trials.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 2 * 2
    assert "Spearman" in (tmp_path / "r/report.html").read_text()
    assert (tmp_path / "r/spearman.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": ("mnist",)}, "no set mnist: choose from nb201"),
        ({"methods": ()}, "no method given: choose from last value"),
        ({"methods": ("wpm", "wpm")}, "method wpm is given twice"),
        ({"splits": 0}, "--splits"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        extrapolate_report.main(extrapolate_report.Config(**change))


def test_nothing_is_written_without_the_curves(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_SHARED", str(tmp_path / "nowhere"))
    config = extrapolate_report.Config(("nb201",), out=str(tmp_path / "report"))
    with pytest.raises(ValueError, match="nowhere"):
        extrapolate_report.main(config)
    assert not (tmp_path / "report").exists()
