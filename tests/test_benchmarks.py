"""Tables as benchmarks, and the synthetic objective."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import columns, table_files, tabular
from jaxnas.benchmarks.synthetic import synthetic_benchmark as draw
from jaxnas.search.base import Search
from jaxnas.search.loop import run, simulate
from jaxnas.spaces import (
    base,
    identity,
    nasbench101,
    nasbench201,
)
from jaxnas.types import FULL_TRAINING, Graph, Query

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHOICES = (3, 2, 4)


def graph_of(arch):
    return Graph(jnp.zeros((3, 3), bool), arch, jnp.ones(3, bool))


def code_of(arch):
    # The first two choices of position 0 are one and the same thing, and a vector that
    # is not valid has the code of one that is.
    last = jnp.minimum(arch[2], jnp.where(arch[1] == 1, 2, 3))
    first = jnp.maximum(arch[0], 1)
    return 1000 - ((first * 2 + arch[1]) * 4 + last)


def valid_of(arch):
    return (arch[1] == 0) | (arch[2] < 3)


SPACE = base.Space(
    name="toy",
    choices=CHOICES,
    labels=("a", "b", "c", "d"),
    graphs=(graph_of,),
    size=14,
    identity=identity.from_integer(code_of),
    to_string=str,
    from_string=lambda text: np.array(text),
    is_valid=valid_of,
)
FED = {"dataset": "cifar10", "split": "valid", "epochs": 12, "seed": "mean"}
# Every operation of its own is compiled: tests of values run under jit.
LOOKUP = jax.jit(tabular.lookup, static_argnums=0)
OPEN = tabular.tabular_benchmark
CALL = jax.jit(lambda evaluate, key, query: evaluate(key, query))
SEEDS = {"dataset": "cifar10", "split": "test", "epochs": 200}


def different():
    """The 14 valid vectors of the space that are different architectures."""
    vectors = itertools.product((1, 2), range(2), range(4))
    return np.array([v for v in vectors if v[1] == 0 or v[2] < 3], np.int8)


def make_table(arch=None, space="toy", seed=0):
    rng = np.random.default_rng(seed)
    arch = rng.permutation(different()) if arch is None else arch
    num = len(arch)
    runs = rng.uniform(0, 100, (num, 3)).astype(np.float32)
    runs[: num // 2, 2] = np.nan
    runs[0, 1:] = np.nan
    columns = {
        "cifar10/valid/12": rng.uniform(0, 100, num).astype(np.float32),
        "cifar10/test/200": runs,
        "cifar100/valid/12": rng.uniform(0, 100, num).astype(np.float32),
        "seconds/cifar10/12": rng.uniform(0, 1e3, num).astype(np.float32),
    }
    meaning = dict.fromkeys(columns, "drawn")
    manifest = {"source": "none", "sha256": "", "columns": meaning}
    return table_files.validate_table(
        table_files.BenchmarkTable("toy-table", space, arch, columns, manifest)
    )


def with_columns(table, columns, **manifest):
    """The table with other columns."""
    meaning = {"columns": dict.fromkeys(columns, "drawn")}
    changed = table.manifest | meaning | manifest
    return table_files.validate_table(
        table_files.BenchmarkTable(
            table.name, table.space, table.arch, columns, changed
        )
    )


def query_of(archs, epoch=FULL_TRAINING, start=0):
    archs = jnp.asarray(archs, jnp.int32)
    full = functools.partial(jnp.full, len(archs), dtype=jnp.int32)
    return Query(archs, full(fill_value=epoch), full(fill_value=start))


def refused(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- which number comes back ----------------------------------------------------------


def test_every_architecture_finds_its_own_row():
    table = make_table()
    made = OPEN(SPACE, table, **FED)
    # All 24 vectors: valid or not, each with its duplicates.
    vectors = np.array(list(itertools.product(*map(range, CHOICES))), np.int32)
    expected = [
        np.flatnonzero((table.arch == (max(v[0], 1), *v[1:])).all(1)) for v in vectors
    ]
    expected = np.array([row[0] if len(row) else -1 for row in expected])
    assert (expected >= 0).sum() == 21
    found = tabular.table_rows(made, vectors.reshape(4, 6, 3))
    np.testing.assert_array_equal(found, expected.reshape(4, 6))

    result = CALL(made.evaluate, jax.random.key(0), query_of(vectors))
    accuracy = np.where(
        expected >= 0, table.columns["cifar10/valid/12"][expected], np.nan
    )
    seconds = np.where(expected >= 0, table.columns["seconds/cifar10/12"][expected], 0)
    np.testing.assert_array_equal(result.score, accuracy)
    np.testing.assert_array_equal(result.curve, accuracy[:, None])
    np.testing.assert_allclose(result.cost, seconds, rtol=1e-6)


def test_choices_that_do_not_exist_find_nothing():
    made = OPEN(SPACE, make_table(), **FED)
    outside = jnp.array([[3, 0, 0], [-1, 0, 0], [1, 2, 0], [1, 0, -1], [1, 0, 4]])
    assert (tabular.table_rows(made, outside) == -1).all()
    result = CALL(made.evaluate, jax.random.key(0), query_of(outside))
    assert jnp.isnan(result.score).all() and (result.cost == 0).all()


# Of a training with scores after epochs 2, 4 and 10, that costs 1, 3 and 9 up to them.
@pytest.mark.parametrize(
    ("start", "epoch", "reached", "cost"),
    [
        (0, FULL_TRAINING, 3, 9),
        (0, 10, 3, 9),
        (0, 99, 3, 9),
        (0, 9, 2, 8),
        (4, 7, 2, 3),
        (2, 4, 2, 2),
        (0, 4, 2, 3),
        (0, 3, 1, 2),
        (1, 3, 1, 2),  # nothing was charged up to 1
        (0, 0, 0, 0),
        (5, 5, 0, 0),
        (6, 5, 0, 0),
        (10, FULL_TRAINING, 3, 0),
        (0, 1, 0, 0),  # nothing is known
    ],
)
def test_a_query_sees_the_curve_up_to_its_epoch(start, epoch, reached, cost):
    (data,) = OPEN(SPACE, make_table(), **FED).evaluate.args
    curves = jnp.arange(14 * 3.0).reshape(14, 1, 3)
    data = data._replace(
        score=curves,
        cost=jnp.array([1.0, 3.0, 9.0])[None, None] * jnp.arange(14.0)[:, None, None],
        epochs=jnp.array([2, 4, 10], jnp.int32),
        continues=jnp.array([False, True, True]),
    )
    row = 5
    arch = make_table().arch[[row]]
    result = LOOKUP(SPACE, data, jax.random.key(0), query_of(arch, epoch, start))
    expected = np.where(np.arange(3) < reached, curves[row, 0], np.nan)
    score = curves[row, 0, reached - 1] if reached else np.nan
    np.testing.assert_array_equal(result.curve[0], expected)
    np.testing.assert_array_equal(result.score[0], score)
    np.testing.assert_allclose(result.cost[0], row * cost, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "epoch", "reached", "cost"),
    [
        (0, 12, 1, 2),
        (0, 100, 1, 2),
        (0, 200, 2, 30),
        (12, 200, 2, 30),  # the training of 12 epochs was another one
        (0, 11, 0, 0),
        (11, 12, 1, 2),
        (12, 100, 1, 0),
        (12, 12, 0, 0),
    ],
)
def test_schedules_are_trainings_of_their_own(start, epoch, reached, cost):
    table = make_table()
    columns = dict(table.columns)
    columns["cifar10/valid/200"] = columns["cifar100/valid/12"]
    columns["seconds/cifar10/12"] = np.full(14, 2, np.float32)
    columns["seconds/cifar10/200"] = np.full(14, 30, np.float32)
    table = with_columns(table, columns)
    made = OPEN(SPACE, table, **(FED | {"epochs": (12, 200)}))
    assert made.levels == ((12, False), (200, False)) and made.cost_unit == "seconds"
    result = CALL(made.evaluate, jax.random.key(0), query_of(table.arch, epoch, start))
    both = [columns["cifar10/valid/12"], columns["cifar10/valid/200"]]
    wanted = both[reached - 1] if reached else np.full(14, np.nan)
    np.testing.assert_array_equal(result.score, wanted)
    np.testing.assert_allclose(result.cost, cost, rtol=1e-6)


def test_without_seconds_the_cost_is_in_epochs():
    table = make_table()
    made = OPEN(SPACE, table, **SEEDS, seed="mean")
    assert made.cost_unit == "epochs" and made.epochs == 200
    query = query_of(table.arch[:3], epoch=250, start=50)
    result = CALL(made.evaluate, jax.random.key(0), query)
    np.testing.assert_allclose(result.cost, 200, rtol=1e-6)


def test_the_mean_and_a_single_seed():
    table = make_table()
    runs = table.columns["cifar10/test/200"]
    mean = columns.column(table, **SEEDS, seed="mean")
    np.testing.assert_allclose(mean[:, 0], np.nanmean(runs.astype(float), 1), rtol=1e-6)
    np.testing.assert_array_equal(columns.column(table, **SEEDS, seed=0), runs[:, :1])
    message = refused(columns.column, table, **SEEDS, seed=2)
    assert "has no seed 2 for 7 of 14 architectures" in message


def test_a_random_seed_is_any_that_was_run():
    table = make_table()
    runs = table.columns["cifar10/test/200"]
    evaluate = OPEN(SPACE, table, **SEEDS, seed="random").evaluate
    keys = jax.random.split(jax.random.key(1), 3000)
    scores = jax.jit(jax.vmap(evaluate, (0, None)))(keys, query_of(table.arch)).score
    assert not jnp.isnan(scores).any()
    for row, there in enumerate(runs):
        there = there[~np.isnan(there)]
        counts = (np.asarray(scores)[:, row, None] == there).sum(0)
        assert counts.sum() == 3000
        # Each count is binomial; five standard deviations.
        assert np.abs(counts - 3000 / len(there)).max() < 5 * np.sqrt(3000 / 4)
    # Slots draw independently of each other: rows 12 and 13 have three runs each.
    first = np.asarray(scores)[:, 12] == runs[12, 0]
    second = np.asarray(scores)[:, 13] == runs[13, 0]
    assert abs((first & second).mean() - 1 / 9) < 0.03


def test_a_result_says_where_it_is_from():
    assert (
        columns.describe(make_table(), **FED) == "toy-table cifar10/valid/12, seed mean"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "svhn"}, "has no dataset 'svhn'; it has cifar10, cifar100"),
        ({"split": "train"}, "cifar10 has no split 'train'; it has test, valid"),
        ({"epochs": 200}, "cifar10/valid has no number of epochs 200; it has 12"),
        ({"seed": 0}, "cifar10/valid/12 has no seed 0; it has mean"),
        ({**SEEDS, "seed": 3}, "has no seed 3; it has 0, 1, 2, mean, random"),
        ({**SEEDS, "seed": True}, "has no seed True; it has 0, 1, 2, mean, random"),
    ],
)
def test_an_unknown_column_is_refused_with_what_there_is(given, message):
    text = refused(OPEN, SPACE, make_table(), **(FED | given))
    assert text.startswith("toy-table") and message in text


def test_dataset_split_epochs_and_seed_have_no_default():
    for name in FED:
        given = {k: v for k, v in FED.items() if k != name}
        with pytest.raises(TypeError, match=name):
            OPEN(SPACE, make_table(), **given)


def test_incomplete_tables_are_refused():
    arch = different()
    open_table = functools.partial(OPEN, SPACE, **FED)
    message = refused(open_table, make_table(arch[:-3]))
    assert "14 architectures of toy once, found 11 rows with 0 dup" in message
    assert "and 3 missing (a table that is to have a part" in message
    part = make_table(arch[:-3])
    part.manifest["part"] = True
    small = tabular.table_space(part, SPACE)
    assert small.size == 11 and tabular.table_space(make_table(), SPACE) is SPACE
    assert len(OPEN(small, part, **FED).archs) == 11
    made = OPEN(SPACE, part, **FED)
    assert made.space.size == 11 and made.description.startswith("toy-table")
    result = CALL(made.evaluate, jax.random.key(0), query_of(arch))
    np.testing.assert_array_equal(np.isnan(result.score), np.arange(14) >= 11)
    np.testing.assert_array_equal(result.cost == 0, np.arange(14) >= 11)
    # (0, 1, 2) is the architecture (1, 1, 2) in another vector.
    copies = np.concatenate([arch[:-1], [[0, 1, 2]]]).astype(np.int8)
    message = refused(open_table, make_table(copies))
    assert "1 of 14 rows are architectures that other rows have too" in message
    assert message.endswith("and 1 of 14 are missing")
    outside = arch.copy()
    outside[4, 1] = 7
    message = refused(open_table, make_table(outside))
    assert "1 of 14 rows have choices that toy does not; the first is row 4" in message
    invalid = arch.copy()
    invalid[13] = (2, 1, 3)
    message = refused(open_table, make_table(invalid))
    assert (
        "1 of 14 rows are not valid architectures of toy; the first is row 13"
        in message
    )
    assert "of the space 'other', not 'toy'" in refused(
        open_table, make_table(arch, space="other")
    )
    assert "wanted 3 numbers for each architecture of toy, found 2" in refused(
        open_table, make_table(arch[:, :2])
    )


# --- as part of a compiled search -----------------------------------------------------


def random_search(batch):
    def ask(key, state):
        del state
        chosen = jax.random.randint(key, (batch,), 0, 14)
        return query_of(jnp.asarray(different())[chosen])

    return Search(lambda key: jnp.int32(0), ask, lambda state, query, result: state + 1)


def test_the_table_is_data_to_jit_and_compiles_once():
    tables = [make_table(seed=s) for s in range(3)]
    evaluators = [OPEN(SPACE, t, **FED).evaluate for t in tables]
    traces = []

    @jax.jit
    def evaluate_all(evaluate, key, query):
        traces.append(None)
        return evaluate(key, query)

    for table, evaluate in zip(tables, evaluators, strict=True):
        found = evaluate_all(evaluate, jax.random.key(0), query_of(table.arch))
        np.testing.assert_array_equal(found.score, table.columns["cifar10/valid/12"])
    assert len(traces) == 1


def test_a_search_on_a_table_is_a_loop_over_lookups():
    made = OPEN(SPACE, make_table(), **FED)
    evaluate, (data,) = made.evaluate, made.evaluate.args
    keys = jax.random.split(jax.random.key(3), 3)
    trace = simulate(keys, random_search(2), evaluate, 5)
    assert trace.score.shape == (3, 5, 2) and trace.score.dtype == jnp.float32
    row = tabular.table_rows(made, trace.query.arch)
    assert (row >= 0).all()
    np.testing.assert_array_equal(trace.score, data.score[row, 0, 0])
    _, alone = jax.jit(lambda key: run(key, random_search(2), evaluate, 5))(keys[1])
    np.testing.assert_array_equal(alone.score, trace.score[1])


def test_more_rows_than_a_chunk(monkeypatch):
    space = nasbench201.SPACE
    arch = np.array(list(itertools.product(range(5), repeat=6)), np.int8)
    table = make_table(np.random.default_rng(0).permutation(arch), "nasbench201")
    made = OPEN(space, table, **FED)
    assert len(arch) > tabular._CHUNK
    found = tabular.table_rows(made, table.arch.astype(np.int32))
    np.testing.assert_array_equal(found, np.arange(len(arch)))
    other = dataclasses.replace(space, name="another")
    text = refused(OPEN, other, table, **FED)
    assert "of the space 'nasbench201', not 'another'" in text


# --- the synthetic objective ----------------------------------------------------------


@pytest.mark.parametrize("space", [SPACE, nasbench101.SPACE], ids=lambda s: s.name)
def test_a_synthetic_objective_for_any_space(space):
    rng = np.random.default_rng(0)
    archs = rng.integers(0, space.choices, (60, len(space.choices)), np.int32)
    valid = np.asarray(jax.jit(jax.vmap(space.is_valid))(archs))
    assert valid.any() and not valid.all()
    key, other = jax.random.split(jax.random.key(0))
    evaluate = functools.partial(CALL, draw(key, space, epochs=8).evaluate)
    result = jax.tree.map(np.asarray, evaluate(other, query_of(archs)))
    assert result.curve.shape == (60, 8) and result.score.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(result.score), ~valid)
    np.testing.assert_array_equal(result.cost, np.where(valid, 8, 0))
    np.testing.assert_array_equal(result.score, result.curve[:, -1])
    curve = result.curve[valid]
    assert (curve > 0).all() and (curve < 100).all() and (np.diff(curve) > 0).all()
    # The key of a query changes nothing, the key of the objective everything.
    again = evaluate(key, query_of(archs))
    np.testing.assert_array_equal(result.score, again.score)
    evaluate = functools.partial(CALL, draw(other, space, epochs=8).evaluate)
    assert (evaluate(key, query_of(archs)).score != result.score)[valid].mean() > 0.9


def test_a_synthetic_curve_as_documented():
    made = draw(jax.random.key(0), SPACE, epochs=10)
    evaluate = functools.partial(CALL, made.evaluate)
    arch = different()[[3]]
    whole = evaluate(jax.random.key(0), query_of(arch))
    part = evaluate(jax.random.key(0), query_of(arch, epoch=4, start=1))
    np.testing.assert_array_equal(part.curve[0, :4], whole.curve[0, :4])
    assert jnp.isnan(part.curve[0, 4:]).all() and part.cost[0] == 3
    assert part.score[0] == part.curve[0, 3]
    # From three points of score(t): its end, and a rate that explains the others.
    curve = np.asarray(whole.curve[0], float)
    rates = np.linspace(2, 6, 4001)[:, None]
    shape = (1 - np.exp(-rates * np.arange(1, 11) / 10)) / (1 - np.exp(-rates))
    assert np.abs(curve[-1] * shape - curve).max(1).min() < 0.01
    for epoch, start in ((0, 0), (5, 5), (4, 6)):
        nothing = evaluate(jax.random.key(0), query_of(arch, epoch, start))
        assert jnp.isnan(nothing.score[0]) and nothing.cost[0] == 0
        assert jnp.isnan(nothing.curve).all()
    invalid = evaluate(jax.random.key(0), query_of([[2, 1, 3]]))
    assert jnp.isnan(invalid.score[0]) and invalid.cost[0] == 0


def test_a_synthetic_objective_is_effects_pairs_and_a_remainder():
    space = nasbench201.SPACE
    archs = np.array(list(itertools.product(range(5), repeat=6)))
    one_hot = np.eye(5)[archs]  # (n, 6, 5)

    def logits(noise):
        evaluate = draw(jax.random.key(4), space, epochs=1, noise=noise).evaluate
        score = jax.jit(evaluate)(jax.random.key(0), query_of(archs)).score
        score = np.asarray(score, float) / 100
        return np.log(score) - np.log1p(-score)

    pairs = [
        np.einsum("na,nb->nab", one_hot[:, i], one_hot[:, j]).reshape(-1, 25)
        for i, j in itertools.combinations(range(6), 2)
    ]
    effects = one_hot.reshape(-1, 30)
    pairs = np.concatenate(pairs, 1)

    def residual(features, target):
        target = target - target.mean()
        weights = np.linalg.lstsq(features.T @ features, features.T @ target)[0]
        return np.std(target - features @ weights)

    pure = logits(0.0)
    assert residual(pairs, pure) < 1e-3  # Pairs span the effects too.
    assert residual(effects, pure) > 0.1
    assert 0.28 < residual(pairs, logits(0.3)) < 0.32


def test_bad_sizes_of_a_synthetic_objective():
    make = functools.partial(draw, jax.random.key(0), SPACE)
    assert refused(make, epochs=0) == "epochs must be at least 1, not 0"
    for noise in (-1.0, float("nan"), float("inf")):
        assert "noise must be finite" in refused(make, noise=noise)
