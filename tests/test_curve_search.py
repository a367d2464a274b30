"""The driver of comparisons in which searches decide how long to train."""

import csv
import dataclasses

import jax
import numpy as np
import pytest

from experiments import curve_search
from experiments.common import curve_figures
from jaxnas.benchmarks import named
from jaxnas.search import loop
from jaxnas.search.common import query_shape
from jaxnas.studies import figures, seed_store
from jaxnas.studies.comparison import fidelity_methods
from jaxnas.types import Query, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = curve_search.Config(
    benchmark="fashion-curves",
    dataset="fashion-mnist",
    epochs=12,
    run="0",
    methods=("evolution+last", "hyperband"),
    seeds=2,
    evaluations=24,
    budget=60.0,
    init=4,
    min_epoch=1,
    few=3,
    at=(24.0, 60.0),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    return out, curve_search.main(dataclasses.replace(SMALL, out=str(out)))


def test_only_complete_trainings_have_a_score_and_all_are_charged(done):
    out, arrays = done
    final = named.open_table("fashion-curves").columns["fashion-mnist/valid/12"][:, 0]
    # The order, and so the colours, are those of all methods of this comparison.
    order = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    assert order == ["hyperband", "evolution+last"]
    for method in SMALL.methods:
        score, row = arrays[f"{method}/score"], arrays[f"{method}/row"]
        complete = ~np.isnan(score)
        assert complete.any()
        np.testing.assert_array_equal(score[complete], final[row[complete]])
        spent = np.nansum(arrays[f"{method}/cost"], 1)
        assert (spent > 0).all() and (spent <= 60).all()
    assert np.isnan(arrays["hyperband/score"][:, 0]).all()
    # An evaluation is a part of a training here: nothing is drawn by their number.
    assert (out / "curves_by_cost.png").exists() and not (out / "curves.png").exists()
    rows = list(csv.DictReader((out / "table_by_cost.csv").open()))
    assert {r["method"] for r in rows} == set(SMALL.methods)
    assert {24.0, 60.0} <= {float(r["cost"]) for r in rows}
    assert min(float(r["regret_mean"]) for r in rows if r["regret_mean"] != "nan") >= 0


def test_a_family_has_a_colour_and_every_method_a_line_of_its_own():
    labels = ("evolution", "evolution+wpm", "hyperband", "bohb", "asha", "optuna-tpe")
    styles = figures.line_styles(list(labels), index=curve_figures.style_index(labels))
    colour = {name: style["color"] for name, style in styles.items()}
    assert colour["evolution"] == colour["evolution+wpm"] != colour["hyperband"]
    assert colour["bohb"] == colour["hyperband"] != colour["asha"]
    names = (*fidelity_methods.names(), "optuna-tpe")
    styles = figures.line_styles(list(names), index=curve_figures.style_index(names))
    assert len({tuple(style.values()) for style in styles.values()}) == len(names)
    # The line of a method does not depend on the others.
    assert (
        curve_figures.style_index(("bohb",))["bohb"]
        == curve_figures.style_index(names)["bohb"]
    )


def test_workers_are_those_of_the_loop(tmp_path):
    few = {"methods": ("random",), "seeds": 1, "workers": 3, "evaluations": 12}
    config = dataclasses.replace(SMALL, **few, out=str(tmp_path))
    row = curve_search.main(config)["random/row"]
    table = curve_search.open_levels(config)
    terms = curve_search.make_terms(config, table)
    given = table.benchmark.space, np.asarray(table.benchmark.archs), terms
    search = fidelity_methods.make("random", *given)
    keys = seed_store.seed_keys(config.base_seed, np.arange(1))
    limits = {"budget": config.budget, "workers": 3}
    query = loop.simulate(keys, search, table.benchmark, 12, **limits).query
    wanted = table.rows(query.arch)[np.asarray(asked(query))]
    np.testing.assert_array_equal(row[row >= 0], wanted)


def test_paper_is_the_twelve_methods_of_the_paper():
    names = fidelity_methods.expand(("paper", "gp"))
    assert len({*names}) == 13 and names[-1] == "gp" and "bananas+svr" in names
    fidelity_methods.validate_names(names)


def test_all_names_make_a_search():
    table = curve_search.opened.open_table(SMALL, curves=True)
    terms = curve_search.make_terms(SMALL, table)
    assert terms.levels == (1, 4, 12)
    archs = np.asarray(table.benchmark.archs)
    # A Gaussian process embeds all cells first, which takes a while.
    plain = [n for n in fidelity_methods.names() if "gp" not in n and "+" not in n]
    for name in (*plain, *(f"local+{c}" for c in fidelity_methods.EXTRAPOLATORS)):
        several = terms._replace(batch=2)
        search = fidelity_methods.make(name, table.benchmark.space, archs, several)
        assert query_shape(search) == (2, 6)


@pytest.mark.parametrize("curve", ["ridge", "svr", "wpm"])
def test_searches_with_each_extrapolator_stop_and_complete_trainings(curve, tmp_path):
    name = f"random+{curve}"
    options = {"methods": (name,), "evaluations": 12, "out": str(tmp_path)}
    arrays = curve_search.main(dataclasses.replace(SMALL, **options))
    # The first 4 are complete in any case; of 8 further parts some are of 3 epochs alone.
    complete = ~np.isnan(arrays[f"{name}/score"])
    assert complete[:, :4].all() and (complete.sum(1) < 12).all()
    cost = arrays[f"{name}/cost"]
    assert (cost[complete] > 0).all() and np.nanmin(cost) < cost[complete].max() / 2


def test_an_extrapolator_is_made_once(monkeypatch):
    # A new one would be a new program.
    calls = []
    record = lambda search, *args, **options: calls.append((args[0], options))  # noqa: E731
    monkeypatch.setattr(fidelity_methods, "curve_aware", record)
    table = curve_search.opened.open_table(SMALL, curves=True)
    terms = curve_search.make_terms(SMALL, table)
    for curve in fidelity_methods.EXTRAPOLATORS:
        for plain in ("random", "evolution"):
            name = f"{plain}+{curve}"
            fidelity_methods.make(name, table.benchmark.space, None, terms)
        (first, options), (second, others) = calls[-2:]
        assert first is second and options["features"] is others["features"]
        assert first.min_epochs == (1 if curve == "last" else SMALL.few)
        # Predictions that are shrunk exceed a threshold too rarely.
        assert (options["confidence"] < 0.5) == (curve in ("ridge", "svr"))
    archs = table.benchmark.archs
    fidelity_methods.make("gp+last", table.benchmark.space, archs, terms)
    # All that a model proposes is near the threshold.
    assert calls.pop()[1]["confidence"] < 0.5
    # The target is counted in values of a whole curve, not of its beginning.
    assert calls[-1][0].target == SMALL.epochs


def test_families_of_curves_need_a_value_after_every_epoch():
    table = curve_search.opened.open_table(SMALL, curves=True)
    terms = curve_search.make_terms(SMALL, table)._replace(points=(1, 3, 12))
    with pytest.raises(
        ValueError, match="wanted curves with a value after every epoch"
    ):
        fidelity_methods.make("random+wpm", table.benchmark.space, None, terms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("halving", "x+last")}, "no method x.last: choose from random"),
        ({"methods": ("random", "random")}, "method random is given twice"),
        ({"min_epoch": 0}, "--min-epoch must be at least 1"),
        (
            {"min_epoch": 13},
            "--min-epoch must be at most the last epoch, 12, not 13",
        ),
        (
            {"min_epoch": 4, "max_epoch": 3},
            "--min-epoch must be at most --max-epoch, 3, not 4",
        ),
        ({"eta": 1}, "--eta must be at least 2, not 1"),
        ({"few": 12}, "--few must be below the last epoch, 12, not 12"),
        ({"few": 0, "methods": ("random",)}, "--few must be at least 1"),
        ({"quantile": float("nan")}, "--quantile must be 0 to 1, not nan"),
        (
            {"budget": 0.5, "at": ()},
            "pays for no complete training: the cheapest costs",
        ),
        (
            {"few": 2, "methods": ("random+wpm",)},
            "wanted a decision after more epochs",
        ),
        ({"target": 9, "methods": ("random",)}, "--methods has none"),
        ({"target": 2}, "--target must be from --few = 3 to the last epoch, 12, not 2"),
        (
            {"target": 13},
            "--target must be from --few = 3 to the last epoch, 12, not 13",
        ),
        (
            {"budget": 3.0, "at": ()},
            "smaller than one bracket of 2. epochs, which costs",
        ),
        ({"budget": -1.0}, "--budget must be above 0"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"batch": 2, "workers": 2}, "--batch must be 1 with --workers 2, not 2"),
        (
            {"workers": 2, "peers": ("optuna-tpe",)},
            "--peers run one training at a time",
        ),
        ({"at": (0.0,)}, "--at must be costs above 0"),
        ({"at": (24.0, 61.0)}, "--at must be at most --budget = 60"),
        ({"low_dataset": "svhn"}, "--low-dataset is of --low-epochs"),
        ({"low_epochs": 4}, "hyperband, random.last: with --low-epochs the levels are"),
        ({"low_epochs": 12, "methods": ("random",)}, "below --epochs 12, not 12"),
        ({"low_epochs": 4, "methods": ("random",)}, "no number of epochs 4; it has 12"),
    ],
)
def test_bad_settings_are_refused(options, message, tmp_path):
    options = {"methods": ("hyperband", "random+last"), "out": str(tmp_path)} | options
    with pytest.raises(ValueError, match=message):
        curve_search.main(dataclasses.replace(SMALL, **options))


def test_parts_of_trainings_may_outnumber_the_architectures():
    config = dataclasses.replace(SMALL, evaluations=2584)
    archs = curve_search.open_levels(config).benchmark.archs
    assert len(archs) < config.evaluations
    with pytest.raises(ValueError, match="--evaluations must be at most the 2583"):
        curve_search.opened.open_table(config)


def test_a_budget_below_one_bracket_is_refused(shared):
    config = curve_search.Config(budget=200.0, seeds=1)
    with pytest.raises(ValueError, match="smaller than one bracket of .* epochs"):
        curve_search.main(config)


def test_separate_trainings_are_levels(shared):
    config = curve_search.Config(
        benchmark="nb201", dataset="cifar10-valid", low_dataset="cifar10", low_epochs=12
    )
    config = dataclasses.replace(config, methods=("random", "gp-two-levels"))
    opened = curve_search.open_levels(config)
    levels, columns = opened.benchmark.levels, named.open_table("nb201").columns
    assert [(level.epoch, level.continues) for level in levels] == [
        (12, False),
        (200, False),
    ]
    assert not curve_search.make_terms(config, opened).continues
    query = Query(
        opened.benchmark.archs[[5, 5]], np.array([12, 200]), np.zeros(2, np.int32)
    )
    result = opened.benchmark.evaluate(jax.random.key(0), query)
    names = "cifar10/valid/12", "cifar10-valid/valid/200"
    np.testing.assert_array_equal(result.score, [columns[n][5] for n in names])
    np.testing.assert_array_equal(result.cost, [12, 200])
    np.testing.assert_array_equal(opened.truth, columns[names[1]])
