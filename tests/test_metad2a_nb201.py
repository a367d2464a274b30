"""MetaD2A's search on NAS-Bench-201: procedures, accuracies looked up, bad input."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import refused

pytest.importorskip("flax", reason="flax is in the extra models")
pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")

from experiments import metad2a_nb201 as driver  # noqa: E402
from experiments.common import cell_lookup  # noqa: E402
from experiments.task_table.pairs import Trained, few_of_each  # noqa: E402
from jaxnas import datasets, models  # noqa: E402
from jaxnas.spaces import base, nasbench201  # noqa: E402


@pytest.fixture(scope="module")
def lookup():
    """Accuracies by formula, in an order of cells that is not that of the space."""
    ops = np.random.default_rng(0).permutation(base.every(nasbench201.SPACE))
    row = np.empty((5,) * 6, int)
    row[tuple(ops.T)] = np.arange(len(ops))
    test = ops.sum(1).astype(float)
    return cell_lookup.Lookup(
        ops, test - 9 * (ops[:, 0] == 4), test, ops[:, 5] * 1.0, row
    )


@pytest.fixture
def config(tmp_path):
    """Images of ten classes."""
    path, y = tmp_path / "images.npz", np.arange(40) % 10
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    np.savez(path, x=x, y=y)
    return driver.Config(str(path), cells=6, top=3, runs=2, out=str(tmp_path / "out"))


def test_frequencies_are_products_over_positions(lookup):
    cells = np.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 1]])
    share = driver.probabilities(cells, lookup)
    assert share.sum() == pytest.approx(1)
    assert share[lookup.rows(cells)] == pytest.approx((3 / 7) ** 5 * (2 / 7))


def test_few_records_of_each_cell_are_kept():
    arch = np.array([7, 3, 7, 7, 3, 5])
    rows = np.array([5, 3, 2, 4, 0, 1])
    assert few_of_each(rows, arch, 1).tolist() == [5, 3, 4]
    assert few_of_each(rows, arch, 2).tolist() == [5, 3, 2, 4, 1]
    assert few_of_each(rows, arch, 0) is rows


def test_the_best_of_the_first_cells_by_each_accuracy(lookup):
    cells = [[0] * 6, [4] * 6, [3] * 6, [4, 4, 4, 4, 4, 3]]
    order = lookup.rows(np.array(cells))
    mean, first, by_validation, oracle = driver.accuracies(order, 3, lookup)
    assert (mean, first, by_validation, oracle) == (65 / 4, 0, 18, 24)


def test_procedures_try_cells_in_their_orders(lookup, config, monkeypatch):
    cells = np.array([[2] * 6, [1] * 6, [3] * 6, [0] * 6, [4] * 6, [4] * 5 + [0]])
    kind = datasets.hog_extractor(16).kind
    network = SimpleNamespace(config=SimpleNamespace(features=kind))
    trained = Trained(SimpleNamespace(network=network), None, cells[:2], 2)
    made = SimpleNamespace(arch=cells)
    predicted = SimpleNamespace(mean=np.array([2.0, 1, 3, 0, 4, 1]))
    valid = np.array([True] * 4 + [False] * 2)
    samples = models.Samples(valid, valid, valid, cells)
    statistics = models.SampleStatistics(1, 1, 1, 0, 1)

    def generate(model, key, features, num, num_images):
        assert features.num_classes == 10 and (num, num_images) == (6, 2)
        return made

    monkeypatch.setattr(driver, "read_lookup", lambda: lookup)
    monkeypatch.setattr(driver.pairs, "trained", lambda out, copies: trained)
    fakes = {
        "generate": generate,
        "predict": lambda *_, **__: predicted,
        "sample_graphs": lambda *_, **__: samples,
        "sample_statistics": lambda *_, **__: statistics,
    }
    fake = SimpleNamespace(
        class_features=models.class_features, Samples=lambda *_: samples, **fakes
    )
    monkeypatch.setattr(driver, "models", fake)
    rows = driver.main(dataclasses.replace(config, models="records"))
    ranked = {
        name: values.tolist()
        for name, values in rows["generator and predictor"].items()
    }
    assert ranked["first"] == [24, 24] and ranked["best by test (oracle)"] == [24, 24]
    assert ranked["best by validation"] == [18, 18]
    guided = rows["Gaussian process on these"]
    assert guided["first"].tolist() == [24, 24] and guided["all"][0] == 80 / 6
    assert rows["generator"]["first"].tolist() == [12, 12]
    assert rows["generator"]["best by test (oracle)"].tolist() == [18, 18]
    assert set(rows["uniform"]["first"]) != {12}
    other = driver.orders(config, 0, trained, _features(kind), lookup)
    assert (lookup.ops[other["order on ImageNet16-120"], 5] == 4).all()
    assert len(set(other["frequencies"])) == 6
    text = (dataclasses.replace(config).out, "samples.csv")
    with open("/".join(text)) as file:
        assert "mean accuracy,9.0000" in file.read()


def test_a_guided_search_starts_with_the_best_predicted_cell(lookup):
    cells = np.array(
        [[0] * 6, [1] * 6, [2] * 6, [3] * 6, [1, 2, 3, 3, 2, 1], [2] * 5 + [3]]
    )
    predicted = np.array([1.0, 9, 3, 4, 5, 2])
    key = jax.random.key(0)
    order = cell_lookup.gp_order(key, lookup, 3, cells, predicted)
    assert lookup.ops[order[0]].tolist() == [1] * 6
    assert sorted(order) == sorted(set(lookup.rows(cells)))
    assert lookup.ops[order[:3]].tolist().count([3] * 6) == 1  # the most accurate one
    few = cell_lookup.gp_order(key, lookup, 5, cells[:3], predicted[:3])
    assert sorted(few) == sorted(lookup.rows(cells[:3]))  # fewer cells than evaluations


def test_a_search_without_predictions_is_over_all_cells(lookup):
    order = cell_lookup.gp_order(jax.random.key(0), lookup, 8)
    assert len(order) == 15_625 == len(set(order))
    accuracies = lookup.validation[order[:8]]
    assert accuracies[5:].mean() > accuracies[:5].mean() + 3  # after five random ones


def _features(kind):
    return models.join_classes([np.zeros((2, kind.width), np.float32)] * 10, kind)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"top": 7}, "--cells must be at least --top"),
        ({"cells": 9000}, "at most 5000"),
        ({"copies": -1}, "--copies must be at least 0"),
        ({"runs": 0}, "--runs must be at least 1"),
        ({"runs": 10**9}, "--runs must be at most 1000"),
        ({"base_seed": -1}, "--base-seed must be"),
        ({"data": "digit"}, "digit"),
    ],
)
def test_bad_input_writes_nothing(lookup, config, monkeypatch, tmp_path, change, says):
    monkeypatch.setattr(driver, "read_lookup", lambda: lookup)
    assert says in refused(driver.main, dataclasses.replace(config, **change))
    assert not (tmp_path / "out").exists()


def test_one_search_has_no_standard_error(tmp_path, capsys):
    rows = {"uniform": dict.fromkeys(driver.COLUMNS, np.array([93.5]))}
    driver._write(rows, {}, tmp_path)
    assert "93.50" in (text := capsys.readouterr().out) and "±" not in text


@pytest.mark.parametrize(("classes", "channels"), [(3, 3), (10, 1)])
def test_images_of_another_kind_are_refused(
    lookup, config, monkeypatch, classes, channels
):
    monkeypatch.setattr(driver, "read_lookup", lambda: lookup)
    with np.load(config.data) as file:
        np.savez(config.data, x=file["x"][..., :channels], y=file["y"] % classes)
    says = f"has {classes} classes and {channels} colour channels: wanted images of"
    assert says in refused(driver.main, config)
