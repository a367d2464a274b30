"""Training: what a step is, how engines and lanes agree, checkpoints and bad input."""

import dataclasses
import functools
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_NETWORK as NETWORK

from jaxnas.io import checkpoints
from jaxnas.networks import accuracy, apply, augment, norms, partial, recipes, runs
from jaxnas.networks import train as training
from jaxnas.networks.data import Data
from jaxnas.networks.initialise import initialise
from jaxnas.networks.recipes import Recipe

pytestmark = pytest.mark.usefixtures("quick_compilation")

# A cell with every operation, one that connects nothing, one of skips and a convolution.
ARCHS = np.array([[3, 2, 4, 1, 0, 3], [0] * 6, [1, 1, 1, 3, 0, 1]])
SIZES = (3, 3, 3)  # of the grouped engine's groups
RECIPE = Recipe(
    epochs=4,
    batch=8,
    lr=0.05,
    label_smoothing=0.1,
    horizontal_flip=True,
    crop=1,
    cutout=3,
)


# Dies after the third epoch, which was not saved.
KILLED = """
import os, signal, sys
import jax
jax.config.update("jax_disable_most_optimizations", True)
import test_training as t

def die(number, curves):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

arguments = jax.random.key(0), t.NETWORK, t.RECIPE, t.ARCHS, t.images()
options = dict(engine="sequential", folder=sys.argv[1], save_every=2)
t.runs.train(*arguments, **options, report=die)
"""


def images():
    rng = np.random.default_rng(0)

    def some(num):
        y = rng.integers(0, 3, num).astype(np.int32)
        x = rng.normal(y[:, None, None, None] - 1.0, 1.0, (num, 8, 8, 1))
        return x.astype(np.float32), y

    return Data(*some(42), *some(12), *some(9), np.zeros(1, np.float32))


@pytest.fixture(scope="module")
def data():
    return images()


@pytest.fixture(scope="module")
def trained(data):
    """Both engines' results, the second's with room for other architectures."""
    arguments = jax.random.key(0), NETWORK, RECIPE, ARCHS, data
    return {
        "sequential": runs.train(*arguments, engine="sequential"),
        "grouped": runs.train(*arguments, engine="grouped", sizes=SIZES),
    }


def same(ones, others):
    """The same bits, but for the seconds."""
    for name in training.EpochMetrics._fields:
        np.testing.assert_array_equal(ones.curves[name], others.curves[name])
    for a, b in zip(*map(jax.tree.leaves, (ones.params, others.params)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_engines_train_the_same(trained):
    one, other = trained["sequential"], trained["grouped"]
    for name in training.EpochMetrics._fields:
        np.testing.assert_allclose(one.curves[name], other.curves[name], 1e-5)
    for a, b in zip(*map(jax.tree.leaves, (one.params, other.params)), strict=True):
        np.testing.assert_allclose(a, b, 1e-3, 1e-5)
    for result in (one, other):
        curves = result.curves
        assert all(c.shape == (3, 4) and np.isfinite(c).all() for c in curves.values())
        assert (curves["seconds"] > 0).all()
        assert (curves["loss"][:, -1] < curves["loss"][:, 0]).all()


def test_a_cell_that_is_compiled_into_the_program_trains_the_same(trained, data):
    arguments = jax.random.key(0), NETWORK, RECIPE, ARCHS[:1], data
    static = runs.train(*arguments, static=True, stop_epoch=2)
    for name in training.EpochMetrics._fields:
        wanted = trained["sequential"].curves[name][:1, :2]
        np.testing.assert_allclose(static.curves[name][:, :2], wanted, 1e-5)
    with pytest.raises(ValueError, match="static needs one architecture, not 3"):
        runs.train(*arguments[:3], ARCHS, data, static=True)
    with pytest.raises(ValueError, match='static needs engine="sequential", not'):
        runs.train(*arguments, static=True, engine="grouped")


def test_seconds_are_those_of_the_clock(trained, data):
    arguments = jax.random.key(0), NETWORK, RECIPE, ARCHS, data
    ticks = iter(np.arange(100.0) ** 2)
    found = runs.train(*arguments, engine="sequential", clock=lambda: next(ticks))
    # Each epoch takes two ticks, and three architectures have equal shares.
    wanted = np.tile((1 + 4 * np.arange(4)) / 3, (3, 1))
    np.testing.assert_allclose(found.curves["seconds"], wanted, 1e-6)
    same(found, trained["sequential"])


def test_what_is_measured_is_what_the_network_says(trained, data):
    params = jax.tree.map(lambda leaf: leaf[0], trained["sequential"].params)
    model = apply.single(NETWORK, jnp.asarray(ARCHS[0]))
    mode = training.TRAINING._replace(norm="running", reduction_norm="running")
    x, y = (np.concatenate(p) for p in (data[2:6:2], data[3:6:2]))
    run = jax.jit(lambda params, x: apply.run(model, params, x, mode).logits)
    right = np.argmax(run(params, x), -1) == y
    for split, hits in (("valid", right[:12]), ("test", right[12:])):
        found = trained["sequential"].curves[split][0, -1]
        np.testing.assert_allclose(found, 100 * hits.mean(), 1e-5)


@pytest.mark.parametrize("engine", ["sequential", "grouped"])
def test_accuracies_are_those_of_the_last_epoch(trained, data, monkeypatch, engine):
    # Several blocks, the last of them padded: of 5, 5 and 2 images.
    monkeypatch.setattr(accuracy, "EVALUATION_BLOCK", 5)
    curves, params = trained[engine].curves, trained[engine].params
    for split in ("valid", "test"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        found = accuracy.accuracies(NETWORK, ARCHS, params, x, y, engine=engine)
        assert np.ptp(found) > 0
        np.testing.assert_allclose(found, curves[split][:, -1], 1e-5)
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), params)
    found = accuracy.accuracies(NETWORK, ARCHS, broken, x, y, engine=engine)
    assert np.isnan(found).tolist() == [False, True, False]


def test_a_training_that_was_killed_goes_on(tmp_path, monkeypatch, trained, data):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    ended = subprocess.run(command, cwd=Path(__file__).parent, timeout=600)
    assert ended.returncode == -signal.SIGKILL
    epochs = []
    arguments = jax.random.key(0), NETWORK, RECIPE, ARCHS, data
    options = dict(engine="sequential", folder=tmp_path / "run", save_every=2)
    again = runs.train(*arguments, **options, report=lambda n, _: epochs.append(n))
    assert epochs == [2, 3]  # the third epoch was not saved
    same(again, trained["sequential"])
    whole = runs.train(*arguments, **options, report=lambda n, _: epochs.append(n))
    assert epochs == [2, 3]
    same(again, whole)
    with pytest.raises(ValueError, match="was made with other settings .key"):
        runs.train(jax.random.key(1), *arguments[1:], **options)
    with pytest.raises(ValueError, match="other settings .recipe.lr .* there, 0.1 now"):
        recipe = dataclasses.replace(RECIPE, lr=0.1)
        runs.train(*arguments[:2], recipe, *arguments[3:], **options)
    with monkeypatch.context() as patch:
        patch.setattr(partial, "FORMAT", 99)
        with pytest.raises(ValueError, match="has the format 2, and .* format 99"):
            runs.train(*arguments, **options)


def test_epochs_may_have_images_of_their_own(trained, data):
    arguments = jax.random.key(0), NETWORK, RECIPE, ARCHS, data
    asked = []

    def images(number):
        asked.append(number)
        return data.x, data.y

    options = dict(engine="sequential")
    same(runs.train(*arguments, **options, images=images), trained["sequential"])
    assert asked == [0, 1, 2, 3]
    others = runs.train(*arguments, **options, images=lambda n: (data.x + n, data.y))
    one, two = others.curves["loss"], trained["sequential"].curves["loss"]
    np.testing.assert_array_equal(one[:, 0], two[:, 0])
    assert (one[1:, 1] != two[1:, 1]).any()


def test_settings_are_those_of_the_platform():
    choose = functools.partial(runs.training_settings, NETWORK, RECIPE)
    assert choose(3)[2:4] == choose(3, None, "cpu")[2:4] == ("sequential", "patches")
    assert choose(3, None, "gpu")[2:4] == ("grouped", "native")
    assert choose(1, None, "gpu")[2:4] == ("sequential", "native")
    assert choose(3).arch is None


@pytest.mark.parametrize("engine", ["sequential", "grouped"])
def test_a_network_that_diverges_is_alone_with_it(engine, trained, data):
    settings = runs.training_settings(NETWORK, RECIPE, 3, engine)
    key = jax.random.key(0)
    state = training.initial_state(key, NETWORK, 3)
    poisoned = state.params.stem.weight.at[0, 0, 0].set(jnp.inf)
    stem = state.params.stem._replace(weight=poisoned)
    state = state._replace(params=state.params._replace(stem=stem))
    archs = (
        runs.cells.make_group_plan(ARCHS, SIZES)
        if engine == "grouped"
        else jnp.asarray(ARCHS)
    )
    data = jax.tree.map(jnp.asarray, data)
    program = training.compile_epoch(settings, key, archs, state, data)
    _, measured = program(0, archs, state, data)
    for name, values in measured._asdict().items():
        assert np.isnan(values[0]), name
        np.testing.assert_array_equal(
            values[1:], trained[engine].curves[name][1:, 0], name
        )


def test_keys_decide(trained, data):
    other = runs.train(
        jax.random.key(1), NETWORK, RECIPE, ARCHS, data, engine="sequential"
    )
    assert (other.curves["loss"] != trained["sequential"].curves["loss"]).all()
    again = runs.train(
        jax.random.key(0), NETWORK, RECIPE, ARCHS, data, engine="sequential"
    )
    same(again, trained["sequential"])


def test_rates_are_those_of_the_schedules():
    recipe = Recipe(epochs=200, lr=0.1)
    found = [recipes.learning_rates(recipe, 3, e) for e in (0, 100, 199)]
    wanted = [0.05 * (1 + np.cos(np.pi * e / 200)) for e in (0, 100, 199)]
    np.testing.assert_allclose(found, np.repeat(np.array(wanted)[:, None], 3, 1), 1e-5)
    steps = Recipe(epochs=4, lr=1.0, warmup=1.0, per_step_schedule=True)
    every = np.concatenate([recipes.learning_rates(steps, 10, e) for e in range(4)])
    np.testing.assert_allclose(every[:10], np.arange(0.05, 1, 0.1), 1e-6)
    assert (np.diff(every[10:]) < 0).all() and 0 < every[-1] < 0.01


def test_statistics_come_back_as_gradients():
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, (2, 6, 4, 4, 5)))
    slot = jnp.zeros((2, 2, 5))

    def loss(slot, x):
        return jnp.sum(7 * norms.stat_tap(jnp.sin(x), slot, norms.moments(x)))

    found, by_x = jax.grad(loss, (0, 1))(slot, x)
    np.testing.assert_allclose(found[:, 0], x.mean((1, 2, 3)), 1e-4, 1e-6)
    np.testing.assert_allclose(found[:, 1], x.var((1, 2, 3), ddof=1), 1e-4)
    np.testing.assert_allclose(by_x, 7 * jnp.cos(x), 1e-5)


def test_initial_statistics_are_those_of_an_untrained_network(data):
    network = dataclasses.replace(NETWORK, num_stages=2)
    params = initialise(jax.random.key(0), network)
    running = training.with_running_stats(
        params, training.initial_running_stats(params)
    )
    model = apply.single(network, jnp.asarray(ARCHS[0]))

    @jax.jit
    def logits(params, x):
        modes = (
            training.TRAINING._replace(norm=norm, reduction_norm=norm)
            for norm in ("running", "initial")
        )
        return [apply.run(model, params, x, mode).logits for mode in modes]

    np.testing.assert_allclose(*logits(running, data.x), 1e-5, 1e-6)


def test_smoothing_is_a_mixture_of_labels():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)))
    y = jnp.array([0, 1, 2, 3, 0, 1])
    target = 0.8 * np.eye(4)[y] + 0.2 / 4
    wanted = -np.mean(np.sum(target * jax.nn.log_softmax(logits), -1))
    np.testing.assert_allclose(apply.cross_entropy(logits, y, 0.2), wanted, 1e-6)
    mixed = 0.7 * jnp.eye(4)[y] + 0.3 * jnp.eye(4)[jnp.roll(y, 1)]
    parts = (apply.cross_entropy(logits, labels, 0.2) for labels in (y, jnp.roll(y, 1)))
    wanted = np.dot([0.7, 0.3], list(parts))
    np.testing.assert_allclose(apply.cross_entropy(logits, mixed, 0.2), wanted, 1e-6)


# --- augmentation -----------------------------------------------------------------------


def test_crops_are_windows_of_the_padded_image():
    x = jnp.arange(2.0 * 5 * 4 * 2).reshape(2, 5, 4, 2)
    fill = jnp.array([-1.0, -2.0])
    padded = np.broadcast_to(np.asarray(fill), (2, 9, 8, 2)).copy()
    padded[:, 2:7, 2:6] = x
    seen = set()
    for seed in range(30):
        found = augment.crop(jax.random.key(seed), x, 2, fill)
        for image, whole in zip(np.asarray(found), padded, strict=True):
            places = [
                (i, j)
                for i in range(5)
                for j in range(5)
                if np.array_equal(image, whole[i : i + 5, j : j + 4])
            ]
            assert places
            seen.update(places)
    assert len(seen) > 15


def test_flips_and_cutouts():
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (400, 6, 5, 2)))
    flipped = np.asarray(augment.flip(jax.random.key(0), x))
    mirrored = (flipped == np.asarray(x)[:, :, ::-1]).all((1, 2, 3))
    assert ((flipped == np.asarray(x)).all((1, 2, 3)) | mirrored).all()
    assert 150 < mirrored.sum() < 250
    cut = np.asarray(augment.cutout(jax.random.key(0), x, 3)) == 0
    assert (cut[..., 0] == cut[..., 1]).all()
    # A square of 3 x 3 whose centre is anywhere, less what is outside.
    rows, columns = cut[..., 0].any(2).sum(1), cut[..., 0].any(1).sum(1)
    assert (cut[..., 0].sum((1, 2)) == rows * columns).all()
    assert {*rows} == {*columns} == {2, 3}


def test_rectangles_of_other_images_have_their_share_of_the_label():
    key, num = jax.random.key(0), 60
    x = np.random.default_rng(0).normal(size=(num, 8, 6, 2)).astype(np.float32)
    mixed, share = map(np.asarray, augment.cutmix(key, jnp.asarray(x), 0.6))
    keys = jax.random.split(key, 3)
    chosen = np.asarray(jax.random.bernoulli(keys[0], 0.6, (num, 1)))[:, 0]
    area = np.asarray(jax.random.uniform(keys[1], (num, 1)))[:, 0]
    centres = np.asarray(jax.random.uniform(keys[2], (num, 2)))
    wanted = x.copy()
    for i in np.flatnonzero(chosen):
        ends = [centres[i] + sign * np.sqrt(area[i]) / 2 for sign in (-1, 1)]
        (top, left), (bottom, right) = np.round(np.clip(ends, 0, 1) * [8, 6]).astype(
            int
        )
        wanted[i, top:bottom, left:right] = x[i - 1, top:bottom, left:right]
    np.testing.assert_array_equal(mixed, wanted)
    np.testing.assert_allclose(share, (mixed != x)[..., 0].mean((1, 2)), 1e-6)
    # The batch of a step and its labels.
    recipe, y = Recipe(batch=8, cutmix=0.6), np.arange(num) % 5
    step = training._augmented(recipe, key, jnp.asarray(x), y, jnp.zeros(2), 5)
    own = (np.asarray(step[0]) == x)[..., 0].mean((1, 2))
    labels = np.eye(5)[y] * own[:, None] + np.eye(5)[y - 1] * (1 - own[:, None])
    np.testing.assert_allclose(step[1], labels, atol=1e-6)


# --- bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(epochs=0), "epochs must be an integer from 1"),
        (dict(batch=1), "batch must be an integer from 2"),
        (dict(lr=-1.0), "lr must be finite and not negative"),
        (dict(lr=float("nan")), "lr must be finite and not negative"),
        (dict(momentum=1.0), r"momentum must be in \[0, 1\)"),
        (dict(cutmix=-0.1), r"cutmix must be in \[0, 1\)"),
        (dict(warmup=2.0), "a warm-up needs per_step_schedule=True"),
    ],
)
def test_recipes_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x_test=np.zeros((3, 8, 4, 1))), "wanted x_test as at least 1 images"),
        (dict(y=np.full(42, 3)), r"y must be 0\.\.2, found 3\.\.3"),
        (dict(y_valid=np.zeros(12)), "wanted y_valid as 12 integers"),
        (dict(x_valid=np.full((12, 8, 8, 1), np.nan)), "x_valid is not finite"),
        (dict(pad_value=np.zeros(3)), r"wanted pad_value \(1,\)"),
    ],
)
def test_data_are_checked(data, change, message):
    with pytest.raises(ValueError, match=message):
        runs.validate_training(NETWORK, RECIPE, ARCHS, data._replace(**change))


@pytest.mark.parametrize(
    ("archs", "message"),
    [
        (ARCHS[0], r"wanted architectures \(a, 6\)"),
        (ARCHS + 2, r"operations are 0\.\.4"),
        (ARCHS * 1.0, "architectures are integers"),
    ],
)
def test_architectures_are_checked(data, archs, message):
    with pytest.raises(ValueError, match=message):
        runs.validate_training(NETWORK, RECIPE, archs, data)


# --- files ------------------------------------------------------------------------------


def test_trees_are_saved_at_once_and_read_back(tmp_path):
    tree = {"a": jnp.arange(5.0), "b": [np.ones((2, 3), np.int32)]}
    path = tmp_path / "folder"
    assert not checkpoints.exists(path)
    checkpoints.save(path, tree, {"number": 1})
    checkpoints.save(path, jax.tree.map(lambda x: x + 1, tree), {"number": 2})
    assert checkpoints.manifest(path) == {"number": 2}
    found = checkpoints.restore(path, tree)
    np.testing.assert_array_equal(found["a"], tree["a"] + 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]
    # Killed between the two renames: the older one is there.
    path.rename(tmp_path / "folder.old")
    assert checkpoints.manifest(path) == {"number": 2}


def test_damaged_and_foreign_trees_are_told(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint at"):
        checkpoints.manifest(tmp_path / "nothing")
    path = tmp_path / "folder"
    checkpoints.save(path, {"a": jnp.arange(5.0)}, {})
    with pytest.raises(ValueError, match="not a sound checkpoint"):
        checkpoints.restore(path, {"b": jnp.arange(5.0)})
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"x")
    with pytest.raises(ValueError, match="not a sound checkpoint"):
        checkpoints.manifest(path)
