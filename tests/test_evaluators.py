"""What holds for all that answers queries: tables, curves, the synthetic one, trainings."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_training

from jaxnas.benchmarks import synthetic, table_files, tabular
from jaxnas.benchmarks.base import (
    Benchmark,
    Target,
    as_value,
    continued_levels,
    true_scores,
)
from jaxnas.benchmarks.training import training_benchmark
from jaxnas.spaces import base
from jaxnas.types import FULL_TRAINING, Query

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3, 2, 4))
ARCHS = base.every(SPACE)[[3, 17, 11, 20]]
UNKNOWN = np.array([3, 0, 0])
LOSS = {"name": "loss", "unit": "nats", "direction": "minimise"}
CALL = jax.jit(lambda evaluate, key, query: evaluate(key, query))


class Case(NamedTuple):
    """A benchmark, and what the tests ask of it."""

    benchmark: Benchmark
    archs: np.ndarray = ARCHS  # (4, d), known
    unknown: np.ndarray = UNKNOWN  # (d,)
    random: bool = False  # another key gives another run
    repeats: bool = False  # so does another repetition
    call: object = CALL
    measured: bool = False  # costs are those of a clock


def table(seed="mean", epochs=9, curves=False, **manifest):
    rng, columns = np.random.default_rng(0), {}
    for length in (3, 9):
        columns |= {
            f"toy/valid/{length}": rng.uniform(0, 100, (24, 2)).astype(np.float32),
            f"seconds/toy/{length}": rng.uniform(1, 9, 24).astype(np.float32),
        }
    shape = 24, 2, 4
    columns["curve/toy/valid/9"] = rng.uniform(0, 100, shape).astype(np.float32)
    columns["time/toy/train/9"] = rng.uniform(1, 2, shape).astype(np.float32)
    described = {"source": "", "sha256": "", "points": {"9": [1, 3, 6, 9]}}
    described |= {"columns": dict.fromkeys(columns, "")} | manifest
    made = table_files.BenchmarkTable(
        "toy", "toy", base.every(SPACE).astype(np.int8), columns, described
    )
    fed = dict(dataset="toy", split="valid", epochs=epochs, seed=seed)
    return tabular.tabular_benchmark(
        SPACE, table_files.validate_table(made), **fed, curves=curves
    )


def trainings(folder):
    recipe = dataclasses.replace(test_training.RECIPE, epochs=9)
    cells = np.array([[3, 2, 4, 1, 0, 3], [1] * 6, [2] * 6, [4] * 6], np.int32)
    made = training_benchmark(
        jax.random.key(0),
        test_training.NETWORK,
        recipe,
        test_training.images(),
        folder=folder,
    )
    plain = lambda f, *a: f(*a)  # noqa: E731
    unknown = np.array([5] * 6)
    return Case(made, cells, unknown, repeats=True, call=plain, measured=True)


def drawn(**options):
    made = synthetic.synthetic_benchmark(jax.random.key(0), SPACE, epochs=9, **options)
    several = "spread" in options
    return Case(made, random=several, repeats=several)


# Of a folder; a new evaluator is one line here.
EVALUATORS = {
    "table": lambda folder: Case(table()),
    "schedules": lambda folder: Case(table(epochs=(3, 9))),
    "seeds": lambda folder: Case(table("random"), random=True, repeats=True),
    "curves": lambda folder: Case(table(curves=True)),
    "curves of seeds": lambda folder: Case(
        table("random", curves=True), random=True, repeats=True
    ),
    "losses": lambda folder: Case(table(curves=True, targets={"toy": LOSS})),
    "synthetic": lambda folder: drawn(),
    "synthetic runs": lambda folder: drawn(spread=0.5),
    "training": trainings,
}


@pytest.fixture(params=EVALUATORS, scope="module")
def case(request, tmp_path_factory):
    return EVALUATORS[request.param](tmp_path_factory.mktemp("trainings"))


def ask(case, start=0, epoch=FULL_TRAINING, seed=0, key=0, archs=None):
    archs = jnp.asarray(case.archs if archs is None else archs, jnp.int32)
    parts = [
        jnp.asarray(np.broadcast_to(x, len(archs)), jnp.int32)
        for x in (epoch, start, seed)
    ]
    key = jax.random.key(key)
    result = case.call(case.benchmark.evaluate, key, Query(archs, *parts))
    return jax.tree.map(np.asarray, result)


def test_the_result_has_one_form(case):
    levels, num = case.benchmark.levels, len(case.archs)
    assert case.benchmark.epochs == 9 and levels[-1].epoch == 9
    for epoch in (1, 3, FULL_TRAINING):
        result = ask(case, 0, epoch)
        assert result.score.shape == result.cost.shape == (num,)
        assert result.curve.shape == (num, len(levels))
        assert {x.dtype for x in jax.tree.leaves(result)} == {np.dtype("float32")}


def test_the_curve_ends_at_the_epoch_of_the_query(case):
    reached = np.array([level.epoch for level in case.benchmark.levels])
    whole = ask(case)
    assert np.isfinite(whole.score).all() and np.isfinite(whole.curve).all()
    np.testing.assert_array_equal(whole.score, whole.curve[:, -1])
    for epoch in (1, 3, 8, 9):
        result, there = ask(case, 0, epoch), reached <= epoch
        wanted = np.where(there, whole.curve, np.nan)
        np.testing.assert_array_equal(result.curve, wanted)
        last = whole.curve[:, there.sum() - 1] if there.any() else np.nan
        np.testing.assert_array_equal(result.score, np.broadcast_to(last, 4))
        assert (result.cost > 0).all() == there.any()


def test_a_training_that_goes_on_is_the_same_training(case):
    whole = ask(case, 0, 9)
    parts = [ask(case, 0, 3), ask(case, 3, 9)]
    np.testing.assert_array_equal(parts[1].curve, whole.curve)
    np.testing.assert_array_equal(parts[1].score, whole.score)
    if any(level.continues for level in case.benchmark.levels):
        total = parts[0].cost + parts[1].cost
        np.testing.assert_allclose(total, whole.cost, 1e-5)
    else:
        # What is a training of its own does not get cheaper by another one.
        np.testing.assert_array_equal(parts[1].cost, whole.cost)


def test_idle_slots_ask_for_nothing(case):
    result = ask(case, [0, 3, 9, 4], [0, 3, 4, 9])
    assert np.isnan(result.score[:3]).all() and np.isnan(result.curve[:3]).all()
    assert (result.cost[:3] == 0).all()
    # The slot beside them is answered as it is among others.
    other = ask(case, 4, 9)
    if case.measured:
        result, other = (x._replace(cost=x.score) for x in (result, other))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[3], y[3]), result, other)


def test_idle_slots_call_nothing(tmp_path):
    case = trainings(tmp_path)
    ask(case, 9, 9)
    ask(case, 0, 0)
    ask(case, archs=[case.unknown] * 4)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_is_free(case):
    archs = np.stack([case.unknown, -1 - case.archs[0], *case.archs[:2]])
    result = ask(case, archs=archs)
    assert np.isnan(result.score[:2]).all() and (result.cost[:2] == 0).all()
    np.testing.assert_array_equal(result.score[2:], ask(case).score[:2])


def test_past_the_schedule_is_its_end(case):
    last = ask(case, 0, 9)
    for epoch in (10, FULL_TRAINING):
        result = ask(case, 0, epoch)
        for mine, wanted in zip(result, last, strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_a_run_has_one_seed_and_repetitions_are_asked_for(case):
    first = ask(case, key=1)
    again = ask(case, key=1)
    for mine, wanted in zip(again, first, strict=True):
        np.testing.assert_array_equal(mine, wanted)
    # The architectures of another order, twice: their places change nothing.
    archs = case.archs[[2, 2, 0, 3]]
    np.testing.assert_array_equal(
        ask(case, key=1, archs=archs).score, first.score[[2, 2, 0, 3]]
    )
    # One epoch is enough for that.
    early = ask(case, 0, case.benchmark.levels[0].epoch, key=1)
    other = ask(case, 0, case.benchmark.levels[0].epoch, key=1, seed=1)
    curve, others = early.curve[:, 0], other.curve[:, 0]
    assert (curve != others).any() == case.repeats
    keys = [ask(case, key=k).curve[:, 0] for k in range(2, 10)]
    assert (np.stack(keys) != curve).any() == case.random


def test_targets_and_truth(case):
    made = case.benchmark
    values = as_value(made.target, ask(case).score)
    if made.target.unit == "percent":
        assert (values >= 0).all() and (values < 100.001).all()
    if made.truth is None:
        with pytest.raises(ValueError, match="the truth of .* is not known"):
            true_scores(made, case.archs)
        return
    true = true_scores(made, np.stack([*case.archs, case.unknown]))
    assert np.isfinite(true[:4]).all() and np.isnan(true[4])
    if made.optimum is not None:
        assert true_scores(made, made.archs).max() == made.optimum
    if not case.random:
        np.testing.assert_allclose(true[:4], ask(case).score, 1e-6)


def test_losses_are_the_negative_of_what_they_are():
    one, other = (ask(EVALUATORS[name](None)) for name in ("curves", "losses"))
    np.testing.assert_array_equal(one.curve, -other.curve)
    np.testing.assert_array_equal(one.cost, other.cost)


def test_parameters_are_data_to_jit():
    """One program serves all benchmarks of a form."""
    traced = []

    @jax.jit
    def evaluate_all(evaluate, key, query):
        traced.append(None)
        return evaluate(key, query)

    query = Query(jnp.asarray(ARCHS), *(jnp.full(4, e, jnp.int32) for e in (9, 0, 0)))
    for key in jax.random.split(jax.random.key(0), 2):
        made = synthetic.synthetic_benchmark(key, SPACE, epochs=9)
        evaluate_all(made.evaluate, key, query)
        evaluate_all(table(curves=True).evaluate, key, query)
    assert len(traced) == 2
    leaves = jax.tree.leaves(table(curves=True))
    assert max(np.size(leaf) for leaf in leaves) == 24 * 4


def test_benchmarks_that_make_no_sense():
    made = table()
    change = functools.partial(dataclasses.replace, made)
    for levels in ((), continued_levels([0, 3]), continued_levels([3, 3])):
        with pytest.raises(ValueError, match="levels must ascend from epoch 1"):
            change(levels=levels)
    with pytest.raises(ValueError, match="must be maximise or minimise"):
        change(target=Target("loss", "nats", "less"))  # pyright: ignore
