"""The report: its numbers, its files, and that its page needs nothing else."""

import base64
import csv
import dataclasses
import io
import re

import matplotlib.image
import numpy as np
import pytest
from scipy import stats

from experiments import zero_cost_report
from experiments.zero_cost import score_columns
from jaxnas.benchmarks import named, table_files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report on made-up scores of the embedded table, one of them of few cells."""
    analog = named.open_table("analog")
    accuracy = analog.columns["cifar10/test/200"]
    rng = np.random.default_rng(0)
    good = accuracy + rng.normal(0, 5, len(accuracy))
    good[:50] = -np.inf
    few = np.full(len(accuracy), np.nan)
    few[:3000] = -good[:3000].clip(0) + rng.normal(0, 5, 3000)
    columns = {
        "score/good/cifar10": good,
        "score/few/cifar10": few,
        "cifar10/test/200": accuracy,
    }
    manifest = analog.manifest | {"columns": dict.fromkeys(columns, "made up")}
    table = table_files.BenchmarkTable(
        "made", analog.space, analog.arch, columns, manifest
    )
    folder = tmp_path_factory.mktemp("report")
    table_files.save(folder / "made.npz", table)
    config = zero_cost_report.Config(
        benchmark=str(folder / "made.npz"),
        datasets=("cifar10",),
        scores=("good", "few", "live_macs"),
        resamples=20,
        out=str(folder / "out"),
    )
    return config, folder / "out", zero_cost_report.main(config), table


def test_rows_are_what_scipy_says(made):
    _, _, rows, table = made
    accuracy = table.columns["cifar10/test/200"]
    for row in rows[:2]:
        score = table_files.scores(table)[row.score, "cifar10"]
        known = ~np.isnan(score)
        assert row.cells == known.sum()
        finite = np.where(np.isneginf(score), -1e9, score)[known]
        rho = stats.spearmanr(finite, accuracy[known])[0]
        tau = stats.kendalltau(finite, accuracy[known])[0]
        for (middle, low, high), expected in ((row.spearman, rho), (row.kendall, tau)):
            assert middle == pytest.approx(expected, abs=1e-5)
            assert low < middle < high < low + 0.1
        assert row.best_row == np.nanargmax(score)
        assert row.best_accuracy == pytest.approx(accuracy[row.best_row])
        assert row.best_rank == 1 + (accuracy[known] > row.best_accuracy).sum()
        best = np.argsort(-finite, kind="stable")[:64]
        edge = np.sort(accuracy[known])[-round(0.05 * known.sum())]
        assert row.good == pytest.approx((accuracy[known][best] >= edge).sum(), abs=1)
    assert rows[2].seconds == 0 and np.isnan(rows[0].seconds)


def test_the_files(made):
    _, out, rows, _ = made
    figures = {
        *("spearman.png", "kendall.png", "scatter-cifar10.png"),
        *("pairs-cifar10.png", "recall-cifar10.png"),
    }
    others = {"report.html", "scores.csv", "pairs.csv", "settings.json"}
    assert {p.name for p in out.iterdir()} == figures | others
    lines = list(csv.DictReader((out / "scores.csv").open()))
    assert [line["score"] for line in lines] == ["good", "few", "live_macs"]
    assert float(lines[0]["kendall_low"]) == pytest.approx(rows[0].kendall[1], 1e-4)
    pairs = list(csv.DictReader((out / "pairs.csv").open()))
    assert [(p["first"], p["second"]) for p in pairs] == [
        ("good", "few"), ("good", "live_macs"), ("few", "live_macs"),
    ]  # fmt: skip
    assert float(pairs[0]["spearman"]) < -0.5 < 0.3 < float(pairs[1]["spearman"])


def test_the_page_holds_its_figures(made):
    _, out, _, _ = made
    page = (out / "report.html").read_text()
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 5 == page.count("<img") == page.count("src=")
    for image in images:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(image)))
        assert pixels.shape[0] > 150 and pixels[..., :3].std() > 0.05
    assert "href" not in page and "<script" not in page
    assert page.count("<tr>") == 4


def test_bad_input(made, tmp_path):
    config, *_ = made
    (tmp_path / "file").write_text("")
    for change, says in (
        ({"resamples": 0}, "--resamples must be at least 1"),
        ({"resamples": 10**9}, "--resamples must be at most 10000"),
        ({"scores": ("nwot",)}, "no score nwot: choose from"),
        ({"datasets": ("cifar100",)}, "no dataset cifar100: choose from cifar10"),
        ({"run": "one"}, "has no column cifar10-one-run/test/200"),
        ({"out": str(tmp_path / "file")}, "cannot use --out"),
    ):
        with pytest.raises(ValueError, match=says):
            zero_cost_report.main(dataclasses.replace(config, **change))


def test_own_scores_join_those_of_the_table(made, tmp_path):
    analog = named.open_table("analog")
    few = np.random.default_rng(1).permutation(len(analog.arch))[:40]
    rng = np.random.default_rng(2)
    columns = {}
    for name in ("hook_logdet", *score_columns.AZ):
        columns[f"score/{name}/pets"] = rng.normal(size=40)
        columns[f"scoring/{name}/pets"] = np.full(40, 2, np.float32)
    manifest = analog.manifest | {"columns": dict.fromkeys(columns, "made up")}
    own = table_files.BenchmarkTable(
        "own", analog.space, analog.arch[few], columns, manifest
    )
    table = named.open_table(made[0].benchmark)
    found = score_columns.gather(table, "cifar10", [own])
    assert {"good", "hook_logdet@pets", "logranks@pets", "aznas@pets"} < found.keys()
    hook, both = found["hook_logdet@pets"], found["aznas-hook@pets"]
    np.testing.assert_array_equal(hook.value[few], columns["score/hook_logdet/pets"])
    assert np.isnan(hook.value).sum() == len(analog.arch) - 40
    parts = [found[f"{n}@pets"].value[few] for n in ("hook_logdet", *score_columns.AZ)]
    parts.append(found["live_macs"].value[few])
    wanted = sum(np.log(stats.rankdata(p) / 40) for p in parts)
    np.testing.assert_allclose(both.value[few], wanted - wanted.min() + 1, rtol=1e-5)
    # The scores of az share their seconds.
    np.testing.assert_allclose(both.seconds[few], 4)
    np.testing.assert_allclose(found["aznas@pets"].seconds[few], 2)
    with pytest.raises(ValueError, match="come from two files"):
        score_columns.gather(table, "cifar10", [own, own])
    foreign = dataclasses.replace(own, space="nasbench101")
    with pytest.raises(ValueError, match="scores of the space nasbench101: wanted nas"):
        score_columns.gather(table, "cifar10", [foreign])
