"""The driver that fits a surrogate: what it writes, and what it refuses."""

import dataclasses
import re

import jax
import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="LightGBM is in the extra surrogates")

from experiments import fit_surrogate  # noqa: E402
from experiments.curves import table_curves  # noqa: E402
from jaxnas.benchmarks import (  # noqa: E402
    named,
    open_surrogate,
    surrogate_benchmark,
    table_files,
    trained,
)
from jaxnas.curves import surrogate, surrogate_files  # noqa: E402
from jaxnas.spaces import nasbench201  # noqa: E402
from jaxnas.spaces.base import every  # noqa: E402
from jaxnas.spaces.nasbench201_classes import function_classes  # noqa: E402
from jaxnas.spaces.nasbench201_paths import function_features  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = fit_surrogate.Config(preset="small", rounds=20)
# Cells of 53 functions.
CELLS = every(nasbench201.SPACE)[
    np.unique(function_classes(), return_index=True)[1][::100]
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes curves (n, runs, e) of the first cells to mine.csv."""
    monkeypatch.chdir(tmp_path)

    def write(curves):
        lines = [
            f"nasbench201,seconds,{','.join(map(str, range(1, len(curves[0, 0]) + 1)))}"
        ]
        for cell, runs in zip(CELLS, curves, strict=False):
            text = nasbench201.SPACE.to_string(cell)
            lines += [f"{text},7.5,{','.join(map(str, run))}" for run in runs.tolist()]
        (tmp_path / "mine.csv").write_text("\n".join(lines))
        return fit_surrogate.Config(benchmark="mine.csv", preset="small", rounds=5)

    return write


def test_own_curves_are_one_command(own, capsys):
    rng = np.random.default_rng(0)
    level = 20 + 10 * CELLS[:, :1, None] + rng.normal(0, 1, (len(CELLS), 2, 1))
    config = own(level * np.array([0.5, 0.8, 0.9, 0.95, 1]))
    fit_surrogate.main(config)
    said = " ".join(capsys.readouterr().out.split())
    notes = surrogate_files.read("surrogate.npz").notes
    held_out = notes["held_out"]["curves"]
    assert 20 <= held_out <= 2 * len(CELLS)
    assert f"{held_out} curves that were held out" in said and "Kendall" in said
    benchmark = open_surrogate("surrogate.npz", noise="draws")
    assert benchmark.epochs == 5 and benchmark.cost_unit == "seconds"
    table = named.open_table("surrogate.npz")
    assert table.columns["mine/valid/5"].shape == (15625,)
    np.testing.assert_allclose(table.columns["seconds/mine/5"], 7.5, rtol=1e-3)
    assert notes["fit"] == {
        **{"preset": "small", "rounds": 5, "noise": "residuals", "seed": 0},
        "test_share": 0.0,
    }


def test_a_split_is_seeded_complete_and_in_the_file(own, capsys):
    level = 20 + 10 * CELLS[:, :1, None] + np.arange(len(CELLS) * 2).reshape(-1, 2, 1)
    config = own(level * np.array([0.5, 0.8, 0.9, 0.95, 1]) / 3)
    config = dataclasses.replace(config, test_share=0.2)
    fitted = fit_surrogate.main(config)
    said = " ".join(capsys.readouterr().out.split())
    saved = surrogate_files.read("surrogate.npz")
    curves = table_curves.read("mine.csv")
    train, test = saved.extra["train"], saved.extra["test"]
    np.testing.assert_array_equal(
        np.sort(np.append(train, test)), np.arange(len(curves.value))
    )
    assert len(fitted.rmse) == len(train)
    # Trainings of one function are in one part.
    assert not np.isin(curves.groups[train], curves.groups[test]).any()
    assert len(np.unique(curves.groups[test])) == len(CELLS) - int(0.8 * len(CELLS))
    assert np.isin(saved.extra["held_out"], train).all()
    mean = np.asarray(surrogate.predict(saved.surrogate, curves.features[test]))
    rmse = np.sqrt(((mean - curves.value[test]) ** 2).mean(0)).mean()
    np.testing.assert_allclose(saved.notes["test"]["rmse"], rmse, rtol=1e-4)
    assert f"{len(test)} curves of test architectures" in said
    with_seed = dataclasses.replace(config, seed=1)
    fit_surrogate.main(with_seed)
    assert set(surrogate_files.read("surrogate.npz").extra["test"]) != set(test)
    for share, words in (
        (1.0, "must be from 0 to below 1"),
        (float("nan"), "must be from 0 to below 1"),
        (0.98, "0.98 leaves one architecture to fit to"),
        (1e-9, "1e-09: too few architectures"),
    ):
        with pytest.raises(ValueError, match=f"--test-share {words}"):
            fit_surrogate.main(dataclasses.replace(config, test_share=share))


def test_few_test_curves_are_told(own, capsys):
    """One has no scores, and equal values of an epoch have no Kendall's tau."""
    rng = np.random.default_rng(0)
    curves = rng.uniform(20, 80, (len(CELLS), 1, 5))
    curves[..., 0] = 10
    config = dataclasses.replace(own(curves), test_share=1 / len(CELLS))
    fit_surrogate.main(config)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"held out: .* tau undefined, of the last epoch -?0\.\d", said)
    assert "1 curve of test architectures: scores need two" in said


def test_noise_between_seeds(own):
    rng = np.random.default_rng(0)
    curves = rng.uniform(30, 60, (len(CELLS), 1, 5)) + rng.normal(0, 2, (1, 3, 5))
    curves[0, 1] = curves[0, 0]
    config = own(curves)
    found = table_curves.seed_residuals(table_curves.read("mine.csv"))
    mean = curves.mean(1, keepdims=True)
    wanted = ((curves - mean) * np.sqrt(1.5)).reshape(-1, 5)
    order = [np.lexsort(np.round(x, 3).T) for x in (found, wanted)]
    np.testing.assert_allclose(found[order[0]], wanted[order[1]], atol=1e-4)
    fitted = fit_surrogate.main(dataclasses.replace(config, noise="seeds"))
    drawn = fitted.surrogate.noise
    np.testing.assert_allclose(drawn.residual.std(0), wanted.std(0), rtol=1e-4)
    assert (fitted.residual.std(0) > 2 * wanted.std(0)).all()
    config = dataclasses.replace(own(curves[:, :1]), noise="seeds")
    with pytest.raises(ValueError, match="--noise seeds needs architectures with two"):
        fit_surrogate.main(config)


@pytest.mark.parametrize(
    ("shape", "change", "words"),
    [
        ((1, 5, 6), {}, "all curves are of one architecture"),
        ((4, 3, 6), {}, "2 bags has curves of all 4 architectures"),
        ((3, 1, 6), {}, "4 components need as many curves and epochs, found 2 curves"),
        ((9, 2, 4), {"preset": "release"}, "5 components need .* of 4 epochs"),
        ((9, 2, 4), {"split": "test"}, "has no split 'test'; it has valid"),
        ((9, 2, 4), {"dataset": "other"}, "has no dataset 'other'; it has mine"),
    ],
)
def test_too_few_curves_are_refused(own, shape, change, words):
    config = own(np.random.default_rng(0).uniform(10, 90, shape))
    with pytest.raises(ValueError, match=words) as error:
        fit_surrogate.main(dataclasses.replace(config, **change))
    assert "\n" not in str(error.value)


def test_trainings_without_all_epochs_are_left_out(tmp_path, capsys):
    rng, num = np.random.default_rng(0), 40
    curve = rng.uniform(1, 3, (num, 1, 5)).astype(np.float32)
    curve[:3, 0, 2:] = np.nan
    columns = {"mine/valid/5": np.ones(num, np.float32), "curve/mine/valid/5": curve}
    manifest = {
        **{"source": "", "sha256": "", "part": True, "points": {"5": [1, 2, 3, 4, 5]}},
        "columns": dict.fromkeys(columns, ""),
        "targets": {"mine": {"name": "loss", "unit": "nats", "direction": "minimise"}},
    }
    table = table_files.BenchmarkTable(
        "mine", "nasbench201", CELLS[:num], columns, manifest
    )
    table_files.save(tmp_path / "mine.npz", table)
    config = fit_surrogate.Config(
        str(tmp_path / "mine.npz"),
        preset="small",
        rounds=2,
        out=str(tmp_path / "s.npz"),
    )
    info = fit_surrogate.main(config).surrogate.info
    assert "3 trainings lack epochs: they are left out" in capsys.readouterr().out
    kept = curve[3:]
    assert (info.unit, info.direction) == ("nats", "minimise")
    np.testing.assert_allclose((info.low, info.high), (kept.min(), kept.max()))


def test_a_fitted_surrogate_is_a_benchmark_of_all_cells(tmp_path, capsys):
    config = dataclasses.replace(SMALL, out=str(tmp_path / "s.npz"))
    fitted = fit_surrogate.main(config)
    assert "s.npz: " in capsys.readouterr().out
    loaded = surrogate_files.load(tmp_path / "s.npz")
    table = named.open_table("fashion-curves", curves=None)
    archs = table.arch[:5].astype(np.int32)
    x = jax.vmap(function_features)(archs)
    np.testing.assert_array_equal(
        surrogate.predict(loaded, x), surrogate.predict(fitted.surrogate, x)
    )
    benchmark = surrogate_benchmark(loaded, nasbench201.SPACE, function_features)
    assert [level.epoch for level in benchmark.levels] == list(range(1, 13))
    # Every training is a curve once, for however many cells the table repeats it.
    curves = table.columns["curve/fashion-mnist/valid/12"]
    runs = trained.load(trained.SHIPPED["fashion-curves"]).runs
    complete = np.isfinite(curves).all(2).sum()
    assert len(fitted.rmse) == sum(len(run["valid"]) for run in runs) < complete
    # It says more than the mean curve does.
    spread = np.sqrt(np.nanvar(curves, (0, 1)).mean())
    assert np.median(fitted.rmse) < spread


def test_a_space_without_an_encoding_is_refused(tmp_path):
    cell = ",".join("0" * 22)
    (tmp_path / "mine.csv").write_text(f'fbnet,1,2\n"{cell}",10,20\n')
    with pytest.raises(
        ValueError, match="of the space fbnet: curves are fitted for nas"
    ):
        table_curves.read(str(tmp_path / "mine.csv"))


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
