"""The driver that fits a surrogate: what it writes, and what it refuses."""

import dataclasses

import jax
import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="LightGBM is in the extra surrogates")

from experiments import fit_surrogate  # noqa: E402
from jaxnas.benchmarks import named, surrogate_benchmark  # noqa: E402
from jaxnas.curves import surrogate, surrogate_files  # noqa: E402
from jaxnas.spaces import encodings, nasbench201  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = fit_surrogate.Config(preset="release", rounds=20)


def test_a_fitted_surrogate_is_a_benchmark_of_all_cells(tmp_path, capsys):
    config = dataclasses.replace(SMALL, out=str(tmp_path / "s.npz"))
    fitted = fit_surrogate.main(config)
    assert "s.npz: " in capsys.readouterr().out
    loaded = surrogate_files.load(tmp_path / "s.npz")
    table = named.open_table("fashion-curves", curves=None)
    archs = table.arch[:5].astype(np.int32)
    x = jax.vmap(encodings.nb201_one_hot)(archs)
    np.testing.assert_array_equal(
        surrogate.predict(loaded, x), surrogate.predict(fitted.surrogate, x)
    )
    benchmark = surrogate_benchmark(loaded, nasbench201.SPACE, encodings.nb201_one_hot)
    assert [level.epoch for level in benchmark.levels] == list(range(1, 13))
    # Every complete training of the table is a curve.
    curves = table.columns["curve/fashion-mnist/valid/12"]
    assert len(fitted.rmse) == np.isfinite(curves).all(2).sum()
    # Held-out errors are of the size of the curves' spread at most, and not the fit's.
    spread = np.nanstd(curves[:, :, -1])
    assert np.median(fitted.rmse) < spread


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmark": "analog", "dataset": "cifar10"}, "curve"),
        ({"epochs": 13}, "no number of epochs 13"),
        ({"rounds": 0}, "--rounds must be at least 1"),
        ({"out": ""}, "--out '' is not a file"),
        ({"out": "nowhere/s.npz"}, "is not a file in an existing folder"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        fit_surrogate.main(dataclasses.replace(SMALL, **change))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
