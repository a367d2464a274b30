"""Tables with learning curves, with other targets, and of parts of large spaces."""

import ast
import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import base as benchmarks
from jaxnas.benchmarks import named, table_files, tabular
from jaxnas.kernels import feature_maps
from jaxnas.predictors.pool import make_pool
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.loop import simulate
from jaxnas.search.random import random_search
from jaxnas.spaces import base, moves, nasbench201
from jaxnas.types import FULL_TRAINING, Query

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3, 2, 4))
ARCHS = base.every(SPACE)
POINTS = (0, 1, 4, 6, 10)
FED = {"dataset": "letters", "split": "valid", "epochs": 10}
CALL = jax.jit(lambda evaluate, key, query: evaluate(key, query))


def make_table(**manifest):
    """Curves of two or three seeds at points of which the first is before training."""
    rng = np.random.default_rng(0)
    curve = rng.uniform(0, 100, (24, 3, 5)).astype(np.float32)
    curve[::2, 2] = np.nan
    time = {s: rng.uniform(1, 5, (24, 3, 5)).astype(np.float32) for s in ("t", "v")}
    columns = {
        "letters/valid/10": np.nanmax(curve, (1, 2)),
        "letters/test/10": rng.uniform(0, 100, 24).astype(np.float32),
        "curve/letters/valid/10": curve,
        "time/letters/train/10": time["t"],
        "time/letters/valid/10": time["v"],
        "time/letters/test/10": np.full((24, 3, 1), 1e6, np.float32),
        "seconds/letters/10": rng.uniform(50, 60, 24).astype(np.float32),
    }
    described = {"source": "", "sha256": "", "points": {"10": POINTS}} | manifest
    return with_columns("toy-table", ARCHS.astype(np.int8), columns, described)


def with_columns(name, arch, columns, manifest):
    described = manifest | {"columns": dict.fromkeys(columns, "drawn")}
    return table_files.validate_table(
        table_files.BenchmarkTable(name, "toy", arch, columns, described)
    )


def without(table, *names):
    left = {n: c for n, c in table.columns.items() if n not in names}
    return with_columns(table.name, table.arch, left, table.manifest)


def query_of(archs, epoch=FULL_TRAINING, start=0, seed=0):
    archs = jnp.asarray(archs, jnp.int32)
    full = functools.partial(jnp.full, len(archs), dtype=jnp.int32)
    return Query(archs, *(full(fill_value=x) for x in (epoch, start, seed)))


def spent(table, split=("train", "valid")):
    """The seconds (n, s, 4) up to each point after the first, by hand."""
    total = np.zeros((24, 3, 4))
    for i, (before, after) in enumerate(zip(POINTS, POINTS[1:], strict=False)):
        each = sum(table.columns[f"time/letters/{s}/10"][:, :, i + 1] for s in split)
        total[:, :, i:] += (each * (after - before))[:, :, None]
    return total


def test_curves_and_seconds_are_those_of_one_run():
    table = make_table()
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed="random", curves=True)
    assert [level.epoch for level in made.levels] == [1, 4, 6, 10]
    assert [level.continues for level in made.levels] == [False, True, True, True]
    assert (made.epochs, made.cost_unit) == (10, "seconds")
    curve, seconds = table.columns["curve/letters/valid/10"][:, :, 1:], spent(table)
    rows, seen = np.arange(24), set()
    for number in range(6):
        key = jax.random.key(number)
        whole = CALL(made.evaluate, key, query_of(ARCHS))
        match = (curve == np.asarray(whole.curve)[:, None]).all(-1)
        assert (match.sum(1) == 1).all()
        run = match.argmax(1)
        seen |= set(run[1::2].tolist()) | {f"{r}" for r in run[::2]}
        np.testing.assert_allclose(whole.cost, seconds[rows, run, -1], 1e-5)
        # Continued, it is the same run, and the costs add up.
        parts = [(0, 4), (4, 5), (5, 7), (7, 10)]
        asked = [CALL(made.evaluate, key, query_of(ARCHS, e, s)) for s, e in parts]
        for part, last in zip(asked, (1, 1, 2, 3), strict=True):
            np.testing.assert_array_equal(part.score, curve[rows, run, last])
            assert np.isnan(part.curve[:, last + 1 :]).all()
        np.testing.assert_allclose(sum(p.cost for p in asked), whole.cost, 1e-5)
        # Between points the seconds are interpolated: epoch 5 is half of the way.
        half = (seconds[rows, run, 2] - seconds[rows, run, 1]) / 2
        np.testing.assert_allclose(asked[1].cost, half, 1e-4)
    assert seen == {0, 1, 2, "0", "1"}  # the others have two runs


def test_repetitions_are_different_runs():
    made = tabular.tabular_benchmark(
        SPACE, make_table(), **FED, seed="random", curves=True
    )
    asked = [
        CALL(made.evaluate, jax.random.key(0), query_of(ARCHS, seed=s)).score
        for s in range(4)
    ]
    scores = np.stack(asked, 1)
    three, two = scores[1::2], scores[::2]
    assert all(len(set(row[:3])) == 3 for row in three.tolist())
    np.testing.assert_array_equal(three[:, 3], three[:, 0])
    assert (two[:, 0] != two[:, 1]).all() and (two[:, :2] == two[:, 2:]).all()


def test_one_seed_and_the_mean_of_all():
    table = make_table()
    curve, seconds = table.columns["curve/letters/valid/10"][:, :, 1:], spent(table)
    run = ~np.isnan(curve[:, :, :1])
    key = jax.random.key(0)
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed="mean", curves=True)
    result = CALL(made.evaluate, key, query_of(ARCHS, 6))
    np.testing.assert_allclose(result.curve[:, :3], np.nanmean(curve, 1)[:, :3], 1e-5)
    mean = np.sum(seconds, 1, where=run) / run.sum(1)
    np.testing.assert_allclose(result.cost, mean[:, 2], 1e-5)
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed=1, curves=True)
    result = CALL(made.evaluate, key, query_of(ARCHS, seed=5))
    np.testing.assert_array_equal(result.curve, curve[:, 1])
    np.testing.assert_allclose(result.cost, seconds[:, 1, -1], 1e-5)
    with pytest.raises(ValueError, match="no seed 2 for 12 of 24 architectures"):
        tabular.tabular_benchmark(SPACE, table, **FED, seed=2, curves=True)


def test_seconds_that_are_sums_already():
    """As NAS-Bench-101 has them, which the seconds by epoch would contradict."""
    table, rng = make_table(), np.random.default_rng(1)
    elapsed = np.cumsum(rng.uniform(1, 2, (24, 3, 5)), 2).astype(np.float32)
    columns = table.columns | {"elapsed/letters/train/10": elapsed}
    table = with_columns("a", table.arch, columns, table.manifest)
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed=1, curves=True)
    result = CALL(made.evaluate, jax.random.key(0), query_of(ARCHS, 6, 4))
    wanted = elapsed[:, 1, 3] - elapsed[:, 1, 2]
    np.testing.assert_allclose(result.cost, wanted, 1e-5)


def test_costs_without_seconds_by_epoch():
    times = [f"time/letters/{split}/10" for split in ("train", "valid", "test")]
    table = without(make_table(), *times)
    key = jax.random.key(0)

    def cost(table):
        made = tabular.tabular_benchmark(
            SPACE, table, **FED, seed="random", curves=True
        )
        return made.cost_unit, CALL(made.evaluate, key, query_of(ARCHS, 7, 1)).cost

    unit, costs = cost(table)
    assert unit == "seconds"
    shares = table.columns["seconds/letters/10"] * 6 / 10
    np.testing.assert_allclose(costs, shares, 1e-5)
    unit, costs = cost(without(table, "seconds/letters/10"))
    assert unit == "epochs"
    np.testing.assert_allclose(costs, 6)


def test_what_failed_is_charged_and_what_is_not_known_is_free():
    table = make_table()
    curve = table.columns["curve/letters/valid/10"]
    curve[0, :, 3:] = np.nan  # diverged after epoch 4
    curve[1] = np.nan  # was not trained
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed="random", curves=True)
    result = CALL(made.evaluate, jax.random.key(0), query_of(ARCHS, 6))
    assert np.isnan(result.score[:2]).all()
    assert result.cost[0] > 0 and result.cost[1] == 0


def test_the_fashion_table_is_searched_by_its_epochs():
    """Epochs 1 to 3 of the only schedule came back NaN, and cost something."""
    table = named.open_table("fashion")
    fed = dict(dataset="fashion", split="valid", epochs=4, seed="random")
    fed["dataset"] = next(iter(table_files.accuracies(table)))[0]
    key, archs = jax.random.key(0), table.arch[:5]
    made = tabular.tabular_benchmark(nasbench201.SPACE, table, **fed)
    nothing = CALL(made.evaluate, key, query_of(archs, 3))
    assert np.isnan(nothing.score).all() and (nothing.cost == 0).all()
    curves = tabular.tabular_benchmark(nasbench201.SPACE, table, **fed, curves=True)
    assert [level.epoch for level in curves.levels] == [1, 2, 3, 4]
    early = CALL(curves.evaluate, key, query_of(archs, 3))
    assert not np.isnan(early.score).any() and (early.cost > 0).all()
    ends = [CALL(m.evaluate, key, query_of(archs)) for m in (made, curves)]
    np.testing.assert_array_equal(ends[0].score, ends[1].score)
    assert made.space.size == len(table.arch) and curves.optimum == made.optimum


def test_curves_that_are_not_there(tmp_path):
    def refused(table, **change):
        with pytest.raises(ValueError) as caught:
            fed = FED | {"seed": "random", "curves": True} | change
            tabular.tabular_benchmark(SPACE, table, **fed)
        return str(caught.value)

    table = make_table()
    path = tmp_path / "table.npz"
    table_files.save(path, table)
    light = named.open_table(path)
    assert "toy-table curve has no dataset 'letters'; it has none" in refused(light)
    whole = named.open_table(path, curves=None)
    tabular.tabular_benchmark(SPACE, whole, **FED, seed="random", curves=True)
    assert "curve/letters has no split 'test'" in refused(table, split="test")
    for points in (None, [1, 2], [0, 1, 1, 2, 3], [0, 1, 2, 3, 11], "abcde"):
        text = refused(make_table(points={"10": points}))
        assert "wanted in the manifest's points of 10 epochs 5 ascending" in text
    broken = make_table()
    broken.columns["time/letters/train/10"][3, 1, 2] = np.nan
    assert "1 runs have a curve, and seconds that are NaN" in refused(broken)


# --- targets ---------------------------------------------------------------------------


LOSS = {"name": "loss", "unit": "nats", "direction": "minimise"}


def loss_table(**manifest):
    table = make_table(targets={"letters": LOSS}, **manifest)
    shift = {n: c - 50 for n, c in table.columns.items() if "time" not in n}
    columns = table.columns | {n: c for n, c in shift.items() if "sec" not in n}
    return with_columns(table.name, table.arch, columns, table.manifest)


def test_a_target_to_minimise_is_negated_at_the_door(tmp_path):
    table = loss_table()
    table_files.save(tmp_path / "table.npz", table)
    table = named.open_table(tmp_path / "table.npz", curves=None)
    truth = {"split": "test"}
    made = tabular.tabular_benchmark(
        SPACE, table, **FED, seed=0, curves=True, truth=truth
    )
    assert made.target == ("loss", "nats", "minimise")
    result = CALL(made.evaluate, jax.random.key(0), query_of(ARCHS))
    losses = table.columns["curve/letters/valid/10"][:, 0, -1]
    np.testing.assert_array_equal(result.score, -losses)
    np.testing.assert_array_equal(
        benchmarks.as_value(made.target, result.score), losses
    )
    np.testing.assert_array_equal(result.curve[:, -1], -losses)
    true = benchmarks.true_scores(made, ARCHS.reshape(4, 6, 3))
    test = table.columns["letters/test/10"]
    np.testing.assert_array_equal(true, -test.reshape(4, 6))
    assert made.optimum == -test.min()
    unknown = benchmarks.true_scores(made, [[3, 0, 0]])
    assert np.isnan(unknown).all()


def test_columns_are_checked_by_their_target():
    with pytest.raises(ValueError, match="wanted percentages from 0 to 100"):
        table = loss_table()
        with_columns("a", table.arch, table.columns, {"source": "", "sha256": ""})
    for name, what in (
        ("letters/test/10", "letters/t"),
        ("curve/letters/valid/10", "c"),
    ):
        table = loss_table()
        table.columns[name][3] = np.inf
        with pytest.raises(
            ValueError, match=f"{what}.*wanted finite numbers .loss, na"
        ):
            table_files.validate_table(table)
    for targets, message in (
        ([], "as a dict"),
        (
            {"letters": {"unit": "nats"}},
            "letters in the manifest must say direction, n",
        ),
        (
            {"letters": LOSS | {"direction": "down"}},
            "must be maximise or minimise, not",
        ),
        ({"letters": LOSS | {"unit": ""}}, "needs a unit, found ''"),
        ({"lettres": LOSS}, "has a target of lettres, but no such dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            make_table(targets=targets)


def test_the_truth_is_a_mean_unless_a_seed_is_named():
    rng = np.random.default_rng(3)
    table = make_table()
    runs = rng.uniform(0, 100, (24, 3)).astype(np.float32)
    columns = table.columns | {"letters/test/20": runs}
    table = with_columns("a", table.arch, columns, table.manifest)
    for seed, wanted in (({}, runs.mean(1)), ({"seed": 2}, runs[:, 2])):
        truth = {"split": "test", "epochs": 20} | seed
        made = tabular.tabular_benchmark(
            SPACE, table, **FED, seed="random", curves=True, truth=truth
        )
        np.testing.assert_allclose(benchmarks.true_scores(made, ARCHS), wanted, 1e-6)
    made = tabular.tabular_benchmark(SPACE, table, **FED, seed="random", curves=True)
    curve = table.columns["curve/letters/valid/10"][:, :, -1]
    true = benchmarks.true_scores(made, ARCHS)
    np.testing.assert_allclose(true, np.nanmean(curve, 1), 1e-6)


def test_a_truth_of_another_target_is_refused():
    table = make_table()
    columns = table.columns | {"loss/valid/10": table.columns["letters/valid/10"]}
    changed = table.manifest | {"targets": {"loss": LOSS}}
    table = with_columns("a", table.arch, columns, changed)
    with pytest.raises(ValueError, match="the truth of a is loss, of another target"):
        truth = {"dataset": "loss"}
        tabular.tabular_benchmark(SPACE, table, **FED, seed=0, curves=True, truth=truth)


# --- a part of a space of 2^75 vectors ---------------------------------------------------


OPERATIONS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
DARTS = base.product("darts-edges", 2 * sum(([8, i] * 2 for i in range(2, 6)), []))


def darts_table(path, num):
    """Genotypes as the operation and the input of each of their 16 edges."""
    with open(path) as file:
        rows = list(csv.DictReader(file))
    vectors = []
    for row in rows:
        call = ast.parse(row["genotype"], mode="eval").body
        cells = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        edges = [*cells["normal"], *cells["reduce"]]
        vectors.append([x for op, i in edges for x in (OPERATIONS.index(op), i)])
    arch, first = np.unique(np.array(vectors, np.int8), axis=0, return_index=True)
    accuracy = np.array([float(row["acc"]) for row in rows], np.float32)[first]
    columns = {"cifar10/valid/1": accuracy[:num]}
    manifest = {"source": "SWAP", "sha256": "", "part": True}
    manifest["columns"] = dict.fromkeys(columns, "short trainings")
    return table_files.validate_table(
        table_files.BenchmarkTable("swap", DARTS.name, arch[:num], columns, manifest)
    )


def test_searches_of_a_part_of_a_large_space(shared):
    assert base.num_vectors(DARTS) > 2**64
    table = darts_table(shared / "data/darts_swap_1000_cifar10.csv", 1000)
    assert len(table.arch) > 990
    fed = dict(dataset="cifar10", split="valid", epochs=1, seed="mean")
    made = tabular.tabular_benchmark(DARTS, table, **fed)
    assert made.space.size == len(table.arch)
    pool = make_pool(
        made.space, [feature_maps.hamming_features(made.space)], arch=made.archs
    )
    searches = {
        "random": random_search(made.space, batch=2),
        "evolution": regularized_evolution(made.space, population=5, tournament=3),
        "gp": bayesopt(pool, init=4, capacity=12),
    }
    keys = jax.random.split(jax.random.key(0), 2)
    for name, search in searches.items():
        trace = simulate(keys, search, made.evaluate, 12)
        assert np.isfinite(trace.score).all(), name
        true = benchmarks.true_scores(made, trace.query.arch)
        np.testing.assert_array_equal(trace.score, true)
        assert (true <= made.optimum).all()
    other = np.asarray(jax.vmap(lambda k: moves.sample(k, DARTS))(keys))
    result = CALL(made.evaluate, keys[0], query_of(other))
    assert np.isnan(result.score).all() and (result.cost == 0).all()


def test_a_seed_that_a_curve_does_not_have_is_named():
    table = named.open_table("fashion", curves=None)
    which = {"dataset": "fashion-mnist", "split": "valid", "epochs": 4, "curves": True}
    with pytest.raises(ValueError, match="has no seed 9; it has 0, 1, 2, mean, random"):
        tabular.tabular_benchmark(SPACE, table, seed=9, **which)
