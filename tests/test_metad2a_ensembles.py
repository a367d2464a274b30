"""Ensembles of MetaD2A's predictors: their predictions, checkpoints, and the driver."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import refused
from meta_samples import TINY, database, random_tensors

from jaxnas import models
from jaxnas.datasets import meta_database
from jaxnas.datasets.meta_examples import examples
from jaxnas.models import checkpoint, config, state_dicts
from jaxnas.models.features import join_classes
from jaxnas.models.meta_evaluation import predict_tasks

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = config.ModelConfig(8, 7, hidden=8, latent=8, features=TINY)
KEY = jax.random.key(1)


def predictor(seed, mean=70.0, change=None):
    network = models.Predictor(dataclasses.replace(SMALL, **(change or {})))
    made = state_dicts.from_state_dict(random_tensors(network, seed), features=TINY)
    return models.with_accuracy(made, mean, 0.05)


@pytest.fixture(scope="module")
def three():
    return [predictor(0), predictor(1, 60.0), predictor(2)]


def test_predictions_are_means_over_the_members(three):
    rng = np.random.default_rng(0)
    data = join_classes([rng.normal(size=(n, TINY.width)) for n in (3, 4)], TINY)
    archs = rng.integers(0, 5, (6, 6))
    joined = models.ensemble(three)
    assert joined.network.config.members == 3
    options = {"draws": 4, "num_images": 2}
    said = models.predict(joined, KEY, data, archs, **options)
    alone = [models.predict(model, KEY, data, archs, **options) for model in three]
    np.testing.assert_allclose(
        said.mean, np.mean([a.mean for a in alone], 0), rtol=1e-5
    )
    # The variance is that within members and that of their means.
    within = np.mean([a.std**2 for a in alone], 0)
    between = np.var([a.mean for a in alone], 0)
    np.testing.assert_allclose(said.std, np.sqrt(within + between), rtol=1e-3)
    tasks = examples(database(), "validation")
    values = predict_tasks(joined, KEY, tasks, **options)
    each = [predict_tasks(model, KEY, tasks, **options) for model in three]
    np.testing.assert_allclose(values, np.mean(each, 0), rtol=1e-5)
    assert np.ptp([e.mean() for e in each]) > 5  # they differ


def test_ensembles_count_as_their_members(three):
    nested = models.ensemble([models.ensemble(three[:2]), three[2]])
    jax.tree.map(
        np.testing.assert_array_equal,
        nested.variables,
        models.ensemble(three).variables,
    )
    for model, again in zip(three, models.members(nested), strict=True):
        assert again.network == model.network
        used = {name: model.variables[name] for name in ("params", "accuracy")}
        jax.tree.map(np.testing.assert_array_equal, used, again.variables)
    assert models.members(three[0])[0] is three[0] is models.ensemble(three[:1])
    drawn = models.init(models.Predictor(dataclasses.replace(SMALL, members=2)), KEY)
    first, second = (jax.tree.leaves(m.variables)[-1] for m in models.members(drawn))
    assert first.shape == jax.tree.leaves(three[0].variables["params"])[-1].shape
    assert (first != second).any()


def test_models_that_cannot_be_joined_are_refused(three):
    assert "at least one predictor" in refused(models.ensemble, [])
    generator = models.init(models.Generator(SMALL), KEY)
    assert "wanted predictors, not a Generator" in refused(models.ensemble, [generator])
    other = predictor(0, change={"hidden": 4})
    says = refused(models.ensemble, [*three, other])
    assert "differ in their configuration" in says and "hidden=4" in says
    plain = three[0]._replace(variables={"params": three[0].variables["params"]})
    assert "see `with_accuracy`" in refused(models.ensemble, [*three, plain])
    joined = models.ensemble(three)
    assert "accuracies of their own" in refused(models.with_accuracy, joined, 50, 10)
    pair = models.Generator(dataclasses.replace(SMALL, members=2))
    assert "wanted members = 1, not 2" in refused(models.init, pair, KEY)
    says = refused(models.to_state_dict, models.ensemble(three))
    assert "the published format has one network, not 3" in says
    with pytest.raises(ValueError, match="members must be at least 1"):
        dataclasses.replace(SMALL, members=0)


def test_checkpoints_of_ensembles(three, tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")
    joined, sizes = models.ensemble(three), []
    for half in (False, True):
        path = tmp_path / str(half)
        checkpoint.save(path, joined, half=half)
        back = checkpoint.load(path).model
        assert back.network == joined.network
        for a, b in zip(
            *(jax.tree.leaves(m.variables) for m in (back, joined)), strict=True
        ):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=5e-4 if half else 0, atol=1e-6)
        chunks = (f for f in path.rglob("*") if f.parent.name == "d")
        sizes.append(sum(f.stat().st_size for f in chunks))
    assert sizes[1] < sizes[0]
    large = jax.tree.map(lambda x: 1e6 * x, joined.variables["params"])
    wrong = joined._replace(variables=joined.variables | {"params": large})
    says = refused(checkpoint.save, tmp_path / "large", wrong, half=True)
    assert "too large for half precision" in says and not (tmp_path / "large").exists()


def test_the_driver_joins_predictors(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")
    from experiments import train_metad2a

    path = str(tmp_path / "database.npz")
    meta_database.save(path, database())
    settings = {"models": ("predictor",), "hidden": 8, "latent": 8, "batch": 2}
    first = train_metad2a.Config(
        path, images=3, epochs=1, out=str(tmp_path / "a"), **settings
    )
    train_metad2a.main(first)
    joined = str(tmp_path / "a/predictor")
    second = dataclasses.replace(
        first, seed=1, join=(joined,), half=True, out=str(tmp_path / "b")
    )
    train_metad2a.main(second)
    alone, made = (checkpoint.load(tmp_path / run / "predictor") for run in "ab")
    own, other = models.members(made.model)
    for a, b in zip(
        *(jax.tree.leaves(m.variables) for m in (other, alone.model)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=5e-4, atol=1e-6)
    assert (
        jax.tree.leaves(own.variables)[-1] != jax.tree.leaves(other.variables)[-1]
    ).any()
    assert made.origin["joined"] == [dict(alone.origin)]
    assert made.origin["settings"]["seed"] == 1 and "joined" not in alone.origin
    wrong = dataclasses.replace(second, hidden=4, out=str(tmp_path / "c"))
    assert f"--join {joined} has hidden 8, not 4" in refused(train_metad2a.main, wrong)
    twice = dataclasses.replace(second, join=(joined, joined), out=str(tmp_path / "c"))
    assert f"--join {joined} is given twice" in refused(train_metad2a.main, twice)
    alone = dataclasses.replace(twice, models=("generator",))
    assert "--join is of the predictor" in refused(train_metad2a.main, alone)
    other = database()
    other.test[:] += 1
    meta_database.save(tmp_path / "other.npz", other)
    others = dataclasses.replace(
        second, database=str(tmp_path / "other.npz"), out=str(tmp_path / "c")
    )
    assert "was trained on other records" in refused(train_metad2a.main, others)
    again = dataclasses.replace(second, join=(str(tmp_path / "b/predictor"),), seed=2)
    train_metad2a.main(dataclasses.replace(again, out=str(tmp_path / "three")))
    three = checkpoint.load(tmp_path / "three/predictor").model
    assert three.network.config.members == 3
    missing = dataclasses.replace(second, join=("missing",), out=str(tmp_path / "c"))
    assert "missing" in refused(train_metad2a.main, missing)
    assert not (tmp_path / "c").exists()
