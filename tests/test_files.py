"""Table files: what is written is read, and what is damaged or foreign is refused."""

import numpy as np
import pytest
from helpers import refused

from jaxnas.benchmarks import table_files
from jaxnas.io import npz


def make_table(num=40, seed=0):
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 100, (num, 3)).astype(np.float32)
    seeds[::2, 2] = np.nan
    columns = {
        "cifar10/valid/12": rng.uniform(0, 100, num).astype(np.float32),
        "cifar10/test/200": seeds,
        "seconds/cifar10/12": rng.uniform(0, 1e4, num).astype(np.float32),
    }
    manifest = {
        "source": "drawn at random",
        "sha256": "0" * 64,
        "columns": dict.fromkeys(columns, "drawn"),
        "note": 3,
    }
    arch = rng.integers(0, 5, (num, 6)).astype(np.int8)
    return table_files.BenchmarkTable("toy", "toyspace", arch, columns, manifest)


def same(one, two):
    assert (one.name, one.space, one.manifest) == (two.name, two.space, two.manifest)
    assert one.columns.keys() == two.columns.keys()
    np.testing.assert_array_equal(one.arch, two.arch, strict=True)
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, two.columns[name], strict=True)


def changed(table, **fields):
    there = {name: getattr(table, name) for name in table.__dataclass_fields__}
    return table_files.BenchmarkTable(**(there | fields))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "table.npz"
    table_files.save(path, make_table())
    return path


def test_a_table_comes_back_as_it_was(saved):
    same(table_files.load(saved), make_table())
    table = table_files.load(saved)
    assert set(table_files.accuracies(table)) == {
        ("cifar10", "valid", 12),
        ("cifar10", "test", 200),
    }
    time = table.columns["seconds/cifar10/12"]
    assert table_files.seconds(table, "cifar10", 12) is time
    assert table_files.seconds(table, "cifar10", 200) is None


def test_a_truncated_table_is_refused(saved):
    data = saved.read_bytes()
    for length in np.linspace(0, len(data) - 1, 50).astype(int):
        saved.write_bytes(data[:length])
        assert str(saved) in refused(table_files.load, saved)


def test_a_flipped_byte_is_refused_or_changes_nothing(saved):
    data, table = saved.read_bytes(), make_table()
    rng = np.random.default_rng(0)
    num_refused = 0
    for at in rng.choice(len(data), 300, replace=False):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        try:
            same(table_files.load(saved), table)
        except ValueError as error:
            num_refused += 1
            assert str(saved) in str(error) and "\n" not in str(error)
    assert num_refused > 200


def rewrite(path, arrays=None, drop=(), **manifest):
    """Writes the array file again, with other content."""
    there, old = npz.load_arrays(path)
    there = {n: a for n, a in (there | (arrays or {})).items() if n not in drop}
    old = {k: v for k, v in (old | manifest).items() if k not in drop}
    npz.save_arrays(path, there, old)


def test_foreign_and_newer_files_are_refused(saved):
    message = "has the format 'weights', and this version of jaxnas reads and writes"
    rewrite(saved, format="weights")
    assert message in refused(table_files.load, saved)
    rewrite(saved, format="jaxnas-table", version=2)
    message = "has the format 2, and this version of jaxnas reads and writes format 1"
    assert message in refused(table_files.load, saved)
    rewrite(saved, version=1, drop=["arch"])
    assert "wanted an array 'arch', found cifar10/test/200, c" in refused(
        table_files.load, saved
    )


@pytest.mark.parametrize("key", ["name", "space", "source", "sha256", "columns"])
def test_a_manifest_that_says_too_little_is_refused(saved, key):
    rewrite(saved, drop=[key])
    assert "wanted" in refused(table_files.load, saved)


def test_a_manifest_of_other_types_is_refused(saved):
    rewrite(saved, columns=[1])
    said = refused(table_files.load, saved)
    assert "wanted 'columns' in the manifest, a dict, found a list" in said


def broken_columns():
    good = make_table().columns["cifar10/valid/12"]
    nan, low, high, infinite = (good.copy() for _ in range(4))
    nan[[3, 5]], low[0], high[0], infinite[0] = np.nan, -0.5, 100.5, np.inf
    no_run = np.stack([nan, nan], 1)
    name = "cifar10/valid/12"
    yield "nan", name, nan, f"column {name} is NaN for 2 of 40 rows"
    yield "no run", name, no_run, f"column {name} is NaN for 2 of 40 rows"
    yield "below", name, low, "wanted percentages from 0 to 100"
    yield "above", name, high, "wanted percentages from 0 to 100"
    yield "infinite", name, infinite, "wanted percentages from 0 to 100"
    yield "fractions", name, good / 100, "wanted percentages, not fractions"
    yield "double", name, good.astype(np.float64), "found (40,) float64"
    yield "short", name, good[:-1], "found (39,) float32"
    yield "deep", name, good[:, None, None], "found (40, 1, 1) float32"
    yield "no seeds", name, np.zeros((40, 0), np.float32), "found (40, 0) float32"
    yield "cost", "seconds/cifar10/12", -good, "wanted seconds of at least 0"
    yield "cost nan", "seconds/cifar10/12", nan, "is NaN for 2 of 40 rows"
    yield "cost shape", "seconds/cifar10/12", no_run, "(40,) float32, found (40, 2)"
    yield "split", "cifar10/dev/12", good, "wanted columns <dataset>/<train|valid|t"
    yield "epochs", "cifar10/test/012", good, "found 'cifar10/test/012'"


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [pytest.param(*b[1:], id=b[0]) for b in broken_columns()],
)
def test_columns_that_break_a_rule_are_refused(saved, name, column, message):
    table = make_table()
    columns = table.columns | {name: column}
    manifest = table.manifest | {"columns": dict.fromkeys(columns, "drawn")}
    bad = changed(table, columns=columns, manifest=manifest)
    assert message in refused(table_files.save, saved, bad)
    same(table_files.load(saved), table)  # A refused save wrote nothing.
    rewrite(saved, {name: column}, columns=manifest["columns"])
    assert message in refused(table_files.load, saved)
    assert refused(table_files.load, saved).startswith(f"{saved}: ")


def test_other_rules_of_the_format(saved):
    table = make_table()
    wide = changed(table, arch=table.arch.astype(np.int64))
    assert "found (40, 6) int64" in refused(table_files.save, saved, wide)
    flat = changed(table, arch=table.arch[:, 0])
    assert "found (40,) int8" in refused(table_files.save, saved, flat)
    only_time = {"seconds/cifar10/12": table.columns["seconds/cifar10/12"]}
    none = changed(table, columns=only_time)
    assert "wanted a column <dataset>/<split>/<epochs>" in refused(
        table_files.save, saved, none
    )
    silent = changed(table, manifest=table.manifest | {"columns": {}})
    assert "does not say what column" in refused(table_files.save, saved, silent)


def detailed():
    """The table with every kind of detail, and small ones that break its rule."""
    table, rng = make_table(), np.random.default_rng(1)
    details = {
        "curve/cifar10/test/200": rng.uniform(0, 100, (40, 3, 5)).astype(np.float32),
        "loss/cifar10/valtest/200": np.full((40, 3, 5), np.inf, np.float32),
        "time/cifar10/train/200": rng.uniform(0, 9, (40, 3, 1)).astype(np.float32),
        "elapsed/cifar10/train/200": np.full((40, 3, 5), np.nan, np.float32),
        "latency/cifar10/200": rng.uniform(0, 9, (40, 3)).astype(np.float32),
        "total/cifar10/200": rng.uniform(0, 9, (40, 3)).astype(np.float32),
        "flops/cifar10": rng.uniform(0, 9, 40),
        "params/cifar10": rng.uniform(0, 9, 40),
    }
    columns = table.columns | details
    manifest = table.manifest | {"columns": dict.fromkeys(columns, "drawn")}
    return changed(table, columns=columns, manifest=manifest)


def test_details_come_back_and_curves_if_they_are_asked_for(tmp_path):
    path, table = tmp_path / "table.npz", detailed()
    table_files.save(path, table)
    same(table_files.load(path, curves=None), table)
    light = table_files.load(path)
    left = {name for name, column in table.columns.items() if column.ndim == 3}
    assert light.columns.keys() == table.columns.keys() - left
    assert (
        table_files.accuracies(light).keys()
        == table_files.accuracies(make_table()).keys()
    )
    one = table_files.load(path, curves=["loss/cifar10/valtest/200"])
    assert one.columns.keys() - light.columns.keys() == {"loss/cifar10/valtest/200"}
    assert "and it has no such column" in refused(
        table_files.load, path, ["loss/a/test/1"]
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("curve/cifar10/test/200", lambda x: x[:, 0], "(40, seeds, points) float32"),
        ("curve/cifar10/test/200", lambda x: x + 50, "wanted 0 to 100"),
        ("time/cifar10/train/200", lambda x: -x, "wanted 0 to inf"),
        ("latency/cifar10/200", lambda x: x[:, 0], "(40, seeds) float32"),
        ("latency/cifar10/200", lambda x: x / 0, "wanted 0 to inf"),
        ("flops/cifar10", lambda x: x.astype(np.float32), "(40) float64"),
        ("flops/cifar10", lambda x: x[:-1], "(40) float64, found (39,)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_details_that_break_a_rule_are_refused(tmp_path, name, change, message):
    table = detailed()
    columns = table.columns | {name: change(table.columns[name])}
    bad = changed(table, columns=columns)
    assert message in refused(table_files.save, tmp_path / "table.npz", bad)
