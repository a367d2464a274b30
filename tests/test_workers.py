"""The comparison of workers with batches, at toy size."""

import csv
import dataclasses

import numpy as np
import pytest

from experiments import workers

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_workers_are_compared_with_batches(tmp_path):
    config = workers.Config(
        benchmark="fashion", dataset="fashion-mnist", split="valid", epochs=4,
        methods=("gp-tw",), seeds=2, evaluations=16, init=8, workers=2, at=(8, 16),
        out=str(tmp_path),
    )  # fmt: skip
    found = workers.main(config)
    ours, theirs = found["gp-tw/workers"], found["gp-tw/batches"]
    assert ours.shape == theirs.shape == (2, 2) and (ours >= 0).all()
    assert (np.diff(ours) <= 0).all() and (ours != theirs).any()
    # No worker waits for another, so all are done earlier.
    assert (found["gp-tw/workers/time"] < 1.01 * found["gp-tw/batches/time"]).all()
    with open(tmp_path / "workers.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["after"] for row in rows] == ["8", "16"]
    with pytest.raises(ValueError, match="other settings \\(seeds 2 there, 3 now"):
        workers.main(dataclasses.replace(config, seeds=3))
    difference = float(rows[1]["difference"].split()[0])
    assert difference == pytest.approx((ours - theirs)[:, 1].mean(), abs=6e-4)


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--evaluations 18 must be a multiple of"):
        workers.main(workers.Config(evaluations=18, at=(9,), out=str(tmp_path / "no")))
    assert not (tmp_path / "no").exists()
