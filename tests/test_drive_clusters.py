"""Driven searches on dask.distributed, submitit and Ray, each on this machine."""

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from drive_toy import SPACE, costly, go, parsed

from jaxnas.search import drive
from jaxnas.search.random import random_search

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


def search():
    return random_search(SPACE, capacity=16)


class Deadly:
    """An objective that notes every call, and dies of one architecture each time, and of
    another one the first time."""

    def __init__(self, folder, always, once):
        self.folder, self.always, self.once = str(folder), always, once

    def __call__(self, arch):
        with open(Path(self.folder) / "calls.txt", "a") as file:
            file.write(arch + "\n")
        first = Path(self.folder) / "first"
        if arch == self.once and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if arch == self.always:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return float(sum(parsed(arch)))

    def calls(self):
        return (Path(self.folder) / "calls.txt").read_text().split()


class Flaky(NamedTuple):
    """Fails the first time."""

    folder: str

    def __call__(self, arch):
        seen = Path(self.folder) / f"seen {arch}"
        if not seen.exists():
            seen.mkdir()
            raise OSError("the disk is away")
        return 1.0


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    # For the workers, who have to import this module.
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{path}")
    asked = [e.arch for e in go(tmp_path / "plain", search(), 8, function=costly)]
    return Deadly(tmp_path, asked[3], asked[1])


def test_dask(tmp_path, deadly):
    """Killed workers come back; of what is killed for ever one architecture has failed."""
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = go(tmp_path / "s", search(), 14, function=deadly, executor=client)
        # A batch goes to the cluster as one; and a second attempt is one, for Dask, too.
        options = dict(function=Flaky(str(tmp_path)), executor=client, retries=1)
        batch = go(tmp_path / "b", random_search(SPACE, batch=3), 2, **options)
    assert [(e.error, e.retries) for e in batch] == [("", 1)] * 6
    assert sorted(e.step for e in found) == list(range(14))
    # Dask counts the deaths of a worker against what was waiting there, too: one more may
    # have failed, without a call.
    failed = {e.arch: e.error for e in found if e.error}
    assert deadly.always in failed and len(failed) <= 2
    assert all(error.startswith("KilledWorker") for error in failed.values())
    calls = deadly.calls()
    assert calls.count(deadly.always) <= 2 and calls.count(deadly.once) <= 2
    # A worker that is killed takes others with it, whose results nobody had fetched.
    archs = {e.arch for e in found}
    assert len(calls) <= 14 + 6 and archs - failed.keys() <= set(calls) <= archs


def test_submitit(tmp_path, deadly):
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(tmp_path / "logs", cluster="local")
    executor.update_parameters(timeout_min=2)
    found = go(
        tmp_path / "s", search(), 4, function=deadly, executor=executor, workers=2
    )
    assert sorted(e.step for e in found) == list(range(4))
    failed = [e for e in found if e.error]
    assert {e.arch for e in failed} == {deadly.always, deadly.once}
    assert all("UncompletedJobError" in e.error for e in failed)


def test_ray(tmp_path, deadly):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        executor = drive.ray_executor(max_retries=1)
        found = go(tmp_path / "s", search(), 8, function=deadly, executor=executor)
        with pytest.raises(ValueError, match="ray_executor"):
            go(tmp_path / "t", search(), 8, function=deadly, executor=ray)
    finally:
        ray.shutdown()
    assert sorted(e.step for e in found) == list(range(8))
    (failed,) = (e for e in found if e.error)
    assert failed.arch == deadly.always and failed.error.startswith("WorkerCrashed")
    assert deadly.calls().count(deadly.once) == 2
