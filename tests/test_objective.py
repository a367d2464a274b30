"""Trainings that a search asks for: they go on, and what is kept is not done again."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_training
from test_training import NETWORK, images

from jaxnas.benchmarks import training_store
from jaxnas.benchmarks.training import training_benchmark
from jaxnas.networks import runs
from jaxnas.networks.train import Data
from jaxnas.types import FULL_TRAINING, Query

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARCHS = np.array([[3, 2, 4, 1, 0, 3], [1, 1, 1, 3, 0, 1], [2, 2, 3, 1, 0, 4]], np.int32)
# One program serves this and `test_training`.
RECIPE = dataclasses.replace(test_training.RECIPE, epochs=9)
KEY = jax.random.key(0)


def made(folder=None, recipe=RECIPE, key=KEY, **kwargs):
    options = {"folder": folder, **kwargs}
    return training_benchmark(key, NETWORK, recipe, images(), **options).evaluate


def asked(evaluate, start, epoch, archs=ARCHS, seed=None):
    """The result of a query, in NumPy; epochs and seeds may differ by slot."""
    num = len(archs)
    parts = [np.broadcast_to(x, num).astype(np.int32) for x in (epoch, start)]
    seeds = None if seed is None else jnp.asarray(np.broadcast_to(seed, num), jnp.int32)
    result = evaluate(KEY, Query(jnp.asarray(archs), *map(jnp.asarray, parts), seeds))
    return jax.tree.map(np.asarray, result)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole():
    """What trainings without interruption give."""
    return asked(made(), 0, FULL_TRAINING)


def trained_for(result, epoch, whole):
    """Whether a result has the bits of the uninterrupted trainings up to an epoch."""
    np.testing.assert_array_equal(result.score, whole.curve[:, epoch - 1])
    np.testing.assert_array_equal(result.curve[:, :epoch], whole.curve[:, :epoch])
    assert result.curve.shape == (3, 9) and np.isnan(result.curve[:, epoch:]).all()


def test_a_training_goes_on_along_its_own_schedule(tmp_path, whole):
    reported = []
    evaluate = made(tmp_path, report=lambda a, c: reported.append(len(c["valid"])))
    first = asked(evaluate, 0, 3)
    trained_for(first, 3, whole)
    assert names(tmp_path) == ["111301-9", "223104-9", "324103-9"]
    assert reported == [3] * 3
    # A process of its own has only the folder.
    second = asked(made(tmp_path), 3, FULL_TRAINING)
    trained_for(second, 9, whole)
    np.testing.assert_array_equal(second.score, whole.score)
    # A checkpoint that nothing goes on from is removed.
    assert names(tmp_path) == ["111301-9.npz", "223104-9.npz", "324103-9.npz"]
    # What is asked again is read: the same values, and the costs that there were.
    again = asked(made(tmp_path), 0, 9)
    trained_for(again, 9, whole)
    np.testing.assert_allclose(again.cost, first.cost + second.cost, 1e-5)
    np.testing.assert_array_equal(asked(evaluate, 0, 3).cost, first.cost)
    curves = training_store.load_curves(tmp_path, ARCHS[0], 9)
    np.testing.assert_array_equal(curves["valid"], whole.curve[0])


def test_slots_ask_for_different_things(tmp_path, whole):
    evaluate = made(tmp_path)
    asked(evaluate, 0, [2, 4, 0])
    assert names(tmp_path) == ["111301-9", "324103-9"]
    # Of one training twice, of one that went further, and of no cell.
    archs = np.concatenate([ARCHS[[0, 0, 1]], [[0, 0, 0, 0, 0, 5]]])
    result = asked(evaluate, [2, 0, 0, 0], [5, 1, 3, 3], archs)
    wanted = [whole.curve[0, 4], whole.curve[0, 0], whole.curve[1, 2], np.nan]
    np.testing.assert_array_equal(result.score, wanted)
    assert (result.cost[:3] > 0).all() and result.cost[3] == 0
    assert names(tmp_path) == ["111301-9", "324103-9"]
    idle = asked(evaluate, [9, 5, 4], [9, 3, 4])
    assert np.isnan(idle.score).all() and (idle.cost == 0).all()


@pytest.mark.parametrize("lost", ["missing", "damaged"])
def test_a_training_without_its_checkpoint_begins_again(tmp_path, whole, lost):
    evaluate = made(tmp_path)
    asked(evaluate, 0, 3, ARCHS)
    path = tmp_path / "324103-9"
    if lost == "missing":
        shutil.rmtree(path)
    else:
        for file in path.rglob("*"):
            if file.is_file():
                file.write_bytes(b"x")
    result = asked(evaluate, 3, 5)
    trained_for(result, 5, whole)
    # It is charged for the five epochs, the others for two.
    costs = asked(evaluate, 0, 5).cost, asked(evaluate, 3, 5).cost
    assert result.cost[0] == costs[0][0] and (result.cost == costs[1])[1:].all()


def test_repetitions_are_other_trainings(tmp_path, whole):
    evaluate = made(tmp_path)
    other = asked(evaluate, 0, 2, ARCHS[[0, 0]], seed=[0, 1])
    assert names(tmp_path) == ["324103-9", "324103-9-1"]
    np.testing.assert_array_equal(other.curve[0, :2], whole.curve[0, :2])
    assert (other.curve[1, :2] != whole.curve[0, :2]).any()
    key = jax.random.fold_in(KEY, 1)
    same = asked(made(key=key), 0, 2, ARCHS[[0]])
    np.testing.assert_array_equal(same.curve[0], other.curve[1])


def test_side_by_side_they_go_on_too(tmp_path, whole, monkeypatch):
    """As on an accelerator, but for the device."""
    training_settings = runs.training_settings

    def grouped(*arguments):
        return training_settings(*arguments[:3], "grouped")

    monkeypatch.setattr(runs, "training_settings", grouped)
    together = dataclasses.replace(made(tmp_path / "a").func, side_by_side=True)
    at_once = asked(together, 0, 9)
    # In company the sums of a step are in another order.
    np.testing.assert_allclose(at_once.curve[:, 0], whole.curve[:, 0], 1e-5)
    together = dataclasses.replace(made(tmp_path / "b").func, side_by_side=True)
    asked(together, 0, 3)
    np.testing.assert_array_equal(asked(together, 3, 9).curve, at_once.curve)
    # Not all are equally far, and there are fewer than lanes.
    together = dataclasses.replace(made(tmp_path / "c").func, side_by_side=True)
    first = asked(together, 0, [3, 2, 0])
    last = asked(together, [3, 2, 3], [4, 4, 3])
    assert np.isnan(last.score).tolist() == [False, False, True]
    np.testing.assert_array_equal(last.curve[0, :3], first.curve[0, :3])
    np.testing.assert_array_equal(last.curve[1, :2], first.curve[1, :2])


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="resume without a folder: start must be 0"):
        asked(made(), 1, 2)
    with pytest.raises(ValueError, match=r"wanted drive\.optimise"):
        jax.jit(lambda arch: asked(made(), 0, 1, arch[None]))(jnp.zeros(6, jnp.int32))
    asked(made(tmp_path), 0, 1, ARCHS[:1])
    other = made(tmp_path, dataclasses.replace(RECIPE, lr=0.1))
    with pytest.raises(ValueError, match="324103-9 was made with other settings"):
        asked(other, 1, 2, ARCHS[:1])


def test_data_for_a_search_have_no_test_images():
    whole = images()
    data = Data.without_test(whole.x, whole.y, whole.x_valid, whole.y_valid)
    np.testing.assert_array_equal(data.x_test, whole.x_valid[:1])
    np.testing.assert_array_equal(data.pad_value, np.zeros(whole.x.shape[-1]))
    grey = Data.without_test(*whole[:4], whole.pad_value + 0.5)
    np.testing.assert_array_equal(grey.pad_value, whole.pad_value + 0.5)
