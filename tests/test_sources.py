"""The three tables against what is known of them, and files that try to do harm."""

import dataclasses
import hashlib
import importlib.util
import itertools
import os
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxnas.benchmarks import (
    columns,
    named,
    open_benchmark,
    sources,
    table_files,
    tabular,
)
from jaxnas.benchmarks.importers import analog
from jaxnas.io import npz
from jaxnas.io.cache import cache_folder
from jaxnas.spaces import nasbench101, nasbench201


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has an empty cache of its own."""
    folder = tmp_path / "cache" / "inner"
    monkeypatch.setenv("JAXNAS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def data_file():
    spec = importlib.util.find_spec("analognasbench")
    assert spec and spec.submodule_search_locations
    return Path(list(spec.submodule_search_locations)[0]) / "data.anb"


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """The embedded table, and the file that a call leaves in an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXNAS_CACHE", str(tmp_path_factory.mktemp("once")))
        table = analog.analog_table()
        (file,) = cache_folder().iterdir()
    return table, file


@pytest.fixture
def full(cache, cached):
    """The cache of a test that is not empty: its file."""
    cache.mkdir(parents=True)
    return Path(shutil.copy(cached[1], cache))


@pytest.fixture
def nb201(shared, monkeypatch):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    return named.open_table("nb201")


def refused(function, *args):
    with pytest.raises(ValueError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rank201(arch):
    return arch.astype(int) @ 5 ** np.arange(6)[::-1]


# --- the embedded table ---------------------------------------------------------------


def test_the_embedded_table_is_complete(cached):
    table, _ = cached
    assert (table.name, table.space) == ("analog", "nasbench201")
    assert table.arch.shape == (15_625, 6) and len(table.columns) == 13
    baseline = table.columns["cifar10/test/200"]
    np.testing.assert_allclose(baseline.max(), 94.0664, atol=1e-4)
    np.testing.assert_allclose(table.columns["cifar10-analog/test/200"].max(), 91.326)
    drift = [table.columns[f"cifar10-analog-drift-{s}/test/200"] for s in (60, 2592000)]
    assert drift[0].mean() > drift[1].mean() + 5
    # The first key of the package is all skip_connect.
    assert table.arch[0].tolist() == [1] * 6
    np.testing.assert_allclose(baseline[0], 60.7836, atol=1e-4)
    identities = tabular.table_identities(nasbench201.SPACE, table)
    assert len(np.unique(identities)) == 15_625
    assert "analognasbench" not in sys.modules  # nothing of the package ran


def test_the_second_call_reads_the_cache(cached, full, monkeypatch):
    table, _ = cached
    with monkeypatch.context() as patch:
        patch.setattr(analog, "_build_table", None)
        again = named.open_table("analog")
    assert again.manifest == table.manifest
    for name, column in table.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
    content = full.read_bytes()
    full.write_bytes(content[:1000])
    np.testing.assert_array_equal(analog.analog_table().arch, table.arch)
    assert full.read_bytes() == content


def test_a_cache_of_another_source_is_not_believed(cached, full):
    table, _ = cached
    wrong = table_files.BenchmarkTable(
        table.name,
        table.space,
        table.arch[::-1],
        table.columns,
        table.manifest | {"sha256": "0" * 64},
    )
    table_files.save(full, wrong)
    np.testing.assert_array_equal(analog.analog_table().arch, table.arch)


def test_without_a_cache_it_works_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "file" / "below"))
    assert len(analog.analog_table().arch) == 15_625


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "inner"
    monkeypatch.delenv("JAXNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/jaxnas")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/jaxnas")


def test_its_cells_are_those_of_nas_bench_201(nb201, cached):
    table, _ = cached
    ours = table.columns["cifar10/test/200"][np.argsort(rank201(table.arch))]
    order = np.argsort(rank201(nb201.arch))
    theirs = nb201.columns["cifar10/test/200"][order]
    best = spearmanr(ours, theirs)[0]
    assert best > 0.99
    # No exchange of two operations or two edges agrees as well.
    arch = nb201.arch[order]
    for i, j in itertools.combinations(range(5), 2):
        swap = np.arange(5)
        swap[[i, j]] = j, i
        assert spearmanr(ours, theirs[rank201(swap[arch])])[0] < best - 0.001
    for i, j in itertools.combinations(range(6), 2):
        swap = np.arange(6)
        swap[[i, j]] = j, i
        assert spearmanr(ours, theirs[rank201(arch[:, swap])])[0] < best - 0.001


# --- pickles that are not what they should be -----------------------------------------


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_a_pickle_that_runs_code_is_refused_before_it_does(tmp_path):
    path, ran = tmp_path / "data.anb", tmp_path / "ran"
    name = f"{os.system.__module__}.system"
    for value in (
        Call(os.system, f"touch {ran}"),
        {(0,) * 6: Call(os.mkdir, str(ran))},
    ):
        for protocol in range(6):
            path.write_bytes(pickle.dumps(value, protocol))
            message = refused(analog.analog_table, path)
            assert str(path) in message and "is not a data file" in message
            assert "only Architecture and DriftMeasurement" in message
            assert not ran.exists()
    assert name in refused(
        analog.analog_table,
        path.write_bytes(pickle.dumps(Call(os.system, "x"))) and path,
    )


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "analognasbench.data AnalogNASBench", "numpy.core.multiarray x"],
)
def test_classes_that_are_not_admitted(tmp_path, name):
    path = tmp_path / "data.anb"
    module, attribute = name.split()
    path.write_bytes(f"c{module}\n{attribute}\n.".encode())
    assert f"it asks for {module}.{attribute}, and" in refused(
        analog.analog_table, path
    )


def test_no_way_into_an_admitted_class(tmp_path):
    path = tmp_path / "data.anb"
    module, name = b"analognasbench.data", b"Architecture.__init__.__globals__"
    data = b"\x80\x04" + b"".join(
        b"\x8c" + bytes([len(text)]) + text for text in (module, name)
    )
    path.write_bytes(data + b"\x93.")
    assert "Architecture.__init__.__globals__, and" in refused(
        analog.analog_table, path
    )


@pytest.fixture
def records(monkeypatch):
    """A dict of two records as the package writes them."""
    module = types.ModuleType("analognasbench.data")
    module.Architecture = type("Architecture", (), {})
    module.DriftMeasurement = type("DriftMeasurement", (), {})
    for name in ("Architecture", "DriftMeasurement"):
        getattr(module, name).__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(
        sys.modules, "analognasbench", types.ModuleType("analognasbench")
    )
    made = {}
    for key in ((0, 1, 2, 3, 4, 0), (4, 3, 2, 1, 0, 0)):
        made[key] = record = module.Architecture()
        record.architecture = key
        for field in analog._ANALOG_ACCURACY:
            setattr(record, field, 50.0)
        for field in analog._ANALOG_DRIFT:
            drift = module.DriftMeasurement()
            drift.value, drift.uncertainty = 40.0, 1.0
            setattr(record, field, drift)
    return made


def test_records_of_the_right_form_are_read(tmp_path, records):
    path = tmp_path / "data.anb"
    path.write_bytes(pickle.dumps(records, 4))
    table = analog.analog_table(path)
    # Edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3 with none, skip_connect, 1x1, 3x3, avg_pool.
    assert table.arch.tolist() == [[1, 0, 2, 3, 4, 1], [4, 2, 0, 3, 1, 1]]
    assert (table.columns["cifar10-drift-60/test/200"] == 40).all()


def spoiled():
    def put(field, value):
        return lambda made: setattr(made[0, 1, 2, 3, 4, 0], field, value)

    def key(new):
        def change(made):
            made[new] = made.pop((0, 1, 2, 3, 4, 0))
            made[new].architecture = new

        return change

    yield put("architecture", (0,) * 6), "is of another architecture"
    yield put("ptq_accuracy", "93"), "wanted a float as ptq_accuracy, found str"
    yield put("ptq_accuracy", None), "wanted a float as ptq_accuracy, found NoneType"
    yield put("qat_accuracy", float("nan")), "cifar10-qat/test/200 is NaN for 1 of 2"
    yield put("qat_accuracy", 120.0), "wanted percentages from 0 to 100"
    yield put("analog_drift_60", 3.0), "wanted a drift measurement as analog_drift_60"
    yield key((0, 1, 2, 3, 4)), "wanted six operations 0..4 as a key"
    yield key((0, 1, 2, 3, 4, 5)), "wanted six operations 0..4 as a key"
    yield key("012340"), "wanted six operations 0..4 as a key"
    yield lambda made: made.update({(0,) * 6: 3}), "wanted a record, found int"
    yield lambda made: made.clear(), "wanted a dict of records"


@pytest.mark.parametrize(("spoil", "message"), list(spoiled()))
def test_records_of_another_form_are_refused(tmp_path, records, cache, spoil, message):
    path = tmp_path / "data.anb"
    spoil(records)
    path.write_bytes(pickle.dumps(records, 4))
    text = refused(analog.analog_table, path)
    assert message in text and str(path) in text
    assert not cache.exists()


def test_a_damaged_data_file_is_refused(tmp_path, data_file):
    path, data = tmp_path / "data.anb", data_file.read_bytes()[:300_000]
    for length in np.linspace(0, len(data), 25).astype(int):
        path.write_bytes(data[:length])
        assert str(path) in refused(analog.analog_table, path)
    path.unlink()
    assert f"cannot read {path}: No such file" in refused(analog.analog_table, path)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install analog-nasbench" in refused(analog.analog_table)


# --- the reference files --------------------------------------------------------------


def test_nas_bench_201_has_its_known_values(nb201, shared):
    best = {
        "cifar10/test/200": 94.3733,
        "cifar100/test/200": 73.5133,
        "ImageNet16-120/test/200": 47.3111,
        "cifar10/valid/12": 84.892,
        "cifar100/valid/12": 61.32,
        "ImageNet16-120/valid/12": 38.667,
        "cifar10/test/12": 89.16,
    }
    for name, value in best.items():
        np.testing.assert_allclose(nb201.columns[name].max(), value, atol=1e-3)
    strings = npz.read_npz(shared / "data/nb201_accuracy.npz", ["arch_str"])
    for row in range(0, 15_625, 5):
        text = strings["arch_str"][row].decode()
        assert nasbench201.from_string(text).tolist() == nb201.arch[row].tolist()
    tabular.table_identities(nasbench201.SPACE, nb201)


def test_nas_bench_201_agrees_with_complete_records(nb201, shared):
    path = shared / "data/nats_official_records_3archs.npz"
    records = npz.read_npz(path)

    def mean(uid, epochs, dataset, what):
        folder = f"tss/{uid}/{epochs}/{dataset}/"
        names = [n for n in records if n.startswith(folder) and n.endswith(f"/{what}")]
        return np.mean([records[name][-1] for name in names])

    for uid in (0, 11, 284):
        for name, args in {
            "cifar10/valid/12": (12, "cifar10-valid", "x-valid_acc"),
            "cifar10/test/12": (12, "cifar10", "ori-test_acc"),
            "cifar100/valid/12": (12, "cifar100", "x-valid_acc"),
            "ImageNet16-120/test/12": (12, "ImageNet16-120", "x-test_acc"),
            "cifar10/test/200": (200, "cifar10", "ori-test_acc"),
            "cifar10-valid/test/200": (200, "cifar10-valid", "ori-test_acc"),
            "cifar10-valid/train/200": (200, "cifar10-valid", "train_acc"),
            "cifar100/valid/200": (200, "cifar100", "x-valid_acc"),
            "ImageNet16-120/test/200": (200, "ImageNet16-120", "x-test_acc"),
        }.items():
            found = nb201.columns[name][uid]
            np.testing.assert_allclose(found, mean(uid, *args), atol=2e-3, err_msg=name)


def test_validation_runs_of_nas_bench_201(nb201):
    runs = named.open_table("nb201-seeds")
    order, theirs = (np.argsort(rank201(t.arch)) for t in (runs, nb201))
    assert runs.columns.keys() == {
        f"{d}/valid/200" for d in ("cifar10-valid", "cifar100", "ImageNet16-120")
    }
    for name, values in runs.columns.items():
        count = (~np.isnan(values)).sum(1)
        assert {*count} == {2, 3}
        mean = np.nanmean(values, 1)[order]
        expected = nb201.columns[name].reshape(-1)[theirs]
        assert np.argmax(mean) == np.argmax(expected)
        # Nearly all means of the other file are of the same runs.
        complete = (count == 3)[order]
        close = np.abs(mean - expected)[complete] < 0.02
        assert close.mean() > 0.97


def test_seeds_of_nas_bench_201(nb201):
    given = {"dataset": "cifar10-seeds", "split": "test", "epochs": 200}
    mean = columns.column(nb201, **given, seed="mean")[:, 0]
    runs = nb201.columns["cifar10-seeds/test/200"]
    three = ~np.isnan(runs).any(1)
    assert three.sum() == 7961
    known = nb201.columns["cifar10/test/200"]
    np.testing.assert_allclose(mean[three], known[three], atol=1e-3)


def official_hash(matrix, names):
    """The isomorphism hash of NAS-Bench-101 (Ying et al., 2019), as it is published."""
    matrix = np.asarray(matrix)
    labels = [-1, *map(nasbench101.OPERATIONS.index, names[1:-1]), -2]

    def digest(text):
        return hashlib.md5(text.encode()).hexdigest()

    degrees = zip(matrix.sum(1).tolist(), matrix.sum(0).tolist(), labels, strict=True)
    hashes = [digest(str(d)) for d in degrees]
    for _ in range(len(matrix)):
        before = [sorted(hashes[w] for w in np.flatnonzero(col)) for col in matrix.T]
        after = [sorted(hashes[w] for w in np.flatnonzero(row)) for row in matrix]
        hashes = [
            digest("|".join(("".join(b), "".join(a), h)))
            for b, a, h in zip(before, after, hashes, strict=True)
        ]
    return digest(str(sorted(hashes)))


def test_cells_of_nas_bench_101_are_those_of_its_hashes(shared, monkeypatch):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    table = named.open_table("nb101")
    assert table.arch.shape == (423_624, 26) and table.arch.dtype == np.int8
    accuracy = table.columns["cifar10/test/108"]
    np.testing.assert_allclose(accuracy.max(), 94.317573, atol=1e-4)
    there = npz.read_npz(shared / "data/nb101.npz", ["hash", "nv"])
    rng = np.random.default_rng(0)
    for size in range(2, 8):
        of_size = np.flatnonzero(there["nv"] == size)
        for row in rng.choice(of_size, min(len(of_size), 40), replace=False):
            matrix, names = nasbench101.to_matrix(table.arch[row])
            assert len(names) == size
            assert official_hash(matrix, names) == there["hash"][row].tobytes().hex()
    benchmark = tabular.tabular_benchmark(
        nasbench101.SPACE,
        table,
        dataset="cifar10",
        split="test",
        epochs=108,
        seed="mean",
    )
    some = rng.choice(len(table.arch), 1000)
    found = tabular.table_rows(benchmark, table.arch[some].astype(np.int32))
    np.testing.assert_array_equal(found, some)


CELLS = {
    "nv": np.array([2, 4], np.uint8),
    # 0-1; and 0-1, 1-2, 2-3, 0-3: bit 7 i + j.
    "adj_code": np.array([2**1, 2**1 + 2**9 + 2**17 + 2**3], np.uint64),
    "ops": np.array([[-9] * 5, [1, 2, -9, -9, -9]], np.int8),
    "test_acc_108_mean": np.array([0.5, 0.9], np.float32),
}


def test_a_small_cell_takes_the_places_of_a_large_one(tmp_path):
    path = tmp_path / "nb101.npz"
    np.savez(path, **CELLS)
    table = sources.nasbench101_table(path)
    np.testing.assert_allclose(table.columns["cifar10/test/108"], [50, 90], rtol=1e-6)
    names = ["input", "conv1x1-bn-relu", "maxpool3x3", "output"]
    matrix = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    wanted = nasbench101.from_matrix(matrix, names)
    np.testing.assert_array_equal(table.arch[1], wanted)
    matrix = np.array([[0, 1], [0, 0]])
    wanted = nasbench101.from_matrix(matrix, ["input", "output"])
    np.testing.assert_array_equal(table.arch[0], wanted)


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("nv", 0, 1),
        ("nv", 0, 8),
        ("nv", 1, 5),
        ("adj_code", 0, 2**7),  # An edge backwards.
        ("adj_code", 0, 2**2),  # An edge to a vertex that the cell does not have.
        ("adj_code", 1, 2**25),  # An edge out of the output.
        ("adj_code", 1, 2**50),
        ("ops", 1, [1, 3, -9, -9, -9]),
        ("ops", 1, [1, -9, -9, -9, -9]),
    ],
)
def test_cells_that_are_none_are_refused(tmp_path, name, row, value):
    path, cells = tmp_path / "nb101.npz", {n: a.copy() for n, a in CELLS.items()}
    cells[name][row] = value
    np.savez(path, **cells)
    message = refused(sources.nasbench101_table, path)
    assert f"holds no cells of NAS-Bench-101: 1 of 2 rows, first {row}" in message


def test_reference_files_that_are_missing_or_foreign(tmp_path, monkeypatch, shared):
    monkeypatch.setenv("JAXNAS_SHARED", str(tmp_path))
    for name, file in (("nb201", "nb201_accuracy.npz"), ("nb101", "nb101.npz")):
        message = refused(named.open_table, name)
        assert f"no such file: {tmp_path / 'data' / file}; set JAXNAS_SHARED" in message
    (tmp_path / "data").mkdir()
    for ours, theirs in (("nb101", "nb201_accuracy"), ("nb201", "nb101")):
        file = "nb101.npz" if ours == "nb101" else "nb201_accuracy.npz"
        source = shared / "data" / f"{theirs}.npz"
        shutil.copy(source, tmp_path / "data" / file)
        message = refused(named.open_table, ours)
        assert "wanted the arrays" in message and ", found " in message
    file = tmp_path / "data" / "nb101.npz"
    file.write_bytes((shared / "data/nb101.npz").read_bytes()[:100_000])
    assert "not a sound npz" in refused(named.open_table, "nb101")


def test_a_table_by_name_or_by_path(tmp_path, full):
    path = tmp_path / "mine.npz"
    message = refused(named.open_table, "nb301")
    assert (
        "unknown benchmark 'nb301': wanted analog, fashion, fashion-curves, nb201, "
        "nb201-seeds, nb101, jahs201, jahs201-seconds, zerocost, nb201-devices, ofa, "
        "ofa-latency, fbnet-latency, mnasnet, fashion-surrogate, or a file" in message
    )
    assert refused(named.open_table, path) == f"no such file: {path}"
    shutil.copy(full, path)
    assert named.open_table(path).name == "analog"
    assert named.open_table(str(path)).manifest == analog.analog_table().manifest


FED = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}


def test_a_benchmark_by_name_is_that_of_its_table_and_space(full):
    by_name = open_benchmark("analog", **FED)
    by_hand = tabular.tabular_benchmark(
        nasbench201.SPACE, named.open_table("analog"), **FED
    )
    assert by_name.space is nasbench201.SPACE and by_name.levels == by_hand.levels
    assert by_name.description == by_hand.description
    np.testing.assert_array_equal(by_name.archs, by_hand.archs)
    np.testing.assert_array_equal(by_name.optimum, by_hand.optimum)
    with pytest.raises(ValueError, match="has no dataset 'moon'"):
        open_benchmark("analog", **FED | {"dataset": "moon"})


def test_a_benchmark_of_curves_reads_them():
    which = {"dataset": "fashion-mnist", "split": "valid", "epochs": 4, "seed": "mean"}
    benchmark = open_benchmark("fashion", **which, curves=True, truth={"split": "test"})
    assert [level.epoch for level in benchmark.levels] == [1, 2, 3, 4]


def test_a_table_of_a_space_that_the_library_lacks_is_refused(tmp_path, cached):
    table = dataclasses.replace(cached[0], space="elsewhere")
    table_files.save(tmp_path / "table.npz", table)
    message = refused(lambda: open_benchmark(tmp_path / "table.npz", **FED))
    assert "is of the space 'elsewhere': wanted one of nasbench101, nas" in message
