"""`optimise` with several objectives: its queries, resumed and in batches; the front."""

import functools
import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drive_toy import events
from jax.tree_util import Partial

from jaxnas.pareto import Objective
from jaxnas.search import drive, multi_objective, random_search, simulate
from jaxnas.search.drive.history import Evaluation
from jaxnas.spaces import base
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 3)
BOTH = (Objective("gain"), Objective("price", "euros", "minimise"))
KEY = jax.random.key(3)
SEARCH = multi_objective.nsga2(SPACE, BOTH, population=4)


def values(arch):
    return {
        "gain": float(arch @ [1, 2, 3]),
        "price": float(arch @ [2, 1, 2]),
        "other": 1,
    }


def objective(arch):
    return values(np.array([int(c) for c in arch.split(",")]))


def scores_of(history):
    return [[e.metrics["gain"], -e.metrics["price"]] for e in history]


def in_table(key, query):
    del key
    gain, price = query.arch @ jnp.array([1, 2, 3]), query.arch @ jnp.array([2, 1, 2])
    scores = jnp.stack([gain, -price], 1).astype(float)
    return Result(scores[:, 0], scores[:, :1], jnp.ones(len(gain)), scores)


@pytest.fixture(scope="module")
def simulated():
    return simulate(KEY[None], SEARCH, Partial(in_table), 14).objectives[0, :, 0]


def test_the_queries_are_those_of_a_simulation_also_when_resumed(tmp_path, simulated):
    for steps in (6, 14):
        history = drive.optimise(
            KEY, SEARCH, objective, steps, tmp_path / "run", objectives=BOTH
        )
    np.testing.assert_array_equal(scores_of(history), simulated)
    assert [e.score for e in history] == [e.metrics["gain"] for e in history]
    assert history == drive.read(tmp_path / "run")
    batch = drive.BatchObjective(in_table)
    again = drive.optimise(KEY, SEARCH, batch, 14, tmp_path / "b", objectives=BOTH)
    np.testing.assert_array_equal(scores_of(again), simulated)


def test_workers_take_several_objectives(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        history = drive.optimise(
            KEY, SEARCH, objective, 10, tmp_path, executor=executor, objectives=BOTH
        )
    assert len({e.arch for e in history}) == 10


def test_another_bound_is_another_search(tmp_path):
    search = random_search(SPACE)
    drive.optimise(KEY, search, objective, 1, tmp_path, objectives=BOTH)
    bounded = (BOTH[0], BOTH[1]._replace(bound=3.0))
    # The entry that differs alone: a line has no room for all of them.
    with pytest.raises(ValueError, match=r"other settings \(objectives.1 \['price'"):
        drive.optimise(KEY, search, objective, 1, tmp_path, objectives=bounded)


def test_objectives_are_those_of_the_search(tmp_path):
    for other in (BOTH[::-1], (BOTH[0], BOTH[1]._replace(bound=3.0))):
        with pytest.raises(ValueError, match="the search was made for Objective"):
            drive.optimise(KEY, SEARCH, objective, 1, tmp_path, objectives=other)
    assert not list(tmp_path.iterdir())


def evaluations(*pairs):
    return [
        Evaluation(str(i), metrics=dict(zip(("gain", "price"), pair, strict=True)))
        for i, pair in enumerate(pairs)
    ]


def test_the_front_of_a_history():
    history = evaluations((1, 1), (5, 9), (3, 4), (2, 4), (3, 4), (9, math.nan))
    assert [e.arch for e in drive.front(history, BOTH)] == ["0", "2", "4", "1"]
    bounded = (BOTH[0], BOTH[1]._replace(bound=4.0))
    assert [e.arch for e in drive.front(history, bounded)] == ["0", "2", "4"]
    alone = (BOTH[0], BOTH[1]._replace(bound=4.0, optimised=False))
    assert [e.arch for e in drive.front(history, alone)] == ["2", "4"]
    tight = (BOTH[0], BOTH[1]._replace(bound=0.5))
    with pytest.raises(ValueError, match=r"the closest, 0, has price 1 \(bound 0.5\)"):
        drive.front(history, tight)
    wanted = "none of 1 evaluations has both gain and price: they have gain, weight"
    other = history[-1]._replace(metrics={"gain": 9.0, "weight": 1.0})
    with pytest.raises(ValueError, match=wanted):
        drive.front([other], BOTH)


def test_values_closer_than_single_precision_are_told_apart():
    history = evaluations((1e8, 1), (1e8 + 1, 1))
    assert [e.arch for e in drive.front(history, BOTH)] == ["1"]


def shifted(arch):
    """The objectives with differences that single precision would lose."""
    both = objective(arch)
    gain, price = 1e9 - 1e-3 * both["gain"], 1e-30 * both["price"]
    return {"gain": -gain, "price": price}


def test_objectives_are_told_apart_whatever_their_offset_and_scale(tmp_path):
    search = multi_objective.nsga2(SPACE, BOTH, population=8)
    run = functools.partial(drive.optimise, KEY, search, objectives=BOTH)
    plain = run(objective, 22, tmp_path / "plain")
    assert not events(tmp_path / "plain", "scale")
    for steps in (4, 15, 22):
        found = run(shifted, steps, tmp_path / "shifted")
    assert [e.arch for e in found] == [e.arch for e in plain]
    # The first objective is also the score, which has a scale of its own.
    scales = [line["objective"] for line in events(tmp_path / "shifted", "scale")]
    assert sorted(scales) == ["", "gain", "price"]
    assert found == drive.read(tmp_path / "shifted")


def test_a_bounded_objective_that_is_not_told_apart_is_refused_and_kept(tmp_path):
    bounded, made = (BOTH[0], BOTH[1]._replace(bound=2e9)), []
    search = multi_objective.nsga2(SPACE, bounded, population=8)

    def near(arch):
        made.append(arch)
        both = objective(arch)
        return both | {"price": 1e9 + both["price"]}

    run = functools.partial(drive.optimise, KEY, search, near, 22, tmp_path)
    words = r"values of price near 1e\+09 differ by .* float32 .*: subtract a constant"
    for _ in range(2):
        with pytest.raises(ValueError, match=words):
            run(objectives=bounded)
    assert 4 <= len(made) == len(drive.read(tmp_path)) < 22


def test_a_bounded_objective_of_large_numbers_is_taken(tmp_path):
    bounded = (BOTH[0], BOTH[1]._replace(bound=5e7))
    search = multi_objective.nsga2(SPACE, bounded, population=8)
    many = lambda arch: objective(arch) | {"price": 1e7 * objective(arch)["price"]}  # noqa: E731
    found = drive.optimise(KEY, search, many, 12, tmp_path, objectives=bounded)
    assert len(found) == 12 and not events(tmp_path, "scale")


def test_a_bound_is_exact_in_the_front_and_in_the_status(tmp_path):
    bounded = (BOTH[0], BOTH[1]._replace(bound=2.0**24))
    beyond, at = evaluations((2, 2.0**24 + 1), (1, 2.0**24))
    assert drive.front([beyond, at], bounded) == [at]
    with pytest.raises(ValueError, match="the closest, 0, has price"):
        drive.front(
            [beyond, beyond._replace(metrics={"gain": 1, "price": 1e9})], bounded
        )
    returned = iter((beyond.metrics, at.metrics, at.metrics))
    function = lambda arch: next(returned)  # noqa: E731
    drive.optimise(KEY, random_search(SPACE), function, 3, tmp_path, objectives=bounded)
    found = drive.read(tmp_path)
    assert {e.metrics["gain"] for e in found} == {1, 2}
    assert drive.status(tmp_path).best.metrics == at.metrics
    assert all(e.metrics == at.metrics for e in drive.front(found, bounded))


def test_a_missing_objective_and_a_failure_leave_the_search_going(tmp_path):
    def partly(arch):
        both = objective(arch)
        if arch.startswith("1"):
            return {"price": both["price"]}
        if arch.startswith("2"):
            raise RuntimeError("out of memory")
        return both

    history = drive.optimise(KEY, SEARCH, partly, 16, tmp_path, objectives=BOTH)
    for e in history:
        measured = {"0": {"gain", "price"}, "1": {"price"}, "2": set()}[e.arch[0]]
        assert {n for n in ("gain", "price") if n in e.metrics} == measured
    assert len(history) == 16 and drive.front(history, BOTH)


def test_another_name_than_an_objective_is_warned_of_once(tmp_path):
    function = lambda arch: {"gain": 1.0, "cost_in_euros": 2.0}  # noqa: E731
    run = functools.partial(drive.optimise, KEY, random_search(SPACE), function)
    with pytest.warns(UserWarning, match="returned cost_in_euros for .* and no price"):
        run(3, tmp_path, objectives=BOTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(run(5, tmp_path, objectives=BOTH)) == 5
        # Without other names nothing can be meant: a value that is missing.
        fewer = lambda arch: {"gain": 1.0}  # noqa: E731
        drive.optimise(
            KEY, random_search(SPACE), fewer, 1, tmp_path / "x", objectives=BOTH
        )


def test_names_of_metrics_need_not_be_strings(tmp_path):
    returned = lambda arch: objective(arch) | {3: 1.5}  # noqa: E731
    (one,) = drive.optimise(KEY, SEARCH, returned, 1, tmp_path / "run", objectives=BOTH)
    assert not one.error and one.metrics["3"] == 1.5


def test_an_infinity_is_a_missing_value_also_before_it_is_stored(tmp_path):
    function = lambda arch: {"gain": 1.0, "price": math.inf}  # noqa: E731
    history = drive.optimise(
        KEY, random_search(SPACE), function, 2, tmp_path, objectives=BOTH
    )
    stored = drive.read(tmp_path)
    assert all(math.isnan(e.metrics["price"]) for e in (*history, *stored))


@pytest.fixture(scope="module")
def bounded_run(tmp_path_factory):
    """A run without an architecture within the bounds at first: folder and history."""
    folder = tmp_path_factory.mktemp("bounded")
    bounds = (BOTH[0]._replace(bound=2.0, optimised=False), BOTH[1])
    history = drive.optimise(
        KEY, random_search(SPACE), objective, 20, folder, objectives=bounds
    )
    return folder, history


def test_the_incumbent_is_within_the_bounds(bounded_run):
    folder, history = bounded_run
    best = drive.status(folder).best
    within = [e for e in history if e.metrics["gain"] >= 2]
    # The first objective is a bound alone: the price decides.
    cheapest = min(e.metrics["price"] for e in within)
    assert best in within and best.metrics["price"] == cheapest
    assert min(e.metrics["price"] for e in history) < cheapest


def test_there_is_no_incumbent_before_one_is_within_the_bounds(tmp_path):
    bounds = (BOTH[0], BOTH[1]._replace(bound=-1.0))
    drive.optimise(KEY, random_search(SPACE), objective, 2, tmp_path, objectives=bounds)
    status = drive.status(tmp_path)
    assert status.done == 2 and status.best is None


def test_the_error_of_a_missing_first_objective_has_the_names(tmp_path):
    function = lambda arch: {"price": 1.0, "mass": 2.0}  # noqa: E731
    with pytest.warns(UserWarning, match="returned mass for .* and no gain"):
        history = drive.optimise(
            KEY, random_search(SPACE), function, 1, tmp_path, objectives=BOTH
        )
    error = "the objective returned price, mass: wanted a mapping with gain, price"
    assert history[0].error == error and history[0].metrics["price"] == 1


@pytest.mark.parametrize(
    ("returned", "objectives", "message"),
    [
        (3.0, BOTH, "returned float for .*: wanted a mapping with gain, price"),
        (
            {"cost": 3.0},
            BOTH,
            "returned cost for .*: wanted a mapping with gain, price",
        ),
        ({"gain": "much"}, BOTH, "returned str as gain"),
        (
            {"Gain": 1.0, "price": 2.0},
            (Objective("gains"), BOTH[1]),
            "returned Gain, price for .*: wanted a mapping with gains, price",
        ),
        (
            {"gain": 1.0, "prices": 2.0},
            BOTH,
            "returned gain, prices for .*: wanted a mapping with gain, price",
        ),
        (
            {"gain": 1.0, "pri": 2.0},
            BOTH,
            "returned gain, pri for .*: wanted a mapping with gain, price",
        ),
        ({}, (), "gain, price, and its results have one score"),
        ({}, (*BOTH, BOTH[0]), "gain is given 2 times"),
        ({}, (Objective("cost"), *BOTH), "an objective cannot be called cost"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, returned, objectives, message):
    search = random_search(SPACE) if objectives else SEARCH
    with pytest.raises(ValueError, match=message):
        drive.optimise(
            KEY, search, lambda arch: returned, 3, tmp_path, objectives=objectives
        )
