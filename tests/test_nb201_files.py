"""NAS-Bench-201 and NATS-Bench: every number of the files is where it belongs."""

import bz2
import copy
import hashlib
import pickle
import warnings
import zipfile

import jax
import numpy as np
import official_samples as samples
import pytest
from official_samples import refused

from jaxnas.benchmarks import named, table_files, tabular
from jaxnas.benchmarks.importers import nb201, nb201_runs, official
from jaxnas.spaces import nasbench201
from jaxnas.types import Query


@pytest.fixture(scope="module")
def whole(records):
    return samples.nb201_dict(records)


@pytest.fixture(scope="module")
def table(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("nb201") / "table.pth"
    path.write_bytes(samples.torch_legacy(whole))
    return official.read(path, partial=True)


@pytest.fixture
def small(records):
    return samples.nb201_dict(records, (11,), ("cifar10-valid",), (777,))


def same(one, two):
    assert one.columns.keys() == two.columns.keys()
    np.testing.assert_array_equal(one.arch, two.arch, strict=True)
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, two.columns[name], strict=True)


def test_every_number_of_the_records_is_in_the_table(records, table):
    assert (table.name, table.space, len(table.arch)) == ("nb201", "nasbench201", 3)
    split = {"train": "train", "x-valid": "valid", "x-test": "test"}
    seen = set()
    for name, values in records.items():
        if not name.startswith("tss/") or name.endswith(("arch", "flop_params")):
            continue
        _, uid, epochs, dataset, seed, series = name.split("/")
        where, what = series.rsplit("_", 1)
        halved = dataset in ("cifar100", "ImageNet16-120")
        where = split.get(where, "valtest" if halved else "test")
        what = {"acc": "curve"}.get(what, what)
        column = f"{what}/{dataset}/{where}/{epochs}"
        slot = table.manifest["seeds"][f"{dataset}/{epochs}"].index(int(seed))
        found = table.columns[column][(0, 11, 284).index(int(uid)), slot]
        np.testing.assert_array_equal(np.broadcast_to(found, values.shape), values)
        seen.add(column)
    assert seen == {c for c in table.columns if len(c.split("/")) == 4}
    for column in seen:
        if column.startswith("curve/"):
            end = table.columns[column][:, :, -1]
            np.testing.assert_array_equal(table.columns[column[6:]], end)
    for row, uid in enumerate((0, 11, 284)):
        string = nasbench201.to_string(table.arch[row])
        assert string == records[f"tss/{uid}/arch"]
        flops, params = records[f"tss/{uid}/200/cifar100/777/flop_params"]
        assert table.columns["flops/cifar100"][row] == flops
        assert table.columns["params/cifar100"][row] == params


def test_it_agrees_with_the_reference_table(shared, monkeypatch, table):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    known = named.open_table("nb201")
    rows = [0, 11, 284]
    np.testing.assert_array_equal(known.arch[rows], table.arch)
    pairs = {
        "cifar10/valid/12": "cifar10-valid/valid/12",
        "cifar10/test/12": "cifar10/test/12",
        "cifar10/test/200": "cifar10/test/200",
        "cifar10-valid/train/200": "cifar10-valid/train/200",
        "cifar10-valid/test/200": "cifar10-valid/test/200",
        "cifar100/valid/12": "cifar100/valid/12",
        "cifar100/test/200": "cifar100/test/200",
        "ImageNet16-120/valid/200": "ImageNet16-120/valid/200",
        "ImageNet16-120/test/12": "ImageNet16-120/test/12",
    }
    for theirs, ours in pairs.items():
        mean = table.columns[ours].mean(1)
        np.testing.assert_allclose(mean, known.columns[theirs][rows], atol=2e-3)
    for theirs, ours in {
        "seconds/cifar10/12": "seconds/cifar10-valid/12",
        "seconds/cifar100/12": "seconds/cifar100/12",
        "seconds/ImageNet16-120/12": "seconds/ImageNet16-120/12",
    }.items():
        known_time = known.columns[theirs][rows]
        np.testing.assert_allclose(table.columns[ours], known_time, rtol=1e-3)


def test_the_formats_of_torch_and_of_nats_bench_agree(tmp_path, whole, table):
    path = tmp_path / "zip.pth"
    path.write_bytes(samples.torch_zip(whole))
    assert table.manifest["checksum"].startswith("none")
    read = official.read(path, partial=True)
    assert read.manifest["checksum"] == "CRC-32 of the archive"
    same(table, read)
    folder = samples.write_nats(tmp_path / "NATS-tss", whole)
    read = official.read(folder, partial=True)
    assert (read.name, read.manifest["counts"]["runs"]) == ("nats-tss", 51)
    assert read.manifest["checksum"] == "CRC-32 of bz2"
    same(table, read)


def test_the_single_file_of_nats_bench(tmp_path, small):
    path = tmp_path / "NATS-tss-v1_0.pickle.pbz2"
    for infos in small["arch2infos"].values():
        infos["12"], infos["200"] = infos.pop("less"), infos.pop("full")
    path.write_bytes(bz2.compress(pickle.dumps(small, 4)))
    table = official.read(path, partial=True)
    assert table.name == "nats-tss"
    assert table.columns["curve/cifar10-valid/valid/200"].shape == (1, 1, 200)


def test_what_is_written_is_read_with_and_without_curves(tmp_path, whole):
    folder = samples.write_nats(tmp_path / "nats", whole)
    out = tmp_path / "out.npz"
    table = official.convert(folder, out, name="mine", partial=True)
    same(table, table_files.load(out, curves=None))
    light = named.open_table(out)
    assert light.name == "mine"
    assert light.columns["cifar100/valid/200"].shape == (3, 3)
    assert not any(column.ndim == 3 for column in light.columns.values())
    one = table_files.load(out, curves=["curve/cifar100/valid/200"])
    assert len(one.columns) == len(light.columns) + 1
    with pytest.raises(ValueError, match="wanted loss/x, and it has no such column"):
        table_files.load(out, curves=["loss/x"])


def test_a_table_of_all_cells_is_a_benchmark(shared, monkeypatch, tmp_path, small):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    known = named.open_table("nb201")
    state = small["arch2infos"][11]["less"]["all_results"]["cifar10-valid", 777]
    state |= {"params": 1.0, "eval_names": ["x-valid"]}
    for field in ("eval_acc1es", "eval_losses", "eval_times"):
        own = state[field].items()
        state[field] = {k: v for k, v in own if k.startswith("x-valid")}
    runs = nb201_runs.Runs()
    for row, accuracy in enumerate(known.columns["cifar10/valid/12"].tolist()):
        own = {k: dict(v) if isinstance(v, dict) else v for k, v in state.items()}
        own["eval_acc1es"]["x-valid@11"] = accuracy
        runs.assign(runs.number(own), row, ("cifar10-valid", 12), 777)
    table = nb201._table("nb201", "made", ("0" * 64, ""), [*known.arch], runs)
    table_files.save(tmp_path / "table.npz", table)
    what = {"dataset": "cifar10-valid", "split": "valid", "epochs": 12, "seed": 0}
    benchmark = tabular.tabular_benchmark(
        nasbench201.SPACE, named.open_table(tmp_path / "table.npz"), **what
    )
    query = Query(
        arch=known.arch[:3].astype(np.int32),
        epoch=np.full(3, 12, np.int32),
        start=np.zeros(3, np.int32),
    )
    result = benchmark.evaluate(jax.random.key(0), query)
    np.testing.assert_array_equal(result.score, known.columns["cifar10/valid/12"][:3])
    np.testing.assert_allclose(
        result.cost, table.columns["seconds/cifar10-valid/12"][:3]
    )


def spoiled():
    def state(small, schedule="full"):
        return small["arch2infos"][11][schedule]["all_results"]["cifar10-valid", 777]

    def put(field, value):
        return lambda small: state(small).update({field: value})

    def put_in(field, key, value):
        return lambda small: state(small)[field].update({key: value})

    def drop(field, key):
        return lambda small: state(small)[field].pop(key)

    def info(field, value):
        return lambda small: small["arch2infos"][11]["full"].update({field: value})

    # Sixty tuples that would take for ever to print, to compare or to hash.
    nested = ()
    for _ in range(60):
        nested = (nested, nested)
    yield put("name", "mnist"), "unknown dataset mnist"
    yield put("name", ["cifar10"]), "unknown dataset"
    yield put("seed", "777"), "a run has the seed 777"
    yield put("seed", 888), "a run is listed as cifar10-valid, 200 epochs, seed 777"
    yield put("epochs", 12), "a run has no accuracy of ori-test at its end"
    yield put("epochs", 10**9), "a run has 1000000000 epochs"
    yield put("train_acc1es", [1.0]), "wanted the accuracy by epoch, found list"
    yield put_in("train_acc1es", 3, 100.5), "a run has the accuracy 100.5"
    yield put_in("train_acc1es", 3, -1.0), "a run has the accuracy -1.0"
    yield put_in("train_acc1es", 3, float("nan")), "accuracy that is not a number"
    yield put_in("train_acc1es", 3, "93"), "or one that is not a number"
    yield put_in("train_acc1es", 200, 90.0), "epochs that it should not have"
    yield put_in("train_times", 3, -1.0), "a run has the time -1.0"
    yield drop("train_losses", 7), "a run has an epoch without loss"
    yield drop("eval_acc1es", "x-valid@199"), "no accuracy of x-valid at its end"
    yield put_in("eval_acc1es", "x-valid@200", 1.0), "epochs that it should not have"
    yield put_in("eval_losses", "x-test@3", 1.0), "epochs that it should not have"
    yield put("eval_names", ["x-valid", "y"]), "a run was evaluated on x-valid, y"
    yield put("eval_names", ["x-valid", nested]), "a run was evaluated on list"
    yield put("name", nested), "unknown dataset tuple"
    yield put("seed", nested), "a run has the seed tuple"
    yield put("latency", nested), "a run has the latency tuple"
    yield put_in("train_losses", 3, nested), "or one that is not a number"
    yield info("arch_str", nested), "cell 11 says that it is another one"
    yield (
        info("dataset_seed", {"cifar10-valid": [nested]}),
        "a seed that is not an integer",
    )
    yield lambda s: s.update(evaluated_indexes=[nested]), "index that is not an integer"
    yield put("eval_names", "x-valid"), "a run was evaluated on x-valid"
    yield put("params", None), "a run has None million parameters"
    yield put("flop", -1.0), "a run has -1.0 million FLOPs"
    yield put("latency", "fast"), "a run has the latency fast"
    yield lambda small: state(small).pop("eval_times"), "a run has no eval_times"
    yield info("arch_str", "|none~0|"), "cell 11 says that it is another one"
    yield info("arch_index", 12), "cell 11 says that it is another one"
    yield info("all_results", None), "cell 11 has no results"
    yield info("all_results", {}), "cell 11 has other runs than it lists"
    yield info("dataset_seed", {"cifar10-valid": [777, 888]}), "other runs than it list"
    yield info("dataset_seed", {"cifar10-valid": 777}), "is not of the right form"
    yield lambda s: s["arch2infos"].clear(), "it has 0 cells and says 1"
    yield lambda s: s["arch2infos"].update({11: {}}), "cell 11 has no runs"
    yield lambda s: s["arch2infos"][11].update({"50": {}}), "has the schedule 50"
    yield lambda s: s["meta_archs"].append(3), "wanted the list 'meta_archs' of cells"
    yield lambda s: s["meta_archs"].append("x") or s["meta_archs"].append("x"), "twice"
    yield lambda s: s.pop("meta_archs"), "it is not a file of NAS-Bench-201"
    yield lambda s: s.update(evaluated_indexes=3), "the trained ones not a list"
    yield lambda s: s.update(evaluated_indexes=[11, 12]), "it has 1 cells and says 2"


@pytest.mark.parametrize(("spoil", "message"), list(spoiled()))
def test_records_of_another_form_are_refused(tmp_path, small, spoil, message):
    path = tmp_path / "file.pth"
    spoil(small)
    for write in (samples.torch_zip, samples.torch_legacy):
        path.write_bytes(write(small))
        text = refused(nb201.read_pth, path, partial=True)
        assert message in text and str(path) in text


def test_a_run_that_two_cells_share_is_refused(tmp_path, records):
    path = tmp_path / "file.pth"
    one = samples.nb201_dict(records, (11,), ("cifar10-valid",), (777,))
    full = one["arch2infos"][11]["full"]
    one["arch2infos"][0] = {"full": full | {"arch_index": 0}}
    one["arch2infos"][0]["full"]["arch_str"] = one["meta_archs"][0]
    one["evaluated_indexes"] = [0, 11]
    path.write_bytes(samples.torch_zip(one))
    assert "a run is listed twice" in refused(nb201.read_pth, path, partial=True)
    # Nor is a table that two runs share read as empty in the second.
    shared = samples.nb201_dict(records, (11,), ("cifar10-valid",), (777,))
    other = copy.copy(
        shared["arch2infos"][11]["full"]["all_results"]["cifar10-valid", 777]
    )
    other["seed"] = 888
    full = shared["arch2infos"][11]["full"]
    full["all_results"]["cifar10-valid", 888] = other
    full["dataset_seed"]["cifar10-valid"].append(888)
    path.write_bytes(samples.torch_zip(shared))
    assert "a run has an epoch without accuracy" in refused(
        nb201.read_pth, path, partial=True
    )


def test_a_file_that_lacks_cells_is_a_partial_table(tmp_path, small):
    path = tmp_path / "file.pth"
    path.write_bytes(samples.torch_zip(small))
    assert "it has 1 of 15625 cells: only as a partial table" in refused(
        official.read, path
    )
    folder = samples.write_nats(tmp_path / "nats", small)
    assert "it has 1 of 15625 cells" in refused(official.read, folder)
    (folder / "000011.pickle.pbz2").unlink()
    assert "it has no trained cells" in refused(official.read, folder, partial=True)
    (folder / samples.META).unlink()
    assert "has no meta.pickle.pbz2" in refused(official.read, folder)


def test_old_runs_without_times_are_read(tmp_path, small):
    # As the first version of the file may have them; the API gives None as times.
    for info in small["arch2infos"][11].values():
        for state in info["all_results"].values():
            state |= {"train_times": None, "eval_times": {}, "latency": None}
    path = tmp_path / "file.pth"
    path.write_bytes(samples.torch_legacy(small))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = official.read(path, partial=True)
    kinds = {name.split("/")[0] for name in table.columns}
    assert kinds == {"cifar10-valid", "curve", "loss", "flops", "params"}


def test_times_that_change_are_kept(tmp_path, small):
    state = small["arch2infos"][11]["full"]["all_results"]["cifar10-valid", 777]
    state["train_times"][3] += 1
    path = tmp_path / "file.pth"
    path.write_bytes(samples.torch_legacy(small))
    table = official.read(path, partial=True)
    time = table.columns["time/cifar10-valid/train/200"]
    assert time.shape == (1, 1, 200) and time[0, 0, 3] == np.float32(time[0, 0, 4] + 1)
    assert table.columns["time/cifar10-valid/valid/200"].shape == (1, 1, 1)


def test_a_name_that_promises_a_checksum_is_held_to_it(tmp_path, small):
    data = samples.torch_legacy(small)
    digest = hashlib.md5(data).hexdigest()
    path = tmp_path / f"NAS-Bench-201-v1_1-{digest[-6:]}.pth"
    path.write_bytes(data)
    assert official.read(path, partial=True).manifest["checksum"] == "MD5 in its name"
    wrong = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    wrong.write_bytes(data)
    message = f"its name says that its MD5 ends in 096897, and it is {digest}"
    assert message in refused(official.read, wrong, partial=True)


def test_a_zip_that_is_not_of_torch(tmp_path):
    path = tmp_path / "file.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arch.npy", "x")
    assert "not of torch: no data.pkl" in refused(official.read, path)
