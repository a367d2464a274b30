"""Scoring many cells: chunks, resumption, devices, processes, engines, the driver."""

import dataclasses
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import zero_cost_score
from jaxnas import datasets
from jaxnas.benchmarks import named, table_files
from jaxnas.io import npz
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import scoring
from jaxnas.proxies.catalogue import CATALOGUE
from jaxnas.proxies.scoring import ScoringSettings, score_many
from jaxnas.spaces import base
from jaxnas.spaces import nasbench201 as nb201

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = NetworkConfig(
    stem_channels=2, cells_per_stage=1, num_classes=3, image_size=8, num_stages=2
)
EVERY = base.every(nb201.SPACE)
ARCHS = np.random.default_rng(0).permutation(EVERY)[:20]

PROGRAM = """
import sys
import jax
jax.config.update("jax_disable_most_optimizations", True)
scale = float(sys.argv[5]) if len(sys.argv) > 5 else 1.0
if len(sys.argv) > 3:
    jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[4]))
import numpy as np
from jaxnas.proxies import scoring
from test_score_many import ARCHS, TINY, images
class Scaled(scoring.ChunkScorer):
    def __call__(self, index):
        done = super().__call__(index)
        return done | {"values": scale * done["values"]}
scoring.ChunkScorer = Scaled
own = sys.argv[2] == "l2_norm"
settings = scoring.ScoringSettings(TINY, sys.argv[2], lanes=3, own_weights=own)
scores = scoring.score_many(jax.random.key(0), settings, ARCHS, *images())
np.savez(sys.argv[1], devices=jax.local_device_count(), **scores.values)
"""


def images(num=6):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(num, 8, 8, 3)).astype(np.float32)
    return x, np.arange(num) % 3


def score(name="hook_logdet", archs=ARCHS, key=0, **options):
    kept = {k: options.pop(k) for k in ("folder", "report") if k in options}
    settings = ScoringSettings(TINY, name, **({"lanes": 8} | options))
    return score_many(jax.random.key(key), settings, archs, *images(), **kept)


@pytest.fixture(scope="module")
def alone():
    return score().values["hook_logdet"]


@pytest.fixture(scope="module")
def own():
    return score("l2_norm", own_weights=True).values["l2_norm"]


def run_program(*args, **environment):
    root = Path(__file__).parent.parent
    path = os.pathsep.join((str(root), str(root / "tests")))
    env = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | environment
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *args], env=env)


def test_a_run_that_was_killed_goes_on(tmp_path, alone):
    class Killed(Exception):
        pass

    def kill(done, total):
        assert total <= 20
        if done > 8:
            raise Killed

    with pytest.raises(Killed):
        score(folder=tmp_path, report=kill)
    parts = sorted(tmp_path.glob("hook_logdet/*.npz"))
    assert len(parts) == 2
    before = [part.stat().st_mtime_ns for part in parts]
    seen = []
    again = score(folder=tmp_path, report=lambda *counts: seen.append(counts))
    assert [part.stat().st_mtime_ns for part in parts] == before
    assert np.array_equal(again.values["hook_logdet"], alone)
    assert seen[-1][0] == seen[-1][1] and (again.seconds > 0).all()
    # A damaged chunk is computed again; chunks of another key are refused and kept.
    parts[0].write_bytes(b"nothing")
    again = score(folder=tmp_path)
    assert np.array_equal(again.values["hook_logdet"], alone)
    npz.load_arrays(parts[0])
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(ValueError, match=r"settings \(key \[0, 0\] there, \[0, 1\]"):
        score(folder=tmp_path, key=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == kept


def test_a_report_can_end_the_scoring(alone):
    found = score(report=lambda done, total: done >= 8).values["hook_logdet"]
    known = ~np.isnan(found)
    assert 0 < known.sum() < len(alone)
    assert np.array_equal(found[known], alone[known])


def test_both_engines_and_any_number_of_lanes_agree(alone):
    grouped = score(engine="grouped", lanes=10).values["hook_logdet"]
    np.testing.assert_allclose(grouped, alone, rtol=1e-3)


def test_weights_of_its_own_are_the_same_for_both_engines(own):
    grouped = score("l2_norm", own_weights=True, engine="grouped").values["l2_norm"]
    np.testing.assert_allclose(grouped, own, rtol=1e-5)
    assert not np.allclose(score("l2_norm").values["l2_norm"], own, rtol=1e-4)


@pytest.mark.parametrize("classes", ["live", "present", None])
def test_cells_of_a_class_have_one_score(classes, monkeypatch):
    # A dead convolution makes two cells of one function; the third computes another.
    archs = np.array([[0, 0, 0, 3, 0, 0], [2, 0, 0, 3, 0, 0], [0, 0, 0, 2, 0, 0]])
    proxy = CATALOGUE["l2_norm"]._replace(equivalence=classes)
    monkeypatch.setitem(CATALOGUE, "l2_norm", proxy)
    found = score("l2_norm", archs).values["l2_norm"]
    assert len(set(found)) == (2 if classes == "live" else 3)
    apart = score("l2_norm", archs, deduplicate=False).values["l2_norm"]
    assert len(set(apart)) == 3
    assert found[0] == apart[0] and found[2] == apart[2]


def test_eight_devices_give_the_same(tmp_path, alone):
    flags = "--xla_force_host_platform_device_count=8"
    path = tmp_path / "a.npz"
    assert run_program(path, "hook_logdet", XLA_FLAGS=flags).wait(100) == 0
    found = np.load(path)
    assert found["devices"] == 8
    np.testing.assert_allclose(found["hook_logdet"], alone, rtol=1e-5)


def test_two_processes_give_the_same(tmp_path, own):
    """Also of scores that single precision cannot hold, in range and in digits."""
    scale = (1 + 2.0**-30) * 2.0**200
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    paths = [tmp_path / f"{i}.npz" for i in range(2)]
    runs = [
        run_program(p, "l2_norm", address, str(i), repr(scale))
        for i, p in enumerate(paths)
    ]
    try:
        assert [run.wait(100) for run in runs] == [0, 0]
    finally:
        for run in runs:
            run.kill()
    for path in paths:
        found = np.load(path)["l2_norm"]
        assert found.dtype == np.float64
        # What was scored in single precision is a float32 again without the scale.
        unscaled = found / scale
        np.testing.assert_allclose(unscaled, unscaled.astype(np.float32), rtol=1e-14)
        np.testing.assert_allclose(unscaled, own, rtol=1e-5)


def driver(folder, **options):
    (folder / "cells.txt").write_text("\n".join(map(nb201.to_string, ARCHS[:4])))
    return zero_cost_score.Config(
        proxies=("hook_logdet", "live_macs"),
        cell_list=str(folder / "cells.txt"),
        channels=2,
        cells_per_stage=1,
        images_used=6,
        lanes=8,
        out=str(folder / "out"),
        **options,
    )


def test_the_driver_writes_a_table_that_opens(tmp_path):
    table = zero_cost_score.main(driver(tmp_path))  # of the digits
    read = named.open_table(tmp_path / "out/scores.npz")
    assert np.array_equal(read.arch, ARCHS[:4])
    found = table_files.scores(read)
    assert set(found) == {("hook_logdet", "digits"), ("live_macs", "digits")}
    for (proxy, _), column in found.items():
        assert np.array_equal(column, table.columns[f"score/{proxy}/digits"])
    assert (table_files.scoring_seconds(read, "hook_logdet", "digits") > 0).all()


def test_the_driver_adds_columns_and_never_replaces_those_of_other_settings(tmp_path):
    config = dataclasses.replace(driver(tmp_path), proxies=("macs",))
    first = zero_cost_score.main(config).columns["score/macs/digits"]
    path = tmp_path / "out/scores.npz"
    for other in ({"seed": 5}, {"channels": 3}, {"cell_list": None, "cells": 4}):
        before = path.read_bytes()
        with pytest.raises(ValueError, match="was made with other settings"):
            zero_cost_score.main(dataclasses.replace(config, **other))
        assert path.read_bytes() == before
    zero_cost_score.main(dataclasses.replace(config, proxies=("live_macs",)))
    columns = named.open_table(path).columns
    assert list(columns) == ["score/macs/digits", "score/live_macs/digits"]
    assert np.array_equal(columns["score/macs/digits"], first)


def test_where_the_driver_takes_images_from(tmp_path):
    def found(images, **options):
        config = driver(tmp_path, images=str(tmp_path / images), **options)
        return zero_cost_score._images(config)

    x = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "some.npz", x=x, y=np.arange(4) % 2)
    own = found("some.npz")
    assert own.name == "some" and abs(own.x.mean()) < 1e-5
    known = found("some.npz", dataset="cifar10").x
    mean, std = datasets.NORMALISATION["cifar10"]
    np.testing.assert_allclose(known, (x - np.array(mean)) / std, rtol=1e-4, atol=1e-5)
    assert np.array_equal(found("some.npz", as_they_are=True).x, x)
    from PIL import Image

    for index, image in enumerate(x):
        (tmp_path / f"photos/{index % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"photos/{index % 2}/{index}.png")
    assert found("photos").num_classes == 2
    (tmp_path / "batches").mkdir()
    data = np.random.default_rng(0).integers(0, 255, (4, 3072)).astype(np.uint8)
    some = {b"data": data, b"labels": [0, 1, 9, 3]}
    (tmp_path / "batches/data_batch_1").write_bytes(pickle.dumps(some, 2))
    for name in ("batches", "batches/data_batch_1"):
        assert found(name).name == "cifar10"
    np.savez(tmp_path / "wide.npz", x=x[:, :4], y=np.arange(4) % 2)
    with pytest.raises(ValueError, match="wanted square images, not 4 x 8"):
        found("wide.npz")
    with pytest.raises(
        ValueError, match="has 4 images, fewer than a batch of 6: give --im"
    ):
        config = driver(tmp_path, images=str(tmp_path / "some.npz"))
        zero_cost_score.main(config)
    with pytest.raises(
        ValueError, match="--lanes must be at most the number of cells, 1"
    ):
        zero_cost_score.main(dataclasses.replace(config, lanes=1_000_000))
    (tmp_path / "some.npz").rename(tmp_path / "my photos.npz")
    with pytest.raises(ValueError, match="cannot be called 'my photos': give --data"):
        found("my photos.npz")
    assert found("my photos.npz", dataset="mine").name == "mine"


def test_bad_input_is_refused():
    x, y = images()
    key, settings = jax.random.key(0), ScoringSettings(TINY, "snip")
    for archs, x_given, y_given, message in (
        (ARCHS[:, :5], x, y, r"wanted architectures \(n, 6\) of nasbench201, found"),
        (ARCHS + 5, x, y, r"operations are 0\.\.4"),
        (ARCHS, x[:, :4], y, "wanted at least 2 images"),
        (ARCHS, x, y[:3], "an integer label for each of 6 images"),
        (ARCHS, x, y + 1, r"labels must be 0\.\.2, found 1\.\.3"),
        (ARCHS, x * np.nan, y, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            score_many(key, settings, archs, x_given, y_given)
    for kwargs, message in (
        ({"proxy": "x"}, "no proxy 'x'; available are hook_logdet"),
        ({"proxy": "snip", "scheme": "x"}, "no scheme 'x'; available are default"),
        ({"proxy": "snip", "lanes": 0}, "lanes must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoringSettings(TINY, **kwargs)


def test_names_of_scores():
    assert scoring.score_names("az")[1] == "az_progressivity"
    assert scoring.score_names("snip") == ("snip",)
