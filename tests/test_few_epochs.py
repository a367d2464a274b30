"""The driver of searches that extrapolate curves after different numbers of epochs."""

import csv

import pytest

from experiments import curve_search, few_epochs

pytestmark = pytest.mark.usefixtures("quick_compilation")


def small(out, **options):
    return few_epochs.Config(
        benchmark="fashion-curves",
        dataset="fashion-mnist",
        epochs=12,
        run="0",
        methods=options.pop("methods", ("random", "random+last")),
        seeds=2,
        evaluations=8,
        init=2,
        min_epoch=1,
        out=str(out),
        **{"fews": (2, 4), "budget": 30.0} | options,
    )


def test_rows_are_those_of_each_comparison(tmp_path):
    rows = few_epochs.main(small(tmp_path, budget=60.0))
    assert [(r.method, r.few) for r in rows] == [
        ("random", 2), ("random+last", 2), ("random+last", 4)
    ]  # fmt: skip
    table = list(csv.DictReader((tmp_path / "few-4/table_by_cost.csv").open()))
    assert {row["method"] for row in table} == {"random+last"}
    assert float(table[-1]["regret_mean"]) == rows[2].mean
    # All runs end after 8 evaluations, before the budget: one cost for all.
    assert {row.cost for row in rows} == {60.0}
    lines = list(csv.reader((tmp_path / "few_epochs.csv").open()))
    assert lines[0] == list(few_epochs.HEADER) and len(lines) == 1 + len(rows)
    assert (tmp_path / "few_epochs.png").stat().st_size > 1000


def test_plain_methods_run_once():
    config = small("x", methods=("random", "local"), fews=(3, 2))
    (part,) = few_epochs._parts(config)
    assert type(part) is curve_search.Config
    assert (part.few, part.out, part.methods) == (3, "x/few-3", ("random", "local"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fews": ()}, "--fews must be different numbers"),
        ({"fews": (2, 2)}, "--fews must be different numbers"),
        ({"budget": None}, "wanted a --budget"),
        ({"fews": (2, 13)}, "--few must be below the last epoch, 12, not 13"),
        ({"methods": ()}, "no method given"),
        ({"budget": 0.0}, "--budget must be above 0"),
    ],
)
def test_bad_settings_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        few_epochs.main(small(tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()
