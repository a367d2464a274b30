"""The driver of the main comparison: what it returns, writes, says and refuses."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments import tw_sequential
from experiments.zero_cost import known_scores
from jaxnas.benchmarks import named, table_files, tabular
from jaxnas.io import npz
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.studies import figures
from jaxnas.studies.comparison import methods, opened, outcome, summary

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).parent.parent
SMALL = tw_sequential.Config(
    methods=("random", "evolution"), seeds=3, evaluations=24, init=6, chunk=2
)
FILES = [
    "results.npz",
    "settings.json",
    "table.csv",
    "table_by_cost.csv",
    "overhead.csv",
]
FILES += ["curves.png", "curves_by_cost.png"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    return out, tw_sequential.main(dataclasses.replace(SMALL, out=str(out)))


def test_scores_are_those_of_the_rows_that_were_asked(done):
    _, arrays = done
    column = named.open_table("analog").columns["cifar10/test/200"]
    for method in SMALL.methods:
        assert arrays[f"{method}/row"].shape == (3, 24)
        expected = column[arrays[f"{method}/row"]]
        np.testing.assert_array_equal(arrays[f"{method}/score"], expected)
        assert len({tuple(row) for row in arrays[f"{method}/row"]}) == 3


def test_the_files_say_what_was_returned(done):
    out, arrays = done
    assert sorted(p.name for p in out.iterdir() if p.is_file()) == sorted(FILES)
    stored, manifest = npz.load_arrays(out / "results.npz")
    assert stored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
    assert manifest["fed_back"] == "analog cifar10/test/200, seed mean"
    for row, name in zip(
        csv.DictReader((out / "overhead.csv").open()), SMALL.methods, strict=True
    ):
        assert (
            row["method"] == name and 0 < 24 * 3 * float(row["overhead_seconds"]) < 60
        )
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert [(r["method"], r["evaluations"]) for r in rows] == [
        (method, "24") for method in SMALL.methods
    ]
    error = 100 - arrays["evolution/score"].max(1)
    assert float(rows[1]["fed_back_mean"]) == pytest.approx(error.mean(), rel=1e-5)
    expected = error.std(ddof=1) / 3**0.5
    assert float(rows[1]["fed_back_standard_error"]) == pytest.approx(expected, 1e-4)


def test_scores_known_beforehand_tell_the_best_cells_apart(shared):
    table = named.open_table("zerocost")
    which = ("zerocost",), "cifar10", SPACE, table.arch
    (part,) = known_scores.open_scores(("hook_logdet", "live_macs"), *which).features
    score = table.columns["score/hook_logdet/cifar10"].reshape(-1)
    best, worst = np.argmax(score), np.argmin(score)
    high, low = (
        np.asarray(part(jnp.asarray(table.arch[i], jnp.int32))[0])
        for i in (best, worst)
    )
    assert high.shape == low.shape == (2,)
    assert high[0] > 10 and low[0] < 0.02  # 201 cells share the worst score
    assert known_scores.open_scores((), *which) == ((), {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": ("hok",)}, "no scores hok for cifar10 in zerocost: choose from"),
        ({"scores_from": ("nb101",)}, "no scores of nasbench201 in .* nb101"),
        ({"scores_from": ()}, "--scores needs --scores-from, which is empty"),
        ({"scores": ("hok",), "methods": ("random",)}, "no scores hok for cifar10"),
    ],
)
def test_scores_that_there_are_not(shared, tmp_path, change, words):
    settings = {
        "scores": ("snip",),
        "methods": ("gp-tw",),
        "out": str(tmp_path / "out"),
    }
    config = dataclasses.replace(SMALL, **{**settings, **change})
    with pytest.raises(ValueError, match=words):
        tw_sequential.main(config)
    assert not (tmp_path / "out").exists()


def test_searches_stay_among_the_cells_that_a_table_has(tmp_path):
    whole = named.open_table("analog")
    some = np.random.default_rng(0).permutation(len(whole.arch))[:400]
    columns = {"toy/test/200": whole.columns["cifar10/test/200"][some]}
    manifest = {"source": "x", "sha256": "0", "part": True}
    manifest["columns"] = {"toy/test/200": "of some cells"}
    part = table_files.BenchmarkTable(
        "part", whole.space, whole.arch[some], columns, manifest
    )
    table_files.save(tmp_path / "part.npz", part)
    config = dataclasses.replace(
        SMALL,
        methods=("random",),
        benchmark=str(tmp_path / "part.npz"),
        dataset="toy",
        out=str(tmp_path / "out"),
    )
    arrays = tw_sequential.main(config)
    assert (arrays["random/row"] >= 0).all()
    assert np.isfinite(arrays["random/score"]).all()
    assert all(len(set(row)) == 24 for row in arrays["random/row"])
    # Gaussian processes know as many functions.
    classes = function_classes()[np.ravel_multi_index(part.arch.T, SPACE.choices)]
    by_name = dataclasses.replace(config, benchmark="analog")
    for settings, num in ((by_name, len(set(classes))), (config, 400)):
        terms = methods.Terms(24, 6, copies=opened.count_copies(settings))
        assert methods.require_candidates(SPACE, part.arch, terms) == num <= 400


def copies_table(path):
    """Two copies of one function, of which the second is the best of the table."""
    classes = function_classes()
    archs = base.every(SPACE)
    first, second = np.flatnonzero(classes == np.bincount(classes).argmax())[[0, 5]]
    rows = np.unique(np.append(np.arange(3, 15_625, 300), [first, second]))
    score = 50 + (rows % 7).astype(np.float32)
    score[rows == second], score[rows == first] = 90, 80
    manifest = {"source": "x", "sha256": "0", "part": True}
    manifest["columns"] = {"toy/test/200": "of some cells"}
    columns = {"toy/test/200": score}
    table_files.save(
        path,
        table_files.BenchmarkTable("part", SPACE.name, archs[rows], columns, manifest),
    )


@pytest.mark.parametrize(("copies", "found"), [(None, 90), (True, 90), (False, 80)])
def test_it_is_said_where_the_best_cell_cannot_be_asked(
    tmp_path, capsys, copies, found
):
    copies_table(tmp_path / "part.npz")
    config = tw_sequential.Config(
        methods=("gp-tw",), benchmark=str(tmp_path / "part.npz"), dataset="toy",
        seeds=1, evaluations=30, init=5, copies=copies, out=str(tmp_path / "out"),
    )  # fmt: skip
    arrays = tw_sequential.main(config)
    said = "is 10.00 points below it" in capsys.readouterr().out
    with open(tmp_path / "out/table.csv") as file:
        row = next(csv.DictReader(file))
    assert said == (copies is False)
    below = float(row["best_that_can_be_asked_below_optimum"])
    assert below == (10 if copies is False else 0)
    assert arrays["gp-tw/score"].max() <= found


def test_the_reported_split_is_the_one_that_was_asked_for(tmp_path, capsys):
    table = named.open_table("fashion")
    config = tw_sequential.Config(
        benchmark="fashion", dataset="fashion-mnist", split="valid", epochs=4,
        report_split="test", seeds=3, evaluations=8, init=4, methods=("random",),
        out=str(tmp_path),
    )  # fmt: skip
    row = tw_sequential.main(config)["random/row"]
    # The table is a part of its space, and the best cell is that of the part.
    part = "(4,484 of the 15,625 architectures of nasbench201)"
    shown = f"\nthe best cell of the table {part}, by the number fed back\n"
    assert shown in capsys.readouterr().out
    validated, tested = (
        np.nanmean(table.columns[f"fashion-mnist/{split}/4"], 1, np.float64)
        for split in ("valid", "test")
    )
    best = row[np.arange(3), validated[row].argmax(1)]
    assert (best != row[np.arange(3), tested[row].argmax(1)]).any()
    with open(tmp_path / "table.csv") as file:
        found = float(next(csv.DictReader(file))["reported_mean"])
    assert found == pytest.approx(100 - tested[best].mean(), abs=1e-4)


def test_a_comparison_is_made_longer_and_shorter_again(tmp_path):
    at = {"methods": ("evolution",), "out": str(tmp_path / "out"), "seeds": 2}
    run = lambda n, **kw: tw_sequential.main(  # noqa: E731
        dataclasses.replace(SMALL, **at, evaluations=n, **kw)
    )["evolution/row"]
    first, longer = run(10), run(16)
    kept = [p.stat().st_mtime_ns for p in (tmp_path / "out/chunks").iterdir()]
    np.testing.assert_array_equal(longer[:, :10], first)
    np.testing.assert_array_equal(run(10), first)
    assert kept == [p.stat().st_mtime_ns for p in (tmp_path / "out/chunks").iterdir()]
    np.testing.assert_array_equal(run(16), longer)


def test_a_comparison_keeps_the_methods_that_its_folder_has(
    tmp_path, capsys, monkeypatch
):
    """A method that is added joins the others in the table, the figure and the arrays."""
    drawn = []
    monkeypatch.setattr(
        outcome.figures,
        "search_curves",
        lambda path, *_, **options: drawn.append(options),
    )
    config = dataclasses.replace(SMALL, out=str(tmp_path), methods=("random",))
    first = tw_sequential.main(config)
    added = tw_sequential.main(dataclasses.replace(config, methods=("evolution",)))
    assert {name.split("/")[0] for name in added} == {"random", "evolution"}
    for name, array in first.items():
        np.testing.assert_array_equal(added[name], array)
    for file in ("table.csv", "table_by_cost.csv"):
        rows = list(csv.DictReader((tmp_path / file).open()))
        assert {row["method"] for row in rows} == {"random", "evolution"}
    both = tw_sequential.main(dataclasses.replace(config, methods=SMALL.methods))
    assert added.keys() == both.keys()
    best = named.open_table("analog").columns["cifar10/test/200"].max()
    assert all(options["optimum"] == pytest.approx(100 - best) for options in drawn)
    # Colours follow the list of methods, not what a folder has.
    assert drawn[-1]["index"] == {"random": 0, "evolution": 1}
    # The order is that of the list of methods, whichever ran last.
    turned = tw_sequential.main(dataclasses.replace(config, methods=("random",)))
    assert list(turned) == list(added) and next(iter(added)) == "random/seed"
    # Methods with fewer runs stay, and say how many they have.
    more = dataclasses.replace(config, methods=("evolution",), seeds=4)
    sizes = {n.split("/")[0]: len(a) for n, a in tw_sequential.main(more).items()}
    assert sizes == {"random": 3, "evolution": 4}
    captured = capsys.readouterr()
    assert f"random has 3 of 4 runs of this length in {tmp_path}; add" in (captured.err)
    assert "of 3 to 4 runs" in captured.out
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {(r["method"], r["runs"]) for r in rows} == {
        ("random", "3"), ("evolution", "4")
    }  # fmt: skip
    # Shorter ones would not be comparable.
    longer = dataclasses.replace(config, methods=("evolution",), evaluations=25)
    assert {n.split("/")[0] for n in tw_sequential.main(longer)} == {"evolution"}


def test_runs_end_with_their_budget(tmp_path, capsys):
    """The table has no seconds: a full training costs its 200 epochs."""
    config = dataclasses.replace(SMALL, out=str(tmp_path), budget=2100.0)
    arrays = tw_sequential.main(config)
    for method in SMALL.methods:
        assert np.nansum(arrays[f"{method}/cost"], 1).tolist() == [2000] * 3
        assert (arrays[f"{method}/row"][:, 10:] == -1).all()
        assert np.isnan(arrays[f"{method}/score"][:, 10:]).all()
    assert "before --budget" not in capsys.readouterr().out
    more = dataclasses.replace(config, budget=9e9)
    tw_sequential.main(more)
    assert "random: 3 of 3 runs reached --evaluations 24" in capsys.readouterr().out


def test_a_budget_that_pays_for_nothing_is_refused_before_the_first_run(tmp_path):
    out = tmp_path / "out"
    small = dataclasses.replace(SMALL, out=str(out), evaluations=6, seeds=1)
    message = "--budget 199.9 pays for no complete training: the cheapest costs 200"
    with pytest.raises(ValueError, match=message):
        tw_sequential.main(dataclasses.replace(small, budget=199.9))
    assert not out.exists()
    opened.open_table(dataclasses.replace(small, budget=200.0))
    # Of a table with seconds, in the precision in which they are added up.
    timed = dict(benchmark="fashion", dataset="fashion-mnist", split="valid", epochs=4)
    timed = dataclasses.replace(small, **timed)
    least = tabular.least_cost(opened.open_table(timed).benchmark)
    opened.open_table(dataclasses.replace(timed, budget=float(f"{least:.9g}")))
    with pytest.raises(ValueError, match="pays for no complete training: .* seconds"):
        opened.open_table(dataclasses.replace(timed, budget=0.999 * float(least)))


def test_a_longer_run_begins_as_a_shorter_one(done, tmp_path):
    config = dataclasses.replace(
        SMALL, out=str(tmp_path), seeds=4, evaluations=30, methods=("random",)
    )
    longer = tw_sequential.main(config)["random/row"]
    np.testing.assert_array_equal(longer[:3, :24], done[1]["random/row"])


def test_the_best_by_what_is_fed_back_is_what_is_reported(tmp_path, capsys):
    config = dataclasses.replace(
        SMALL, out=str(tmp_path), methods=("random",), report_dataset="cifar10-noisy"
    )
    arrays = tw_sequential.main(config)
    said = capsys.readouterr().out
    assert "fed back: analog cifar10/test/200, seed mean\n" in said
    assert "reported: analog cifar10-noisy/test/200, seed mean\n" in said
    best = np.argmax(arrays["random/score"], 1)
    row = arrays["random/row"][np.arange(3), best]
    noisy = 100 - named.open_table("analog").columns["cifar10-noisy/test/200"][row]
    written = next(csv.DictReader((tmp_path / "table.csv").open()))
    assert float(written["reported_mean"]) == pytest.approx(noisy.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ("random",) * 2}, "method random is given twice"),
        ({"benchmark": "nothing"}, "unknown benchmark 'nothing': wanted analog"),
        ({"dataset": "cifar11"}, "no dataset 'cifar11'; it has cifar10"),
        ({"split": "valid"}, "no split 'valid'; it has test"),
        ({"epochs": 12}, "no number of epochs 12; it has 200"),
        ({"run": "7"}, "no seed 7"),
        ({"report_epochs": 12}, "no number of epochs 12; it has 200"),
        ({"methods": ("random", "guess")}, "no method guess: choose from random"),
        ({"methods": ()}, "no method given"),
        ({"seeds": 0}, "--seeds must be at least 1, not 0"),
        ({"evaluations": -1}, "--evaluations must be at least 1, not -1"),
        ({"evaluations": 15626}, "at most the 15625 architectures of analog"),
        ({"base_seed": -1}, "--base-seed must be"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, change, said):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=said) as caught:
        tw_sequential.main(dataclasses.replace(SMALL, out=str(out), **change))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_folder_of_other_settings_is_one_line_on_the_command_line(done):
    out, _ = done
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    command = [sys.executable, "-m", "experiments.tw_sequential", "--out", str(out)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2
    lines = process.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {out} was made with other")
    assert "init 6 there, 10 now" in lines[0]
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_summary_against_arithmetic():
    score = np.array([[50.0, 70, 60, 90], [80, np.nan, 60, 70]])
    other = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    s = summary.summarise(score, score, other, optimum=90.0)
    np.testing.assert_allclose(s.fed_back[0], [35, 25, 25, 15])
    np.testing.assert_allclose(s.fed_back[1], [15, 5, 5, 5])
    np.testing.assert_allclose(s.reported[0], [97, 96.5, 96.5, 95.5])
    np.testing.assert_allclose(s.regret[0], [25, 15, 15, 5])
    assert s.queries.tolist() == [4, np.inf]
    single = summary.summarise(score[:1], score[:1], other[:1], 90.0)
    assert np.isnan(single.fed_back[1]).all()
    assert summary.marks(120) == [30, 50, 100, 120] and summary.marks(5) == [5]


def test_a_plot_shows_every_method_even_without_regret(tmp_path):
    few = np.linspace(9, 6, 40)
    curves = {name: (few + i, few * 0.1) for i, name in enumerate(methods.METHODS)}
    gone = {name: (np.maximum(m - 7, 0), e) for name, (m, e) in curves.items()}
    none = {name: (0 * m, 0 * e) for name, (m, e) in curves.items()}
    for regret in (none, gone):
        figures.search_curves(
            tmp_path / "curves.png",
            curves,
            regret,
            title="title",
            reported_label="left",
            regret_label="right",
            optimum=5.5,
        )
        image = matplotlib.image.imread(tmp_path / "curves.png")
        assert image.shape[1] == 960
        assert (image[:, [0, -1], :3] == 1).all()  # nothing is cut off
    for i in range(len(curves)):
        colour = matplotlib.colors.to_rgb(figures.COLOURS[i % len(figures.COLOURS)])
        near = np.abs(image[..., :3] - colour).max(-1) < 0.02
        assert near[:, :480].any() and near[:, 480:].any()
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
