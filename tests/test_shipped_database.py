"""The meta-database that ships: where its images come from, and what it holds."""

import collections

import numpy as np
import pytest

from jaxnas.curves.extrapolate import pfn
from jaxnas.datasets import meta_database, tasks
from jaxnas.io import files

# Licences under which what is computed of the images may be passed on.
FREE = {
    "fashion-mnist": "MIT",
    "digits": "CC BY 4.0",
    "openclipart": "public domain",
    "noto-emoji": "OFL-1.1",
    "glyphs": "Bitstream Vera, STIX (OFL-1.0), OFL-1.1, OFL-1.1, OFL-1.1, OFL-1.1, "
    "OFL-1.1, OFL-1.1",
}


@pytest.fixture(scope="module")
def database():
    return meta_database.load(meta_database.SHIPPED)


def test_every_pool_is_freely_licensed(database):
    pools = database.manifest["pools"]
    assert {name: pool["licence"] for name, pool in pools.items()} == FREE
    assert {*database.features} == {*FREE} >= {task.pool for task in database.tasks}
    for pool in pools.values():
        packages, versions = pool["package"].split(", "), pool["version"].split(", ")
        assert (
            len(packages)
            == len(versions)
            == len(pool["licence"].split(", ")) - ("STIX" in pool["licence"])
        )
        assert "unknown" not in versions and "own files" not in packages
    # Weights trained on ImageNet computed the features, and are not in the file.
    assert database.kind.name == "lite0-taps-64px"


def test_what_ships_is_small():
    folder = files.shipped_checkpoint(meta_database.SHIPPED)
    assert (folder / "database.npz").stat().st_size < 2.1e6
    sizes = {
        part: sum(p.stat().st_size for p in part.rglob("*") if p.is_file())
        for part in folder.parent.iterdir()
    }
    # Of the curves' transformer the weights alone may take 10 MB, all others half of it.
    transformer = sizes.pop(files.shipped_checkpoint(pfn.SHIPPED))
    assert transformer < 1e7 and sum(sizes.values()) < 5e6


def test_classes_of_tests_are_in_no_other_task(database):
    pools, seed = database.manifest["pools"], database.manifest["settings"]["seed"]
    for task in database.tasks:
        num = len(pools[task.pool]["classes"])
        parts = tasks.divide_classes(num, name=task.pool, seed=seed)
        parts = tasks.all_unseen(num) if task.pool == "digits" else parts
        assert (parts[list(task.classes)] == task.part).all()
    assert len(set(database.tasks)) == len(database.tasks)


def test_records_and_grid_are_complete(database):
    count = collections.Counter(task.part for task in database.tasks)
    assert [count[part] for part in range(4)] == [630, 65, 15, 5]
    assert database.arch.shape == (715, 6, 6)
    assert database.manifest["settings"]["epochs"] == database.test.shape[2] == 12
    assert (database.repeat_cell >= 0).sum() >= 0.05 * 715 * 6
    held_out = {n for n, task in enumerate(database.tasks) if task.part >= 2}
    assert {*database.grid_task.tolist()} == held_out
    assert database.grid_test.shape == (2, 20, 200)
    assert len(np.unique(database.grid_arch, axis=0)) == 200
    for accuracy in (database.test, database.grid_test):
        finite = accuracy[np.isfinite(accuracy)]
        assert len(finite) > 0.99 * accuracy.size
        assert finite.min() >= 0 and finite.max() < 100.001


def test_cells_differ_by_more_than_the_noise(database):
    noise = meta_database.label_noise(database)
    assert noise.pairs == 239
    assert noise.ceiling > 0.95 and noise.ceiling_within > 0.79
    # On glyphs cells differ most; not on every task do they differ by more than the noise.
    reliability = meta_database.grid_reliability(database)
    glyphs = [database.tasks[n].pool == "glyphs" for n in database.grid_task]
    assert reliability[glyphs].min() > 0.3 and reliability[glyphs].mean() > 0.6
    assert np.isfinite(reliability).all()
