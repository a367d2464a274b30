"""Surrogates by name and by file: the one that ships, and tables of predictions."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import open_benchmark, open_surrogate, open_table, released_files
from jaxnas.benchmarks.importers import x11
from jaxnas.curves import surrogate, surrogate_files
from jaxnas.io import files
from jaxnas.spaces.nasbench201_paths import function_features
from jaxnas.studies.comparison import opened, settings
from jaxnas.types import FULL_TRAINING, Query

NAME = "fashion-surrogate"
WHICH = dict(dataset="fashion-mnist", split="valid", epochs=12)


@pytest.fixture(scope="module")
def table():
    return open_table(NAME)


@pytest.fixture(scope="module")
def saved():
    return surrogate_files.read(files.shipped_checkpoint(NAME) / "surrogate.npz")


def ask(arch, epoch=FULL_TRAINING, seed=0):
    full = lambda x: jnp.full(len(arch), x, jnp.int32)  # noqa: E731
    return Query(jnp.asarray(arch, jnp.int32), full(epoch), full(0), full(seed))


def test_the_table_has_the_curves_of_all_cells(table, saved):
    assert len(table.arch) == 15625 and len(np.unique(table.arch, axis=0)) == 15625
    curve = table.columns["curve/fashion-mnist/valid/12"][:, 0]
    rows = [0, 77, 15624]
    x = jax.vmap(function_features)(table.arch[rows])
    np.testing.assert_allclose(
        curve[rows], surrogate.predict(saved.surrogate, x), rtol=1e-5
    )
    np.testing.assert_array_equal(table.columns["fashion-mnist/valid/12"], curve[:, -1])
    # Networks learn, and differ more than a constant would.
    assert np.median(curve[:, -1]) > np.median(curve[:, 0]) + 20
    assert np.std(curve[:, -1]) > 0.5


def test_table_and_benchmark_agree(table):
    tabular = open_benchmark(NAME, **WHICH, curves=True)
    computed = open_surrogate(NAME)
    assert tabular.levels == computed.levels and len(computed.levels) == 12
    assert tabular.cost_unit == computed.cost_unit == "seconds"
    cells = table.arch[[3, 500, 15000]]
    key, query = jax.random.key(0), ask(cells, 7)
    found = [jax.jit(b)(key, query) for b in (tabular, computed)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *found)
    assert np.isfinite(found[0].curve[:, :7]).all()


def test_draws_are_single_trainings(table):
    benchmark = jax.jit(open_surrogate(NAME, noise="draws"))
    cells, key = table.arch[:: 15625 // 40], jax.random.key(0)
    mean = table.columns["curve/fashion-mnist/valid/12"][:: 15625 // 40, 0]
    one, again, other = (
        np.asarray(benchmark(key, ask(cells, seed=s)).curve) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (np.abs(one - other).max(1) > 1e-3).all()
    spread = (one - mean).std(0)
    assert spread[0] > spread[-1] > 0.3  # early epochs are noisier


def test_what_ships_is_what_the_manifest_says(saved):
    folder = files.shipped_checkpoint(NAME)
    manifest = json.loads((folder / "manifest.json").read_text())
    raw = (folder / "surrogate.npz").read_bytes()
    assert manifest["sha256"] == {"surrogate.npz": hashlib.sha256(raw).hexdigest()}
    assert manifest["surrogate"] == saved.notes
    trained = open_table("fashion-curves")
    assert saved.notes["table_sha256"] == trained.manifest["sha256"]
    assert manifest["fitted_to"]["settings"] == trained.manifest["settings"]
    assert sum(p.stat().st_size for p in folder.iterdir()) < 3e6
    heads = [member.regressor for member in saved.surrogate.members]
    trees = sum(h.ensemble.base.shape[0] * h.ensemble.number.shape[-2] for h in heads)
    assert trees < 1000
    assert "Mlp" not in str(jax.tree.structure(saved.surrogate))  # nothing needs flax


def test_comparisons_of_searches_take_it(table):
    config = settings.Config(benchmark=NAME, **WHICH)
    made = opened.open_table(config)
    np.testing.assert_array_equal(made.truth, table.columns["fashion-mnist/valid/12"])
    assert made.sha256 == table.manifest["sha256"]
    # Predictions are equal for cells that compute one function.
    assert not opened.count_copies(config)
    with pytest.raises(ValueError, match="has no seed 'random'; it has mean"):
        opened.open_table(dataclasses.replace(config, run="random"))


def test_a_file_of_ones_own(tmp_path, saved):
    path, found = tmp_path / "mine.npz", saved.surrogate
    loss = dataclasses.replace(
        found.info, target="loss", unit="nats", direction="minimise"
    )
    notes = {"settings": {"dataset": "mine", "split": "test", "epochs": 12}}
    made = dataclasses.replace(found, info=loss, time=None)
    surrogate_files.save(path, made, notes=notes)
    benchmark = open_benchmark(path, dataset="mine", split="test", epochs=12)
    table = open_table(path)
    assert benchmark.target.direction == "minimise" and table.name == "mine"
    assert benchmark.cost_unit == "epochs"
    assert float(benchmark.optimum) == -table.columns["mine/test/12"].min()
    surrogate_files.save(path, made)
    assert open_surrogate(path).target.unit == "nats"
    with pytest.raises(ValueError, match="mine: .* needs dataset, split, epochs"):
        open_table(path)
    for change, words in (
        ({"features": "mine"}, "the encoding 'mine' of nasbench201"),
        ({"space": "moon"}, "mine.npz is of the space 'moon': wanted one of nasb"),
    ):
        other = dataclasses.replace(made, info=dataclasses.replace(loss, **change))
        surrogate_files.save(path, other, notes=notes)
        for opener in (open_surrogate, open_table):
            with pytest.raises(ValueError, match=words):
                opener(path)


def test_a_published_surrogate(tmp_path, shared):
    path = tmp_path / "nb211.npz"
    folder = shared / "oracles/learning_curves_models/e2e_nb211_svd_lgb"
    released_files.save(path, x11.read(folder))
    table = open_table(path)
    curve = table.columns["curve/cifar10/valid/200"]
    assert curve.shape == (15625, 1, 200)
    result = jax.jit(open_surrogate(path))(jax.random.key(0), ask(table.arch[:2]))
    np.testing.assert_allclose(result.curve, curve[:2, 0], rtol=1e-5)


def test_what_is_not_a_surrogate(tmp_path):
    with pytest.raises(ValueError, match="unknown surrogate 'x': wanted fashion-surr"):
        open_surrogate("x")
    with pytest.raises(ValueError, match="no such file"):
        open_surrogate(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="not a learning-curve surrogate"):
        open_surrogate(
            files.Path(open_table.__code__.co_filename).parent / "data/fashion.npz"
        )


def test_the_docs_have_the_numbers_of_the_manifest():
    manifest = json.loads(
        (files.shipped_checkpoint(NAME) / "manifest.json").read_text()
    )
    fitted, held_out = manifest["fitted_to"], manifest["surrogate"]["held_out"]
    size = f"{fitted['trainings']:,} trainings of {fitted['functions']:,} functions"
    docs = Path(__file__).parents[1] / "docs"
    assert size in (docs / "benchmarks.md").read_text()
    page = (docs / "learning_curves.md").read_text()
    assert size in page
    assert f"Kendall's tau of the last epoch {held_out['final_kendall']:.2f}, " in page
    assert f"error {held_out['final_rmse']:.1f} % (mean of all epochs" in page
