"""The folder of a driven search: its lines, its lock, full disks, other processes."""

import errno
import fcntl
import json
import math
import os
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from drive_toy import SPACE, events, evolution, go, objective, same
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas.search import drive
from jaxnas.search.drive import history, journal
from jaxnas.search.random import random_search

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).parent.parent


def changed(line, **fields):
    """A line with other fields and a checksum that fits, as nobody has it by accident."""
    found = json.loads(line) | fields
    del found["crc"]
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return json.dumps(found | {"crc": zlib.crc32(text.encode())}).encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{}", "it has no 'crc'"),
        (b"x", r"it is not JSON \(Expecting value\):"),
        (b"", "it is blank:"),
        (b"[1]", "not an event"),
        (b'{"crc": 1}', "its checksum does not match"),
        (b"\xff\xfe", "codec can't decode"),
        (b"null", "not an event"),
        (b"[" * 100_000, "not an event"),
        (b'{"score": 1' + b"0" * 400 + b"}", "has no 'crc'"),
        ("twice", "slot 0 of query 0 is not in flight"),
        (dict(slot=7), "slot 7 of query 2 is not in flight"),
        (dict(step=99), "slot 0 of query 99 is not in flight"),
        (dict(step=-1), "-1 is not a whole number"),
        (dict(epoch=7), "slot 0 of query 2 asked for something else"),
        (dict(arch="9"), "slot 0 of query 2 asked for something else"),
        (dict(score=1e31), "1e.31 is larger"),
        (dict(score=True), "True is not a finite number"),
        (dict(metrics=[]), r"\[\] is not a dict"),
        (dict(event="other"), "it has no 'other'"),
    ],
)
def test_a_damaged_history_is_named_by_its_line(tmp_path, line, words):
    go(tmp_path)
    path = tmp_path / "history.jsonl"
    lines = path.read_bytes().splitlines()
    if line == "twice":
        line = lines[1]
    elif isinstance(line, dict):
        line = changed(lines[5], **line)
    lines[5] = line
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=f"line 6 of .* cannot be used, as .*{words}"):
        go(tmp_path)


@pytest.mark.parametrize(
    ("order", "number"),
    [([0, 1, 2, 3, 3], 5), ([1, 2, 3], 1), ([1, 0, 2, 3], 1), ([0, 1, 3, 2], 3)],
)
def test_a_history_that_does_not_follow_is_refused_by_all(tmp_path, order, number):
    go(tmp_path, steps=2)
    path = tmp_path / "history.jsonl"
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join(lines[i] for i in order))
    for function in (go, drive.read, drive.status):
        with pytest.raises(ValueError, match=f"line {number} of .* cannot be used"):
            function(tmp_path)


def same_values(one, two):
    try:
        return json.loads(one) == json.loads(two)
    except ValueError:
        return False


def test_a_number_that_was_changed_is_noticed(tmp_path):
    go(tmp_path)
    path = tmp_path / "history.jsonl"
    content = path.read_bytes()
    for place in range(200, 700, 7):
        byte = b"8" if content[place : place + 1] != b"8" else b"9"
        changed = content[:place] + byte + content[place + 1 :]
        path.write_bytes(changed)
        number = content[:place].count(b"\n") + 1
        lines = (text.split(b"\n")[number - 1] for text in (changed, content))
        if same_values(*lines):  # the last digit of a time that rounds alike
            continue
        with pytest.raises(ValueError, match=f"line {number} of|line {number + 1} of"):
            drive.read(tmp_path)


WHOLE = st.integers(0, 2**31 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCORE = st.floats(-1e30, 1e30) | st.just(math.nan)
EVENTS = st.one_of(
    st.builds(
        history.Evaluation,
        *(st.text(), SCORE, st.none() | WHOLE, WHOLE, WHOLE, FINITE),
        st.lists(st.floats(width=32, allow_infinity=False), max_size=3).map(tuple),
        st.dictionaries(st.text(), st.floats(allow_infinity=False), max_size=3),
        *(st.text(), FINITE, FINITE, st.text(), WHOLE, st.none() | WHOLE, WHOLE),
    ),
    st.builds(history.Scale, st.floats(-1e30, 1e30), st.floats(1e-300, 1e300)),
    st.builds(history.Died, st.lists(st.tuples(WHOLE, WHOLE), max_size=3).map(tuple)),
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_event_is_read_as_it_was_written(event):
    line = history.encode(event)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    found = history.decode(line[:-1])
    if isinstance(event, history.Evaluation):
        found, event = (
            e._replace(metrics=sorted(e.metrics.items())) for e in (found, event)
        )
    assert repr(found) == repr(event)  # repr, as NaN is not NaN


def test_queries_of_earlier_histories_have_no_seconds():
    arrays = history.numpy_query(np.ones((1, 2), np.int32), *np.zeros((3, 1), np.int32))
    line = history.encode(history.Asked(0, arrays, 5.0, 2.5))
    fields = json.loads(line)
    del fields["seconds"]
    event = history.decode(changed(json.dumps(fields)))
    assert isinstance(event, history.Asked) and event.seconds == 0.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = [*history.Evaluation._fields, "time", "tasks", "shift", "size"]


@settings(max_examples=150, deadline=None)
@given(
    st.binary()
    | st.builds(
        lambda kind, fields: changed(b'{"crc": 0}', event=kind, **fields),
        st.sampled_from(["evaluation", "asked", "scale", "died", "no"]),
        st.dictionaries(st.sampled_from(NAMES), JSON | st.lists(st.integers(0, 3)))
        | st.fixed_dictionaries(
            {name: JSON | st.lists(st.lists(st.integers(0, 3))) for name in NAMES}
        ),
    )
)
def test_any_line_is_an_event_or_a_value_error(line):
    """Also such whose checksum fits, which only a program can have written."""
    try:
        event = history.decode(line)
    except ValueError as error:
        assert "\n" not in str(error)[:200]
    else:
        assert isinstance(event, history.Event)


def test_a_history_of_another_format_is_refused(tmp_path):
    go(tmp_path)
    path = tmp_path / "settings.json"
    found = json.loads(path.read_text())
    assert found.pop("format") == 2
    path.write_text(json.dumps(found))
    for function in (go, drive.read, drive.status):
        with pytest.raises(ValueError, match="the format None, .* writes format 2"):
            function(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "settings.json, which holds no JSON object: it is damaged"),
        ("null", "settings.json, which holds no JSON object: it is damaged"),
        ('{"format": "2"}', "the format '2', and .* writes format 2:"),
        (
            '{"format": 2}',
            "settings.json, which has no kind and identity: it is damaged",
        ),
        (dict(batch=0), "settings.json is damaged: its batch and choices must be"),
        (
            dict(choices=["a"]),
            "settings.json is damaged: its batch and choices must be",
        ),
    ],
)
def test_damaged_settings(tmp_path, content, words):
    go(tmp_path, steps=1)
    path = tmp_path / "settings.json"
    if isinstance(content, dict):
        record = json.loads(path.read_text())
        content = json.dumps(record | {"identity": record["identity"] | content})
        with pytest.raises(ValueError, match="was made with other settings"):
            path.write_text(content)
            go(tmp_path)
    path.write_text(content)
    for function in (drive.read, drive.status):
        with pytest.raises(ValueError, match=words):
            function(tmp_path)


def test_two_processes_do_not_share_a_folder(tmp_path):
    def within(text, epoch):
        with pytest.raises(ValueError, match="is in use by another process"):
            go(tmp_path)
        return 1.0

    go(tmp_path, steps=1, function=within)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_works_with_one_warning(
    tmp_path, monkeypatch, number
):
    def flock(*ignored):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="has no locks") as warned:
        assert len(go(tmp_path, steps=4)) == 4
    assert len([w for w in warned if "locks" in str(w.message)]) == 1


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot use .*file"):
        go(tmp_path / "file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read .*settings.json"):
        go(other)


FULL = """
import resource, sys
sys.path.insert(0, "tests")
import drive_toy as t

t.go(sys.argv[1], steps=3)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    t.go(sys.argv[1], steps=40)
except ValueError as error:
    print(error)
"""


def test_a_full_disk_is_one_error_and_nothing_half_written_is_believed(tmp_path):
    folder = tmp_path / "full"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL, str(folder), "3000"],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    path = folder / "history.jsonl"
    assert done.stdout == f"cannot write {path}: File too large\n"
    content = path.read_bytes()
    assert 2000 < len(content) <= 3000 and content.endswith(b"\n")
    same(go(folder), go(tmp_path / "whole"))


@pytest.mark.parametrize("cut", [True, False])
def test_a_line_that_the_disk_took_in_part(tmp_path, monkeypatch, cut):
    """Also where not even the part can be removed again."""
    go(tmp_path, steps=3)
    real, calls = journal._write, []

    def partly(file, content):
        calls.append(content)
        if len(calls) < 6:
            return real(file, content)
        if cut:
            monkeypatch.setattr(os, "ftruncate", None)
            file = open(file.name, "ab", buffering=0)
            file.truncate = None
        file.write(content[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal, "_write", partly)
    with pytest.raises(ValueError, match="cannot write .*history.jsonl: No space left"):
        go(tmp_path)
    monkeypatch.undo()
    same(go(tmp_path), go(tmp_path / "whole"))


def test_status_of_a_running_search_and_of_a_read_only_folder(tmp_path):
    seen = []

    def watched(text, epoch):
        seen.append(drive.status(tmp_path))
        assert drive.read(tmp_path) == drive.read(tmp_path)
        return objective(text, epoch)

    begin = time.perf_counter()
    found = go(tmp_path, function=watched)
    wall = time.perf_counter() - begin
    assert [s.done + s.failed for s in seen] == list(range(20))
    assert {s.in_flight for s in seen} == {1}
    os.chmod(tmp_path, 0o500)
    os.chmod(tmp_path / "history.jsonl", 0o400)
    before = sorted(p.name for p in tmp_path.iterdir())
    status = drive.status(tmp_path)
    assert status.in_flight == 0 and status.done + status.failed == 20
    assert status.failed == sum(math.isnan(e.score) for e in found) > 0
    assert status.best == drive.best(found)
    assert status.seconds == pytest.approx(sum(e.end - e.begin for e in found))
    # The search itself: what it chose so far, apart from the evaluations.
    overheads = [s.overhead for s in seen]
    assert overheads == sorted(overheads) and overheads[0] > 0
    assert overheads[-1] == status.overhead <= wall - status.seconds
    assert status.last == max(e.end for e in found)
    assert status.settings["space"] == "toy" and status.settings["batch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    os.chmod(tmp_path, 0o700)
    with pytest.raises(ValueError, match="cannot read .*settings.json: No such file"):
        drive.status(tmp_path / "nothing")


def test_read_gives_what_optimise_returned(tmp_path):
    same(go(tmp_path / "a", evolution(3), 6), drive.read(tmp_path / "a"))
    search = random_search(SPACE, epoch=12)
    assert go(tmp_path / "b", search, 6) == drive.read(tmp_path / "b")
    assert len(events(tmp_path / "b", "asked")) == 6
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
