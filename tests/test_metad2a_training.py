"""Meta-training of MetaD2A's models: data, losses, epochs, going on after a kill."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import refused
from meta_samples import TINY, database, random_tensors

pytest.importorskip("flax", reason="flax is in the extra models")
pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")

from experiments import train_metad2a  # noqa: E402
from experiments.common import meta_models  # noqa: E402
from jaxnas import models  # noqa: E402
from jaxnas.datasets import meta_database  # noqa: E402
from jaxnas.datasets.meta_examples import examples  # noqa: E402
from jaxnas.models import (  # noqa: E402
    checkpoint,
    meta_data,
    meta_replicas,
    meta_training,
    plateau,
    state_dicts,
)
from jaxnas.models.generator import generator_losses, total_loss  # noqa: E402
from jaxnas.models.graphs import adjacency  # noqa: E402
from jaxnas.models.meta_evaluation import predict_tasks  # noqa: E402
from jaxnas.models.nasbench201 import CODEC  # noqa: E402
from jaxnas.models.objectives import objective_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = models.ModelConfig(8, 7, hidden=8, latent=8, features=TINY, eps_scale=1.0)
EDGES = adjacency("line15", 8)


@pytest.fixture(scope="module")
def made():
    return database()


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


# --- data -----------------------------------------------------------------------------


def test_examples_are_the_records_of_a_part(made):
    made.test[1, 2] = np.nan
    data = examples(made, "train")
    assert data.first.shape == (12, 3) and data.types.shape == (12, 3, 8)
    for row, (task, arch) in enumerate(zip(made.tasks[:12], made.arch, strict=False)):
        assert (data.types[row, :, 1:-1] - 2 == arch).all()
        count = len(task.classes)
        assert data.counts[row].tolist() == [5] * count + [0] * (3 - count)
        for first, label in zip(data.first[row], task.classes, strict=False):
            np.testing.assert_allclose(
                data.x[first : first + 5], made.features["b"][label]
            )
    assert data.present.sum() == 35 and not data.present[1, 2]
    np.testing.assert_allclose(data.accuracy[0], made.test[0, :, 0])
    mean, std = meta_data.moments(data)
    wanted = np.delete(made.test[:12].ravel(), 5)
    np.testing.assert_allclose(
        (mean, std), (wanted.mean(), wanted.std(ddof=1)), rtol=1e-6
    )
    best = meta_data.best_graphs(data, 2)
    for row in range(12):
        order = np.argsort(-np.nan_to_num(made.test[row, :, 0], nan=-1))[:2]
        equal(best.types[row, :, 1:-1] - 2, made.arch[row][order])
    assert best.present.all()
    made.test[1, 2] = 60.0


def test_a_part_without_records_is_refused(made):
    other = made._replace(tasks=tuple(t._replace(part=0) for t in made.tasks))
    assert "no finished trainings of tasks for validation" in refused(
        examples, other, "validation"
    )
    same = examples(made, "train")._replace(accuracy=np.full((12, 3), 5.0))
    assert "all the same" in refused(meta_data.moments, same)


def test_images_of_the_classes_are_drawn_and_padding_is_masked(made):
    data = examples(made, "train")
    row = next(n for n in range(12) if len(made.tasks[n].classes) == 2)
    task = meta_data.draw_task(jax.random.key(0), data, jnp.array(row), 4)
    assert task.features.shape == (3, 4, 4) and task.mask.sum(1).tolist() == [4, 4, 0]
    for label, x in zip(made.tasks[row].classes, task.features, strict=False):
        pool = np.float32(made.features["b"][label])
        rows = [np.flatnonzero((pool == image).all(1)).item() for image in x]
        assert len(set(rows)) == 4
    none = meta_data.draw_task(jax.random.key(0), data, jnp.array(-1), 4)
    assert task.present.all() and not none.present.any()


# --- losses and epochs ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["generator", "predictor"])
def test_the_losses_of_a_task_are_those_of_its_graphs(name, made):
    """With one noise for each graph, and targets in standard deviations."""
    network = train_metad2a.NETWORKS[name](SMALL)
    model = state_dicts.from_state_dict(random_tensors(network), features=TINY)
    if name == "predictor":
        model = models.with_accuracy(model, 60.0, 0.05)
        made.test[1, 2] = np.nan
    task = meta_data.draw_task(
        jax.random.key(0), examples(made, "train"), jnp.array(1), 3
    )
    made.test[1, 2] = 60.0
    objective = jax.jit(objective_of(network, 3.0))
    losses = objective(model.variables, jax.random.key(2), task)
    inputs, variables = (task.features, task.mask), model.variables

    @jax.jit
    def wanted(key, types, accuracy):
        rest = (*inputs, types, np.asarray(EDGES))
        if name == "generator":
            return total_loss(SMALL, generator_losses(network, variables, key, *rest))
        output = network.apply({"params": variables["params"]}, *rest)
        return output - (accuracy - 60) / 5

    if name == "predictor":
        errors = [wanted(None, task.types[g], task.accuracy[g]) for g in range(2)]
        centred = np.array(errors) - np.mean(errors)
        values = np.square(errors) + 3 * centred**2
        np.testing.assert_allclose(losses[:2], values, rtol=1e-4)
        return
    for graph, key in enumerate(jax.random.split(jax.random.key(2), 3)):
        loss = wanted(key, task.types[graph], task.accuracy[graph])
        np.testing.assert_allclose(losses[graph], loss, rtol=1e-4)


@pytest.fixture
def linear(made, monkeypatch):
    """A linear model in place of the networks, and the data of its training."""

    def objective_of(network, order_weight):
        def objective(variables, key, task):
            w, seen = (
                variables["params"],
                jnp.where(task.mask[..., None], task.features, 0),
            )
            noise = 0 if key is None else jax.random.normal(key, (3,))
            output = w[0] * seen.sum() + w[1] * task.types.sum(-1) + 0.1 * noise
            return (output - task.accuracy / 60) ** 2

        return objective

    monkeypatch.setattr(meta_training, "objective_of", objective_of)
    meta_training.programs.cache_clear()
    meta_replicas._together.cache_clear()
    made.test[3, 0] = np.nan
    parts = [examples(made, part) for part in ("train", "validation")]
    made.test[3, 0] = 60
    options = {"batch": 5, "num_images": 3, "draws": 2, "rate": 1e-2}
    training = meta_training.Training(*map(jax.device_put, parts), **options)
    yield models.Model("linear", {"params": jnp.float32([0.1, 0.02])}), training
    meta_training.programs.cache_clear()


def losses_of(linear, data, params, key, number, noisy):
    """The losses of the records of a task, that are present, one after the other."""
    model, _ = linear
    key_images, key_noise = jax.random.split(key)
    task = meta_data.draw_task(key_images, data, number, 3)
    objective = meta_training.objective_of(model.network, 0)
    losses = objective({"params": params}, key_noise if noisy else None, task)
    return jnp.where(task.present, losses, 0).sum(), task.present.sum()


def test_an_epoch_is_steps_of_adam_on_mean_losses(linear):
    model, training = linear
    data = training.data
    progress = meta_training.start(model, 1e-2, jax.random.key(3))
    after, progress = meta_training.run_epoch(model, progress, training)
    key_order, key_steps = jax.random.split(jax.random.fold_in(jax.random.key(3), 1))
    order = meta_training._batches(key_order, 12, 5)
    assert sorted(order.ravel().tolist()) == [-1] * 3 + [*range(12)]
    params, optimizer = model.variables["params"], optax.adam(1e-2)
    state, total = optimizer.init(params), 0.0

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def mean(params, key, numbers):
        keys = jax.random.split(key, 5)
        pairs = [(keys[i], numbers[i]) for i in range(5)]
        parts = [losses_of(linear, data, params, k, n, True) for k, n in pairs]
        sums = [sum(part) for part in zip(*parts, strict=True)]
        return sums[0] / sums[1], sums[0]

    for key, numbers in zip(jax.random.split(key_steps, 3), order, strict=True):
        (_, sums), gradient = mean(params, key, numbers)
        total += float(sums)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after.variables["params"], params, rtol=1e-4)
    np.testing.assert_allclose(progress.curve[0][0], total / 35, rtol=1e-4)
    assert progress.step == 3 and progress.best is after.variables["params"]


def test_validation_draws_the_same_images_without_noise(linear):
    model, training = linear
    _, progress = meta_training.run_epoch(
        model, meta_training.start(model, 0.0, jax.random.key(3)), training
    )
    parts = [
        losses_of(linear, training.validation, jnp.float32([0.1, 0.02]), one, n, False)
        for key in jax.random.split(jax.random.key(0), 2)
        for n, one in enumerate(jax.random.split(key, 4))
    ]
    wanted = sum(float(x) for x, _ in parts) / (2 * 4 * 3)
    np.testing.assert_allclose(progress.curve[0][1], wanted, rtol=1e-5)


def test_the_rate_falls_and_the_best_parameters_are_kept(linear):
    model, training = linear
    state = meta_training.start(model, 0.5, jax.random.key(0))
    state = state._replace(plateau=plateau.Plateau(0.5, 0.0, 10))
    model, state = meta_training.run_epoch(model, state, training)
    assert float(state.opt_state.hyperparams["learning_rate"]) == 0.5
    assert state.plateau == plateau.Plateau(0.05, 0.0, 0)
    params, rows = [model.variables["params"]], [state.best]
    for _ in range(7):
        model, state = meta_training.run_epoch(model, state, training)
        params.append(model.variables["params"])
        rows.append(state.best)
    rate = state.opt_state.hyperparams["learning_rate"]
    assert float(rate) == np.float32(0.05) and state.step == 24
    valid = [loss for _, loss in state.curve]
    for number, best in enumerate(rows, 1):
        assert (best == params[int(np.argmin(valid[:number]))]).all()
    assert meta_training.best_epoch(state) == int(np.argmin(valid)) + 1
    for last, expected in ((8, 0.005), (9, 0.05)):
        late = training._replace(decay_after=last)
        _, after = meta_training.run_epoch(model, state, late)
        used = float(after.opt_state.hyperparams["learning_rate"])
        assert used == np.float32(expected) and after.plateau.rate == 0.05


def test_a_training_ends_when_validation_does_not_improve(linear):
    training = linear[1]._replace(epochs=9, patience=3)
    curve = [(1.0, 3.0), (0.9, 2.0), (0.8, 2.5), (0.7, 2.0), (0.6, 2.1)]
    for count, ended in ((0, False), (2, False), (4, False), (5, True)):
        state = checkpoint.Progress(None, 0, None, None, None, tuple(curve[:count]))
        assert meta_training.finished(state, training) == ended
    falling = tuple((1.0, 9.0 - n) for n in range(9))
    state = checkpoint.Progress(None, 0, None, None, None, falling)
    assert meta_training.finished(state, training)
    assert not meta_training.finished(state, training._replace(epochs=10))


def test_a_loss_that_is_not_finite_is_refused(linear):
    model, training = linear
    bad = models.Model("linear", {"params": jnp.float32([np.nan, 1])})
    state = meta_training.start(bad, 1e-2, jax.random.key(0))
    assert "diverged in epoch 1" in refused(
        meta_training.run_epoch, bad, state, training
    )


def test_trainings_side_by_side_are_those_one_by_one(linear):
    model, training = linear
    training = training._replace(epochs=6, patience=3, rate=0.05)
    # The second is of other records, and ends after other epochs.
    other = training.data._replace(accuracy=60 - training.data.accuracy)
    trainings = [training, training._replace(data=other)]
    start = models.Model("linear", {"params": jnp.float32([-0.1, 0.5])})
    keys = jax.random.split(jax.random.key(5), 2)
    together = meta_replicas.train_together(keys, [model, start], trainings)
    for row, given in enumerate((model, start)):
        alone, progress = meta_training.train(keys[row], given, trainings[row])
        got, after = together[row]
        np.testing.assert_allclose(after.curve, progress.curve, rtol=1e-4)
        np.testing.assert_allclose(
            got.variables["params"], alone.variables["params"], rtol=1e-4
        )
    assert len({len(after.curve) for _, after in together}) == 2
    wrong = [training, training._replace(epochs=7)]
    says = refused(meta_replicas.train_together, keys, [model, start], wrong)
    assert "one network and one setting" in says
    wrong[1] = training._replace(data=other._replace(x=other.x + 0))
    says = refused(meta_replicas.train_together, keys, [model, start], wrong)
    assert "the same features" in says
    assert "not 2 models" in refused(
        meta_replicas.train_together, keys, [model, start], []
    )


# --- the driver -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("meta") / "database.npz"
    meta_database.save(path, made)
    return path


def config(path, out, **change):
    settings = {
        "hidden": 8,
        "latent": 8,
        "batch": 2,
        "images": 3,
        "learning_rate": 0.02,
    }
    return train_metad2a.Config(str(path), out=str(out), **settings | change)


def test_a_killed_training_ends_with_the_same_bits(path, made, tmp_path, monkeypatch):
    settings = {"models": ("predictor",), "order_weight": 0.0, "epochs": 9, "chunk": 9}
    full = config(path, tmp_path / "whole", **settings)
    losses = train_metad2a.main(full)
    part = dataclasses.replace(full, out=str(tmp_path / "part"), stop_after=2, chunk=5)
    train_metad2a.main(part)
    assert not (tmp_path / "part/predictor").exists()
    again = dataclasses.replace(part, stop_after=None)
    epoch, calls = meta_training.run_epoch, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return epoch(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(meta_training, "run_epoch", killed)
        train_metad2a.main(again)
    assert len(calls[-1][1].curve) == 7  # two are lost
    assert train_metad2a.main(again) == losses
    one, other = (
        checkpoint.load(tmp_path / run / "predictor") for run in ("whole", "part")
    )
    equal(one.model.variables, other.model.variables)
    assert one.origin["pools"] == {"b": {"licence": "CC0"}}
    assert one.origin["records"] == 36 and one.origin["tasks"] == 12
    assert one.split == other.split and len(one.split) == 64
    # One is the variance of the accuracies: the predictor has learnt the cells.
    assert losses["predictor"] == one.origin["validation_loss"] < 0.6
    with pytest.raises(ValueError, match="other settings [(]hidden 8 there, 9 now"):
        train_metad2a.main(dataclasses.replace(full, hidden=9))
    more = str(tmp_path / "more.npz")
    meta_database.save(more, made._replace(test=made.test + np.float32(1)))
    with pytest.raises(ValueError, match="records_sha256"):
        train_metad2a.main(dataclasses.replace(full, database=more))
    folder = tmp_path / "whole/predictor"
    assert "has no progress of a training" in refused(
        meta_training.train, jax.random.key(0), one.model, None, folder=folder
    )


def test_a_training_resumes_only_from_a_checkpoint_of_its_own(
    tmp_path, made, monkeypatch
):
    def epoch(model, progress, training):  # nothing is compiled
        return model, meta_training.recorded(progress, training, (0.7, 0.6))

    monkeypatch.setattr(meta_training, "run_epoch", epoch)
    parts = [examples(made, part) for part in ("train", "validation")]
    network = models.Predictor(SMALL)
    model = models.with_accuracy(models.init(network, jax.random.key(1)), 60, 5)
    training = meta_training.Training(*parts, epochs=4)
    key, folder = jax.random.key(3), tmp_path / "state"

    def train(key, model, training):
        return meta_training.train(key, model, training, folder=folder)[1].curve

    assert train(key, model, training) == 4 * ((0.7, 0.6),)
    assert train(key, model, training) == 4 * ((0.7, 0.6),)
    assert len(train(key, model, training._replace(epochs=6))) == 6  # goes on
    other = parts[0]._replace(accuracy=parts[0].accuracy + 1)
    for changed, name in (
        ((jax.random.key(4), model, training), "key"),
        ((key, models.init(network, jax.random.key(1)), training), "parameters"),
        ((key, models.with_accuracy(model, 61, 5), training), "parameters"),
        ((key, model, training._replace(data=other)), "data"),
        ((key, model, training._replace(validation=other)), "validation"),
        ((key, model, training._replace(rate=1e-2)), "rate 0.0001 there, 0.01 now"),
        ((key, model, training._replace(decay_after=2)), "decay_after"),
    ):
        message = refused(train, *changed)
        assert f"{folder} was made with other settings ({name}" in message
    short = training._replace(epochs=5)
    assert "has 6 epochs, and this training ends after 5" in refused(
        train, key, model, short
    )
    # One of the time before there was a record of what it depends on.
    saved = checkpoint.load(folder)
    checkpoint.save(folder, saved.model, progress=saved.progress)
    assert len(train(key, model, training._replace(epochs=6))) == 6


def test_a_generator_imitates_recorded_cells_or_those_ranked_best(made, path, tmp_path):
    parts = [examples(made, part) for part in ("train", "validation")]
    settings = config(path, tmp_path, candidates=0, best=1)
    data, _ = train_metad2a._targets(settings, "generator", CODEC, parts, tmp_path)
    best = made.arch[np.arange(12), made.test[:12, :, 0].argmax(1)]
    equal(data.types[:, 0, 1:-1] - 2, best)
    twice = [np.concatenate([a, a[:5]]) for a in (data.types, data.present)]
    twice = data._replace(types=twice[0], present=twice[1])
    listed = json.loads(json.dumps(meta_models.describe_cells(CODEC, twice)))
    equal(np.array(listed["cells"]), np.unique(best, axis=0))
    imitated = meta_models.imitated_cells(listed)
    assert imitated is not None
    every = np.concatenate([best, best[:5]])
    equal(imitated, every[np.lexsort(every.T[::-1])])
    assert meta_models.imitated_cells({"cells": listed["cells"]}) is None
    ranked = dataclasses.replace(settings, candidates=9, best=2, seed=1)
    says = refused(train_metad2a._targets, ranked, "generator", CODEC, parts, tmp_path)
    assert "train it too, or give --candidates 0" in says
    tensors = random_tensors(models.Predictor(SMALL))
    predictor = state_dicts.from_state_dict(tensors, features=TINY)
    predictor = models.with_accuracy(predictor, 60, 0.1)
    checkpoint.save(tmp_path / "predictor", predictor)
    _, data = train_metad2a._targets(ranked, "generator", CODEC, parts, tmp_path)
    assert data.types.shape == (4, 2, 8) and data.present.all()
    rng = np.random.default_rng(1)
    tasks = sum(len(part.types) for part in parts)
    order = [rng.choice(15625, 9, replace=False) for _ in range(tasks)][-4:]
    cells = np.moveaxis(np.unravel_index(order, (5,) * 6), 0, -1)  # (4, 9, 6)
    ends = ((0, 0), (0, 0), (1, 1))
    types = np.pad(cells + 2, ends, constant_values=((0, 0), (0, 0), (0, 1)))
    wide = parts[1]._replace(types=types)
    values = predict_tasks(predictor, jax.random.key(1), wide, num_images=3)
    np.testing.assert_allclose(data.accuracy, -np.sort(-values, 1)[:, :2], rtol=1e-5)
    equal(data.types[:, 0], types[np.arange(4), values.argmax(1)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"models": ("decoder",)},
            "no model decoder: choose from predictor, generator",
        ),
        ({"models": ()}, "no model given"),
        ({"hidden": 0}, "--hidden must be at least 1"),
        ({"hidden": 10**7}, "--hidden must be at most 2048, not 10000000"),
        ({"generator_hidden": 0}, "--generator-hidden must be at least 1"),
        ({"generator_hidden": 10**7}, "--generator-hidden must be at most 2048"),
        ({"latent": 6}, "--latent must be a multiple of 4, not 6"),
        ({"latent": 10**7}, "--latent must be at most 2048"),
        ({"images": 10**8}, "--images must be at most 200"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"batch": 10**8}, "--batch must be at most 512"),
        ({"adjacency": "ring"}, "no adjacency 'ring'"),
        ({"learning_rate": 0.0}, "--learning-rate must be between 0 and 1"),
        ({"order_weight": -1.0}, "--order-weight must be a finite number from 0"),
        ({"order_weight": np.inf}, "must be a finite number from 0, not inf"),
        ({"candidates": -1}, "--candidates must be 0 to 15625"),
        ({"decay_after": -1}, "--decay-after must be a finite number from 0"),
        ({"eps_scale": -1.0}, "--eps-scale must be a finite number from 0"),
        ({"seed": -1}, "--seed must be"),
        ({"stop_after": 0}, "--stop-after must be at least 1, not 0"),
        ({"database": "missing.npz"}, "missing.npz"),
        ({"models": ("generator",)}, "train it too, or give --candidates 0"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    path, tmp_path, change, says
):
    given = dataclasses.replace(config(path, tmp_path / "out"), **change)
    assert says in refused(train_metad2a.main, given)
    assert not (tmp_path / "out").exists()


def test_records_without_variation_claim_no_folder(tmp_path):
    flat = database()
    flat.test[:] = 50.0
    path = str(tmp_path / "flat.npz")
    meta_database.save(path, flat)
    assert "all the same" in refused(train_metad2a.main, config(path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
