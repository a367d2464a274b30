"""Comparisons by cost: what is read off the runs, written as csv, and drawn."""

import csv
import functools
import inspect
import io
import itertools
from types import SimpleNamespace
from typing import Any, cast

import jax
import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from experiments.zero_cost import reference_search
from jaxnas import metrics
from jaxnas.benchmarks import synthetic
from jaxnas.search.fidelity.asynchronous import asynchronous_halving
from jaxnas.search.local_search import local_search
from jaxnas.search.loop import simulate
from jaxnas.spaces import base
from jaxnas.studies import axes, figures, seed_store
from jaxnas.studies.comparison import (
    fidelity_methods,
    lengths,
    methods,
    outcome,
    settings,
    summary,
)
from jaxnas.types import asked

NAN = np.nan
# Two runs: 4 evaluations, and 3 that come to 2 + 1 + 3, one of them failed.
SCORE = np.array([[50.0, 70, 60, 90], [80, NAN, 85, NAN]])
COST = np.array([[1.0, 1, 2, 4], [2, 1, 3, NAN]])
OTHER = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
BUDGETS = np.array([1.0, 2, 4, 6, 8])


def by_cost():
    return summary.summarise(SCORE, SCORE, OTHER, 90.0, cost=COST, budgets=BUDGETS)


def test_a_summary_by_cost_against_arithmetic():
    s = by_cost()
    np.testing.assert_allclose(s.fed_back[0], [NAN, 25, 25, 22.5, 12.5])
    np.testing.assert_allclose(s.fed_back[1], [NAN, 5, 5, 7.5, 2.5])
    np.testing.assert_allclose(s.reported[0], [NAN, 96.5, 96.5, 95.5, 94.5])
    np.testing.assert_allclose(s.regret[0], [NAN, 15, 15, 12.5, 2.5])
    # Evaluations are counted as ever.
    assert s.queries.tolist() == [4, np.inf]


def test_the_csv_has_a_row_for_each_budget(tmp_path):
    summary.write_cost_csv(
        tmp_path / "cost.csv", {"a": by_cost(), "b": by_cost()}, BUDGETS
    )
    rows = list(csv.DictReader((tmp_path / "cost.csv").read_text().splitlines()))
    assert [(r["method"], float(r["cost"])) for r in rows] == [
        (name, budget) for name in "ab" for budget in BUDGETS
    ]
    for row, *expected in zip(rows, *by_cost().regret, strict=False):
        found = row["regret_mean"], row["regret_standard_error"]
        np.testing.assert_allclose(np.array(found, float), expected)
    assert {row["runs"] for row in rows} == {"2"}


def test_the_table_by_cost_is_read_at_shares_of_the_largest_cost():
    console = Console(record=True, width=120, file=io.StringIO())
    budgets = np.array([1.0, 2, 4, 6, 10])
    summary.show_by_cost(console, {"a": by_cost()}, budgets, "epochs", "x", "y")
    lines = console.export_text().splitlines()
    heads = [line.split() for line in lines if "after" in line]
    assert heads == [["after", "epochs", "1", "2", "3", "5", "7", "10"]] * 2
    reported, regret = (line.split()[1:] for line in lines if line.startswith(" a "))
    # Before every run has an evaluation there is no mean.
    assert reported[0] == regret[0] == "–"
    assert regret[1::3] == ["15.00", "15.00", "15.00", "12.50", "2.50"]
    assert reported[1::3] == ["96.50", "96.50", "96.50", "95.50", "94.50"]


def test_names_of_numbers_are_printed_as_they_are():
    options = {"width": 120, "file": io.StringIO(), "force_terminal": True}
    console = Console(record=True, color_system="standard", **options)
    summary.show(console, {"a": by_cost()}, "cifar10 12", "cifar10 200")
    curves = {"a": by_cost()}, BUDGETS, "epochs"
    summary.show_by_cost(console, *curves, "cifar10 12", "cifar10 200")
    text = console.export_text(styles=True)
    assert text.count("fed back: cifar10 12\nreported: cifar10 200\n") == 2
    assert "\nthe best cell of the table, by the number fed back\n" in text
    assert "the table has" not in text


def test_a_table_that_is_a_part_of_its_space_is_called_so():
    console = Console(width=40, file=io.StringIO(), record=True)
    summary.show(console, {"a": by_cost()}, "x", "y", "3 of the 4 cells")
    curves = {"a": by_cost()}, BUDGETS, "epochs"
    summary.show_by_cost(console, *curves, "x", "y", part="3 of the 4 cells")
    text = console.export_text()
    title = "the best cell of the table (3 of the 4 cells), by the number fed back"
    assert f"\n{title}\n" in text
    assert "reported: y\nthe table has 3 of the 4 cells\n" in text


def test_the_seconds_of_a_search_itself_are_printed(monkeypatch):
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, color_system="standard", width=120
    )
    monkeypatch.setattr(outcome, "Console", lambda: console)
    monkeypatch.setattr(outcome, "_draw_by_cost", lambda done: None)
    one = {"a": by_cost()}
    folder = cast(Any, SimpleNamespace(path="runs/12"))
    # Of two runs one made all three evaluations, and one spent its budget before.
    cost = np.array([[1.0, 1, 1], [5, 5, NAN]])
    arrays = {"a/cost": cost}
    done = outcome.Outcome(arrays, one, one, BUDGETS, "epochs", folder, "x", "y", 0.0,
                           {"a": 0.0123, "b": NAN, "c": 0.5}, {"a": 0})  # fmt: skip
    outcome.show_by_cost(done, evaluations=3, budget=10.0)
    *_, limit, overhead, written = file.getvalue().splitlines()
    assert overhead.startswith("milliseconds of the search") and overhead.endswith(
        ": a 12, c 500"
    )
    assert limit == "a: 1 of 2 runs reached --evaluations 3 before --budget 10"
    assert written.startswith("runs/12: results.npz, ") and "\x1b" not in written


@pytest.mark.parametrize("budget", [0.5, 3.0])
def test_a_budget_may_be_below_one(budget):
    settings.validate(settings.Config(budget=budget))
    with pytest.raises(ValueError, match="--budget must be above 0, not 0"):
        settings.validate(settings.Config(budget=0.0))


def test_long_names_of_numbers_are_not_broken():
    console = Console(record=True, width=40, file=io.StringIO())
    long = "nb201 ImageNet16-120/valid/200, seed mean"
    summary.show_by_cost(console, {"a": by_cost()}, BUDGETS, "epochs", long, long)
    assert f"fed back and reported: {long}\n" in console.export_text()


def test_long_runs_are_read_at_two_and_three_hundred_evaluations():
    assert summary.marks(400) == [30, 50, 100, 150, 200, 300, 400]


def test_a_method_that_cannot_ask_the_best_cell_is_marked():
    all_of_it = by_cost()
    summaries = {"a": all_of_it, "b": all_of_it._replace(out_of_reach=0.5)}
    done = cast(Any, SimpleNamespace(summaries=summaries))
    assert outcome._names(done) == {"a": "a", "b": "b *"}


def test_a_chunk_without_scores_is_missing():
    part = {"budget": np.full(3, np.inf)}
    assert lengths.as_long(settings.Config(evaluations=1), part) is None


@pytest.mark.parametrize("workers", [1, 3])
def test_runs_of_another_budget_are_read_where_they_are_the_same(workers):
    space = base.product("toy", (4, 3, 5))
    made = synthetic.synthetic_benchmark(jax.random.key(1), space, epochs=9)
    search, keys = asynchronous_halving(space, (1, 3, 9)), jax.random.key(0)[None]
    budgets = (7.0, 20.0, 40.0, 41.0, 60.0, None)

    def arrays(budget, length=30):
        options = {"budget": budget, "workers": workers}
        trace = simulate(keys, search, made, length, **options)
        each = {"score": trace.score, "cost": trace.cost, "asked": asked(trace.query)}
        limit = np.inf if budget is None else budget
        flat = {n: np.asarray(x)[:, :, 0] for n, x in each.items()}
        return flat | {"budget": np.full(1, limit)}

    read = []
    for (saved, part), wanted in itertools.product(
        [(b, arrays(b)) for b in budgets], budgets
    ):
        for length in (30,) if workers > 1 else (12, 30):
            config = settings.Config(evaluations=length, budget=wanted)
            found = lengths.as_long(config, part, workers=workers)
            if found is not None:
                fresh = arrays(wanted, length)
                for name in ("score", "cost", "asked", "budget"):
                    np.testing.assert_array_equal(found[name], fresh[name])
                read.append((length, saved, wanted))
    if workers == 1:
        # Neither a larger budget than they cost nor none changes the first 12.
        cost = arrays(None)["cost"][0, :12].sum()
        assert budgets[0] < cost <= budgets[1]
        for limit in budgets[:-1]:
            assert ((12, None, limit) in read) == (limit >= cost)
            assert ((12, limit, None) in read) == (limit >= cost)
    assert all((30, b, b) in read for b in budgets)


def test_a_shorter_run_or_a_smaller_budget_leaves_longer_runs(tmp_path):
    folder = seed_store.open_folder(tmp_path, {"driver": "x"})

    def go(**options):
        config = settings.Config(seeds=2, **options)
        shape = 2, config.evaluations

        def simulate(label, seeds):
            del label
            one = {
                "budget": lengths.limit_of(config),
                "reachable": 1.0,
                "overhead": 0.1,
            }
            paid = np.arange(shape[1]) < (config.budget or np.inf)
            flat = {"score": 1.0, "row": 0, "cost": paid * 1.0, "asked": paid}
            flat = {n: np.broadcast_to(x, shape) for n, x in flat.items()}
            return flat | {n: np.full(len(seeds), x) for n, x in one.items()}

        adapt = functools.partial(lengths.as_long, config)
        options = {"chunk": 10, "adapt": adapt, "replaces": lengths.is_longer}
        found = seed_store.run_chunks(folder, ["m"], 2, simulate, **options)["m"]
        assert found["score"].shape == shape
        assert (found["budget"] == lengths.limit_of(config)).all()
        saved = sorted((tmp_path / "chunks").iterdir())
        return [np.load(p)["score"].shape[1] for p in saved]

    assert go(evaluations=200) == go(evaluations=20, budget=25.0) == [200]
    assert go(evaluations=20, budget=15.0) == [200, 20]
    assert go(evaluations=200) == go(evaluations=20, budget=15.0) == [200, 20]
    assert go(evaluations=30, budget=15.0) == [200, 30]
    assert go(evaluations=300) == [300, 30]
    assert go(evaluations=400, budget=15.0) == go(evaluations=300) == [300, 400]


@pytest.mark.parametrize(("most", "fits"), [(4, True), (3, False)])
def test_a_matrix_of_distances_is_of_so_many_cells_at_most(monkeypatch, most, fits):
    monkeypatch.setattr(methods.distance_matrices, "MAX_KINDS", most)
    space, archs = base.product("toy", (4,)), np.arange(4)[:, None]
    method = methods._from_matrix(cast(Any, lambda *_, **terms: terms["init"]))
    if fits:
        assert method(space, archs, methods.Terms(4, init=2)) == 2
    else:
        with pytest.raises(ValueError, match="of all 4 cells .* wanted at most 3"):
            method(space, archs, methods.Terms(4, init=2))


def test_two_random_evaluations_are_enough_for_a_pool_of_two():
    space, archs = base.product("toy", (2,)), np.array([[0], [1]])
    assert methods.require_candidates(space, archs, methods.Terms(2, init=2)) == 2
    for init in (1, 3):
        terms = methods.Terms(2, init=init)
        with pytest.raises(ValueError, match=f"between 2 and 2, .*, not {init}"):
            methods.require_candidates(space, archs, terms)


def test_figures_of_the_pages_were_measured_with_these_defaults():
    assert settings.Config().evaluations == 200
    assert inspect.signature(local_search).parameters["init"].default == 20
    assert inspect.signature(reference_search.evolution).parameters[
        "epsilon"
    ].default == pytest.approx(0.25)


def colour_columns(image, index):
    """Where (width,) pixels of a colour are, on the left and on the right."""
    colour = matplotlib.colors.to_rgb(figures.COLOURS[index])
    near = (np.abs(image[..., :3] - colour).max(-1) < 0.02).any(0)
    return near[: len(near) // 2], near[len(near) // 2 :]


def draw(path, **options):
    rng = np.random.default_rng(0)
    cost = rng.uniform(1, 9, (5, 40))
    budgets = metrics.cost_grid(cost, 50)
    score = rng.uniform(80, 95, (2, 5, 40))
    summaries = {
        f"{name}-x4": summary.summarise(s, s, s, 95.5, cost=cost, budgets=budgets)
        for name, s in zip("ab", score, strict=True)
    }
    figures.search_curves(
        path,
        {name: s.reported for name, s in summaries.items()},
        {name: s.regret for name, s in summaries.items()},
        title="title",
        reported_label="left",
        regret_label="right",
        budgets=budgets,
        budget_label="training seconds",
        **options,
    )
    return matplotlib.image.imread(path)


def test_a_figure_by_cost_shows_every_method(tmp_path):
    image = draw(tmp_path / "cost.png")
    assert image.shape[1] == 960
    assert (image[:, [0, -1], :3] == 1).all()  # nothing is cut off
    for index in (0, 1):
        assert all(side.sum() > 200 for side in colour_columns(image, index))
    # In batches methods have a colour each, and the axis is still the cost.
    again = draw(tmp_path / "batch.png", batch={"a-x4": 4, "b-x4": 4})
    assert np.array_equal(image, again)


def test_an_axis_of_cost_begins_at_the_first_value(tmp_path):
    curve = np.array([9.0, 5, 2, 1, 0.5]), np.full(5, 0.1)
    late = tuple(np.concatenate([[NAN, NAN], c]) for c in curve)
    labels = {"title": "", "reported_label": "", "regret_label": ""}
    for name, c, budgets in (
        ("a", curve, BUDGETS),
        ("b", late, np.concatenate([[0.1, 0.5], BUDGETS])),
    ):
        figures.search_curves(
            tmp_path / f"{name}.png", {"m": c}, {"m": c}, budgets=budgets, **labels
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_curves_that_do_not_fit_the_budgets_are_refused(tmp_path):
    curve = {"a": (np.ones(4), np.ones(4))}
    labels = {"title": "", "reported_label": "", "regret_label": ""}
    for budgets in (BUDGETS, np.arange(4.0)):
        with pytest.raises(ValueError, match="wanted a positive budget for each value"):
            figures.search_curves(
                tmp_path / "a.png", curve, curve, budgets=budgets, **labels
            )


def test_methods_that_never_succeed_are_drawn_as_nothing(tmp_path):
    curve = {"a": (np.full(20, NAN), np.full(20, NAN))}
    labels = {"title": "", "reported_label": "", "regret_label": ""}
    figures.search_curves(tmp_path / "a.png", curve, curve, **labels)
    assert (tmp_path / "a.png").exists()


def test_a_regret_that_falls_to_zero_ends_in_a_dot():
    axis = Figure().subplots()
    for mean in ([3.0, 2, NAN, NAN], [3.0, 2, 1, 0.5], [NAN] * 4, [NAN, 2, 1, 1]):
        figures._mark_end(axis, None, np.array(mean), "k")
    figures._mark_end(axis, BUDGETS, np.array([3.0, 2, 1, NAN, NAN]), "k")
    dots = [tuple(float(d[0]) for d in line.get_data()) for line in axis.lines]
    assert dots == [(2, 2), (BUDGETS[2], 1)]


def test_a_method_keeps_its_colour_when_others_are_added():
    few = figures.line_styles(["a", "c"], index={"a": 0, "c": 8})
    more = figures.line_styles(["a", "b", "c"], index={"a": 0, "b": 3, "c": 8})
    assert few == {name: more[name] for name in few}
    labels = {f"{m}-x{k}": (i, k) for i, m in ((0, "a"), (7, "b")) for k in (1, 5)}
    index, batch = ({n: v[j] for n, v in labels.items()} for j in (0, 1))
    styles = figures.line_styles(list(labels), batch, index)
    assert len({tuple(s.values()) for s in styles.values()}) == 4
    assert styles["a-x1"]["color"] == styles["a-x5"]["color"]


def test_every_method_of_a_comparison_has_its_own_line():
    for known in (methods.METHODS, fidelity_methods.names()):
        order = methods.positions([*known, "new", "other"], known)
        index = {label: number for label, (number, _) in order.items()}
        assert list(index.values()) == list(range(len(known) + 2))
        styles = figures.line_styles(list(index), index=index)
        assert len(set(map(str, styles.values()))) == len(known) + 2
    sizes = methods.positions(["kdpp-x8", "kdpp-x4", "mine-x4"], methods.BATCH_METHODS)
    (kdpp, eight), four, mine = sizes.values()
    assert (kdpp, eight, four) == (4, 8, (4, 4))
    assert mine == (len(methods.BATCH_METHODS), 4)


def test_minor_ticks_of_a_cost_axis_are_plain_and_apart():
    axis = Figure().subplots()
    axes.log_axis(axis, "epochs", 1000, 10_000)
    labels = [axis.xaxis.get_minor_formatter()(x, 0) for x in range(2000, 10_000, 1000)]
    assert [label for label in labels if label] == ["2000", "5000"]
    major = axis.xaxis.get_major_formatter()
    assert [major(x, 0) for x in (1, 1000, 10_000, 1e6)] == [
        "1",
        "1000",
        "10k",
        "1e+06",
    ]
