"""Experiments on what MetaD2A's models learn: their data, figures, and resumption."""

import csv
import dataclasses

import numpy as np
import pytest
from helpers import refused
from meta_samples import database

pytest.importorskip("flax", reason="flax is in the extra models")
pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")

from experiments import metad2a_ablations as driver  # noqa: E402
from experiments.ablations import variants  # noqa: E402
from experiments.common import meta_models, meta_quality  # noqa: E402
from jaxnas.datasets import meta_database  # noqa: E402
from jaxnas.datasets.meta_examples import examples  # noqa: E402
from jaxnas.models import meta_training  # noqa: E402
from jaxnas.models.meta_data import best_graphs  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {"hidden": 8, "latent": 8, "images": 3, "batch": 2, "epochs": 1, "seeds": 1}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("database") / "database.npz"
    meta_database.save(path, database((12, 2, 2, 0)))
    return str(path)


def test_variants_change_what_they_say():
    data = examples(database(), "train")
    assert not variants.without_images(data, 0).x.any()
    alike = variants.without_cells(data, 0)
    assert (alike.types == alike.types[0, 0]).all() and alike.x is data.x
    np.testing.assert_array_equal(alike.accuracy, data.accuracy)
    shuffled = variants.shuffled_pairs(data, 1)
    assert (shuffled.first != data.first).any()
    rows = [np.concatenate([d.first, d.counts], 1) for d in (shuffled, data)]
    np.testing.assert_array_equal(*(np.sort(r, 0) for r in rows))
    np.testing.assert_array_equal(shuffled.types, data.types)


def test_the_accuracy_of_a_distribution_on_a_grid():
    rng = np.random.default_rng(0)
    probability, accuracy = rng.dirichlet(np.ones(4), 3), rng.random((3, 4))
    expected = meta_quality.expected_accuracy(np.log(probability) + 2, accuracy)
    np.testing.assert_allclose(expected, (probability * accuracy).sum(1))


def test_trainings_see_their_variant_and_are_kept(path, tmp_path, monkeypatch):
    trainings = []

    def train(key, model, training):
        del key
        trainings.append(training)
        state = meta_training.start(model, 1e-3, None)
        return model, state._replace(curve=((1.0, 0.5),))

    def ranked(predictor, codec, parts, seed, **settings):
        assert predictor.network.config.hidden == 8 and settings == {"images": 3}
        return [best_graphs(data, 2) for data in parts]

    def of_generator(model, database, train, seen, images):
        assert (
            train.types.shape == (12, 2, 8) and abs(seen(train).x[6:21].mean()) < 1e-4
        )
        return {"grid: accuracy": 70.0}

    # What is compiled for generators runs in .ci/run.
    monkeypatch.setattr(meta_training, "train", train)
    monkeypatch.setattr(meta_models, "ranked_cells", ranked)
    monkeypatch.setattr(driver, "of_generator", of_generator)
    monkeypatch.setattr(driver, "of_samples", lambda *_: {"novelty": 0.25})
    names = ("predictor", "predictor-images", "generator-shuffled")
    config = driver.Config((path,), names, **SMALL, out=str(tmp_path / "out"))
    figures = {run.variant: values for run, values in driver.main(config).items()}
    assert figures["predictor-images"]["test: pairs within tasks"] == 0.5
    assert figures["predictor"]["validation loss"] == 0.5
    assert figures["generator-shuffled"]["novelty"] == 0.25
    whole, images, shuffled = trainings
    assert (images.validation.types == images.data.types[0, 0]).all()
    assert shuffled.data.types.shape == (12, 2, 8)
    np.testing.assert_array_equal(shuffled.validation.first, whole.validation.first)
    assert (shuffled.data.first != whole.data.first).any()
    with open(tmp_path / "out/runs.csv") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == set(names)
    monkeypatch.setattr(meta_training, "train", None)
    again = {run.variant: values for run, values in driver.main(config).items()}
    assert again == figures
    alone = dataclasses.replace(
        config, variants=("generator",), out=str(tmp_path / "b")
    )
    assert "add `predictor` to --variants" in refused(driver.main, alone)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"variants": ("decoder",)}, "no variant decoder: choose from predictor"),
        ({"databases": ()}, "no database given"),
        ({"databases": ("free-images", "free-images")}, "must have different features"),
        ({"databases": ("missing.npz",)}, "missing.npz"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"patience": 0}, "--patience must be at least 1"),
        ({"base_seed": -1}, "--base-seed must be"),
        ({"latent": 6}, "--latent must be a multiple of 4, not 6"),
        ({"hidden": 10**7}, "--hidden must be at most 2048"),
        ({"images": 10**8}, "--images must be at most 200"),
        ({"seeds": 10**9}, "--seeds must be at most 1000"),
    ],
)
def test_bad_settings_write_nothing(path, tmp_path, change, says):
    config = driver.Config((path,), out=str(tmp_path / "out"))
    assert says in refused(driver.main, dataclasses.replace(config, **change))
    assert not (tmp_path / "out").exists()
