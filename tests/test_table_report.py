"""The signal of a table with learning curves: against scipy, and what it refuses."""

import csv

import numpy as np
import pytest
from scipy import stats

from experiments import table_report
from jaxnas.benchmarks import table_files, trained


@pytest.fixture
def path(tmp_path):
    """Thirty functions, the first 20 with a second run, and one that connects nothing."""
    archs = trained.representatives()
    dead = (archs == 0).all(1)
    archs = np.concatenate([archs[~dead][:30], archs[dead]])
    rng = np.random.default_rng(0)
    good = rng.uniform(20, 80, (31, 1)) + np.array([[-10, -5, 0]])
    runs = []
    for num in (31, 20):
        noise = rng.normal(0, [9, 6, 3], (3, num, 3))
        curves = dict(zip(("train", "valid", "test"), good[:num] + noise, strict=True))
        curves |= dict(loss=np.ones((num, 3)), seconds=np.ones((num, 3)))
        runs.append(
            {k: np.clip(v, 0, 100).astype(np.float32) for k, v in curves.items()}
        )
    file = tmp_path / "table.npz"
    table_files.save(file, trained.as_table(trained.Trainings(archs, runs, "toy", {})))
    return file, archs, runs


def test_it_measures_what_scipy_says(path, tmp_path, capsys):
    file, archs, (one, two) = path
    other = trained.as_table(trained.Trainings(archs, [one], "other", {}))
    table_files.save(tmp_path / "other.npz", other)
    config = table_report.Config(
        benchmark=str(file),
        other=str(tmp_path / "other.npz"),
        other_column="other/test/3",
        out=str(tmp_path / "out"),
    )
    found = table_report.main(config)
    assert found.curves.shape == (30, 3) and found.compared == 20
    for epoch in range(3):
        a, b = one["valid"][:20, epoch], two["valid"][:20]
        wanted = [stats.spearmanr(a, b[:, e])[0] for e in (epoch, 2)]
        given = found.between[epoch], found.final[epoch]
        np.testing.assert_allclose(given, wanted, 1e-5)
    mean = one["valid"][:30, 2].astype(np.float64)
    mean[:20] = (mean[:20] + two["valid"][:, 2]) / 2
    wanted = stats.spearmanr(mean, one["test"][:30, 2])[0]
    np.testing.assert_allclose(found.other, wanted, 1e-5)
    with open(tmp_path / "out" / "table.csv") as text:
        rows = list(csv.DictReader(text))
    best = [float(row["best"]) for row in rows]
    np.testing.assert_allclose(best, found.curves.max(0), 1e-4)
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"{found.other:.2f}" in capsys.readouterr().out


def test_it_says_what_it_needs(path, tmp_path):
    file, archs, (one, _) = path
    for change, message in (
        (dict(split="train/3"), "wanted one column"),
        (dict(other="analog", other_column="cifar10/test"), "as --other-column"),
        (dict(other="analog", other_column="cifar10/test/7"), "no number of epochs 7"),
    ):
        config = table_report.Config(
            **(dict(benchmark=str(file), out=str(tmp_path / "out")) | change)
        )
        with pytest.raises(ValueError, match=message):
            table_report.main(config)
    single = tmp_path / "single.npz"
    table_files.save(
        single, trained.as_table(trained.Trainings(archs, [one], "toy", {}))
    )
    with pytest.raises(ValueError, match="has two runs of 0 functions"):
        table_report.main(table_report.Config(str(single), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
