"""Asynchronous successive halving of real trainings, killed twice."""

import collections
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import TINY_NETWORK
from test_asynchronous_halving import ETA, LEVELS, Python

from jaxnas import datasets
from jaxnas.benchmarks import training_benchmark
from jaxnas.networks.data import Data
from jaxnas.networks.recipes import Recipe
from jaxnas.search import drive
from jaxnas.search.fidelity.asynchronous import asynchronous_halving
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Query

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

ROOT = Path(__file__).parent.parent
WORKERS, STEPS, KILLS = 4, 20, (5, 12)  # a kill after so many evaluations
DRIVER = """
import sys
import time
from pathlib import Path
sys.path.insert(0, "tests")
import test_trained_halving as t

t.search_images(Path(sys.argv[1]))
"""


def images():
    """Fashion-MNIST, every third pixel of three classes."""
    found = datasets.fashion_mnist(train=False)
    rows = np.flatnonzero(found.y < 3)[:96]
    x = found.x[rows, 2:26:3, 2:26:3].astype(np.float32) / 255
    parts = np.split(x, (64, 88)), np.split(found.y[rows], (64, 88))
    both = [part for pair in zip(*parts, strict=True) for part in pair]
    return Data(*both, np.zeros(1, np.float32))


def halving():
    return asynchronous_halving(SPACE, LEVELS, eta=ETA)


def search_images(folder):
    """Searches with four workers; every call and every end of one is a line of a file."""
    from concurrent.futures import ThreadPoolExecutor

    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    recipe = Recipe(epochs=LEVELS[-1], batch=16, lr=0.1)
    key, store = jax.random.key(0), folder / "trainings"
    benchmark = training_benchmark(key, TINY_NETWORK, recipe, images(), folder=store)

    def objective(arch, epoch, start):
        line = f"{os.getpid()} {arch} {start} {epoch}"
        with open(folder / "calls.txt", "a") as file:
            file.write(f"{line}\n")
        numbers = np.asarray(SPACE.from_string(arch), np.int32)[None]
        query = Query(numbers, *np.asarray([[epoch], [start]], np.int32))
        return float(benchmark.evaluate(key, query).score[0])

    with ThreadPoolExecutor(WORKERS) as executor:
        go(folder / "search", objective, executor)


def go(folder, objective, executor):
    key, options = jax.random.key(1), {"executor": executor, "workers": WORKERS}
    return drive.optimise(key, halving(), objective, STEPS, folder, **options)


class InOrder:
    """Runs evaluations at once, and gives their results in an order of steps."""

    def __init__(self, steps):
        self.steps = list(steps)

    def submit(self, function, *args):
        return Job(self, function(*args))


class Job:
    def __init__(self, executor, evaluation):
        self.executor, self.evaluation = executor, evaluation

    def done(self):
        return self.executor.steps[:1] == [self.evaluation.step]

    def result(self):
        self.executor.steps.pop(0)
        return self.evaluation


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    try:
        images()
    except ValueError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("killed")
    history = folder / "search/history.jsonl"
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, str(folder)]
    for evaluations in (*KILLS, math.inf):
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None:
            if _count(history) >= evaluations:
                process.kill()
            time.sleep(0.001)
        assert process.returncode == (-signal.SIGKILL if evaluations in KILLS else 0)
    return folder


def _count(history):
    return history.read_bytes().count(b'"evaluation"') if history.exists() else 0


def events(folder):
    lines = (folder / "search/history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_promotions_are_those_of_one_process_in_the_order_of_the_history(killed):
    # Trainings are numbered as their first rungs end, which decides between equal scores.
    python, archs, numbers = Python(), [], {}
    for event in events(killed):
        step = event["step"]
        if event["event"] == "asked":
            number, level = python.promoted() or (None, 0)
            wanted = [LEVELS[level]], [(0, *LEVELS)[level]]
            assert (event["epoch"], event["start"]) == wanted
            if level:
                assert SPACE.to_string(event["arch"][0]) == archs[number]
                python.asked[level].add(number)
                numbers[step] = number
        else:
            level = LEVELS.index(event["epoch"])
            number = numbers.get(step, len(archs))
            archs += [event["arch"]] * (level == 0)
            python.tell(number, level, event["score"])
    assert len(archs) + len(numbers) == STEPS and len(python.rungs[1]) > 2


def test_a_replay_asks_the_same(killed, tmp_path):
    done = drive.read(killed / "search")
    score = {(e.arch, e.epoch): e.score for e in done}
    executor = InOrder(e.step for e in done)
    again = go(tmp_path / "search", lambda arch, epoch: score[arch, epoch], executor)
    ask = lambda e: (e.step, e.arch, e.epoch, e.start, e.score)  # noqa: E731
    assert list(map(ask, again)) == list(map(ask, done))
    asked = [
        [e["arch"] for e in events(folder) if e["event"] == "asked"]
        for folder in (killed, tmp_path)
    ]
    assert asked[0] == asked[1]


def test_only_what_was_in_flight_is_trained_again(killed):
    calls = [line.split() for line in (killed / "calls.txt").read_text().splitlines()]
    processes = list(dict.fromkeys(process for process, *_ in calls))
    assert len(processes) == 1 + len(KILLS)
    counts = collections.Counter(tuple(part) for _, *part in calls)
    assert set(counts.values()) <= {1, 2, 3}
    assert sum(counts.values()) - len(counts) <= WORKERS * len(KILLS)
    for process in processes:  # each training once in each process
        own = [tuple(part) for first, *part in calls if first == process]
        assert len(own) == len(set(own))
    # Promoted trainings went on from their checkpoints: no epoch was repeated.
    assert {(s, e) for _, s, e in counts} == {("0", "1"), ("1", "3"), ("3", "9")}
