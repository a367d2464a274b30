"""A comparison on images: what is run, with which flags, and what is reported."""

import csv
import dataclasses
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tyro

from experiments import compare_images, search_images
from experiments.compare_images import Config
from jaxnas.io import records

VALUES = {"gp": 90.0, "gp-prior": 85.0, "random": 80.0, "fixed": 70.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three classes that a straight line divides, but for every tenth image."""
    rng, y = np.random.default_rng(0), np.arange(150) % 3
    x = rng.normal(0, 5, (150, 8, 8)) + 60 * np.where(np.arange(150) % 10, y, 0)[
        :, None, None
    ].clip(0, 2)
    path = tmp_path_factory.mktemp("images") / "squares.npz"
    np.savez(path, x=x, y=y)
    return str(path)


@pytest.fixture
def searches(monkeypatch):
    """Stands for the processes: notes what they are asked, and writes an accuracy."""
    asked, one_at_a_time = [], threading.Lock()

    def run(command, env, stdout, stderr):
        assert command[1:3] == ["-m", "experiments.search_images"]
        with one_at_a_time:  # tyro is not made for threads
            config = tyro.cli(search_images.Config, args=command[3:])
        assert "JAX_COMPILATION_CACHE_DIR" not in env
        asked.append((config, os.sched_getaffinity(0), threading.get_ident()))
        method = "fixed" if config.arch else config.method
        if config.prior:
            method = "gp-prior"
            assert (config.prior, config.clock) == (("metad2a",), "cpu")
            assert config.final_network == "searched" and env["NPROC"] == "1"
        accuracy = VALUES[method] + config.seed
        Path(config.out).mkdir(exist_ok=True)
        test = dict.fromkeys(("low", "high", "level", "hits", "images"), 0)
        content = {"state": "finished", "architecture": "", "validation accuracy": 0.5}
        content["test"] = test | {"accuracy": accuracy}
        content["searched cells"] = config.seed
        records.write_record(Path(config.out) / "result.json", content, 1)
        return SimpleNamespace(returncode=0)

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
    monkeypatch.setattr(compare_images.subprocess, "run", run)
    monkeypatch.setattr(compare_images, "open_prior", lambda settings: settings)
    return asked


def test_every_method_has_the_same_images_and_minutes(images, tmp_path, searches):
    cores = sorted(os.sched_getaffinity(0))
    together = min(2, len(cores))
    methods = "gp", "gp-prior", "random", "fixed", "svc"
    settings = dict(
        minutes=3.0,
        methods=methods,
        seeds=2,
        base_seed=5,
        channels=4,
        together=together,
        prior=("metad2a",),
        clock="cpu",
        final_network="searched",
    )
    out = tmp_path / "out"
    found = compare_images.main(Config(images, out=str(out), **settings))
    for method, value in VALUES.items():
        np.testing.assert_array_equal(found[method], value + np.array([5, 6]))
    assert len(searches) == 8
    shares = {frozenset(cores[part::together]) for part in range(together)}
    for config, share, _ in searches:
        assert (config.data, config.minutes, config.channels) == (images, 3.0, 4)
        assert share in shares
    # The cores of this thread are as they were.
    assert sorted(os.sched_getaffinity(0)) == cores
    with open(out / "table.csv") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(methods)
    assert float(rows["gp"]["mean"]) == 95.5
    assert float(rows["gp"]["standard error"]) == 0.5
    assert float(rows["svc"]["seed 6"]) == pytest.approx(found["svc"][1], rel=1e-5)
    cells = {
        m: [row[f"cells trained, seed {s}"] for s in (5, 6)] for m, row in rows.items()
    }
    assert cells.pop("svc") == ["-", "-"]
    assert all(numbers == ["5", "6"] for numbers in cells.values())


def test_methods_that_are_added_join_those_of_the_folder(images, tmp_path, searches):
    config = Config(images, seeds=2, out=str(tmp_path), methods=("random", "svc"))
    first = compare_images.main(config)
    added = compare_images.main(dataclasses.replace(config, methods=("fixed",)))
    assert set(added) == {"fixed", "random", "svc"}
    for method, values in first.items():
        np.testing.assert_array_equal(added[method], values)
    with open(tmp_path / "table.csv") as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(added)
    asked = len(searches)
    compare_images.main(config)
    assert len(searches) == asked  # what is finished is not run again
    # More minutes continue the searches; the peers have no clock.
    compare_images.main(dataclasses.replace(config, minutes=12.0))
    assert [c.minutes for c, *_ in searches[asked:]] == [12.0] * 2
    assert {c.out for c, *_ in searches[asked:]} <= {
        c.out for c, *_ in searches[:asked]
    }
    # A method with fewer seeds would not be comparable.
    more = dataclasses.replace(config, methods=("svc",), seeds=3)
    assert set(compare_images.main(more)) == {"svc"}


def test_peers_learn_from_training_and_validation(images):
    config = Config(images)
    for method in compare_images.PEERS:
        task = compare_images._task(config, 0)
        accuracy = compare_images.peer(method, task, 0)
        # One image in fifteen looks like another class.
        assert 85 < accuracy < 100
        wrong = task._replace(test=task.test._replace(y=(task.test.y + 1) % 3))
        assert compare_images.peer(method, wrong, 0) < 15


def test_a_search_that_fails_is_told(images, tmp_path, monkeypatch):
    def run(command, env, stdout, stderr):
        stdout.write("some line\nerror: no such luck\n")
        return SimpleNamespace(returncode=2)

    monkeypatch.setattr(compare_images.subprocess, "run", run)
    with pytest.raises(ValueError, match=r"^gp, seed 0: no such luck$"):
        compare_images.main(Config(images, methods=("gp",), out=str(tmp_path / "out")))


def test_folders_of_others_are_left_alone(images, tmp_path, searches):
    out = tmp_path / "out"
    one = Config(images, methods=("fixed",), seeds=2, out=str(out))
    compare_images.main(one)
    before = (out / "table.csv").read_bytes()
    # More seeds join those that are there.
    assert len(compare_images.main(dataclasses.replace(one, seeds=3))["fixed"]) == 3
    compare_images.main(one)
    with pytest.raises(ValueError, match="together 1 there, 2 now"):
        compare_images._claim_folder(dataclasses.replace(one, together=2), "")
    assert (out / "table.csv").read_bytes() == before
    (tmp_path / "table.csv").write_text("of another")
    with pytest.raises(ValueError, match="is not empty and not a result folder"):
        compare_images.main(dataclasses.replace(one, out=str(tmp_path)))
    assert (tmp_path / "table.csv").read_text() == "of another"
    with pytest.raises(ValueError, match="--out is empty"):
        compare_images.main(dataclasses.replace(one, out=""))


def test_a_folder_belongs_to_the_images_of_a_file_not_to_its_name(
    images, tmp_path, searches
):
    path = tmp_path / "images.npz"
    first = dict(np.load(images))
    np.savez(path, **first)
    config = Config(str(path), methods=("fixed",), seeds=1, out=str(tmp_path / "out"))
    compare_images.main(config)
    np.savez(path, x=first["x"][::-1], y=first["y"])
    with pytest.raises(ValueError, match="images_sha256 '.{8}…' there, '.{8}…' now"):
        compare_images.main(dataclasses.replace(config, base_seed=1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (dict(seeds=0), "--seeds must be at least 1, not 0"),
        (dict(minutes=0.0), "--minutes must be above 0 and below a year, not 0.0"),
        (
            dict(minutes=float("inf")),
            "--minutes must be above 0 and below a year, not inf",
        ),
        (dict(methods=("svc", "svc")), "method svc is given twice"),
        (dict(channels=0), "--channels must be 1 to 512, not 0"),
        (dict(base_seed=2**32 - 1), "must be at most 2.32"),
        (dict(methods=("best",)), "no method best: choose from gp, gp-prior, random"),
        (dict(together=10_000), "--together must be at most"),
        (dict(base_seed=-1), "--base-seed must be"),
        (dict(size=10), "size must be a multiple of 4"),
        (dict(methods=("gp-prior",), prior=()), "--prior is empty: gp-prior needs one"),
        (
            dict(methods=("gp", "gp-prior"), prior=("x",)),
            "name the table by --prior-from",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(images, tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words) as error:
        compare_images.main(Config(images, out=str(tmp_path / "out"), **wrong))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
