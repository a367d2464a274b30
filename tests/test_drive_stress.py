"""A cluster whose workers are killed, driven by a process that is killed."""

import collections
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drive_toy import SPACE, go, parsed, value

from jaxnas.search import drive
from jaxnas.search.random import random_search

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NUM = 200


class Counted:
    """The toy objective, of which a fifth fails; every call is a line of a file."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, arch):
        with open(Path(self.folder) / "calls.txt", "a") as file:
            file.write(f"{arch} {os.getpid()}\n")
        time.sleep(0.05)
        score = value(parsed(arch))
        if math.isnan(score):
            raise RuntimeError(f"no network for {arch}")
        return score


def search():
    return random_search(SPACE, capacity=NUM)


DRIVER = """
import sys
sys.path.insert(0, "tests")
import distributed
import test_drive_stress as t

with distributed.Client(sys.argv[1], set_as_default=False) as client:
    t.go(sys.argv[2], t.search(), t.NUM, function=t.Counted(sys.argv[3]), executor=client)
"""


def lines(path):
    return path.read_bytes().count(b'"evaluation"') if path.exists() else 0


def test_200_evaluations_on_a_cluster_through_eight_kills(tmp_path, monkeypatch):
    """Every architecture is recorded once, and repeated only if it was in flight."""
    distributed = pytest.importorskip("distributed")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([f"{ROOT}/tests", f"{ROOT}", path])
    )
    folder, rng = tmp_path / "s", random.Random(0)
    history = folder / "history.jsonl"
    kills = sorted(rng.sample(range(10, NUM - 20), 8))
    kinds = ["driver"] * 5 + ["worker"] * 3
    rng.shuffle(kinds)
    with distributed.LocalCluster(
        n_workers=4, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        command = [sys.executable, "-W", "ignore", "-c", DRIVER]
        command += [cluster.scheduler_address, str(folder), str(tmp_path)]
        options = dict(cwd=ROOT, stderr=subprocess.PIPE, text=True)
        driver = subprocess.Popen(command, **options)
        in_flight = 0
        for at, kind in zip(kills, kinds, strict=True):
            while lines(history) < at:
                assert driver.poll() is None, driver.stderr.read()
                time.sleep(0.01)
            if kind == "driver":
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                in_flight += drive.status(folder).in_flight
                driver = subprocess.Popen(command, **options)
            else:
                in_flight += 4
                worker = rng.choice(list(cluster.workers.values()))
                os.kill(worker.pid, signal.SIGKILL)
        assert driver.wait(timeout=300) == 0, driver.stderr.read()
    found = drive.read(folder)
    assert sorted(e.step for e in found) == list(range(NUM))
    assert len({e.arch for e in found}) == NUM
    wanted = [value(parsed(e.arch)) for e in found]
    failed = [e for e in found if e.error]
    assert sum(map(math.isnan, wanted)) == len(failed) > 20
    assert all("no network for" in e.error for e in failed)
    calls = [
        line.split()[0] for line in (tmp_path / "calls.txt").read_text().splitlines()
    ]
    assert set(calls) == {e.arch for e in found}
    repeated = {arch: n for arch, n in collections.Counter(calls).items() if n > 1}
    assert sum(repeated.values()) - len(repeated) <= in_flight <= 8 * 4
    assert go(folder, search(), NUM, function=len) == found
