"""The table of networks that this project trains: its file, its rows, its driver."""

import dataclasses
import functools
import itertools
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import table_report, train_table
from jaxnas.benchmarks import named, table_files, trained
from jaxnas.datasets import opened
from jaxnas.io import npz
from jaxnas.networks import runs
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.studies import seed_store


def curves(num, epochs=3, seed=0):
    values = np.random.default_rng(seed).uniform(
        0, 90, (len(trained.CURVES), num, epochs)
    )
    return dict(zip(trained.CURVES, values.astype(np.float32), strict=True))


def test_representatives_are_one_of_each_function():
    archs = trained.representatives()
    assert archs.shape == (5260, 6)
    classes = function_classes(keep_dead=False)
    codes = np.array([int("".join(map(str, arch)), 5) for arch in archs])
    assert len(np.unique(classes[codes])) == 5260
    np.testing.assert_array_equal(archs, trained.representatives())
    assert (archs != trained.representatives(1)).any()


def test_every_cell_has_the_numbers_of_its_function(tmp_path):
    archs = trained.representatives()[:40]
    found = [curves(40), curves(10, seed=1)]
    found[1]["valid"][3, 1:] = np.nan  # it has diverged
    path = tmp_path / "table.npz"
    some = trained.Trainings(archs, found, "toy", {"hours": 1})
    trained.save(tmp_path / "trainings.npz", some)
    table_files.save(path, trained.as_table(trained.load(tmp_path / "trainings.npz")))
    table = table_files.load(path, curves=None)
    assert table.manifest["hours"] == 1 and table.manifest["points"] == {"3": [1, 2, 3]}
    assert table_files.accuracies(table).keys() == {
        ("toy", split, 3) for split in ("train", "valid", "test")
    }
    classes = function_classes(keep_dead=False)
    wanted = {classes[int("".join(map(str, a)), 5)]: i for i, a in enumerate(archs)}
    rows = [wanted.get(c, -1) for c in classes]
    covered = np.flatnonzero(np.array(rows) >= 0)
    np.testing.assert_array_equal(table.arch, base.every(SPACE)[covered])
    for cell, code in zip(range(len(covered)), covered, strict=True):
        row = rows[code]
        for run, done in enumerate(found):
            there = row < len(done["test"])
            for split in ("valid", "test"):
                curve = table.columns[f"curve/toy/{split}/3"][cell, run]
                if there:
                    np.testing.assert_array_equal(
                        curve, np.nan_to_num(done[split][row])
                    )
                else:
                    assert np.isnan(curve).all()
                last = table.columns[f"toy/{split}/3"][cell, run]
                np.testing.assert_array_equal(last, curve[-1])
    np.testing.assert_array_equal(named.open_table(path).arch, table.arch)


def test_functions_are_trained_once():
    with pytest.raises(ValueError, match="two of the cells compute the same function"):
        twice = np.array([[0] * 6, [0] * 5 + [3]])
        trained.as_table(trained.Trainings(twice, [curves(2)], "toy", {}))


@pytest.mark.parametrize(
    "change",
    [
        lambda a, m: a.pop("archs"),
        lambda a, m: a.pop("0/valid"),
        lambda a, m: a.update({"0/valid": a["0/valid"][0]}),
        lambda a, m: a.update({"archs": a["archs"][:2]}),
        lambda a, m: a.update({"other": a["archs"]}),
        lambda a, m: m.pop("dataset"),
        lambda a, m: m.update(format=2),
    ],
    ids=["no cells", "no curve", "one axis", "too few", "more", "no name", "format"],
)
def test_other_files_are_no_trainings(tmp_path, change):
    path = tmp_path / "trainings.npz"
    three = trained.representatives()[:3]
    trained.save(path, trained.Trainings(three, [curves(3)], "toy", {}))
    assert trained.load(path).dataset == "toy"
    arrays, manifest = npz.load_arrays(path)
    change(arrays, manifest)
    npz.save_arrays(path, arrays, manifest)
    with pytest.raises(
        ValueError, match="trainings.npz (holds no trainings|has the format 2)"
    ):
        trained.load(path)


def test_the_driver_goes_on_and_adds_functions(
    tmp_path, quick_compilation, monkeypatch, capsys
):
    pytest.importorskip("sklearn")
    options = dict(
        images="digits", train=64, valid=20, test=30, channels=2, cells_per_stage=1
    )
    options |= dict(epochs=2, batch=32, chunk=2, out=str(tmp_path / "out"))
    # A network of one stage compiles three times as fast.
    one_stage = functools.partial(NetworkConfig, num_stages=1)
    monkeypatch.setattr(train_table, "NetworkConfig", one_stage)
    train_table.main(train_table.Config(classes=3, more=1, seeds=2, **options))
    assert "run-0: 3 of 3 networks, " in capsys.readouterr().err
    path = tmp_path / "out" / "table.npz"
    first = table_files.load(path, curves=None)
    runs = {"".join(map(str, a)): i for i, a in enumerate(first.arch)}
    rows = [runs["".join(map(str, a))] for a in trained.representatives()[:3]]
    valid = first.columns["curve/digits/valid/2"][rows]
    assert valid.shape == (3, 2, 2)
    assert np.isfinite(valid[:, 0]).all() and np.isfinite(valid[0]).all()
    assert np.isnan(valid[1:, 1]).all() and first.manifest["hours"] > 0
    train_table.main(train_table.Config(classes=5, more=1, seeds=2, **options))
    second = table_files.load(path, curves=None)
    place = [second.arch.tolist().index(cell) for cell in first.arch.tolist()]
    assert len(second.arch) > len(first.arch)
    for name, column in first.columns.items():  # nothing was computed again
        np.testing.assert_array_equal(second.columns[name][place], column)
    with pytest.raises(ValueError, match="made with other settings"):
        train_table.main(train_table.Config(classes=3, seed=1, **options))
    with monkeypatch.context() as patch:
        original = opened.training_data
        darker = lambda *a: _darker(*original(*a))  # noqa: E731
        patch.setattr(train_table.opened, "training_data", darker)
        with pytest.raises(ValueError, match="[(]images_sha256 "):
            train_table.main(train_table.Config(classes=3, **options))
    # In another folder the same, from what is known.
    known = tmp_path / "known.npz"
    (tmp_path / "out" / "trainings.npz").rename(known)
    options |= dict(out=str(tmp_path / "other"), known=str(known))
    with monkeypatch.context() as patch:
        patch.setattr(train_table.runs, "train", None)
        train_table.main(train_table.Config(classes=5, more=1, seeds=2, **options))
    third = table_files.load(tmp_path / "other" / "table.npz", curves=None)
    for name, column in second.columns.items():
        np.testing.assert_array_equal(third.columns[name], column)
    options |= dict(out=str(tmp_path / "more"), lr=0.2)
    with pytest.raises(ValueError, match="known.npz was made with other settings"):
        train_table.main(train_table.Config(classes=3, **options))


def _darker(data, source):
    return data._replace(x=data.x - 1), source


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Runs the driver with trainings that tell run and place; returns their order."""
    pytest.importorskip("sklearn")
    places = {tuple(a): i for i, a in enumerate(trained.representatives().tolist())}
    keys = seed_store.seed_keys(0, np.arange(3))
    order = []

    def train(key, network, recipe, archs, data, *, device, clock):
        run = int(np.argmax(keys == key))
        if len(order) == fake.stop:
            raise KeyboardInterrupt
        order.append((run, places[tuple(archs[0])]))
        values = np.full((1, recipe.epochs), 2 + run + order[-1][1] / 100, np.float32)
        curves = dict.fromkeys(trained.CURVES, values)
        curves["seconds"] = values * 0 + (clock is time.process_time)
        return runs.Trained(None, curves)

    def fake(**change):
        options = dict(
            images="digits", train=64, valid=20, test=30, epochs=2, channels=2
        )
        options |= dict(classes=9, more=6, seeds=3, chunk=2, out=str(tmp_path / "out"))
        train_table.main(train_table.Config(**options | change))
        folder = Path((options | change)["out"])
        return trained.load(folder / "trainings.npz")

    fake.stop, fake.order = -1, order
    monkeypatch.setattr(train_table.runs, "train", train)
    # On an accelerator several are trained side by side, by wall-clock time alone.
    one = jax.devices("cpu")[:1]
    monkeypatch.setattr(train_table.jax, "local_devices", lambda: one)
    return fake


def test_all_seeds_of_a_part_come_before_the_next_functions(fake):
    found = fake()
    parts = [[(r, i) for r in range(3) for i in (a, a + 1)] for a in (0, 2, 4)]
    assert fake.order == [*itertools.chain(*parts), *((0, i) for i in (6, 7, 8))]
    assert [len(run["loss"]) for run in found.runs] == [9, 6, 6]
    for run, curves in enumerate(found.runs):
        wanted = 2 + run + np.arange(len(curves["loss"])) / 100
        np.testing.assert_allclose(curves["valid"][:, 1], wanted, 1e-6)


@pytest.mark.parametrize(
    ("stop", "numbers"), [(2, [2]), (5, [2, 2]), (9, [4, 2, 2]), (20, [8, 6, 6])]
)
def test_what_is_finished_is_exported_without_training(fake, tmp_path, stop, numbers):
    fake.stop = stop
    with pytest.raises(KeyboardInterrupt):
        fake(chunk=2)
    fake.stop = len(fake.order)
    kept = sorted((tmp_path / "out" / "chunks").iterdir())
    some = fake(export_only=True)
    assert sorted((tmp_path / "out" / "chunks").iterdir()) == kept
    assert [len(run["loss"]) for run in some.runs] == numbers
    np.testing.assert_array_equal(
        some.archs, trained.representatives()[: numbers[0]].astype(np.int32)
    )
    table = table_files.load(tmp_path / "out" / "table.npz", curves=None)
    assert table.manifest["part"] is True
    assert table.columns["digits/valid/2"].shape[1] == len(numbers)
    fake.stop = -1
    whole = fake()
    for part, run in zip(some.runs, whole.runs, strict=False):
        np.testing.assert_array_equal(part["valid"], run["valid"][: len(part["valid"])])
    assert len(fake.order) == len(set(fake.order)) + stop % 2  # a chunk was lost


def test_nothing_is_exported_of_nothing(fake, tmp_path):
    with pytest.raises(ValueError, match="has no finished trainings of the first seed"):
        fake(export_only=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="it takes no --known"):
        fake(export_only=True, known="fashion")


def test_seconds_are_those_of_the_clock(fake, tmp_path, monkeypatch):
    cpu = fake(clock="cpu")
    assert cpu.manifest["clock"] == "CPU seconds of one core"
    assert all((run["seconds"] == 1).all() for run in cpu.runs)
    table = table_files.load(tmp_path / "out" / "table.npz", curves=None)
    for name in ("seconds/digits/2", "time/digits/train/2"):
        assert table.manifest["columns"][name].startswith("CPU seconds of one core")
    with pytest.raises(ValueError, match="made with other settings .clock 'cpu' there"):
        fake()
    two = jax.devices("cpu")[:1] * 2
    monkeypatch.setattr(train_table.jax, "local_devices", lambda: two)
    with pytest.raises(ValueError, match="--clock cpu needs one CPU device, found 2"):
        fake(clock="cpu")
    fake(clock="cpu", export_only=True)  # on any machine
    wall = fake(out=str(tmp_path / "wall"))
    assert wall.manifest["clock"] == "wall-clock seconds"
    assert (wall.runs[0]["seconds"] == 0).all()
    assert "clock" not in wall.manifest["settings"]  # as before there was a choice


def test_the_table_that_ships_has_signal():
    assert trained.SHIPPED["fashion"].stat().st_size < 10e6
    table = named.open_table("fashion")
    known = trained.load(trained.SHIPPED["fashion"])
    cells = known.archs
    np.testing.assert_array_equal(cells, trained.representatives()[: len(cells)])
    numbers = [len(run["loss"]) for run in known.runs]
    assert numbers[0] == len(cells) >= 1500 and min(numbers[1:]) >= 500
    assert table.manifest["part"] is (len(cells) < 5260)
    for split in ("train", "valid", "test"):
        found = table_report.signal(
            table, table.columns[f"curve/fashion-mnist/{split}/4"]
        )
        assert found.between[-1] > 0.75 and found.compared >= 499
        assert (np.diff(found.final) > 0).all()  # early epochs rank worse
        best, worst = found.curves[:, -1].max(), found.curves[:, -1].min()
        assert best > 75 and worst < 35
    # Cells that connect nothing guess.
    dead = table.columns["fashion-mnist/test/4"][(table.arch == 0).all(1), 0]
    assert 5 < dead.item() < 15


def test_the_long_curves_that_ship_are_what_they_say():
    path = trained.SHIPPED["fashion-curves"]
    assert path.stat().st_size < 1e6
    known, table = trained.load(path), named.open_table("fashion-curves")
    assert known.manifest["clock"] == "CPU seconds of one core"
    settings, epochs = known.manifest["settings"], known.manifest["recipe"]["epochs"]
    assert epochs >= 12 and settings["epochs"] == epochs
    order = trained.representatives(settings["seed"])
    np.testing.assert_array_equal(known.archs, order[: len(known.archs)])
    # Every cell that computes one of the functions, and no other.
    classes = function_classes(keep_dead=False)
    codes = [
        np.ravel_multi_index(a.T, SPACE.choices) for a in (known.archs, table.arch)
    ]
    covered = np.flatnonzero(np.isin(classes, classes[codes[0]]))
    np.testing.assert_array_equal(np.sort(codes[1]), covered)
    assert table.manifest["part"] is (len(table.arch) < SPACE.size)
    numbers = [len(run["loss"]) for run in known.runs]
    assert numbers[0] == len(known.archs) and numbers[1] >= min(numbers[0], 20)
    # A run has all epochs of its first functions, and nothing of the others.
    places = {classes[code]: place for place, code in enumerate(codes[0])}
    place = np.array([places[c] for c in classes[codes[1]]])
    there = place[:, None] < np.array(numbers)
    for split in ("train", "valid", "test"):
        curve = table.columns[f"curve/fashion-mnist/{split}/{epochs}"]
        assert curve.shape == (len(table.arch), len(numbers), epochs)
        np.testing.assert_array_equal(np.isnan(curve).all(2), ~there)
        np.testing.assert_array_equal(np.isnan(curve).any(2), ~there)
    seconds = table.columns[f"time/fashion-mnist/train/{epochs}"][there]
    assert 0.05 < seconds.min() and seconds.max() < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(classes=5261), "--classes must be 1 to 5260"),
        (dict(more=-1), "--more must be at least 0"),
        (
            dict(train=1748),
            "digits has 1797 images, too few for --train 1748 --valid 20 --test 30",
        ),
        (dict(size=6), "--size must be a multiple of 4"),
        (dict(size=10_000), "--size must be a multiple of 4, at most 256"),
        (dict(channels=0), "--channels must be at least 1"),
        (dict(images="nowhere"), "nowhere"),
    ],
)
def test_bad_settings_are_told_at_once(tmp_path, change, message):
    pytest.importorskip("sklearn")
    options = dict(images="digits", train=64, valid=20, test=30, channels=2) | change
    with pytest.raises(ValueError, match=message):
        train_table.main(train_table.Config(out=str(tmp_path / "out"), **options))
    assert not (tmp_path / "out").exists()


def test_parts_are_scaled_and_normalised_by_the_training_images(idx_like, tmp_path):
    data, source = opened.training_data(str(idx_like), 8, (10, 6, 5), 0)
    assert data.x.shape == (10, 8, 8, 1) and data.x_test.shape == (5, 8, 8, 1)
    assert source.x.shape == (20, 8, 8, 1)
    np.testing.assert_allclose(data.pad_value, -source.x.mean() / source.x.std(), 1e-4)
    back = data.x * source.x.std() + source.x.mean()
    away = np.abs(back[:, None] - source.x).max((2, 3, 4))
    assert away.min(1).max() < 1e-3  # each is one of them
    assert len(np.unique(away.argmin(1))) == 10


def test_parts_that_are_too_large_are_told_by_their_flags(idx_like):
    path, name = str(idx_like), idx_like.name
    opened.training_data(path, 8, (14, 6, 7), 0)
    for counts, message in (
        ((15, 6, 5), f"{name} has 20 images, too few for --train 15 --valid 6"),
        ((14, 6, 8), f"{name} has 7 test images, too few for --test 8"),
    ):
        with pytest.raises(ValueError) as caught:
            opened.training_data(path, 8, counts, 0)
        assert str(caught.value) == message


@pytest.fixture
def idx_like(tmp_path):
    """A folder of idx files, training and test part."""
    rng = np.random.default_rng(0)
    for part, num in (("train", 20), ("t10k", 7)):
        for name, array in (
            ("images-idx3", rng.integers(0, 256, (num, 16, 16))),
            ("labels-idx1", np.arange(num) % 3),
        ):
            header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
            content = header + array.astype(np.uint8).tobytes()
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("name", trained.SHIPPED)
def test_shipped_trainings_have_todays_names_of_settings(name):
    manifest = trained.load(trained.SHIPPED[name]).manifest
    network = NetworkConfig(**manifest["network"])
    assert (network.cells_per_stage, network.image_size) == (3, 8)
    assert Recipe(**manifest["recipe"]).per_step_schedule
    fields = {field.name for field in dataclasses.fields(train_table.Config)}
    assert manifest["settings"].keys() <= fields
