"""Models of a whole pool from a few labels, and the driver that compares them."""

import csv
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeCV

from experiments import few_labels as driver
from experiments.zero_cost import score_columns
from jaxnas import gp
from jaxnas.benchmarks import named, table_files
from jaxnas.kernels import feature_maps, gram
from jaxnas.predictors import few_labels, pool
from jaxnas.spaces import base, nasbench201

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("small", (4, 3, 5))
ARCH = base.every(SPACE)[::-1]


def test_normal_scores_and_ranks():
    score = jnp.array([5.0, -1e9, 7.0, 6.0])
    z = few_labels.normal_scores(score)
    np.testing.assert_allclose(z[jnp.array([1, 0, 3, 2])], -z[jnp.array([2, 3, 0, 1])])
    assert jnp.argsort(z).tolist() == [1, 0, 3, 2] and z[2] == pytest.approx(
        1.1503, 1e-3
    )
    features = few_labels.ranked(np.array([[1e60, 2], [-np.inf, 2], [1e50, 5]]))
    np.testing.assert_allclose(features * 3, [[3, 1.5], [1, 1.5], [2, 3]])


def test_savage_scores_are_quantiles_of_the_exponential_distribution():
    scores = np.random.default_rng(0).integers(0, 40, (200, 2)) * 1e30
    scores[:9, 0] = -np.inf
    features = few_labels.savage_scores(scores)
    for found, column in zip(features.T, scores.T, strict=True):
        expected = stats.expon.ppf((stats.rankdata(column) - 0.5) / 200)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    # Of the best: 1 + 1/2 + ... + 1/n (Savage, 1956).
    best = few_labels.savage_scores(np.arange(1000)[:, None])[-1, 0]
    assert best == pytest.approx((1 / np.arange(1, 1001)).sum(), rel=0.02)


def test_values_are_found_by_architecture():
    values = np.arange(120.0).reshape(60, 2)
    part = few_labels.features_by_architecture(SPACE, ARCH, values)
    (found,) = jax.vmap(part)(jnp.asarray(ARCH[7:9]))
    np.testing.assert_array_equal(found, values[7:9])
    with pytest.raises(ValueError, match=r"values must be \(60, f\)"):
        few_labels.features_by_architecture(SPACE, ARCH, values[:5])


def test_the_process_is_the_padded_one_of_the_library():
    cells = pool.make_pool(SPACE, [feature_maps.hamming_features(SPACE)], arch=ARCH)
    place = jnp.array([3, 17, 40, 8, 55])
    y = jnp.array([1.0, 2.0, 0.5, -1.0, 0.0])
    mean, std = jax.jit(few_labels.gaussian_process)(cells, place, y)
    target = gp.fit_standardisation(y, jnp.ones(5, bool))
    rows = cells.embeddings.column
    between = gram.distances_between(cells.embeddings, rows[place])
    z = gp.standardise(target, y)
    fit = jax.jit(functools.partial(gp.fit, gram.laplace))
    hyper = fit(between, z, jnp.ones(5, bool), cells.prior)
    kernel = lambda d: hyper.amplitude * gram.laplace(d, hyper.scales)  # noqa: E731
    every = kernel(gram.distances_between(cells.embeddings, rows))
    noise = hyper.amplitude * hyper.noise
    seen = jnp.ones(5, bool)
    exact = gp.posterior(kernel(between), every[place], every, z, seen, noise)
    expected = target.mean + target.std * exact.mean
    np.testing.assert_allclose(mean, expected, atol=2e-4)
    variance = jnp.maximum(jnp.diagonal(exact.cov), 0)
    np.testing.assert_allclose(std, target.std * jnp.sqrt(variance), atol=2e-3)


def test_ridge_is_that_of_scikit_learn(x64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6))
    signal, noise = x @ rng.normal(size=6), rng.normal(size=80)
    scaled, place = (x - x[:20].mean(0)) / x[:20].std(0), jnp.arange(20)
    penalties = 20 * 10.0 ** np.arange(-4, 4.1, 0.5)
    # Without noise the least penalty is the best one, without a signal the largest.
    chosen = []
    for y in (signal + noise, signal, noise):
        found = few_labels.ridge(jnp.asarray(x), place, jnp.asarray(y[:20]))
        model = RidgeCV(penalties).fit(scaled[:20], y[:20])
        np.testing.assert_allclose(found, model.predict(scaled), rtol=1e-6)
        chosen.append(float(model.alpha_))
    assert chosen[1:] == [penalties[0], penalties[-1]]


def test_dead_edges_become_none():
    dead = nasbench201.from_string(
        "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"
    )
    assert nasbench201.without_dead_edges(jnp.asarray(dead)).tolist() == [
        0,
        1,
        0,
        0,
        0,
        4,
    ]


def test_the_driver(shared, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    config = driver.Config(
        datasets=("cifar10",),
        labels=(50,),
        models=("live_macs", "ridge", "proxies"),
        sets=3,
        out=str(tmp_path),
    )
    rows = driver.main(config)
    assert [r.model for r in rows] == list(config.models)
    without, linear, process = (r.spearman for r in rows)
    assert without == pytest.approx(0.822, abs=0.002)
    assert 0.8 < linear < 0.95 and 0.8 < process < 0.95
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert float(lines[2]["spearman"]) == pytest.approx(process, 1e-4)
    # Scores of a file: one that is the accuracy itself, and of a part of the cells.
    table = named.open_table("zerocost")
    truth = score_columns.accuracy(table, "cifar10", "mean")[1]
    own, few = tmp_path / "own.npz", tmp_path / "few.npz"
    for path, cells in ((own, slice(None)), (few, slice(7))):
        columns = {"score/truth/x": truth[cells]}
        manifest = {"source": "x", "sha256": "0", "columns": {"score/truth/x": "x"}}
        made = table_files.BenchmarkTable(
            "own", table.space, table.arch[cells], columns, manifest
        )
        table_files.save(path, made)
    assert capsys.readouterr().out.count("±") == 3
    one = dataclasses.replace(
        config, models=("ridge",), scores=("truth@x",), scores_from=(str(own),), sets=1
    )
    (row,) = driver.main(one)
    assert row.spearman > 0.999
    # A single set has no deviation.
    assert "±" not in capsys.readouterr().out
    for change, says in (
        ({"sets": 0}, "--sets must be at least 1"),
        ({"labels": (1,)}, "--labels must be 2 to 15624"),
        ({"models": ("forest",)}, "no model forest: choose from live_macs"),
        ({"benchmark": "nb201", "scores": ("snip",)}, "no score snip"),
        (
            {"scores_from": (str(few),), "scores": ("truth@x",)},
            "--labels must be 2 to 6, not 50$",
        ),
        (
            {"scores_from": (str(few),), "scores": ("truth@x",), "labels": ()},
            "7 cells have all the scores, too few for 50 labels: give --labels, at mo",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            driver.main(dataclasses.replace(config, **change))
