"""Array files: what is written is read, and what is damaged is refused."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import resource
import shutil
import struct
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import refused

from jaxnas import datasets
from jaxnas.io import checkpoints, files, npz

ARRAYS = {
    "a/b": np.arange(6, dtype=np.int8).reshape(2, 3),
    "nan": np.array([np.nan, 1.5], np.float32),
    "scalar": np.array(7, np.uint32),
    "text": np.array(["x", "yz"]),
    "empty": np.zeros((0, 4), bool),
}


def test_arrays_come_back_as_they_were(tmp_path):
    path, manifest = tmp_path / "x.npz", {"step": 3, "names": ["ä", "b"], "none": None}
    npz.save_arrays(path, ARRAYS, manifest)
    arrays, found = npz.load_arrays(path)
    assert found == manifest and arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value, strict=True)
    with np.load(path, allow_pickle=False) as plain:
        assert json.loads(str(plain["manifest"])) == manifest
        np.testing.assert_array_equal(plain["a/b"], ARRAYS["a/b"])


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("x", "y"):
        npz.save_arrays(tmp_path / name, ARRAYS, {})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_a_write_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "x"
    files.atomic_write(path, b"old")

    def breaks(file):
        file.write(b"half of the")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        files.atomic_write(path, breaks)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]
    files.atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["x"]


def test_the_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    files.atomic_write(tmp_path / "x", b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_csv_files_quote_and_leave_missing_cells_empty(tmp_path):
    rows = [("a, b", 1, None), ('say "c"', 0.5, "two\nlines")]
    files.write_csv(tmp_path / "t.csv", ("name", "x", "y"), iter(rows))
    assert (tmp_path / "t.csv").read_bytes() == (
        b'name,x,y\n"a, b",1,\n"say ""c""",0.5,"two\nlines"\n'
    )
    refused(files.write_csv, tmp_path / "missing/t.csv", ("x",), [])


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in ("missing/x.npz", "file/x.npz", "folder"):
        message = refused(npz.save_arrays, tmp_path / path, ARRAYS, {})
        assert message.startswith(f"cannot write {tmp_path / path}: ")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    if os.geteuid():  # The superuser writes wherever it wants.
        (tmp_path / "folder").chmod(0o500)
        path = tmp_path / "folder" / "x.npz"
        assert "Permission denied" in refused(files.atomic_write, path, b"")


def test_what_an_npz_cannot_hold(tmp_path):
    path = tmp_path / "x.npz"
    bad = {"o": np.array([{}], object)}
    assert "o is object" in refused(npz.save_arrays, path, bad, {})
    named = {"manifest": np.zeros(1)}
    assert "'manifest'" in refused(npz.save_arrays, path, named, {})
    for manifest in ({"x": np.zeros(2)}, {"x": float("nan")}):
        message = refused(npz.save_arrays, path, {}, manifest)
        assert "the manifest is not JSON" in message
    assert not path.exists()


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    path, ran = tmp_path / "x.npz", tmp_path / "ran"

    class Bad:
        def __reduce__(self):
            return os.system, (f"touch {ran}",)

    np.savez(path, x=np.array([Bad()], object), manifest=np.array("{}"))
    assert "object, not numbers" in refused(npz.load_arrays, path)
    assert not ran.exists()


def test_files_that_are_no_array_files(tmp_path):
    path = tmp_path / "x.npz"
    assert refused(npz.load_arrays, path) == f"no such file: {path}"
    assert "not a file" in refused(npz.load_arrays, tmp_path)
    for content in (b"", b"PK", b"hello\n" * 100):
        path.write_bytes(content)
        message = refused(npz.load_arrays, path)
        assert message.startswith(f"{path} is not a sound npz file: ")
    np.savez(path, weights=np.zeros(2), bias=np.zeros(1))
    message = refused(npz.load_arrays, path)
    assert "wanted an array 'manifest', found bias, weights" in message
    for manifest in (
        np.array("[1]"),
        np.array("{"),
        np.zeros(2),
        np.array("[" * 10**5),
    ):
        np.savez(path, manifest=manifest)
        assert "JSON object" in refused(npz.load_arrays, path)
    message = refused(npz.read_npz, path, ["a", "b"])
    assert message == f"{path}: wanted the arrays a, b, found manifest"


def central_sizes(data):
    """Offsets, in a zip, of the unpacked sizes in its central directory."""
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        yield at + 24
        at = data.find(b"PK\x01\x02", at + 4)


def test_a_file_may_not_unpack_to_more_than_allowed(tmp_path):
    path = tmp_path / "x.npz"
    npz.save_arrays(path, {"zeros": np.zeros(10**6)}, {})
    assert path.stat().st_size < 20_000
    message = refused(lambda: npz.load_arrays(path, max_bytes=10**6))
    assert "more than 1000000" in message
    data = bytearray(path.read_bytes())
    for at in central_sizes(data):
        data[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    assert f"more than {2**31}" in refused(npz.load_arrays, path)


def test_a_file_that_unpacks_to_more_than_it_declares(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10**8))
    data = bytearray(path.read_bytes())
    for at in central_sizes(data):
        data[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert "not a sound npz" in refused(npz.load_arrays, path)
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**6
    finally:
        tracemalloc.stop()


def test_a_header_that_claims_more_than_there_is(tmp_path):
    path = tmp_path / "x.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    message = refused(npz.load_arrays, path)
    assert "claims 4000000000000 bytes and has 8" in message


# --- disks that are full, names that are too long, numbers that are not finite ------------


@contextlib.contextmanager
def no_file_above(size):
    """Writing more to a file fails, as on a full disk; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


NOISE = np.random.default_rng(0).integers(0, 256, 10**6).astype(np.uint8)


def test_a_disk_that_becomes_full_leaves_the_old_file(tmp_path, capfd):
    path = tmp_path / "x.npz"
    npz.save_arrays(path, ARRAYS, {"step": 1})
    for write in (
        lambda: npz.save_arrays(path, {"noise": NOISE}, {}),
        lambda: files.atomic_write(path, NOISE.tobytes()),
    ):
        with no_file_above(10**5):
            message = refused(write)
        assert message == f"cannot write {path}: File too large"
        assert npz.load_arrays(path)[1] == {"step": 1}
        assert os.listdir(tmp_path) == ["x.npz"]
    assert capfd.readouterr() == ("", "")


def test_a_file_is_written_where_a_link_leads_and_keeps_its_mode(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "r.json", tmp_path / "r.json"
    link.symlink_to(target)  # leads nowhere yet
    for content in (b"old", b"new"):
        files.atomic_write(link, content)
        assert link.is_symlink() and target.read_bytes() == content
        assert os.listdir(tmp_path / "disk") == ["r.json"]
    for mode in (0o664, 0o600, 0o755):
        target.chmod(mode)
        files.atomic_write(link, b"again")
        assert target.stat().st_mode & 0o7777 == mode
    umask = os.umask(0o022)
    os.umask(umask)
    files.atomic_write(tmp_path / "first", b"")
    assert (tmp_path / "first").stat().st_mode & 0o7777 == 0o666 & ~umask
    message = refused(files.atomic_write, tmp_path / "disk", b"")
    assert message == f"cannot write {tmp_path}/disk: Is a directory"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert str(loop) in refused(files.atomic_write, loop, b"") and loop.is_symlink()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_end_is_told(tmp_path, monkeypatch, function):
    path = tmp_path / "x.npz"
    files.atomic_write(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, fail)
    message = refused(npz.save_arrays, path, ARRAYS, {})
    assert message == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.npz"]


def test_pytrees_on_a_disk_that_becomes_full(tmp_path, caplog):
    pytest.importorskip("orbax.checkpoint")
    path, old = tmp_path / "tree", {"a": np.arange(3.0)}
    checkpoints.save(path, old, {"step": 1})
    with no_file_above(10**5):
        message = refused(checkpoints.save, path, {"a": NOISE}, {"step": 2})
    assert message == f"cannot write {path}: File too large" and not caplog.records
    assert os.listdir(tmp_path) == ["tree"] and checkpoints.manifest(path) == {
        "step": 1
    }
    np.testing.assert_array_equal(checkpoints.restore(path, old)["a"], old["a"])
    assert "not JSON" in refused(checkpoints.save, path, old, {"x": float("inf")})
    assert checkpoints.manifest(path) == {"step": 1}


def test_what_a_killed_process_left_is_no_warning(tmp_path, caplog):
    pytest.importorskip("orbax.checkpoint")
    for name in ("tree.new.orbax-checkpoint-tmp", "tree.new"):
        (tmp_path / name / "state").mkdir(parents=True)
    checkpoints.save(tmp_path / "tree", {"a": np.arange(3.0)}, {})
    assert not caplog.records and os.listdir(tmp_path) == ["tree"]


@pytest.mark.parametrize("end", ["", ".old", ".new"])
def test_only_a_checkpoint_is_replaced(tmp_path, end):
    pytest.importorskip("orbax.checkpoint")
    path, tree = tmp_path / "thesis", {"a": np.arange(3.0)}
    folder = tmp_path / f"thesis{end}"
    folder.mkdir()  # an empty one is no loss
    checkpoints.save(path, tree, {"step": 1})
    folder.mkdir(exist_ok=True)
    (folder / "chapter1.txt").write_text("years of work")
    message = refused(checkpoints.save, path, tree, {"step": 2})
    assert message.startswith(f"cannot write {path}: {end and 'thesis' + end}")
    assert "chapter1.txt, which is not part of a checkpoint" in message
    checkpoints.remove(path)
    assert (folder / "chapter1.txt").read_text() == "years of work"
    assert checkpoints.exists(path) == (not end)  # what is not ours is not removed
    (folder / "chapter1.txt").unlink()
    checkpoints.save(path, tree, {"step": 3})
    assert os.listdir(tmp_path) == ["thesis"]
    checkpoints.remove(path)
    assert not os.listdir(tmp_path)


def test_a_file_is_not_replaced_by_a_pytree(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    path = tmp_path / "thesis"
    path.write_text("years of work")
    message = refused(checkpoints.save, path, {"a": np.arange(3.0)}, {})
    assert message == f"cannot write {path}: Not a directory"
    assert path.read_text() == "years of work" and os.listdir(tmp_path) == ["thesis"]


def test_a_link_to_a_checkpoint_stays_one(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    (tmp_path / "disk").mkdir()
    path, tree = tmp_path / "link", {"a": np.arange(3.0)}
    checkpoints.save(tmp_path / "disk" / "tree", tree, {"step": 1})
    path.symlink_to(tmp_path / "disk" / "tree")
    for step in (2, 3):
        checkpoints.save(path, tree, {"step": step})
        assert checkpoints.manifest(tmp_path / "disk" / "tree") == {"step": step}
        assert path.is_symlink() and sorted(os.listdir(tmp_path)) == ["disk", "link"]
        assert os.listdir(tmp_path / "disk") == ["tree"]


def test_a_pytree_without_its_arrays_is_refused_in_words(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    path, tree = tmp_path / "tree", {"a": np.arange(30000.0)}
    checkpoints.save(path, tree, {})
    for file in path.glob("state/ocdbt.process_0/d/*"):
        file.unlink()
    message = refused(checkpoints.restore, path, tree)
    assert message.startswith(f"{path} is not a sound checkpoint: ")
    assert "TensorStore" not in message and "bound method" not in message


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [("f4", "f4"), ("f2", "f4"), ("i4", "i4"), ("u4", "u4")],
)
def test_arrays_that_have_changed_are_refused(tmp_path, stored, wanted):
    tree = {"a": np.arange(6).astype(stored), "b": np.array([True])}
    like = tree | {"a": np.zeros(6, wanted)}
    for name, change in (("one", 0), ("other", 1)):
        checkpoints.save(
            tmp_path / name, tree | {"a": tree["a"] + tree["a"].dtype.type(change)}, {}
        )
        read = checkpoints.restore(tmp_path / name, like)
        np.testing.assert_array_equal(read["a"], tree["a"] + change)
    assert checkpoints.manifest(tmp_path / "one") == {}
    shutil.rmtree(tmp_path / "one/state")
    shutil.copytree(tmp_path / "other/state", tmp_path / "one/state")
    with pytest.raises(ValueError, match="one is not a sound .* not those that were"):
        checkpoints.restore(tmp_path / "one", like)


def test_threads_save_at_the_same_time(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    trees = [{"x": np.full(3, i, np.float32)} for i in range(6)]

    def save(i):
        checkpoints.save(tmp_path / f"{i}", trees[i], {"number": i})
        return checkpoints.restore(tmp_path / f"{i}", trees[i])

    with ThreadPoolExecutor(4) as executor:
        for tree, again in zip(trees, executor.map(save, range(6)), strict=True):
            np.testing.assert_array_equal(tree["x"], again["x"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(map(str, range(6)))


def test_every_name_that_a_file_can_have_is_written(tmp_path):
    for name in ("x" * 255, "ä" * 127):
        npz.save_arrays(tmp_path / name, ARRAYS, {})
        assert npz.load_arrays(tmp_path / name)[1] == {}


def test_names_that_are_too_long_are_refused(tmp_path):
    path = tmp_path / ("x" * 256)
    for function, *rest in (
        (npz.save_arrays, ARRAYS, {}),
        (npz.load_arrays,),
        (files.make_folder,),
        (checkpoints.exists,),
        (checkpoints.manifest,),
        (datasets.from_npz,),
        (datasets.from_folder,),
        (datasets.from_cifar,),
        (datasets.from_idx,),
    ):
        message = refused(function, path, *rest)
        assert str(path) in message and "File name too long" in message
    if importlib.util.find_spec("orbax.checkpoint"):
        assert str(path) in refused(checkpoints.save, path, {"a": NOISE[:3]}, {})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999"])
def test_numbers_of_a_manifest_are_finite(tmp_path, number):
    path = tmp_path / "x.npz"
    np.savez(path, manifest=np.array(f'{{"a": [{{"b": {number}}}]}}'))
    message = refused(npz.load_arrays, path)
    assert message == f"{path}: the manifest has a number that is not finite"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refused(files.make_folder, tmp_path / "file" / "folder")
    assert message == f"cannot make the folder {tmp_path}/file/folder: Not a directory"
    assert files.make_folder(tmp_path / "a" / "b").is_dir()


def test_the_digest_is_that_of_the_file(tmp_path):
    path = tmp_path / "a.npz"
    npz.save_arrays(path, {"a": np.arange(5)}, {"source": "here"})
    arrays, sha256 = npz.read_npz_and_digest(path, ["a"])
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(arrays["a"], np.arange(5))
