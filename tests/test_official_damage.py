"""Two hundred damaged variants of a file of each format, and what would do harm in them.

Each is refused in one line or read to the same values; whichever it is, nothing runs,
nothing is left behind, and memory stays bounded.
"""

import bz2
import contextlib
import hashlib
import io
import itertools
import pickle
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import official_samples as samples
import pytest
from test_nb101_files import all_records, cells  # noqa: F401
from test_pickles import bombs, harmful

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers import nb201, official

NUM = 200
# What reading may add to the memory of the process: the limit of one cell's objects,
# four times, because Python's own accounts are rough.
HEADROOM = 2**30
OTHERS = {
    "empty": b"",
    "text": b"hello\n" * 50,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zeros": bytes(1000),
    "plain pickle": pickle.dumps({"meta_archs": []}),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
}


@contextlib.contextmanager
def bounded_memory():
    """Memory that the process asks for beyond what it has and some is refused."""
    size = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def truncated(data, rng, num):
    for size in rng.choice(len(data), num, replace=False):
        yield data[: int(size)]


def flipped(data, rng, num):
    for at in rng.choice(len(data), num, replace=False):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def exchanged(data, rng, num):
    """Parts that are zero, doubled, or of another place."""
    for number in range(num):
        start, end = sorted(rng.integers(0, len(data), 2).tolist())
        middle = (bytes(end - start), data[start:end] * 2, data[: end - start])
        yield data[:start] + middle[number % 3] + data[end:]


def damaged(data, rng, special, num=NUM):
    """`num` variants of a file; `special` are those of its format."""
    special = [*special, *OTHERS.values()]
    left = num - len(special)
    assert left >= 100
    cut, swapped = left // 4, left // 6
    yield from special
    yield from truncated(data, rng, cut)
    yield from exchanged(data, rng, swapped)
    yield from flipped(data, rng, left - cut - swapped)


class Check:
    """Converts one variant after the other and looks at what is left."""

    def __init__(self, tmp_path, good):
        self.good, self.ran = good, tmp_path / "ran"
        self.out = tmp_path / "out"
        self.out.mkdir()
        self.read = self.refused = 0

    def __call__(self, path):
        out = self.out / "table.npz"
        try:
            official.convert(path, out, partial=True)
        except ValueError as error:
            message = str(error)
            assert str(path) in message or path.name in message
            assert "\n" not in message and message.isprintable(), message
            assert "memory" not in message.replace("bytes of memory", ""), message
            self.refused += 1
            assert not [*self.out.iterdir()]
        else:
            self.same(table_files.load(out, curves=None))
            self.read += 1
            assert [*self.out.iterdir()] == [out]
            out.unlink()
        assert not self.ran.exists()

    def same(self, table):
        assert table.columns.keys() == self.good.columns.keys()
        np.testing.assert_array_equal(table.arch, self.good.arch)
        for name, column in table.columns.items():
            np.testing.assert_array_equal(column, self.good.columns[name], strict=True)


@pytest.fixture(scope="module")
def small(records):
    return samples.nb201_dict(records, (11,), ("cifar10-valid",), (777,))


def poisoned(ran):
    """Pickles that would run something or grow, in the place of the file's own."""
    return [*harmful(ran), *(data for _, data in bombs() if len(data) < 1000)]


def packed(raw):
    """A zip archive whose pickle is packed a hundredfold and more."""
    return samples.torch_zip(None, compression=zipfile.ZIP_DEFLATED, raw=raw)


def twice(data):
    """An archive with two members of the same name."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("archive/data.pkl", b"N.")
    return file.getvalue()


def lying(data):
    """An archive that claims a size of gigabytes for its pickle."""
    at = data.index(b"PK\x01\x02")
    size = struct.pack("<I", 2**31)
    return data[: at + 20] + size * 2 + data[at + 28 :]


def test_zip_archives_of_torch(tmp_path, small):
    path = tmp_path / "file.pth"
    data = samples.torch_zip(small)
    path.write_bytes(data)
    check = Check(tmp_path, official.read(path, partial=True))
    check(path)
    special = [samples.torch_zip(None, raw=raw) for raw in poisoned(check.ran)]
    special += [packed(b"N" * 10**7), twice(data), lying(data)]
    with bounded_memory():
        for variant in damaged(data, np.random.default_rng(1), special):
            path.write_bytes(variant)
            check(path)
    assert check.refused > 150


def test_older_files_of_torch_whose_names_promise_a_checksum(tmp_path, small):
    data = samples.torch_legacy(small)
    path = tmp_path / f"NAS-Bench-201-v1_1-{hashlib.md5(data).hexdigest()[-6:]}.pth"
    path.write_bytes(data)
    check = Check(tmp_path, official.read(path, partial=True))
    check(path)
    special = [samples.torch_legacy(None, raw=raw) for raw in poisoned(check.ran)]
    with bounded_memory():
        for variant in damaged(data, np.random.default_rng(2), special):
            path.write_bytes(variant)
            check(path)
    assert (check.read, check.refused) == (1, NUM)


def test_older_files_of_torch_under_another_name(tmp_path, small):
    # The format has no checksum: a number can change, but nothing else can happen.
    data = samples.torch_legacy(small)
    path = tmp_path / "file.pth"
    path.write_bytes(data)
    check = Check(tmp_path, official.read(path, partial=True))
    check.same = lambda table: table_files.validate_table(table)
    with bounded_memory():
        for variant in damaged(data, np.random.default_rng(3), [], 120):
            path.write_bytes(variant)
            check(path)
    assert check.refused > 60


def test_folders_of_nats_bench(tmp_path, small, monkeypatch):
    monkeypatch.setattr(nb201, "_MAX_UNPACKED_EACH", 2**20)
    folder = samples.write_nats(tmp_path / "NATS-tss-v1_0-3ffb9-simple", small)
    check = Check(tmp_path, official.read(folder, partial=True))
    check(folder)
    rng, good = np.random.default_rng(4), tmp_path / "good"
    shutil.copytree(folder, good)
    special = [bz2.compress(raw) for raw in poisoned(check.ran)]
    # Both unpack to more than a cell can have: to instructions, and to one text.
    special += [bz2.compress(b"N0" * 2**19 + b"N."), bz2.compress(b"C\xff" * 2**20)]
    special += [bz2.compress(pickle.dumps({})) + b"behind"]
    with bounded_memory():
        variants = {
            name: damaged((good / name).read_bytes(), rng, special, num)
            for name, num in (("000011.pickle.pbz2", NUM), (samples.META, NUM))
        }
        for name, own in variants.items():
            # The list of cells is small, and fewer variants of it are different.
            for variant in itertools.islice(own, None if name != samples.META else 100):
                (folder / name).write_bytes(variant)
                check(folder)
            shutil.copy(good / name, folder / name)
    assert check.read == 1 and check.refused == NUM + 100
    check(folder)


@pytest.mark.parametrize("schedules", [(108,), (4, 12, 36, 108)])
def test_tfrecords_of_nas_bench_101(tmp_path, cells, schedules):  # noqa: F811
    path = tmp_path / "nasbench.tfrecord"
    some = cells[0][:4], cells[1][:4]
    data = samples.tfrecords(all_records(some, schedules))
    path.write_bytes(data)
    check = Check(tmp_path, official.read(path, partial=True))
    check(path)
    record = next(all_records(some))
    special = [samples.tfrecords([raw]) for raw in poisoned(check.ran)]
    special += [data[:-1], data + b"\0", data + data[:100], data[1:]]
    special += [samples.tfrecords([record + b" " * 2**14])]
    with bounded_memory():
        for variant in damaged(data, np.random.default_rng(5), special):
            path.write_bytes(variant)
            check(path)
    assert (check.read, check.refused) == (1, NUM)


def test_an_interrupt_while_reading_leaves_nothing(tmp_path, small):
    path, out = tmp_path / "file.pth", tmp_path / "out"
    out.mkdir()
    path.write_bytes(samples.torch_zip(small))

    def interrupt(num_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        official.convert(path, out / "t.npz", partial=True, progress=interrupt)
    assert not [*out.iterdir()]


def test_what_can_be_known_before_reading_is_said_before(tmp_path, small):
    path = tmp_path / "file.pth"
    path.write_bytes(samples.torch_zip(small))
    for out, message in {
        "out.csv": "wanted a name that ends in .npz",
        "no/out.npz": "its folder is missing or read-only",
    }.items():
        with pytest.raises(ValueError, match=message):
            official.convert(path, tmp_path / out, partial=True, progress=pytest.fail)
    with pytest.raises(ValueError, match="no such file"):
        official.detect(tmp_path / "none")
    for name, content in OTHERS.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is of no known format: it begins with"):
            official.detect(tmp_path / name)
    with pytest.raises(ValueError, match="has no meta.pickle.pbz2; what can be read"):
        official.detect(tmp_path)
    assert official.detect(path) is nb201.read_pth
