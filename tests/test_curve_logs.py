"""Raw learning curves in the forms that NAS-Bench-x11's program reads."""

import json
import pickle

import numpy as np
import pytest

from jaxnas.benchmarks.importers import curve_logs, nb101_hashes
from jaxnas.spaces import darts, darts_formats, nasbench101, nlp_formats
from jaxnas.spaces.nasbench201 import from_string

CELLS = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
)
COMPACT = (
    ((0, 4), (1, 5), (4, 6), (5, 6)),
    (0, 0, 0, 0, 1, 2, 4),
    (6,),
)


def refused(function, *args, **kwargs):
    with pytest.raises(ValueError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def nb201_content(rng):
    def entry():
        lists = ("train_losses", "eval_losses", "train_acc1es", "eval_acc1es")
        return {name: rng.random(200).tolist() for name in lists} | {
            "cost_info": {"train_time": 2.5}
        }

    return {cell: {"cifar10-valid": entry(), "cifar10": entry()} for cell in CELLS}


def test_nb201(tmp_path):
    path, content = tmp_path / "nb201.pickle", nb201_content(np.random.default_rng(0))
    path.write_bytes(pickle.dumps(content))
    found = curve_logs.read_nb201(path)
    np.testing.assert_array_equal(found.arch, [from_string(cell) for cell in CELLS])
    for cell, curve in zip(CELLS, found.curves, strict=True):
        wanted = content[cell]["cifar10-valid"]["eval_acc1es"]
        np.testing.assert_array_equal(curve, wanted)
    assert found.seconds.tolist() == [500, 500] and found.unit == "percent"
    other = curve_logs.read_nb201(path, dataset="cifar10")
    assert not np.array_equal(other.curves, found.curves)
    entry = {"eval_acc1es": [1.0, 2.0], "other": [0.0] * 62, "cost_info": {}}
    lists = [value for value in entry.values() if type(value) is list]
    assert curve_logs.without_other_lists(entry) == 64 * 40 // 128
    assert lists == [[], []] and entry["eval_acc1es"].tolist() == [1, 2]
    message = refused(curve_logs.read_nb201, path, dataset="cifar100")
    assert str(path) in message and CELLS[0][:20] in message
    content[CELLS[1]]["cifar10-valid"]["eval_acc1es"].pop()
    path.write_bytes(pickle.dumps(content))
    assert "(199,), where 200" in refused(curve_logs.read_nb201, path)
    path.write_bytes(pickle.dumps([1]))
    assert "wanted a dict" in refused(curve_logs.read_nb201, path)
    path.write_bytes(pickle.dumps({"x": print}))
    assert "builtins.print" in refused(curve_logs.read_nb201, path)


def nlp_content(rng):
    entry = {name: rng.random(50).tolist() for name in ("train_losses", "val_losses")}
    return entry | {"test_losses": [0.0] * 50, "wall_times": [2.0] * 50}


def test_nlp(tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "nb_nlp.pickle"
    large = (
        tuple((n - 1, n) for n in range(4, 13)),
        (0, 0, 0, 0) + (1,) * 9,
        (12,),
    )
    other = (COMPACT[0], (0, 0, 0, 0, 1, 2, 5), (6,))
    content = {key: nlp_content(rng) for key in (COMPACT, large, other)}
    content[other]["val_losses"][7] = float("nan")
    path.write_bytes(pickle.dumps(content, 4))
    found = curve_logs.read_nlp(path)
    wanted = 100 - np.array(content[COMPACT]["val_losses"])
    np.testing.assert_array_equal(found.curves, [wanted])
    np.testing.assert_array_equal(found.further, [wanted[:3]])
    assert found.skipped == {"more than 12 nodes": 1, "diverged": 1}
    assert nlp_formats.to_compact(found.arch[0]) == COMPACT
    assert found.seconds.tolist() == [100]
    wrong = (COMPACT[0], (0, 0, 0, 0, 1, 2, 9), (6,))
    path.write_bytes(pickle.dumps({wrong: content[COMPACT]}))
    assert "node 6 has operation 9" in refused(curve_logs.read_nlp, path)


def test_nb301(tmp_path):
    rng = np.random.default_rng(2)
    cells = np.array([[[(0, 0), (1, o)] * 4] * 2 for o in (3, 4, 5)])
    archs = [darts_formats.from_compact(cell) for cell in cells]
    curves = [rng.random(length) for length in (98, 60, 98)]
    for number, (folder, arch, curve) in enumerate(
        zip(("rs", "de", "de"), archs, curves, strict=True)
    ):
        path = tmp_path / folder / f"results_{number}.json"
        path.parent.mkdir(exist_ok=True)
        content = {
            "optimized_hyperparamater_config": darts_formats.to_config(arch),
            "learning_curves": {"Train/val_accuracy": curve.tolist()},
            "info": [{"val_accuracy": 1.0}],
            "test_accuracy": 2.0,
            "runtime": 100.0 + number,
        }
        path.write_text(json.dumps(content))
    found = curve_logs.read_nb301(tmp_path)
    assert found.stratum.tolist() == ["de", "de", "rs"]
    assert found.seconds.tolist() == [101, 102, 100]
    np.testing.assert_array_equal(found.arch[2], darts.canonical(archs[0]))
    np.testing.assert_array_equal(found.curves[2], curves[0])
    np.testing.assert_array_equal(
        found.curves[0], np.r_[curves[1], [curves[1][-1]] * 38]
    )
    digest = found.sha256
    path.write_text(json.dumps(content | {"runtime": 1.0}))
    assert curve_logs.read_nb301(tmp_path).sha256 != digest
    path.write_text(json.dumps(content)[:-1])
    assert "damaged JSON" in refused(curve_logs.read_nb301, tmp_path)
    curve[5] = np.nan
    content["learning_curves"] = {"Train/val_accuracy": curve.tolist()}
    path.write_text(json.dumps(content))
    message = refused(curve_logs.read_nb301, tmp_path)
    assert str(path) in message and "not finite after 6 epochs" in message
    (tmp_path / "empty").mkdir()
    assert "no file results_" in refused(curve_logs.read_nb301, tmp_path / "empty")
    assert "no such folder" in refused(curve_logs.read_nb301, tmp_path / "missing")


def nb111_folder(tmp_path, name, curve):
    path = tmp_path / "results_may19/3" / name[:2] / name / "repeat_1/results.json"
    path.parent.mkdir(parents=True)
    values = [{"validation_accuracy": v} for v in curve]
    path.write_text(json.dumps({"evaluation_results": values}))
    return path


def test_nb111(tmp_path):
    matrix = np.triu(np.ones((3, 3), int), 1)
    arch = nasbench101.from_matrix(matrix, ["input", "conv1x1-bn-relu", "output"])
    hashes = ("0" * 32, "a" * 32)
    accuracy = {e: np.array([0.5, e / 200]) for e in (4, 12, 36, 108)}
    cells = nb101_hashes.HashedCells(hashes, np.stack([arch * 0, arch]), accuracy)
    curve = np.linspace(0.1, 0.9, 108)
    nb111_folder(tmp_path, hashes[1], curve)
    found = curve_logs.read_nb111(tmp_path, cells)
    np.testing.assert_array_equal(found.curves, [curve])
    np.testing.assert_array_equal(found.arch, [arch])
    np.testing.assert_array_equal(found.further, [[0.02, 0.06, 0.18, 0.54]])
    some = cells._replace(accuracy={108: accuracy[108]})
    assert curve_logs.read_nb111(tmp_path, some).further.shape == (1, 0)
    nb111_folder(tmp_path, "b" * 32, curve)
    assert "has no cell bbb" in refused(curve_logs.read_nb111, tmp_path, cells)
