"""Published surrogates as surrogates of the library."""

import json

import jax
import numpy as np
import pytest

from jaxnas.benchmarks import load_ensemble
from jaxnas.benchmarks.importers import x11, x11_surrogate
from jaxnas.benchmarks.surrogate import surrogate_benchmark
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves import surrogate_files
from jaxnas.spaces import darts, darts_features
from jaxnas.types import Query

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def oracle(shared):
    return np.load(shared / "oracles/learning_curves.npz")


@pytest.fixture(scope="module")
def releases(shared):
    folder = shared / "oracles/learning_curves_models"
    return {
        p.name: x11.read(p) for p in folder.glob("e2e_*") if (p / x11.CONFIG).exists()
    }


def test_curves_noise_and_seconds(releases, oracle, tmp_path):
    release = releases["e2e_nb311_svd_lgb"]
    surrogate = x11_surrogate.to_surrogate(release, releases["e2e_runtime_lgb"])
    x = oracle["darts_x"][:40].astype(np.float32)
    curves = surrogates.predict(surrogate, x)
    np.testing.assert_allclose(curves, oracle["e2e_nb311_svd_lgb_pred_mean"], rtol=1e-5)
    found = surrogates.components(surrogate, x)[0]
    wanted = oracle["e2e_nb311_svd_lgb_pred_components"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    seconds = surrogates.runtime(surrogate, x, 98)
    wanted = np.maximum(oracle["e2e_runtime_pred"][:, 0], 0)
    np.testing.assert_allclose(seconds, wanted, rtol=1e-4, atol=1e-2)
    draws = surrogates.sample(surrogate, jax.random.key(0), np.repeat(x[:1], 3000, 0))
    spread = release.members[0].kernel.rows.std(0)
    ratio = np.asarray(draws).std(0) / spread
    assert 0.98 < ratio.mean() < 1.02
    path = tmp_path / "own.npz"
    surrogate_files.save(path, surrogate, notes={"sources": release.sources})
    again = surrogate_files.read(path)
    np.testing.assert_array_equal(surrogates.predict(again.surrogate, x), curves)
    assert again.notes["sources"] == release.sources


def test_a_benchmark_of_a_release(releases, oracle):
    surrogate = x11_surrogate.to_surrogate(
        releases["e2e_nb311_svd_lgb"], releases["e2e_runtime_lgb"]
    )
    encode = darts_features.surrogate_vector
    benchmark = surrogate_benchmark(surrogate, darts.SPACE, encode)
    arch = oracle["darts_compact"][:2].reshape(2, 32).astype(np.int32)
    query = Query(arch, np.array([98, 98], np.int32), np.zeros(2, np.int32))
    result = benchmark.evaluate(jax.random.key(0), query)
    wanted = oracle["e2e_nb311_svd_lgb_pred_mean"][:2, -1]
    np.testing.assert_allclose(result.score, wanted, rtol=1e-5)


def test_kinds_that_do_not_fit(releases):
    runtime = releases["e2e_runtime_lgb"]
    with pytest.raises(ValueError, match="one number"):
        x11_surrogate.to_surrogate(runtime)
    with pytest.raises(ValueError, match="seconds of nasbench201"):
        x11_surrogate.to_surrogate(releases["e2e_nb211_svd_lgb"], runtime)
    plain = x11_surrogate.to_surrogate(releases["e2e_nb211_svd_xgb"])
    assert plain.noise is None and plain.time is None


def test_load_ensemble_reads_surrogates_of_the_library(
    releases, oracle, tmp_path, shared
):
    texts = json.loads((shared / "oracles/learning_curves.json").read_text())
    path = tmp_path / "own.npz"
    release = releases["e2e_nb211_svd_lgb"]
    surrogate_files.save(path, x11_surrogate.to_surrogate(release))
    model = load_ensemble(path)
    cell = texts["nb211_arch_str"][4]

    def predict(with_noise=False, components=False):
        return model.predict(cell, "arch_str", with_noise, "nb201", components)

    wanted = oracle["e2e_nb211_svd_lgb_pred_mean"][4]
    np.testing.assert_allclose(predict(), wanted, rtol=1e-5)
    first, second = (predict(with_noise=True) for _ in range(2))
    assert 0.1 < np.abs(first - wanted).mean() < 10
    assert not np.array_equal(first, second)
    found = oracle["e2e_nb211_svd_lgb_pred_components"][[4]]
    np.testing.assert_allclose(predict(components=True), found, atol=1e-6)
    for message, call in {
        "search_space='nb201'": lambda: model.predict("x", "arch_str"),
        "one of arch_str, vector": lambda: model.predict(
            "x", "genotype", search_space="nb201"
        ),
        "not of a release": lambda: load_ensemble(path, reference=True),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
