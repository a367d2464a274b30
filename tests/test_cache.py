"""The cache: what is made once is read, and what cannot be kept is made again."""

import hashlib

import numpy as np
import pytest

from jaxnas.io import npz
from jaxnas.io.cache import array_digest, cache_folder, cached

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def made(tmp_path, monkeypatch):
    """What was made, and a function that asks the cache for it."""
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "a" / "b"))
    values = []

    def make():
        values.append(np.arange(3.0) + len(values))
        return values[-1]

    def ask(name="square-1", digest=DIGEST, load=None):
        return cached(
            name,
            digest,
            make=make,
            load=load or (lambda path: npz.load_arrays(path)[0]["x"]),
            save=lambda path, x: npz.save_arrays(path, {"x": x}, {}),
        )

    return values, ask


def test_a_result_is_made_once_for_each_name_and_digest(made):
    values, ask = made
    first = ask()
    np.testing.assert_array_equal(ask(), first)
    assert len(values) == 1
    assert [p.name for p in cache_folder().iterdir()] == [
        "square-1-0123456789abcdef.npz"
    ]
    ask(name="square-2")
    ask(digest="f" * 64)
    assert len(values) == 3


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_file_that_is_damaged_or_of_other_inputs_is_replaced(made, content):
    values, ask = made
    ask()
    (file,) = cache_folder().iterdir()
    file.write_bytes(content)
    np.testing.assert_array_equal(ask(), values[1])
    np.testing.assert_array_equal(ask(), values[1])
    ask(load=lambda path: None)
    assert len(values) == 3


def test_a_cache_that_cannot_be_written_is_no_error(made, tmp_path):
    values, ask = made
    (tmp_path / "a").write_bytes(b"")
    ask(), ask()
    assert len(values) == 2


def test_errors_of_the_computation_are_not_hidden(made):
    def fails():
        raise ValueError("no distance")

    with pytest.raises(ValueError, match="no distance"):
        cached("x", DIGEST, make=fails, load=lambda path: None, save=npz.save_arrays)


def test_digests_of_arrays_are_of_their_values_in_order():
    x = np.arange(6.0).reshape(2, 3)
    digest = array_digest(x, x.T)
    assert digest == hashlib.sha256(x.tobytes() + x.T.tobytes()).hexdigest()
    assert digest == array_digest(np.asfortranarray(x), x.T)
    assert digest != array_digest(x.T, x)
