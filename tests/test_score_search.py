"""Searches on scores against a list-and-loop replay of the published algorithm."""

import csv
import dataclasses
import functools

import jax
import numpy as np
import pytest

from experiments import zero_cost_search
from experiments.zero_cost import reference_search
from jaxnas.benchmarks import named, table_files
from jaxnas.spaces import base, nasbench101, nasbench201

SPACE = base.product("small", (3, 2, 4))
ARCHS = base.every(SPACE)


@pytest.fixture(scope="module")
def small():
    """A table of 24 vectors in some order, with ties and scores that are not positive."""
    rng = np.random.default_rng(0)
    archs = rng.permutation(ARCHS)
    score = rng.integers(-2, 6, 24) * 1e40
    score[3], score[4] = -np.inf, np.nan
    return archs, score, rng.uniform(1, 2, 24).astype(np.float32)


@pytest.fixture(scope="module")
def table(small):
    return reference_search.fitness_landscape(SPACE, *small)


def test_mutants_are_in_the_order_of_positions_and_choices(small, table):
    archs = small[0]
    for row, near in enumerate(np.asarray(table.near)):
        expected = []
        for position, choices in enumerate(SPACE.choices):
            for choice in range(choices):
                if choice != archs[row][position]:
                    mutant = archs[row].copy()
                    mutant[position] = choice
                    expected.append(mutant.tolist())
        assert archs[near].tolist() == expected


def replay(key, archs, score, seconds, near, settings):
    """The published program, with lists, on the random numbers of ours."""
    visits, population, tournament, warmup, epsilon = settings
    score = np.where(np.isnan(score), -np.inf, score)
    key_first, key_steps = jax.random.split(key)
    first = jax.random.randint(key_first, (max(population, warmup),), 0, len(archs))
    drawn = first = np.asarray(first).tolist()
    if warmup > population:
        first = sorted(first, key=lambda row: score[row], reverse=True)[:population]
    members, history, scored = list(first), list(first), set(drawn)
    charged, looks = sum(seconds[row] for row in drawn), len(drawn)
    for step_key in jax.random.split(key_steps, visits - population):
        keys = jax.random.split(step_key, 3)
        places = jax.random.choice(keys[0], population, (tournament,), replace=False)
        sample = [members[place] for place in sorted(np.asarray(places).tolist())]
        parent = sample[0]
        for member in sample:
            if score[member] >= score[parent]:
                parent = member
        child = near[parent][0]
        for mutant in near[parent]:
            if score[mutant] >= score[child]:
                child = mutant
        looks += len(near[parent])
        scored |= set(near[parent])
        if jax.random.uniform(keys[1]) < epsilon:
            child = near[parent][int(jax.random.randint(keys[2], (), 0, len(near[0])))]
        else:
            charged += sum(seconds[mutant] for mutant in near[parent])
        members = [*members[1:], child]
        history.append(child)
    best, top, incumbents = -1, 0.0, []
    for row in history:
        if score[row] > top:
            best, top = row, score[row]
        incumbents.append(best)
    spent = sum(seconds[row] for row in scored)
    return history, incumbents, charged, looks, len(scored), spent


@pytest.mark.parametrize("settings", [(24, 6, 3, 0, 0.25), (20, 5, 5, 12, 0.5)])
def test_evolution_is_the_published_one(small, table, settings):
    names = ("visits", "population", "tournament", "warmup", "epsilon")
    evolve = functools.partial(
        reference_search.evolution, **dict(zip(names, settings, strict=True))
    )
    keys = jax.random.split(jax.random.key(1), 2)
    runs = jax.jit(jax.vmap(evolve, (0, None)))(keys, table)
    near = np.asarray(table.near).tolist()
    for i, key in enumerate(keys):
        expected = replay(key, *small, near, settings)
        for name, value, wanted in zip(runs._fields, runs, expected, strict=True):
            np.testing.assert_allclose(value[i], wanted, rtol=1e-5, err_msg=name)


def test_random_search_and_its_exact_expectation(small, table):
    _, score, _ = small
    value = np.random.default_rng(2).uniform(0, 100, 24)
    search = functools.partial(reference_search.random_scores, visits=4)
    runs = jax.vmap(search, (0, None))(jax.random.split(jax.random.key(0), 4000), table)
    rows = np.asarray(runs.row)
    np.testing.assert_array_equal(runs.distinct, [len(set(row)) for row in rows])
    found = np.asarray(runs.incumbent)[:, -1]
    known = np.where(np.isnan(score), -np.inf, score)
    none = (known[rows] <= 0).all(1)
    np.testing.assert_array_equal(found == -1, none)
    np.testing.assert_array_equal(known[found][~none], known[rows].max(1)[~none])
    # Scores that are all positive always have an incumbent.
    positive = np.exp(known / 1e40)
    better = reference_search.fitness_landscape(SPACE, small[0], positive, small[2])
    runs = jax.vmap(search, (0, None))(
        jax.random.split(jax.random.key(0), 4000), better
    )
    got = value[np.asarray(runs.incumbent)[:, -1]]
    mean, deviation = reference_search.expected_random(positive, value, 4)
    assert got.std() == pytest.approx(deviation, rel=0.05)
    # -inf is no positive score: rows 3 and 4 count as visited alone.
    assert got.mean() == pytest.approx(mean, abs=5 * deviation / 4000**0.5 + 0.1)
    only = reference_search.expected_random(np.arange(3), np.array([1.0, 2, 4]), 1)
    assert only == pytest.approx((7 / 3, np.std([1, 2, 4])))


def test_sizes_and_tables_that_are_not_right(small, table):
    key, (archs, score, seconds) = jax.random.key(0), small
    for settings, says in (
        ({"visits": 0}, "visits must be at least 1"),
        ({"visits": 10}, "tournament <= population <= visits"),
        ({"tournament": 65}, "tournament <= population <= visits"),
        ({"epsilon": 1.5}, "epsilon must be 0 to 1"),
        ({"warmup": -1}, "warmup from 0"),
    ):
        with pytest.raises(ValueError, match=says):
            reference_search.evolution(key, table, **settings)
    for wrong, says in (
        ((archs, score[:9], seconds), "24 architectures have 9 scores and 24 times"),
        ((archs[:9], score[:9], seconds[:9]), "found 9 rows, 9 of them different"),
        ((archs[[0] * 24], score, seconds), "found 24 rows, 1 of them different"),
    ):
        with pytest.raises(ValueError, match=says):
            reference_search.fitness_landscape(SPACE, *wrong)
    cell = np.zeros((1, len(nasbench101.SPACE.choices)), int)
    with pytest.raises(ValueError, match="once, found 1 rows"):
        reference_search.fitness_landscape(
            nasbench101.SPACE, cell, np.ones(1), np.ones(1)
        )


# --- the driver -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored_table(tmp_path_factory):
    """The embedded table with a made-up score, so that nothing else is needed."""
    analog = named.open_table("analog")
    accuracy = analog.columns["cifar10/test/200"]
    noise = np.random.default_rng(0).normal(0, 5, len(accuracy))
    names = {"score/made_up/cifar10": "accuracy and noise", "cifar10/test/200": "mean"}
    table = table_files.BenchmarkTable(
        *("scored", analog.space, analog.arch),
        {"score/made_up/cifar10": accuracy + noise, "cifar10/test/200": accuracy},
        analog.manifest | {"columns": names},
    )
    path = tmp_path_factory.mktemp("table") / "scored.npz"
    table_files.save(path, table)
    return str(path)


def test_the_driver_on_a_table_file(tmp_path, quick_compilation, scored_table, capsys):
    config = zero_cost_search.Config(
        benchmark=scored_table,
        datasets=("cifar10",),
        scores=("made_up", "live_macs"),
        algorithms=("random", "aging-warmup"),
        run="mean",
        seeds=4,
        visits=70,
        chunk=2,
        out=str(tmp_path / "out"),
    )
    rows = zero_cost_search.main(config)
    assert [(r.score, r.algorithm) for r in rows] == [
        (score, algorithm)
        for score in ("made_up", "live_macs")
        for algorithm in config.algorithms
    ]
    assert all(0 < r.accuracy < 100 and r.runs == 4 for r in rows)
    assert [r.lookups for r in rows[:2]] == [70, 128 + 6 * 24]
    assert np.isnan(rows[0].seconds) and rows[2].seconds == 0
    written = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert float(written[1]["accuracy"]) == pytest.approx(rows[1].accuracy, 1e-6)
    assert "within 3 standard errors" in capsys.readouterr().out
    # What is there is read, and other settings are refused.
    again = zero_cost_search.main(config)
    assert str(again) == str(rows)
    for change, says in (
        ({"visits": 71}, "other settings"),
        ({"visits": 63}, "--visits must be at least 64"),
        ({"scores": ("nwot",)}, "no score nwot: choose from made_up"),
        ({"algorithms": ()}, "no search given"),
        ({"datasets": ("mnist",)}, "no dataset mnist"),
        ({"run": "one"}, "has no column cifar10-one-run/test/200"),
        ({"run": "best"}, "--run must be mean or one"),
    ):
        with pytest.raises(ValueError, match=says):
            zero_cost_search.main(dataclasses.replace(config, **change))


def test_results_are_those_that_are_expected(shared, monkeypatch, tmp_path):
    """One score of the published table; all of it is what the driver prints."""
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    config = zero_cost_search.Config(
        datasets=("cifar10",), scores=("hook_logdet",), out=str(tmp_path)
    )
    rows = zero_cost_search.main(config)
    assert len(rows) == 3
    for row in rows:
        assert abs(row.far) < 3
        assert row.charged == pytest.approx(row.charged_expected, rel=0.01)
        assert not np.isnan(row.published)
    assert [round(r.expected, 2) for r in rows] == [92.89, 92.9, 92.9]
    # Scoring each cell once costs a thirtieth of what is charged.
    assert rows[1].seconds < rows[1].charged / 20
    assert nasbench201.SPACE.size == 15_625
