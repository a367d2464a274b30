"""NAS-Bench-101: TFRecords and protocol buffers by hand, every number in its place."""

import base64
import json
import struct

import numpy as np
import official_samples as samples
import pytest
from official_samples import refused

from jaxnas.benchmarks import named, table_files
from jaxnas.benchmarks.importers import (
    nb101,
    nb101_hashes,
    nb101_metrics,
    official,
)
from jaxnas.benchmarks.importers.nb101_encoding import encode_cells
from jaxnas.io import npz, tfrecord


@pytest.fixture(scope="module")
def cells(shared):
    """Twenty cells of the reference table: vectors, and for each cell its texts, hash,
    parameters and accuracy."""
    there = npz.read_npz(shared / "data/nb101.npz")
    rows = np.random.default_rng(0).choice(len(there["nv"]), 20, replace=False)
    parts = [there[name][rows] for name in ("nv", "adj_code", "ops")]
    texts = [samples.cell_texts(*cell) for cell in zip(*parts, strict=True)]
    hashes = [there["hash"][row].tobytes().hex() for row in rows]
    params, accuracy = there["params"][rows], there["test_acc_108_mean"][rows]
    rest = zip(texts, hashes, params.tolist(), accuracy.tolist(), strict=True)
    return encode_cells(*parts), list(rest)


def evaluations(accuracy, epochs, repeat):
    """Three points whose last test accuracy has the mean `accuracy` over repeats."""
    last = accuracy + (repeat - 1) * 0.001
    return [
        (e, 10.0 * e + repeat, 0.1 * i, 0.11 * i, last if i == 2 else 0.09 * i)
        for i, e in enumerate((0.0, epochs / 2, float(epochs)))
    ]


def all_records(cells, schedules=(108,), repeats=3):
    for row, (texts, name, params, accuracy) in enumerate(cells[1]):
        for epochs in schedules:
            for repeat in range(repeats):
                points = evaluations(accuracy, epochs, repeat)
                checkpoint = b"/cns/model.ckpt" if row % 2 else b""
                message = samples.metrics(points, params, 99.0, checkpoint)
                yield samples.cell_record(name, epochs, texts, message)


def test_checksums_are_those_of_castagnoli():
    # The values of RFC 3720, B.4, and the check value of the catalogue.
    known = {
        b"123456789": 0xE3069283,
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        b"": 0,
    }
    assert [*map(tfrecord.crc32c, known)] == [*known.values()]
    assert tfrecord.crc32c_batch([*known]).tolist() == [*known.values()]
    rng = np.random.default_rng(0)
    items = [rng.bytes(int(n)) for n in rng.integers(0, 300, 200)]
    assert tfrecord.crc32c_batch(items).tolist() == [*map(tfrecord.crc32c, items)]
    assert tfrecord.mask_crc(0) == 0xA282EAD8


@pytest.mark.parametrize("schedules", [(108,), (4, 12, 36, 108)])
def test_every_number_of_the_records_is_in_the_table(tmp_path, cells, schedules):
    path, out = tmp_path / "nasbench.tfrecord", tmp_path / "nb101.npz"
    path.write_bytes(samples.tfrecords(all_records(cells, schedules)))
    written = official.convert(path, out, partial=True)
    table = table_files.load(out, curves=None)
    assert table.columns.keys() == written.columns.keys()
    arch, rest = cells
    params = [params for *_, params, _ in rest]
    np.testing.assert_array_equal(table.arch, arch)
    np.testing.assert_array_equal(
        table.columns["params/cifar10"], np.array(params) / 1e6
    )
    for epochs in schedules:
        assert table.manifest["points"][f"{epochs}"] == [0, epochs // 2, epochs]
        elapsed = table.columns[f"elapsed/cifar10/train/{epochs}"]
        assert elapsed.shape == (20, 3, 3)
        wanted = [10.0 * epochs + repeat for repeat in range(3)]
        np.testing.assert_array_equal(elapsed[:, :, 2], [wanted] * 20)
        np.testing.assert_allclose(
            table.columns[f"seconds/cifar10/{epochs}"], 10 * epochs + 1
        )
        assert (table.columns[f"total/cifar10/{epochs}"] == 99).all()
        for row in range(20):
            for repeat in range(3):
                points = evaluations(rest[row][-1], epochs, repeat)
                for place, split in enumerate(("train", "valid", "test"), 2):
                    name = f"cifar10/{split}/{epochs}"
                    curve = np.float32([100 * p[place] for p in points])
                    found = table.columns[f"curve/{name}"][row, repeat]
                    np.testing.assert_array_equal(found, curve)
                    assert table.columns[name][row, repeat] == curve[-1]


def test_cells_are_found_by_their_hashes(tmp_path, cells):
    path = tmp_path / "nasbench.tfrecord"
    path.write_bytes(samples.tfrecords(all_records(cells, (4, 108))))
    found = nb101_hashes.read(path)
    arch, rest = cells
    np.testing.assert_array_equal(found.arch, arch)
    assert list(found.hashes) == [name for _, name, *_ in rest]
    assert found.accuracy.keys() == {4, 108}
    # Of the validation images at the last point, as a fraction.
    np.testing.assert_allclose(found.accuracy[108], 0.22, rtol=1e-6)


def test_it_agrees_with_the_reference_table(tmp_path, cells, shared, monkeypatch):
    monkeypatch.setenv("JAXNAS_SHARED", str(shared))
    path = tmp_path / "nasbench.tfrecord"
    path.write_bytes(samples.tfrecords(all_records(cells)))
    table = official.read(path, partial=True)
    known = named.open_table("nb101")
    rows = np.random.default_rng(0).choice(len(known.arch), 20, replace=False)
    np.testing.assert_array_equal(known.arch[rows], table.arch)
    mean = table.columns["cifar10/test/108"].mean(1)
    np.testing.assert_allclose(mean, known.columns["cifar10/test/108"][rows], rtol=1e-6)


def test_a_message_in_another_order_is_the_same():
    points = evaluations(0.9, 108, 1)
    message = samples.metrics(points, 300, 1.0)
    numbers, params, total = nb101_metrics.decode_metrics(message)
    reordered = b""
    for point in points:
        parts = [
            bytes([i << 3 | 1]) + struct.pack("<d", x) for i, x in enumerate(point, 1)
        ]
        # An unknown field, as a later version of the message may have.
        body = b"".join(parts[::-1]) + b"\x38\x05" + b"\x45abcd"
        reordered = b"\x0a" + bytes([len(body)]) + body + reordered
    assert (
        nb101_metrics.decode_metrics(b"\x10\xac\x02" + message[:-12] + message[-9:])[1]
        == 300
    )
    with pytest.raises(ValueError, match="not in the order of training"):
        nb101_metrics.decode_metrics(reordered + b"\x10\xac\x02")
    found = nb101_metrics._evaluation(body)
    assert tuple(found) == points[-1]
    assert (params, total, len(numbers)) == (300, 1.0, 12)


def spoiled():
    def content(change):
        def spoil(record):
            parts = json.loads(record)
            change(parts)
            return json.dumps(parts).encode()

        return spoil

    def put(place, value):
        return content(lambda parts: parts.__setitem__(place, value))

    def message(points=None, params=5, raw=None):
        points = evaluations(0.9, 108, 1) if points is None else points
        data = samples.metrics(points, params, 1.0) if raw is None else raw
        return put(4, base64.b64encode(data).decode())

    good = evaluations(0.9, 108, 1)
    yield lambda record: b"[", "record 0 is not of a cell"
    yield lambda record: b"[" * 9000, "record 0 is not of a cell"
    yield lambda record: b'{"a": 1}', "wanted a list of a hash"
    yield put(0, 3), "wanted a list of a hash"
    yield put(0, "xyz"), "record 0 is not of a cell: non-hexadecimal"
    yield put(0, "00"), "it has the hash 00"
    yield put(1, 0), "0 epochs"
    yield put(1, 10**9), "1000000000 epochs"
    yield put(1, True), "wanted a list of a hash"
    yield put(2, "0111"), "cell 0 is 0111 of"
    yield put(3, "input,output"), "cell 0 is"
    yield put(4, "!"), "record 0 is not of a cell"
    yield message(good[:2]), "found 2"
    yield message([(0, 1, 0.1, 0.1)] * 3), "an evaluation has no time"
    yield message([*good[:2], (108.0, -1.0, 0.1, 0.1, 0.1)]), "it has the time -1.0"
    yield (
        message([*good[:2], (108.0, 1.0, 0.1, 0.1, 1.1)]),
        "accuracies [0.1, 0.1, 1.1]",
    )
    yield message([*good[:2], (108.0, 1.0, 0.1, float("nan"), 1)]), "the accuracies"
    yield message(params=2**31), "wanted parameters"
    yield message(raw=b"\x0a\xff\x01abc"), "a message ends in the middle"
    yield message(raw=b"\x0b"), "a field of the kind 3"
    yield message(raw=b"\x80" * 12), "more than 64 bits"


@pytest.mark.parametrize(("spoil", "message"), list(spoiled()))
def test_records_of_another_form_are_refused(tmp_path, cells, spoil, message):
    path = tmp_path / "file.tfrecord"
    record = next(all_records(cells))
    path.write_bytes(samples.tfrecords([spoil(record)]))
    text = refused(official.read, path, partial=True)
    assert message in text and str(path) in text


def test_a_hash_is_of_one_cell_and_of_few_runs(tmp_path, cells):
    path = tmp_path / "file.tfrecord"
    one, *_, other = all_records(cells)
    parts = json.loads(other)
    parts[0] = json.loads(one)[0]
    path.write_bytes(samples.tfrecords([one, json.dumps(parts).encode()]))
    assert "record 1 is not of a cell: it is another cell" in refused(
        official.read, path, partial=True
    )
    path.write_bytes(samples.tfrecords([one] * 17))
    assert "has more than 16 runs" in refused(official.read, path, partial=True)


def test_a_file_that_lacks_cells_or_runs_is_a_partial_table(
    tmp_path, cells, monkeypatch
):
    path = tmp_path / "file.tfrecord"
    some = [*all_records(cells)][:-1]
    path.write_bytes(samples.tfrecords(some))
    assert "it has 20 of 423624 cells: only as a partial table" in refused(
        official.read, path
    )
    table = official.read(path, partial=True)
    assert np.isnan(table.columns["cifar10/test/108"]).sum() == 1
    monkeypatch.setattr(nb101.nasbench101, "NUM_CELLS", 20)
    assert "it has 59 runs of 108 epochs, wanted 3 of each cell" in refused(
        official.read, path
    )


def test_a_record_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "file.tfrecord"
    size = struct.pack("<Q", 2**40)
    path.write_bytes(size + struct.pack("<I", tfrecord.mask_crc(tfrecord.crc32c(size))))
    assert "the length of record 0 is wrong" in refused(official.read, path)
