"""The driver of comparisons in which searches decide how long to train."""

import csv
import dataclasses

import numpy as np
import pytest

from experiments import curve_search
from jaxnas.benchmarks import named
from jaxnas.studies.comparison import fidelity_methods

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
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    return out, curve_search.main(dataclasses.replace(SMALL, out=str(out)))


def test_only_complete_trainings_have_a_score_and_all_are_charged(done):
    out, arrays = done
    final = named.open_table("fashion-curves").columns["fashion-mnist/valid/12"][:, 0]
    for method in SMALL.methods:
        score, row = arrays[f"{method}/score"], arrays[f"{method}/row"]
        complete = ~np.isnan(score)
        assert complete.any()
        np.testing.assert_array_equal(score[complete], final[row[complete]])
        spent = np.nansum(arrays[f"{method}/cost"], 1)
        assert (spent > 0).all() and (spent <= 60).all()
    assert np.isnan(arrays["hyperband/score"][:, 0]).all()
    rows = list(csv.DictReader((out / "table_by_cost.csv").open()))
    assert {r["method"] for r in rows} == set(SMALL.methods)
    assert min(float(r["regret_mean"]) for r in rows if r["regret_mean"] != "nan") >= 0


def test_all_names_make_a_search():
    table = curve_search.opened.open_table(SMALL, curves=True)
    terms = curve_search.make_terms(SMALL, table)
    assert terms.levels == (1, 4, 12)
    archs = np.asarray(table.benchmark.archs)
    # A Gaussian process embeds all cells first, which takes a while.
    for name in (n for n in fidelity_methods.names() if "gp" not in n):
        search = fidelity_methods.make(name, table.benchmark.space, archs, terms)
        assert search.space is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("halving", "x+last")}, "no method x.last: choose from random"),
        ({"methods": ("random", "random")}, "random more than once"),
        ({"min_epoch": 0}, "min_epoch must be at least 1"),
        ({"eta": 1}, "eta must be a number above 1"),
        ({"few": 13}, "epochs = 13 is none of the levels"),
        ({"target": 2}, "target must be at least epochs = 3"),
        ({"budget": -1.0}, "--budget must be above 0"),
    ],
)
def test_bad_settings_are_refused(options, message, tmp_path):
    options = {"methods": ("hyperband", "random+last"), "out": str(tmp_path)} | options
    with pytest.raises(ValueError, match=message):
        curve_search.main(dataclasses.replace(SMALL, **options))


def test_a_budget_below_one_bracket_is_refused(shared):
    config = curve_search.Config(budget=100.0, seeds=1)
    with pytest.raises(ValueError, match="smaller than one bracket of .* epochs"):
        curve_search.main(config)
