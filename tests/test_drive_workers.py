"""What objectives take and return, and what becomes of failures and dead workers."""

import dataclasses
import functools
import math
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from drive_toy import (
    SPACE,
    costly,
    events,
    evolution,
    gaussian,
    go,
    make,
    objective,
    parsed,
    same,
    scored,
    value,
)
from jax.tree_util import Partial

from jaxnas.predictors import pool
from jaxnas.search import drive
from jaxnas.search.base import Stage
from jaxnas.search.drive import clusters, search_state, workers
from jaxnas.search.drive.history import numpy_query
from jaxnas.search.drive.record import Record, Tell, apply_event
from jaxnas.search.gp import pool_search
from jaxnas.search.random import random_search
from jaxnas.spaces import base
from jaxnas.types import asked

pytestmark = pytest.mark.usefixtures("quick_compilation")


# What objectives take.


class Method:
    def evaluate(self, arch, epoch):
        """A bound method."""


@pytest.mark.parametrize(
    ("function", "places", "names"),
    [
        (lambda arch: 0, "arch", ""),
        (lambda a, e: 0, "arch epoch", ""),
        (lambda a, b, c: 0, "arch epoch start", ""),
        (lambda a, b, c, d: 0, "arch epoch start folder", ""),
        (lambda text, folder: 0, "arch folder", ""),
        (lambda text, seed, epoch: 0, "arch seed epoch", ""),
        (lambda text, lr=0.1: 0, "arch", ""),
        (lambda text, lr=0.1, epoch=3: 0, "arch", "epoch"),
        (lambda text, *, start: 0, "arch", "start"),
        (lambda text, *, lr=1: 0, "arch", ""),
        (lambda *args: 0, "arch epoch start folder", ""),
        (lambda arch, epoch, /: 0, "arch epoch", ""),
        (lambda *, arch: 0, "", "arch"),
        (functools.partial(lambda lr, arch: 0, lr=0.5), "", "arch"),
        (functools.partial(lambda lr, arch, epoch: 0, lr=0.5), "", "arch epoch"),
        (functools.partial(lambda lr, a, e: 0, 0.1), "arch epoch", ""),
        (Method().evaluate, "arch epoch", ""),
        (len, "arch", ""),
    ],
)
def test_what_an_objective_takes(function, places, names):
    assert workers.required_parameters(function) == (
        tuple(places.split()),
        tuple(names.split()),
        (),  # objectives
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda: 0,
        lambda a, b, c, d, e: 0,
        lambda a, *, arch: 0,
        functools.partial(lambda lr, text: 0, lr=0.5),
        lambda a, start, c: 0,  # the third would be the start as well
        lambda a, *, lr: 0,
    ],
)
def test_what_no_objective_takes(function, tmp_path):
    with pytest.raises(ValueError, match=r"the objective takes \(.*wanted \(architec"):
        go(tmp_path / "s", function=function)
    assert not (tmp_path / "s").exists()


def test_an_objective_whose_settings_are_given_by_name(tmp_path):
    function = functools.partial(lambda lr, arch, epoch: lr * epoch, lr=0.5)
    assert {e.score for e in go(tmp_path, steps=2, function=function)} == {6.0}


def test_the_epoch_of_a_search_without_one_is_no_number(tmp_path):
    search = random_search(SPACE)
    with pytest.raises(ValueError, match="takes an epoch, and the search was made wit"):
        go(tmp_path / "s", search, 4, function=lambda arch, epoch: 1.0)
    assert not (tmp_path / "s").exists()
    found = go(tmp_path / "s", search, 4, function=lambda arch: 1.0)
    assert [e.epoch for e in found] == [None] * 4
    assert str(2**31 - 1) not in (tmp_path / "s/history.jsonl").read_text()


def test_architectures_of_one_class_have_folders_of_their_own(tmp_path):
    archs = {}

    def trains(arch, folder):
        archs.setdefault(folder, set()).add(arch)
        return 1.0

    search = random_search(SPACE, capacity=8, same=lambda arch: arch[0])
    done = go(tmp_path, search, 8, function=trains)
    assert len({e.arch[0] for e in done}) <= 4 and len({e.arch for e in done}) > 4
    assert all(len(trained) == 1 for trained in archs.values())


def test_trainings_go_on_in_a_folder_of_their_own(tmp_path):
    """Every architecture is trained to 3 and then from 3 to 9, in the same folder."""

    inner = random_search(SPACE, epoch=3)

    def ask(key, state):
        query = inner.ask(
            jax.random.fold_in(jax.random.key(1), state.count // 2), state
        )
        late = state.count % 2
        return query._replace(
            epoch=query.epoch + 6 * late, start=query.start + 3 * late
        )

    search = dataclasses.replace(inner, ask=Partial(ask))
    calls = []

    def trains(arch, epoch, start, folder):
        calls.append((arch, epoch, start))
        kept = folder / "trained.txt"
        assert (kept.read_text() if start else str(kept.exists())) in (arch, "False")
        kept.write_text(arch)
        return 1.0

    found = go(tmp_path, search, 6, function=trains)
    assert not any(e.error for e in found)
    assert [c[1:] for c in calls] == [(3, 0), (9, 3)] * 3
    assert [c[0] for c in calls[::2]] == [c[0] for c in calls[1::2]]
    assert len(list((tmp_path / "checkpoints").iterdir())) == len({c[0] for c in calls})


# What objectives return.


def test_costs_curves_and_metrics_are_kept(tmp_path):
    def rich(arch):
        return {
            "score": np.float32(0.1),
            "cost": 7,
            "curve": np.array([0.05, math.inf, 0.1]),
            "flops": jax.numpy.float32(3),
            "loss": math.inf,
        }

    found = go(tmp_path, random_search(SPACE), 2, function=rich)
    again = go(tmp_path, random_search(SPACE), 2, function=rich)
    for one in (found[0], again[0], drive.read(tmp_path)[0]):
        assert (one.score, one.cost) == (float(np.float32(0.1)), 7.0)
        np.testing.assert_equal(one.curve, (0.05, math.nan, 0.1))
        assert one.metrics["flops"] == 3.0 and math.isnan(one.metrics["loss"])
        assert one.worker.endswith(f":{os.getpid()}")
        assert time.time() - 60 < one.begin <= one.end <= time.time()


def test_tell_receives_score_and_cost():
    returned = Partial(lambda state, query, result: result)
    search = dataclasses.replace(random_search(SPACE), tell=returned)
    key = jax.random.key(0)
    plan = search_state.Plan(search, (), key, key, ahead=0, points=1)
    epoch, start = np.array([[9], [0]], np.int32)
    query = numpy_query(np.zeros((1, 5), np.int32), epoch, start)
    tell = Tell(query, [drive.Evaluation("0,0,0,0,0", 2.5, cost=7.0)])
    progress = search_state.SearchProgress(None, 0, True)
    told = search_state.tell_all(plan, progress, [tell], {}).state
    assert (told.score.tolist(), told.cost.tolist()) == ([2.5], [7.0])


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"accuracy": 1.0}, "a mapping without 'score' for .* only accuracy"),
        ({"score": "high"}, "returned str as score"),
        ({"score": 1.0, "loss": None}, "returned NoneType as loss"),
        ({"score": 1.0, "curve": ["a"]}, "returned str in its curve"),
        ({}, "an empty mapping for .*: wanted a 'score'"),
        (
            {"score": 1.0, "curve": 5},
            "int as the curve of .*: wanted a list of numbers",
        ),
        ({"score": 1.0, "curve": None}, "NoneType as the curve of .*: wanted a list"),
        ({"score": 1.0, "curve": "12"}, "str as the curve of .*: wanted a list"),
        ({"score": 1.0, "curve": {3: 0.1}}, "dict as the curve of .*: wanted a list"),
        ({"score": 1.0, "cost": -1}, "a cost of -1.0"),
        ({"score": 1.0, "cost": math.nan}, "a cost of nan"),
        ("high", "the objective returned str for"),
    ],
)
def test_what_is_no_result_is_an_error(tmp_path, returned, words):
    with pytest.raises(ValueError, match=words):
        go(tmp_path, random_search(SPACE), 2, function=lambda arch: returned)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=words):
        options = dict(function=lambda arch: returned, executor=executor)
        go(tmp_path, random_search(SPACE), 2, **options)
    assert not events(tmp_path, "evaluation")


@pytest.mark.parametrize("points", [1, 3])
def test_the_search_is_told_curves_and_costs(tmp_path, points):
    inner, seen = random_search(SPACE), []

    def tell(state, query, result):
        jax.debug.callback(lambda *x: seen.append(x), result.curve, result.cost)
        return inner.tell(state, query, result)

    function = lambda arch: {"score": 0.5, "cost": 4, "curve": [0.25, 0.5]}  # noqa: E731
    search = dataclasses.replace(inner, tell=Partial(tell))
    go(tmp_path, search, 2, function=function, points=points)
    go(tmp_path, search, 3, function=function, points=points)
    jax.effects_barrier()
    assert len(seen) >= 3
    for curve, cost in seen:
        wanted = [[0.5]] if points == 1 else [[0.25, 0.5, math.nan]]
        np.testing.assert_array_equal(curve, wanted)
        np.testing.assert_array_equal(cost, [4])
    function = lambda arch: {"score": 1, "curve": [1] * 4}  # noqa: E731
    if points > 1:
        with pytest.raises(ValueError, match="4 values: wanted at most points = 3"):
            go(tmp_path / "s", search, 2, function=function, points=points)
    assert len(go(tmp_path / "s", search, 2, function=function, points=4)) == 2


def test_a_curve_that_is_too_long_is_kept_and_no_second_one_is_made(tmp_path):
    search, options, made = make("random"), dict(steps=2, points=3), []

    def long(arch):
        made.append(arch)
        return {"score": 1, "curve": [1] * 4}

    words = "the curve of [0-9,]+ has 4 values: wanted at most points = 3"
    with pytest.raises(ValueError, match=words):
        go(tmp_path / "a", search, function=long, on_evaluation=made.append, **options)
    kept = drive.read(tmp_path / "a")
    assert made == [kept[0].arch, kept[0]] and len(kept[0].curve) == 4
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(ValueError, match=words),
    ):
        go(tmp_path / "a", search, function=long, executor=executor, **options)
    with pytest.raises(ValueError, match=words):
        go(tmp_path / "a", search, function=long, steps=1, points=3)
    assert len(made) == 2
    found = go(tmp_path / "a", search, function=long, steps=2, points=4)
    assert found[:1] == kept and len(found) == 2 and len(made) == 3


def test_a_curve_from_outside_that_is_too_long_is_not_taken(tmp_path):
    told_in = [drive.Evaluation("0,0,0,0,0", 1.0, curve=(1.0,) * 4)]
    with pytest.raises(ValueError, match="has 4 values: wanted at most points = 3"):
        go(tmp_path / "b", given=told_in, points=3)
    assert not (tmp_path / "b").exists()


# Numbers.


def sum_of(text):
    return float(sum(c * (i + 1) for i, c in enumerate(parsed(text))))


@pytest.mark.parametrize(
    "change", [lambda x: 1e9 + x, lambda x: 1e-30 * x, lambda x: -1e12 + 1e-3 * x]
)
def test_scores_are_told_apart_whatever_their_offset_and_scale(tmp_path, change):
    space = base.product("small", (3,) * 4)
    one_hot = lambda arch: (jax.nn.one_hot(arch, 3).reshape(-1),)  # noqa: E731
    search = pool_search.bayesopt(pool.make_pool(space, [one_hot]), init=6)

    def where(folder, function):
        key = jax.random.key(0)
        found = drive.optimise(key, search, function, 24, tmp_path / folder)
        again = drive.optimise(key, search, function, 24, tmp_path / folder)
        assert again == found
        assert drive.best(found).score == function("2,2,2,2")
        return next(i for i, e in enumerate(found) if e.arch == "2,2,2,2")

    plain = where("plain", sum_of)
    assert not events(tmp_path / "plain", "scale")
    assert where("changed", lambda text: change(sum_of(text))) <= plain + 4
    assert len(events(tmp_path / "changed", "scale")) == 1


def test_in_double_precision(tmp_path, x64):
    search = gaussian.__wrapped__()  # of a pool in double precision
    found = go(tmp_path, search, 12, function=costly)
    assert len({e.arch for e in found}) == 12
    assert scored(go(tmp_path, search, 14, function=costly)[:12]) == scored(found)


def test_a_scale_that_was_chosen_is_that_of_a_resumed_search(tmp_path):
    function = lambda text: 1e9 + sum_of(text)  # noqa: E731
    whole = go(
        tmp_path / "a", gaussian(), 16, function=lambda text, epoch: function(text)
    )
    path = tmp_path / "a/history.jsonl"
    lines = path.read_bytes().splitlines(True)
    at = next(i for i, line in enumerate(lines) if b'"scale"' in line)
    for cut in (at - 1, at, at + 1, at + 6):
        path.write_bytes(b"".join(lines[:cut]))
        same(
            go(tmp_path / "a", gaussian(), 16, function=lambda t, epoch: function(t)),
            whole,
        )
        assert len(events(tmp_path / "a", "scale")) == 1


# Executors that cannot work.


class Waits:
    async def submit(self, function, *args): ...


class InALoop(Waits):
    asynchronous = True

    def submit(self, function, *args): ...


class Narrow:
    def submit(self, function): ...


class NoFuture:
    def submit(self, function, *args):
        return 3


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        (3, "an object with submit"),
        (ThreadPoolExecutor, "an object with submit"),
        (multiprocessing, "an object with submit"),
        (Waits(), "is for asyncio"),
        (InALoop(), r"\(InALoop\) is for asyncio"),
        (Narrow(), "cannot be called with a function and its arguments"),
    ],
)
def test_executors_that_cannot_work_are_refused(tmp_path, executor, words):
    with pytest.raises(ValueError, match=words):
        go(tmp_path / "s", executor=executor)
    assert not (tmp_path / "s").exists()


def test_what_shows_only_when_something_is_submitted(tmp_path):
    with pytest.raises(ValueError, match=r"has no done\(\) and result\(\): 3"):
        go(tmp_path, executor=NoFuture())
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(
        ValueError, match="takes no work: RuntimeError: cannot schedule"
    ):
        go(tmp_path, executor=closed)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        with pytest.raises(ValueError, match="other processes must be able to import"):
            function = functools.partial(lambda lock, arch: 1.0, threading.Lock())
            go(tmp_path / "s", function=function, executor=processes)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(workers=2), "2 workers need an executor"),
        (dict(workers=0, threads=True), "workers must be a whole number from 1, not 0"),
        (dict(workers=2, threads=True, batch=2), "asks for 2 architectures at a time"),
        (dict(retries=-1), "retries must be a whole number from 0, not -1"),
        (dict(retries=1.5), "retries must be a whole number from 0, not 1.5"),
        (dict(retries=None), "retries must be a whole number from 0, not None"),
        (dict(points=True), "points must be a whole number from 1, not True"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path, options, words):
    search = evolution(options.pop("batch", 1))
    with ThreadPoolExecutor(2) as executor:
        if options.pop("threads", False):
            options["executor"] = executor
        with pytest.raises(ValueError, match=words):
            go(tmp_path / "s", search, **options)
    assert not (tmp_path / "s").exists()


def test_as_many_in_flight_as_the_executor_has_workers(tmp_path):
    running, most, lock = [0], [], threading.Lock()
    first = threading.Barrier(3)  # which a busy machine cannot pass one by one

    def watched(text, epoch):
        with lock:
            running[0] += 1
            most.append(running[0])
            early = len(most) <= 3
        if early:
            first.wait(60)
        with lock:
            running[0] -= 1
        return objective(text, epoch)

    with ThreadPoolExecutor(3) as executor:
        found = go(tmp_path, function=watched, executor=executor)
    assert max(most) == 3 and len(found) == 20
    assert sorted(e.step for e in found) == list(range(20))


def test_an_objective_that_workers_cannot_load(tmp_path, monkeypatch):
    """As a module that is on this machine alone: nothing has failed, and it is said."""
    module = type(os)("jaxnas_elsewhere")
    exec("def objective(arch): return 1.0", module.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "jaxnas_elsewhere", module)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(
            ValueError, match="workers cannot load the objective: Module"
        ):
            go(tmp_path, function=module.objective, executor=executor)
    assert not events(tmp_path, "evaluation")


# Failures.


def test_flaky_evaluations_are_repeated(tmp_path):
    calls = []

    def flaky(text, epoch):
        calls.append(text)
        if calls.count(text) < 3 and math.isnan(value(parsed(text))):
            raise OSError("the disk is away")
        return 1.0

    search = random_search(SPACE, capacity=20, epoch=12)
    found = go(tmp_path / "a", search, function=flaky, retries=2)
    assert not any(e.error for e in found)
    assert {e.retries for e in found} == {0, 2}
    assert all(calls.count(e.arch) == e.retries + 1 for e in found)
    calls.clear()
    found = go(tmp_path / "b", search, function=flaky, retries=1)
    assert {(bool(e.error), e.retries) for e in found} == {(False, 0), (True, 1)}
    assert drive.read(tmp_path / "b")[0].retries == found[0].retries


class Gives:
    """An executor whose results are something else."""

    def __init__(self, change):
        self.change = change

    def submit(self, function, *args):
        future = Future()
        future.set_result(self.change(function(*args)))
        return future


@pytest.mark.parametrize(
    "change", [lambda e: None, tuple, lambda e: e._replace(step=9)]
)
def test_what_an_executor_gives_must_be_what_it_was_given(tmp_path, change):
    words = r"result\(\) gave (NoneType|tuple|Evaluation) for [0-9,]+: wanted what the"
    with pytest.raises(ValueError, match=words):
        go(tmp_path, executor=Gives(change), workers=1)
    assert not events(tmp_path, "evaluation")


class KilledWorker(Exception):
    pass


class Raises:
    """An executor that cannot run one architecture, by its future alone."""

    def __init__(self, error, guilty=None):
        self.error, self.guilty, self.running = error, guilty, 0

    def submit(self, function, *args):
        future = Future()
        if self.guilty in (None, args[-1].arch):
            future.set_exception(self.error)
        else:
            future.set_result(function(*args))
        return future


def test_what_the_executor_gives_up_has_failed_at_once(tmp_path):
    guilty = go(tmp_path / "a", random_search(SPACE, epoch=12))[5].arch
    search = random_search(SPACE, epoch=12)
    executor = Raises(KilledWorker("died 4 times"), guilty)
    options = dict(executor=executor, workers=3, retries=2)
    found = go(tmp_path / "b", search, **options)
    assert len(found) == 20
    (failed,) = (e for e in found if e.arch == guilty)
    assert failed.error == "KilledWorker: died 4 times" and math.isnan(failed.score)
    assert failed.retries == 0 and failed.begin == failed.end > 0


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (BrokenExecutor("gone"), RuntimeError, "a worker of the executor died while"),
        (TypeError("no pickle"), ValueError, "cannot run the objective: TypeError: no"),
        (ImportError("no module"), ValueError, "cannot run the objective: ImportError"),
        (type("RayTaskError", (Exception,), {})(), ValueError, "cannot run the objec"),
        (ConnectionError("closed"), RuntimeError, "the executor is out of reach"),
        (CancelledError("lost"), RuntimeError, "the executor is out of reach"),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_what_an_executor_cannot_do_is_no_failed_architecture(
    tmp_path, raised, kind, words, batch
):
    with pytest.raises(kind, match=words):
        go(tmp_path, evolution(batch), 4, executor=Raises(raised))
    assert not events(tmp_path, "evaluation")
    assert len(go(tmp_path, evolution(batch), 4)) == 4 * batch


class Pool:
    """Three workers that are done when all are busy, or there is nothing else to do;
    the guilty architecture takes all of them down."""

    def __init__(self, guilty):
        self.guilty, self.waiting = guilty, []

    def submit(self, function, *args):
        self.waiting.append(Job(self, function, args))
        return self.waiting[-1]


class Job:
    def __init__(self, pool, function, args):
        self.pool, self.call = pool, functools.partial(function, *args)
        self.arch = args[-1].arch

    def done(self):
        return True

    def result(self):
        if self.pool.guilty in [job.arch for job in self.pool.waiting]:
            raise BrokenExecutor("gone")
        self.pool.waiting.remove(self)
        return self.call()


@pytest.mark.parametrize("batch", [1, 3])
def test_an_architecture_that_kills_two_workers_has_failed(tmp_path, batch):
    search = lambda: random_search(SPACE, batch=batch, epoch=12)  # noqa: E731
    steps = 12 // batch
    wanted = go(tmp_path / "a", search(), steps)
    guilty = wanted[4].arch
    errors = []
    for _ in range(5):
        options = {"executor": Pool(guilty)} | ({"workers": 3} if batch == 1 else {})
        try:
            found = go(tmp_path / "b", search(), steps, **options)
            break
        except RuntimeError as error:
            errors.append(str(error))
    assert len(errors) == 2 and all(guilty in error for error in errors)
    assert "runs each of them alone" in errors[0] and "recorded as failed" in errors[1]
    assert sorted(e.arch for e in found) == sorted(e.arch for e in wanted)
    (failed,) = (e for e in found if e.arch == guilty)
    assert math.isnan(failed.score) and failed.error == "its worker died twice"
    ran = [e for e in found if e.arch != guilty]
    assert not any("died" in e.error for e in ran)


class Falls:
    """Three workers: one takes the executor down, just before the others finish."""

    def __init__(self):
        self.calls = []

    def submit(self, function, *args):
        self.calls.append((Future(), functools.partial(function, *args)))
        if len(self.calls) == 3:
            self.calls[1][0].set_exception(BrokenExecutor("gone"))
            for future, call in self.calls[::2]:
                future.set_result(call())
        return self.calls[-1][0]


def test_what_others_have_finished_is_not_lost_with_the_executor(tmp_path):
    search = random_search(SPACE, batch=3, epoch=12)
    with pytest.raises(RuntimeError, match="died while it evaluated one of [0-9,]*:"):
        go(tmp_path, search, 2, executor=Falls())
    assert [e["slot"] for e in events(tmp_path, "evaluation")] == [0, 2]
    assert [e["tasks"] for e in events(tmp_path, "died")] == [[[0, 1]]]


def test_real_processes_that_die(tmp_path):
    """A worker process that exits breaks its pool; the next calls find out of which."""
    context = multiprocessing.get_context("spawn")
    guilty = go(tmp_path / "a", make("random"), 3, function=sum_of)[1].arch
    function, deaths = functools.partial(exits, guilty), 0
    while True:
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            try:
                found = go(
                    tmp_path / "b",
                    make("random"),
                    4,
                    function=function,
                    executor=executor,
                )
                break
            except RuntimeError as error:
                assert guilty in str(error)
                deaths += 1
    assert deaths == 2
    assert [e.arch for e in found if e.error] == [guilty] and len(found) == 4


def exits(guilty, arch):
    if arch == guilty:
        os._exit(3)
    return sum_of(arch)


# Results from outside.


def test_results_from_outside_become_history_once(tmp_path):
    outside = [drive.Evaluation("3,3,3,3,3", 99.5), drive.Evaluation("0,0,0,0,1", 1.0)]
    outside += [drive.Evaluation("1,0,0,0,1", error="it diverged")]
    search = random_search(SPACE, capacity=12)
    found = go(tmp_path, search, 8, function=costly, given=outside)
    assert [(e.arch, e.score, e.step) for e in found[:2]] == [
        ("3,3,3,3,3", 99.5, None),
        ("0,0,0,0,1", 1.0, None),
    ]
    assert len(found) == 11 and drive.best(found).arch == "3,3,3,3,3"
    assert not {e.arch for e in found[:3]} & {e.arch for e in found[3:]}
    assert go(tmp_path, search, 8, function=costly, given=outside) == found
    longer = go(tmp_path, search, 9, function=costly, given=outside)
    assert longer[:-1] == found
    status = drive.status(tmp_path)
    assert (status.in_flight, status.best) == (0, found[0])
    with pytest.raises(ValueError, match="12 .*more than 12|13, more than 12"):
        go(tmp_path, search, 10, function=costly)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_learns_from_results_from_outside(tmp_path, batch):
    hot = lambda arch: (jax.nn.one_hot(arch, 4).reshape(-1),)  # noqa: E731
    search = pool_search.bayesopt(pool.make_pool(SPACE, [hot]), init=4, batch=batch)
    rng = np.random.default_rng(0)
    texts = {SPACE.to_string(a) for a in rng.integers(0, 4, (30, 5))}
    outside = [drive.Evaluation(text, sum_of(text)) for text in sorted(texts)]
    found = go(tmp_path / "a", search, 4, function=sum_of, given=outside)
    new = [e for e in found if e.step is not None]
    assert len(new) == 4 * batch
    # A random cell has 22.5, the best one 45.
    assert max(e.score for e in new) > 42 and min(e.score for e in new[batch:]) > 30


def test_results_from_outside_are_told_in_batches(tmp_path):
    record = Record(SPACE, 2)
    for number in range(5):
        one = drive.Evaluation(f"{number % 4},0,0,0,{number // 4}", 1.0, 7, seed=number)
        apply_event(record, one, lambda arch: True)
    assert [len(tell.done) for tell in record.tells] == [2, 2, 1]
    query = record.tells[1].query
    assert query.arch.tolist() == [[2, 0, 0, 0, 0], [3, 0, 0, 0, 0]]
    assert (query.epoch.tolist(), query.seed.tolist()) == ([7, 7], [2, 3])
    assert asked(record.tells[2].query).tolist() == [True, False]
    assert drive.Evaluation("0,0,0,0,0", 1.0).seed == 0  # the first repetition


def test_what_the_search_cannot_be_told_is_history_alone(tmp_path):
    some = np.indices((2,) * 5).reshape(5, -1).T
    hot = lambda arch: (jax.nn.one_hot(arch, 4).reshape(-1),)  # noqa: E731
    small = pool_search.bayesopt(pool.make_pool(SPACE, [hot], arch=some), init=4)
    outside = [drive.Evaluation("3,3,3,3,3", 99.5)]
    found = go(tmp_path, small, 6, function=sum_of, given=outside)
    same(found[1:], go(tmp_path / "without", small, 6, function=sum_of))
    assert found[0].arch == "3,3,3,3,3"
    # A line that was asked, of a cell that the pool does not have.
    go(tmp_path / "other", make("random"), 6, function=costly)
    with pytest.raises(ValueError, match="the search does not accept "):
        go(tmp_path / "other", small, 6, function=sum_of)


def test_results_that_do_not_fit_the_search_leave_the_folder_as_it_was(tmp_path):
    search = random_search(SPACE, capacity=3)
    found = go(tmp_path, search, 3, function=costly)
    before = (tmp_path / "history.jsonl").read_bytes()
    outside = [drive.Evaluation("3,3,3,3,3", 99.5)]
    with pytest.raises(ValueError, match="4 steps of 1 are 4, more than 3"):
        go(tmp_path, search, 3, function=costly, given=outside)
    assert (tmp_path / "history.jsonl").read_bytes() == before
    assert go(tmp_path, search, 3, function=costly) == found


def test_a_state_that_cannot_grow_for_results_leaves_the_folder_as_it_was(tmp_path):
    def grow(state, end):
        if end > 3:
            raise ValueError(f"no room for {end} steps")
        return state

    search = dataclasses.replace(
        random_search(SPACE),
        grow=Partial(grow),
        stages=lambda num_steps: (Stage(num_steps, 1),),
    )
    found = go(tmp_path, search, 3, function=costly)
    outside = [drive.Evaluation("3,3,3,3,3", 99.5)]
    with pytest.raises(ValueError, match="no room for 4 steps"):
        go(tmp_path, search, 3, function=costly, given=outside)
    assert go(tmp_path, search, 3, function=costly) == found


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (("0,0,0,0,0", 1.0), "must hold evaluations, not"),
        (drive.Evaluation("0,0,0", 1.0), "cannot take Evaluation.*'0,0,0'"),
        (drive.Evaluation("0,0,0,0,0", "high"), "cannot take .*high"),
        (drive.Evaluation("0,0,0,0,0", 1.0, epoch=-1), "-1 is not a whole number"),
        (drive.Evaluation("0,0,0,0,0", 1.0, cost=math.inf), "cannot take"),
    ],
)
def test_what_cannot_be_told_in(tmp_path, one, words):
    with pytest.raises(ValueError, match=words):
        go(tmp_path / "s", given=[one])
    assert not (tmp_path / "s").exists()


def test_every_executor_says_how_many_workers_it_has():
    with ThreadPoolExecutor(7) as executor:
        assert clusters.num_workers(executor) == 7
    assert clusters.num_workers(NoFuture()) == os.cpu_count()


def test_a_ray_cluster_has_a_worker_for_so_many_cpus(monkeypatch):
    resources = {"CPU": 7.0}
    ray = SimpleNamespace(cluster_resources=lambda: resources)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert clusters.ray_executor(num_cpus=2).num_workers == 3
    assert clusters.ray_executor(num_cpus=16).num_workers == 1
    resources.clear()
    assert clusters.ray_executor().num_workers == 1
