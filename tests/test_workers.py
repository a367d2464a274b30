"""The comparison of workers with batches, at toy size."""

import csv
import dataclasses

import numpy as np
import pytest

from experiments import workers

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_workers_are_compared_with_batches(tmp_path, monkeypatch, capsys):
    config = workers.Config(
        benchmark="fashion", dataset="fashion-mnist", split="valid", epochs=4,
        methods=("gp-tw",), seeds=2, evaluations=16, init=8, workers=2, at=(8, 16),
        out=str(tmp_path),
    )  # fmt: skip
    found = workers.main(config)
    part = "the table has 4,484 of the 15,625 architectures of nasbench201\n"
    assert part in capsys.readouterr().out
    ours, theirs = found["gp-tw-workers/regret"], found["gp-tw-batches/regret"]
    assert ours.shape == theirs.shape == (2, 16) and (ours >= 0).all()
    assert (np.diff(ours) <= 0).all() and (ours != theirs).any()
    # No worker waits for another, so all are done earlier.
    assert (found["gp-tw-workers/time"] < 1.01 * found["gp-tw-batches/time"]).all()
    with open(tmp_path / "workers.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["after"] for row in rows] == ["8", "16"]
    difference = float(rows[1]["difference"].split()[0])
    assert difference == pytest.approx((ours - theirs)[:, 15].mean(), abs=6e-4)
    # Nothing is run again; other marks and methods are read off, or added.
    chunks = {p: p.stat().st_mtime_ns for p in (tmp_path / "chunks").iterdir()}
    again = workers.main(dataclasses.replace(config, at=(12,)))
    np.testing.assert_array_equal(again["gp-tw-workers/regret"], ours)
    assert chunks == {p: p.stat().st_mtime_ns for p in (tmp_path / "chunks").iterdir()}
    # A method that is added joins those of the folder.
    other = {"regret": ours, "time": np.ones(2)}
    monkeypatch.setattr(workers, "_search", lambda *args: None)
    monkeypatch.setattr(workers, "_run", lambda *args: other)
    workers.main(dataclasses.replace(config, methods=("gp-path",)))
    with open(tmp_path / "workers.csv") as file:
        both = list(csv.DictReader(file))
    assert [row["method"] for row in both] == ["gp-path", "gp-path", "gp-tw", "gp-tw"]
    assert both[2:] == rows
    with pytest.raises(ValueError, match="other settings \\(workers 2 there, 4 now"):
        workers.main(dataclasses.replace(config, workers=4))


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--evaluations 18 must be a multiple of"):
        workers.main(workers.Config(evaluations=18, at=(9,), out=str(tmp_path / "no")))
    assert not (tmp_path / "no").exists()
