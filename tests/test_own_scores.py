"""Drivers of zero-cost scores on what a new user has: own scores, embedded accuracies."""

import dataclasses

import numpy as np
import pytest

from experiments import few_labels, zero_cost_report, zero_cost_search
from experiments.zero_cost import score_columns
from jaxnas.benchmarks import named, table_files

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXNAS_SHARED", str(tmp_path / "nonexistent"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Files as zero_cost_score writes them: scores of all cells, and of 200."""
    analog = named.open_table("analog")
    accuracy = analog.columns["cifar10/test/200"]
    rng = np.random.default_rng(0)
    folder, paths = tmp_path_factory.mktemp("scores"), {}
    few = np.sort(rng.permutation(len(accuracy))[:200])
    for name, cells in (("all", slice(None)), ("few", few)):
        columns = {}
        for proxy, noise in (("hook_logdet", 5), ("snip", 20)):
            score = accuracy[cells] + rng.normal(0, noise, len(accuracy[cells]))
            columns[f"score/{proxy}/pets"] = score
            columns[f"scoring/{proxy}/pets"] = np.ones(len(score), np.float32)
        manifest = {"source": "x", "sha256": "0"}
        manifest["columns"] = dict.fromkeys(columns, "made up")
        cells = analog.arch[cells]
        table = table_files.BenchmarkTable(
            "own", analog.space, cells, columns, manifest
        )
        paths[name] = str(folder / f"{name}.npz")
        table_files.save(paths[name], table)
    return paths


def test_the_report_compares_own_scores_with_embedded_accuracies(own, tmp_path):
    config = zero_cost_report.Config(
        scores_from=(own["few"],), resamples=5, out=str(tmp_path / "out")
    )
    rows = zero_cost_report.main(config)
    names = ["hook_logdet@pets", "snip@pets", "logranks@pets", "live_macs"]
    assert [row.score for row in rows] == names
    assert [row.cells for row in rows] == [200, 200, 200, 15_625]
    assert rows[0].spearman[0] > rows[1].spearman[0] > 0.2
    assert (
        "analog, accuracy: cifar10/test/200"
        in (tmp_path / "out" / "report.html").read_text()
    )


def test_searches_by_own_scores_of_all_cells(own, tmp_path):
    config = zero_cost_search.Config(
        scores_from=(own["all"],),
        scores=("hook_logdet@pets",),
        algorithms=("random", "aging"),
        seeds=2,
        visits=70,
        out=str(tmp_path / "out"),
    )
    rows = zero_cost_search.main(config)
    assert [row.algorithm for row in rows] == ["random", "aging"]
    assert all(row.accuracy > 80 and row.seconds == row.distinct for row in rows)
    assert str(zero_cost_search.main(config)) == str(rows)
    # A search that is added keeps those that the folder has.
    added = zero_cost_search.main(
        dataclasses.replace(config, scores=("live_macs",), algorithms=("random",))
    )
    assert {(r.score, r.algorithm) for r in added} == {
        ("live_macs", "random"), ("hook_logdet@pets", "random"),
        ("hook_logdet@pets", "aging"),
    }  # fmt: skip


def test_a_search_by_scores_of_some_cells_says_how_to_get_the_others(own, tmp_path):
    config = zero_cost_search.Config(scores_from=(own["few"],), out=str(tmp_path / "o"))
    says = "has scores of 200 of 15,625 cells.*zero_cost_score, without --cells"
    with pytest.raises(ValueError, match=says):
        zero_cost_search.main(config)
    assert not (tmp_path / "o").exists()


def test_few_labels_among_the_cells_that_have_scores(own, tmp_path):
    config = few_labels.Config(
        scores_from=(own["few"],), labels=(20,), sets=2, out=str(tmp_path / "out")
    )
    rows = few_labels.main(config)
    models = ["live_macs", "ridge", "tw", "proxies", "all"]
    assert [row.model for row in rows] == models
    assert all(row.spearman > 0.5 for row in rows)


def test_without_any_file_there_are_counts(tmp_path):
    config = zero_cost_report.Config(resamples=2, out=str(tmp_path / "out"))
    rows = zero_cost_report.main(config)
    assert [(row.dataset, row.score) for row in rows] == [
        ("cifar10", "macs"),
        ("cifar10", "live_macs"),
    ]


def test_accuracies_are_those_of_the_longest_training():
    table = named.open_table("fashion")
    assert score_columns.datasets(table) == ("fashion-mnist",)
    column, accuracy = score_columns.accuracy(table, "fashion-mnist")
    assert column == "fashion-mnist/test/4" and accuracy.shape == table.arch.shape[:1]
    with pytest.raises(ValueError, match="no dataset cifar10: choose from fashion"):
        score_columns.datasets(table, ("cifar10",))
