"""Files of joblib: arrays beside the pickle, packed files, and what is refused."""

import pickle

import numpy as np
import pytest

from jaxnas.io import joblib_files

joblib = pytest.importorskip("joblib")
VALUE = {
    "f": np.arange(12, dtype=np.float64).reshape(3, 4),
    "by column": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    "big-endian": np.arange(5, dtype=">i2"),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3)),
    "scalar": np.array(2.5),
    "pieces": np.arange(300_000.0),  # more than one piece of the reader
    "others": [1, "x", (2.0, None)],
}


def same(found, value):
    assert found.keys() == value.keys()
    for name, wanted in value.items():
        if isinstance(wanted, np.ndarray):
            array = joblib_files.array_of(found[name])
            assert array.shape == wanted.shape and array.dtype == wanted.dtype, name
            np.testing.assert_array_equal(array, wanted, err_msg=name)
        else:
            assert found[name] == wanted


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_values_are_those_that_joblib_wrote(tmp_path, compress, protocol):
    path = tmp_path / "value"
    joblib.dump(VALUE, path, compress=compress, protocol=protocol)
    found, digest = joblib_files.load(path, joblib_files.ARRAYS)
    same(found, VALUE)
    assert len(digest) == 64


def test_files_of_older_versions_have_no_padding(tmp_path):
    # Before version 1.1 the bytes of an array follow its record at once.
    path, value = tmp_path / "old", {"a": np.arange(7.0), "b": np.arange(3)}
    joblib.dump(value, path)
    data = path.read_bytes()
    key = b"\x8c\x1bnumpy_array_alignment_bytes\x94K\x10"
    start = data.index(key) + len(key)
    begin = start + data[start:].index(b"ub") + 2
    old = data[:begin].replace(key, b"") + data[begin + 1 + data[begin] :]
    # The second record refers to the key in the memo, which the first one no longer has.
    first = old[: old.index(value["a"].tobytes()) + 56] + b"u."
    path.write_bytes(first)
    found, _ = joblib_files.load(path, joblib_files.ARRAYS)
    same(found, {"a": value["a"]})


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
        joblib_files.load(path, joblib_files.ARRAYS)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


class Runs:
    """An object whose pickle calls a function of the standard library."""

    def __reduce__(self):
        return (exec, ("print('it ran')",))


def test_nothing_is_run(tmp_path, capsys):
    path = tmp_path / "evil"
    joblib.dump([np.zeros(3), Runs()], path)
    message = refused(path, path.read_bytes())
    assert "builtins.exec" in message and "damaged" not in message
    joblib.dump(np.array([Runs()], object), path)
    assert "type O8" in refused(path, path.read_bytes())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["zlib", "gzip", "bz2"])
def test_packed_files_are_bounded_and_complete(tmp_path, kind):
    path = tmp_path / "packed"
    joblib.dump(VALUE, path, compress=(kind, 3))
    data = path.read_bytes()
    assert "ends in the middle" in refused(path, data[:-3])
    assert "continues after its end" in refused(path, data + b"x")
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    assert "damaged" in refused(path, bytes(damaged))


def test_what_unpacks_to_too_much_or_is_packed_otherwise(tmp_path):
    path = tmp_path / "packed"
    joblib.dump(np.zeros(2**25), path, compress=("zlib", 1))  # 256 MiB in 1 MB
    assert "more than" in refused(path, path.read_bytes())
    for kind in ("xz", "lzma"):
        joblib.dump(VALUE, path, compress=(kind, 1))
        assert f"packed by {kind}" in refused(path, path.read_bytes())


def test_claimed_sizes_are_not_believed(tmp_path):
    path = tmp_path / "bomb"
    joblib.dump(np.zeros(5), path)
    data = path.read_bytes()
    claim = b"K\x05\x85"
    assert claim in data
    assert "more than" in refused(path, data.replace(claim, b"J\xff\xff\xff\x7f\x85"))
    assert "shape" in refused(path, data.replace(claim, b"J\xff\xff\xff\xff\x85"))
    assert "in the middle" in refused(path, data.replace(claim, b"K\x09\x85"))


def test_other_files_are_told_from_pickles(tmp_path):
    path = tmp_path / "other"
    assert "nothing" in refused(path, b"")
    assert "not a pickle" in refused(path, b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="no such file"):
        joblib_files.load(tmp_path / "missing", joblib_files.ARRAYS)
    with pytest.raises(ValueError, match="not a file"):
        joblib_files.load(tmp_path, joblib_files.ARRAYS)
    assert "wanted an array" in str(
        pytest.raises(ValueError, joblib_files.array_of, [1]).value
    )


def test_plain_pickles_are_read_too(tmp_path):
    path, value = tmp_path / "plain", {"a": np.arange(4.0), "n": 3}
    path.write_bytes(pickle.dumps(value, 4))
    same(joblib_files.load(path, joblib_files.ARRAYS)[0], value)
