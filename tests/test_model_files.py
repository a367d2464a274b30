"""Saved networks: what a folder may take in memory, and predictions of many images."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.io import checkpoints
from jaxnas.networks import model_files
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import NetworkConfig

pytest.importorskip("orbax.checkpoint")
CONV1 = np.full(6, 2)


def save(path, network, params=None, arch=CONV1, names=None):
    if params is None:
        params = initialise(jax.random.key(0), network)
        params = training.with_running_stats(
            params, training.initial_running_stats(params)
        )
    mean = np.full(network.in_channels, 100.0)
    constants = mean, mean / 2
    model_files.save(
        path, params, network, arch, *constants, dataset="x", class_names=names
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    save(
        path,
        NetworkConfig(2, 1, 3, 8, 1, num_stages=1),
        arch=np.array([3, 2, 4, 1, 0, 3]),
    )
    return path


def changed(saved, folder, change):
    """A copy of the model whose manifest `change` has changed, as text."""
    shutil.copytree(saved, folder)
    files = (p for p in (folder / "manifest").rglob("*") if p.is_file())
    (file,) = (p for p in files if b'"mean"' in p.read_bytes())
    file.write_text(change(json.loads(file.read_text())))
    return folder


MEASURE = """
import sys
import numpy as np
import jaxnas
images = np.zeros((1000, 32, 32, 3), np.uint8)
assert np.asarray(jaxnas.load(sys.argv[1])(images)).shape == (1000, 10)
# What getrusage says would have the memory of the process that started this one in it.
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) >> 10)
"""


def test_predictions_of_many_images_take_bounded_memory(tmp_path):
    save(
        tmp_path / "model",
        NetworkConfig(16, 1, 10, 32, 3, num_stages=1),
        arch=CONV1 + 1,
    )
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "model")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    # MiB: 200 are jax, orbax and the parameters.
    assert int(found.stdout) < 800


def test_a_small_folder_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    network = NetworkConfig(128, 1, 10, 8, 1)  # 101 MB of zeros
    shapes = model_files._shapes(network)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    save(tmp_path / "model", network, zeros)
    assert checkpoints.stored_bytes(tmp_path / "model") < 2**20

    def fail(*_):
        raise AssertionError("read before it was refused")

    monkeypatch.setattr(checkpoints, "restore", fail)
    with pytest.raises(
        ValueError, match=r"model has \d+ bytes and would unpack to 101"
    ):
        jaxnas.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("stored", "declared", "affordable"),
    [(10, 2**26, True), (10, 2**26 + 4, False), (2**24, 2**28, True),
     (2**24, 2**28 + 4, False)],
)  # fmt: skip
def test_a_folder_must_be_large_enough_for_its_arrays(
    monkeypatch, stored, declared, affordable
):
    monkeypatch.setattr(checkpoints, "stored_bytes", lambda path: stored)
    shapes = {"x": jax.ShapeDtypeStruct((declared // 4,), np.float32)}
    if affordable:
        checkpoints.check_affordable("folder", shapes)
    else:
        with pytest.raises(ValueError, match=f"would unpack to {declared}"):
            checkpoints.check_affordable("folder", shapes)


@pytest.mark.parametrize("num", [0, 1, 3, 4, 7])
def test_predictions_in_batches_are_those_of_all_at_once(saved, monkeypatch, num):
    x = np.random.default_rng(0).uniform(0, 255, (num, 8, 8, 1)).astype(np.float32)
    wanted = jaxnas.load(saved)(x)
    assert wanted.shape == (num, 3) and wanted.dtype == x.dtype
    maps = model_files._MAPS * 8 * 8 * 2 * 4
    monkeypatch.setattr(model_files, "BATCH_BYTES", 3 * maps)
    predict = jaxnas.load(saved)
    np.testing.assert_allclose(predict(x), wanted, 1e-5)


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999", "-1e999"])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_manifests_with_numbers_that_are_not_finite_are_refused(
    saved, tmp_path, name, number
):
    copy = changed(
        saved,
        tmp_path / "model",
        lambda found: json.dumps(found | {name: ["HERE"]}).replace('"HERE"', number),
    )
    with pytest.raises(ValueError, match="a number that is not finite") as caught:
        jaxnas.load(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("constants", [([np.nan], [1]), ([0], [np.inf]), ([0], [0])])
def test_constants_that_are_not_finite_are_not_saved(tmp_path, constants):
    network = NetworkConfig(2, 1, 3, 8, 1)
    params = initialise(jax.random.key(0), network)
    params = training.with_running_stats(params, training.initial_running_stats(params))
    with pytest.raises(ValueError, match="a finite mean and a positive standard"):
        model_files.save(
            tmp_path / "m", params, network, CONV1, *constants, dataset="x"
        )
    assert not list(tmp_path.iterdir())


def test_sizes_that_no_array_has_are_refused(saved, tmp_path):
    def change(found):
        found["network"] |= {"num_stages": 100, "image_size": 2**99}
        return json.dumps(found)

    copy = changed(saved, tmp_path / "model", change)
    with pytest.raises(ValueError, match="is not a network of jaxnas"):
        jaxnas.load(copy)


def test_classes_have_their_names(saved, tmp_path):
    assert jaxnas.load(saved).classes == ("0", "1", "2")
    network = NetworkConfig(2, 1, 3, 8, 1, num_stages=1)
    names = ("cat", "dog", "nasturtium é")
    save(tmp_path / "model", network, names=names)
    predict = jaxnas.load(tmp_path / "model")
    assert predict.classes == names
    assert predict.image_shape == (8, 8, 1) and predict.dataset == "x"
    x = np.ones((2, 8, 8, 1), np.float32)
    np.testing.assert_allclose(jax.jit(predict)(x), predict(x), 1e-5)
    for wrong in (names[:2], (1, 2, 3)):
        with pytest.raises(ValueError, match="wanted names of 3 classes"):
            save(tmp_path / "other", network, names=wrong)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "change",
    [{"classes": ["a"]}, {"classes": "abc"}, {"format": 1}, {"format": None}],
)
def test_manifests_of_other_forms_are_refused(saved, tmp_path, change):
    copy = changed(saved, tmp_path / "model", lambda kept: json.dumps(kept | change))
    words = "is not a network of jaxnas: wanted|has the format .*: wanted a network"
    with pytest.raises(ValueError, match=words) as caught:
        jaxnas.load(copy)
    assert str(copy) in str(caught.value)
