"""Folders of runs: what is refused, by which words, and what a killed process leaves."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxnas.io import records, run_folder
from jaxnas.io.run_folder import Kind, RunFolder

SETTINGS = {"data": "a", "steps": 3, "nested": (1, 2)}
SEARCH = Kind("search folder", format=2)


def contents(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_folder_is_made_with_its_identity(tmp_path):
    folder = run_folder.open_folder(tmp_path / "a/b", SETTINGS)
    assert not (tmp_path / "a").exists(), "opening has written something"
    run_folder.create(folder)
    before = contents(tmp_path)
    assert list(before) == [tmp_path / "a/b" / run_folder.RECORD]
    assert run_folder.open_or_create(tmp_path / "a/b", SETTINGS) == folder
    assert contents(tmp_path) == before
    assert run_folder.read_identity(tmp_path / "a/b") == folder.identity
    assert folder.identity == {"data": "a", "steps": 3, "nested": [1, 2]}


def test_settings_that_differ_are_listed(tmp_path):
    run_folder.open_or_create(tmp_path, SETTINGS)
    before = contents(tmp_path)
    changed = {"data": "b", "nested": (1, 2), "new": 1, "steps": 3}
    with pytest.raises(ValueError) as caught:
        run_folder.open_folder(tmp_path, changed, Kind(option="--out"))
    assert str(caught.value) == (
        f"{tmp_path} was made with other settings (data 'a' there, 'b' now; new None "
        "there, 1 now): give another --out, or the settings it was made with"
    )
    assert contents(tmp_path) == before


def test_an_empty_folder_and_hidden_files_are_no_obstacle(tmp_path):
    # What a process leaves that was killed while it wrote the record.
    (tmp_path / ".settings.json.0123.tmp").write_text('{"format"')
    run_folder.open_or_create(tmp_path, SETTINGS)
    assert run_folder.read_identity(tmp_path)["steps"] == 3


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    words = (
        r"is not empty and not a search folder \(it has no settings.json\): give ano"
    )
    with pytest.raises(ValueError, match=words):
        run_folder.open_or_create(tmp_path, SETTINGS, SEARCH)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    for bad in (tmp_path / "mine.txt", tmp_path / "mine.txt" / "below"):
        with pytest.raises(ValueError, match="cannot use .*mine.txt is not a folder"):
            run_folder.open_folder(bad, SETTINGS)
    for bad in ("x" * 5000, "a\0b"):
        with pytest.raises(ValueError, match="cannot use --out '"):
            run_folder.open_folder(bad, SETTINGS, Kind(option="--out"))
    run_folder.open_or_create(tmp_path / "results", SETTINGS)
    words = "results is a result folder, not a search folder: give another folder"
    with pytest.raises(ValueError, match=words):
        run_folder.open_folder(tmp_path / "results", SETTINGS, SEARCH)
    with pytest.raises(ValueError, match="cannot read .*settings.json: No such file"):
        run_folder.read_identity(tmp_path / "nothing")


@pytest.mark.parametrize("version", [1, 3, None, "2", True])
def test_other_formats_are_refused(tmp_path, version):
    run_folder.open_or_create(tmp_path, SETTINGS, SEARCH)
    path = tmp_path / run_folder.RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"format": version}))
    words = (
        f"has the format {version!r}, and this version of jaxnas .* format 2: finish"
    )
    with pytest.raises(ValueError, match=words):
        run_folder.open_folder(tmp_path, SETTINGS, SEARCH)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"format": 1, ',
            "cannot read .*settings.json .*give another folder, which leaves",
        ),
        ("\xff", "cannot read .*settings.json"),
        ("[" * 100_000, "cannot read .*settings.json"),
        ("[]", "settings.json, which holds no JSON object"),
        ('{"format": 1}', "which has no kind and identity: it is damaged"),
        ('{"format": 1, "kind": "result folder"}', "is damaged"),
        ('{"format": 1, "kind": "result folder", "identity": 3}', "is damaged"),
    ],
)
def test_damaged_records_are_refused(tmp_path, content, words):
    (tmp_path / run_folder.RECORD).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=words) as caught:
        run_folder.open_folder(tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_the_second_of_two_that_make_a_folder_is_refused(tmp_path):
    one = run_folder.open_folder(tmp_path, SETTINGS)
    other = run_folder.open_folder(tmp_path, SETTINGS | {"steps": 4})
    run_folder.create(one)
    with pytest.raises(ValueError, match="steps 3 there, 4 now"):
        run_folder.create(other)


def test_pieces_are_read_with_their_identity_and_labels_alone(tmp_path):
    folder = RunFolder(tmp_path, SETTINGS)
    arrays = {"x": np.arange(3), "y": np.ones((3, 2))}
    run_folder.save_piece(folder, "chunks/first", arrays, {"method": "m"})
    piece = run_folder.load_piece(folder, "chunks/first", {"method": "m"})
    assert piece.keys() == arrays.keys()
    np.testing.assert_array_equal(piece["x"], arrays["x"])
    for other, labels in (
        (folder, {}),
        (folder, {"method": "n"}),
        (RunFolder(tmp_path, SETTINGS | {"steps": 4}), {"method": "m"}),
    ):
        with pytest.raises(ValueError, match="first.npz was made with other settings"):
            run_folder.load_piece(other, "chunks/first", labels)
    with pytest.raises(ValueError, match="no such file: .*second.npz"):
        run_folder.load_piece(folder, "second")
    path = tmp_path / "chunks/first.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="first.npz is not a sound npz file"):
        run_folder.load_piece(folder, "chunks/first", {"method": "m"})


def test_differences_within_a_setting_are_named_by_entry():
    old = {"recipe": {"lr": 0.1, "epochs": 2}, "key": [0, 1], "data": {}}
    new = {"recipe": {"lr": 0.2, "epochs": 2}, "key": [0, 1], "data": "x" * 200}
    says = records.differences(old, new)
    assert says.startswith("data {} there, 'xx") and len(says) < 150
    assert says.endswith("xx now; recipe.lr 0.1 there, 0.2 now")
    assert records.differences(old, old) == ""


def test_digests_are_short_and_named_last():
    one, other = "a1" * 32, "b2" * 32
    says = records.differences(
        {"images_sha256": one, "scores": {"snip": one}, "seed": 0},
        {"images_sha256": other, "scores": {"snip": other}, "seed": 5},
    )
    assert says == (
        "seed 0 there, 5 now; images_sha256 'a1a1a1a1…' there, 'b2b2b2b2…' now; "
        "scores.snip 'a1a1a1a1…' there, 'b2b2b2b2…' now"
    )


def test_records_are_written_with_a_version(tmp_path):
    path = tmp_path / "ledger.json"
    records.write_record(path, {"spent": 1.5}, 4)
    assert json.loads(path.read_text()) == {"format": 4, "spent": 1.5}
    assert records.read_record(path, 4) == {"spent": 1.5}
    with pytest.raises(ValueError, match="ledger.json has the format 4, .* format 5"):
        records.read_record(path, 5)


KILLED = """
import sys, time
import numpy as np
from jaxnas.io import run_folder
folder = run_folder.open_or_create(sys.argv[1], {"steps": 3})
print("begun", flush=True)
for number in range(1000):
    arrays = {"x": np.random.default_rng(number).normal(size=100_000)}
    run_folder.save_piece(folder, f"{number}", arrays)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2])
def test_a_killed_process_leaves_whole_pieces(tmp_path, seconds):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
    folder = run_folder.open_or_create(out, {"steps": 3})
    names = [p.name for p in out.iterdir() if p.name[0] != "."]
    pieces = [name for name in names if name != run_folder.RECORD]
    assert sorted(pieces) == sorted(f"{i}.npz" for i in range(len(pieces)))
    for number in range(len(pieces)):
        x = run_folder.load_piece(folder, f"{number}")["x"]
        rng = np.random.default_rng(number)
        np.testing.assert_array_equal(x, rng.normal(size=100_000))


def test_another_driver_is_named_before_its_settings(tmp_path):
    run_folder.open_or_create(tmp_path / "a", {"driver": "one", "seeds": 3})
    with pytest.raises(ValueError, match="was made by one, not two"):
        run_folder.open_folder(tmp_path / "a", {"driver": "two", "epochs": 4})
