"""Searching with a function of the user's: nothing is lost, nothing is asked twice."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drive_toy import (
    KEY,
    SPACE,
    evaluate,
    events,
    evolution,
    gaussian,
    go,
    objective,
    same,
    scored,
    value,
)

from jaxnas.search import drive
from jaxnas.search.drive.batch_objective import evaluate_tasks
from jaxnas.search.drive.workers import EvaluationTask
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.loop import run
from jaxnas.search.random import random_search
from jaxnas.spaces import base
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("search", [evolution, gaussian])
def test_it_asks_what_run_asks(search, tmp_path):
    made = search()
    history = go(tmp_path, made, 16)
    _, trace = jax.jit(lambda key: run(key, made, evaluate, 16))(jax.random.key(KEY))
    asked = [SPACE.to_string(a) for a in np.asarray(trace.query.arch[:, 0])]
    # Rounding may break a tie of the Gaussian process otherwise, late.
    num = 16 if search is evolution else 9
    assert [e.arch for e in history][:num] == asked[:num]
    np.testing.assert_allclose(
        [e.score for e in history][:num], trace.score[:num, 0], atol=1e-5
    )


def test_nothing_is_in_flight_beside_one_at_a_time(tmp_path):
    def expect(state, query):
        raise AssertionError("nothing is in flight")

    search = dataclasses.replace(evolution(), expect=expect)
    same(go(tmp_path / "a", search, 8), go(tmp_path / "b", evolution(), 8))


def test_failures_are_recorded_and_said(tmp_path):
    history = go(tmp_path, steps=60)
    failed = [e for e in history if math.isnan(e.score)]
    assert 2 < len(failed) < 40
    assert all(e.error == f"RuntimeError: no network for {e.arch}" for e in failed)
    lines = events(tmp_path, "evaluation")
    assert [line["arch"] for line in lines] == [e.arch for e in history]
    assert drive.best(history).score == np.nanmax([e.score for e in history])
    odd = go(tmp_path / "odd", steps=4, function=lambda text, epoch: math.inf)
    assert [e.error for e in odd] == ["the score is inf"] * 4
    with pytest.raises(ValueError, match="none of 4 evaluations has a score"):
        drive.best(odd)


def test_what_failed_is_not_asked_again(tmp_path):
    search = random_search(SPACE, capacity=60, epoch=12)
    history = go(tmp_path, search, 60)
    assert len({e.arch for e in history}) == 60


def test_a_finished_search_is_read_and_nothing_is_evaluated(tmp_path):
    history = go(tmp_path)

    def never(text, epoch):
        raise AssertionError

    same(go(tmp_path, function=never), history)


@pytest.mark.parametrize("workers", [None, 3])
def test_batches_side_by_side(tmp_path, workers):
    one = go(tmp_path / "one", evolution(3), 8)
    new: list = []
    with ThreadPoolExecutor(workers) as executor:
        both = go(
            tmp_path / "two",
            evolution(3),
            8,
            executor=executor,
            on_evaluation=new.append,
        )
    same(one, both)
    assert sorted((e.step, e.slot) for e in new) == [(e.step, e.slot) for e in one]


def in_batches(asked):
    """The objective for a whole step; remembers which slots it was asked for."""

    def evaluate(key, query):
        wanted = np.asarray(query.start) < np.asarray(query.epoch)
        asked.append(wanted.tolist())
        score = [value(arch) for arch in np.asarray(query.arch).tolist()]
        score = jnp.where(wanted, jnp.array(score), 7e7)
        return Result(score, score[:, None], jnp.full(len(wanted), 2.0))

    return drive.BatchObjective(evaluate)


def test_queries_are_evaluated_at_once(tmp_path):
    options = dict(search=evolution(batch=4), steps=5)
    alone, asked = go(tmp_path / "alone", **options), []
    found = go(tmp_path / "together", function=in_batches(asked), **options)
    for (*where, one), (*there, other) in zip(
        scored(found), scored(alone), strict=True
    ):
        assert where == there
        np.testing.assert_allclose(one, other, 1e-6)
    assert asked == [[True] * 4] * 5 and {e.cost for e in found} == {2.0}
    # Killed in the last step: what is known of it is not asked again.
    path = tmp_path / "together" / "history.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-3]))
    again = go(tmp_path / "together", function=in_batches(asked), **options)
    assert scored(again)[:-3] == scored(found)[:-3] and len(again) == 20
    assert asked[5:] == [[False, True, True, True]]


def test_queries_in_flight_of_several_steps_get_scores_of_their_own(tmp_path):
    def stop(evaluation):
        raise InterruptedError

    options = dict(search=random_search(SPACE, epoch=12), steps=6)
    with ThreadPoolExecutor(3) as executor, pytest.raises(InterruptedError):
        go(tmp_path, executor=executor, on_evaluation=stop, **options)
    assert drive.status(tmp_path).in_flight == 2
    asked = []
    history = go(tmp_path, function=in_batches(asked), **options)
    assert asked == [[True]] * 5 and len({e.arch for e in history}) == 6
    wanted = [value([int(c) for c in e.arch.split(",")]) for e in history]
    np.testing.assert_allclose([e.score for e in history], wanted, 1e-6)


def test_tasks_of_two_steps_are_no_query():
    tasks = [EvaluationTask(step, 0, "0,0,0,0,0", None, 0, 0, "") for step in (0, 1)]
    query = random_search(SPACE).ask(jax.random.key(0), None)
    with pytest.raises(ValueError, match=r"tasks of one query, not of steps \[0, 1\]"):
        evaluate_tasks(in_batches([]), jax.random.key(0), query, tasks)


def test_what_a_batch_objective_returns_is_checked(tmp_path):
    def one_number(key, query):
        return Result(jnp.zeros(1), jnp.zeros((1, 1)), jnp.zeros(1))

    options = dict(search=evolution(batch=4), steps=5)
    with pytest.raises(ValueError, match=r"returned scores \(1,\) and costs \(1,\)"):
        go(tmp_path / "s", function=drive.BatchObjective(one_number), **options)
    nothing = drive.BatchObjective(lambda key, query: None)
    with pytest.raises(
        ValueError, match="BatchObjective returned NoneType: wanted a Result"
    ):
        go(tmp_path / "n", function=nothing, **options)
    words = drive.BatchObjective(lambda key, query: Result(["a"] * 4, None, None))
    with pytest.raises(ValueError, match="a Result that does not hold numbers"):
        go(tmp_path / "n", function=words, **options)
    flat = drive.BatchObjective(lambda key, query: Result(*[jnp.zeros(4)] * 3))
    with pytest.raises(ValueError, match=r"curves \(4,\): wanted \(4, points\)"):
        go(tmp_path / "n", function=flat, **options)
    with pytest.raises(ValueError, match=r"takes \(query\): wanted \(key, query\)"):
        go(tmp_path / "t", function=drive.BatchObjective(lambda query: None), **options)
    with ThreadPoolExecutor(1) as pool_of_one:
        with pytest.raises(ValueError, match="takes no executor"):
            go(tmp_path / "t", function=in_batches([]), executor=pool_of_one, **options)
    assert not (tmp_path / "t").exists()


def test_a_line_without_its_end_is_kept(tmp_path):
    history = go(tmp_path)
    path = tmp_path / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    same(go(tmp_path, function=lambda text: None), history)
    assert path.read_bytes() == whole


def test_half_a_line_is_evaluated_again(tmp_path):
    history = go(tmp_path)
    path = tmp_path / "history.jsonl"
    whole = path.read_bytes()
    for cut in (len(whole) - 2, len(whole) - 40, len(whole) // 2, 3):
        path.write_bytes(whole[:cut])
        same(go(tmp_path), history)
        same(drive.read(tmp_path), history)
        assert path.read_bytes().count(b"\n") == 40


@pytest.mark.parametrize("at", ["first", "last"])
def test_ctrl_c_leaves_what_is_finished(tmp_path, at):
    calls = []

    def interrupted(text, epoch):
        calls.append(text)
        if len(calls) == (1 if at == "first" else 20):
            raise KeyboardInterrupt
        return objective(text, epoch)

    with pytest.raises(KeyboardInterrupt, match="the same call resumes the search in"):
        go(tmp_path, function=interrupted)
    same(go(tmp_path), go(tmp_path / "whole"))


# Every run is a process of its own, forked after the slow imports.
KILLED = """
import os, pathlib, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
sys.path.insert(0, "tests")
import drive_toy as t

folder, rng, codes = pathlib.Path(sys.argv[1]), np.random.default_rng(0), []
path = folder / "history.jsonl"

def slow(text, epoch):
    time.sleep(0.01)
    return t.objective(text, epoch)

def enough(lines):
    return path.exists() and path.read_bytes().count(b"\\n") >= lines

for lines in sorted(rng.integers(5, 195, 5)):
    child = os.fork()
    if child == 0:
        try:
            with ThreadPoolExecutor(2) as executor:
                t.go(folder, t.evolution(2), 100, function=slow, executor=executor)
        finally:
            os._exit(0)
    while not enough(lines) and os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(codes)
"""


def test_killed_five_times_at_any_moment_it_is_the_uninterrupted_run(tmp_path):
    """200 evaluations, a fifth of which fail, in batches of two."""
    folder = tmp_path / "killed"
    path = folder / "history.jsonl"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(folder)],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert json.loads(done.stdout) == [-signal.SIGKILL] * 5
    before = path.read_bytes()
    killed = go(folder, evolution(2), 100)
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    whole = go(tmp_path / "whole", evolution(2), 100)
    same(killed, whole)
    assert sum(math.isnan(e.score) for e in whole) > 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "num_steps must be a whole number of at least 1, not 0"),
        ({"key": 4}, "was made with other settings .key "),
        ({"search": evolution(3)}, r"other settings \(batch 1 there, 3 now\)"),
    ],
)
def test_other_searches_are_refused(tmp_path, change, words):
    go(tmp_path)
    before = (tmp_path / "history.jsonl").read_bytes()
    with pytest.raises(ValueError, match=words) as error:
        go(tmp_path, **change)
    assert "\n" not in str(error.value)
    assert (tmp_path / "history.jsonl").read_bytes() == before


def test_a_space_of_the_same_name_with_other_choices_is_another(tmp_path):
    def search(choices):
        return random_search(base.product("mine", (choices,) * 6))

    go(tmp_path, search(4), 2, function=lambda text: 1.0)
    words = r"other settings \(choices \[4, .* there, \[9, 9, 9, 9, 9, 9\] now"
    with pytest.raises(ValueError, match=words):
        go(tmp_path, search(9), 2, function=lambda text: 1.0)


def test_an_objective_that_returns_no_number_is_an_error(tmp_path):
    with pytest.raises(
        ValueError, match="the objective returned NoneType for .*number"
    ):
        go(tmp_path, function=lambda text, epoch: None)
    assert not events(tmp_path, "evaluation")
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(ValueError, match="the objective returned str"),
    ):
        go(tmp_path, function=lambda text, epoch: "high", executor=executor)


def test_the_history_of_other_epochs_is_refused(tmp_path):
    go(tmp_path)
    longer = regularized_evolution(SPACE, population=8, init=6, epoch=99)
    with pytest.raises(
        ValueError, match="step 0 there is to epoch 12, and 99 is asked now"
    ):
        go(tmp_path, longer)
    last = regularized_evolution(SPACE, population=8, init=6)
    with pytest.raises(ValueError, match="to epoch 12, and the last is asked now"):
        go(tmp_path, last, function=lambda text: 1.0)


@pytest.mark.parametrize(
    ("score", "said"), [(1e39, "the score is 1e"), (-1e300, "-1e")]
)
def test_scores_beyond_single_precision_have_failed(tmp_path, score, said):
    (history,) = go(tmp_path, steps=1, function=lambda text, epoch: score)
    assert math.isnan(history.score) and said in history.error


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("raised", [Speechless(), SystemExit(2)])
def test_whatever_an_objective_raises_is_a_failure(tmp_path, raised):
    def fails(text, epoch):
        raise raised

    done = go(tmp_path / "s", steps=2, function=fails)
    assert [math.isnan(e.score) for e in done] == [True, True]
    assert done[0].error.startswith(type(raised).__name__)


def test_nothing_is_made_for_a_search_that_cannot_be(tmp_path):
    small = random_search(SPACE, capacity=3)
    with pytest.raises(ValueError, match="capacity must hold every evaluation"):
        go(tmp_path / "s", small, steps=4)
    with pytest.raises(ValueError, match="the search must be a Search, not 'x'"):
        go(tmp_path / "s", "x")
    with pytest.raises(ValueError, match="the objective must be a function, not 3"):
        go(tmp_path / "s", steps=4, function=3)
    assert not (tmp_path / "s").exists()
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="is not empty and not a search folder"):
        go(tmp_path, steps=4)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    # With one query in flight no room is needed beyond the steps.
    assert len(go(tmp_path / "s", small, 3, function=lambda text: 1.0)) == 3


def test_lengths_may_be_integers_of_any_kind(tmp_path):
    assert scored(go(tmp_path / "a", steps=np.int64(4))) == scored(
        go(tmp_path / "a", steps=4)
    )


OTHER = base.product("other", (4,) * 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"objective": lambda *, text: 1.0},
            r"takes \(\*, text\): wanted \(architecture\), \(architecture, epoch",
        ),
        ({"key": 0}, "the key must be one of jax.random.key, not 0"),
        ({"executor": 3}, "the executor must be an object with submit.*, not 3"),
        ({"folder": "a\0b"}, "the folder must have a name"),
        ({"folder": None}, "the folder must have a name, not None"),
        (
            {"search": dataclasses.replace(evolution(), space=OTHER)},
            "asks for architectures of 5 choices: its space other has 3",
        ),
        (
            {"search": dataclasses.replace(evolution(), space=None)},
            "the search does not know its space: make it with space=",
        ),
    ],
)
def test_bad_arguments_are_refused_before_there_is_a_folder(tmp_path, change, words):
    right = {
        "key": jax.random.key(3),
        "search": evolution(),
        "objective": objective,
        "num_steps": 4,
        "folder": tmp_path / "s",
    }
    with pytest.raises(ValueError, match=words):
        drive.optimise(**{**right, **change})
    assert not list(tmp_path.iterdir())
