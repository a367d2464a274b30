"""Pickles as data: the same values as Python's unpickler, and nothing else happens."""

import collections
import io
import os
import pickle
import pickletools
import random
import struct
import time

import numpy as np
import official_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnas.io import pickles
from jaxnas.io.streams import ByteStream


def load(data, admitted=pickles.PLAIN, **kwargs):
    return pickles.load(ByteStream(io.BytesIO(data)), admitted, **kwargs)


def refused(data, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        load(data, *args, **kwargs)
    message = str(caught.value)
    assert message and message.isprintable() and len(message) <= 400
    return message


def plain_value(rng, depth=0):
    kinds = "none bool int float text bytes list tuple dict set".split()
    kind = rng.choice(kinds[: 6 if depth > 3 else None])
    few = range(rng.choice((0, 1, 2, 3, 5)))
    key = rng.choice((3, "a", "b" * 300, (1, "c"), b"d", None, 2.5))
    return {
        "none": lambda: None,
        "bool": lambda: rng.random() < 0.5,
        "int": lambda: rng.choice((0, 255, -1, 65535, 2**31 - 1, -(2**31), 2**70)),
        "float": lambda: rng.choice((0.0, -1.5, 1e300, rng.random())),
        "text": lambda: rng.choice(("", "a\nb", "\\", "ä", "\ud800", "x" * 1000)),
        "bytes": lambda: rng.choice((b"", b"\xff\n", b"y" * 1000)),
        "list": lambda: [plain_value(rng, depth + 1) for _ in few],
        "tuple": lambda: tuple(plain_value(rng, depth + 1) for _ in few),
        "dict": lambda: {key: plain_value(rng, depth + 1), "k": few[0] if few else 1},
        "set": lambda: {key, "z"},
    }[kind]()


def test_values_are_those_of_pythons_unpickler():
    rng = random.Random(0)
    for number in range(600):
        value, protocol = plain_value(rng), number % 6
        data = pickle.dumps(value, protocol)
        assert load(data) == value
        if number % 5 == 0:
            assert load(pickletools.optimize(data)) == value
    shared = ["x" * 10]
    for protocol in range(6):
        value = load(pickle.dumps({"a": shared, "b": [shared, shared]}, protocol))
        assert value["a"] is value["b"][0] is value["b"][1]


def test_long_runs_over_the_edges_of_pieces():
    rng = np.random.default_rng(0)
    floats = rng.uniform(size=100).tolist()
    values = [
        {
            "train": collections.OrderedDict(enumerate(floats)),
            "by text": {f"x-valid@{i}": x for i, x in enumerate(floats)},
            "again": {f"x-valid@{i}": -x for i, x in enumerate(floats)},
        }
        for _ in range(300)
    ]
    for value in values:
        value["other"] = dict(value["by text"])
    for protocol in (2, 4):
        data = pickle.dumps(values, protocol)
        assert len(data) > 2**20
        assert load(data) == values

        class Slow(io.BytesIO):
            def read(self, size=-1, /):
                return super().read(min(size, 1 + self.tell() % 100))

        short = pickle.dumps(values[:3], protocol)
        assert pickles.load(ByteStream(Slow(short)), pickles.PLAIN) == values[:3]


def test_long_texts_take_time_in_proportion_to_their_size():
    class Slow(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 256))

    content = np.random.default_rng(0).bytes(2**23)
    begin = time.process_time()
    source = ByteStream(Slow(b"a" + content + b"b"))
    assert (source.take(1), source.take(2**23)) == (b"a", content)
    assert (source.tell(), source.take(1)) == (2**23 + 1, b"b")
    # Copying the buffer for each piece took 4 seconds or more.
    assert time.process_time() - begin < 1
    with pytest.raises(ValueError, match="ends in the middle"):
        ByteStream(Slow(content)).take(2**23 + 1)


def test_numbers_of_numpy_and_ordered_dicts():
    value = {
        "f": np.float64(0.1),
        "g": np.float32(0.1),
        "i": np.int64(-3),
        "b": np.bool_(True),
        "o": collections.OrderedDict([(1, 2)]),
    }
    wanted = {k: v.item() if hasattr(v, "item") else dict(v) for k, v in value.items()}
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        if protocol > 1:  # Before, bytes were called as a function of builtins.
            assert load(data) == wanted
        if protocol in (2, 3):  # Here a name is a line, and its length free.
            assert load(data.replace(b"numpy._core", b"numpy.core")) == wanted
    # As Python 2 wrote it.
    assert load(b"ccollections\nOrderedDict\n((lp1\n(lp2\nI1\naI2\naatRp3\n.") == {1: 2}
    assert "number of the type O" in refused(pickle.dumps(np.dtype("O"), 2))
    assert "damaged" in refused(b"cnumpy.core.multiarray\nscalar\n(I1\nI2\ntR.")


def test_folding_takes_entries_out_as_they_come():
    seen = []

    def fold(part):
        seen.append(dict(part))
        gone = len(part["x"])
        part["x"].clear()
        return gone

    data = pickle.dumps(
        [{"n": i, "x": dict.fromkeys(range(900))} for i in range(100)], 4
    )
    assert "need more than 1000000 bytes" in refused(data, max_memory=10**6)
    value = load(data, max_memory=10**6, fold=("x", fold))
    assert (
        [part["n"] for part in value] == [part["n"] for part in seen] == [*range(100)]
    )
    assert not any(part["x"] for part in value)


def test_keys_are_small_tuples_of_plain_values():
    cell = (((0, 4), (1, 5)), (0, "linear"), (6,))  # a cell of NAS-Bench-NLP
    for protocol in (2, 4):
        assert load(pickle.dumps({cell: 1, (1, None): 2}, protocol))[cell] == 1
    assert "too many tuples" in refused(pickle.dumps({((((1,),),),): 1}, 4))
    assert load(pickle.dumps({tuple(range(1000)): 1}, 4))
    for large in (tuple(range(1001)), (tuple(range(600)), tuple(range(600)))):
        assert "too many tuples" in refused(pickle.dumps({large: 1}, 4))
    assert "type list" in refused(b"\x80\x04}]\x85\x85K\x01s.")


def bombs():
    """Small pickles that would take much memory or time, by what they do."""
    big = struct.pack("<I", 2**32 - 1)
    yield "memo", b"\x80\x02Nr" + big + b"."
    yield "memo at once", b"\x80\x04" + b"N" + b"\x94" * 3 * 10**6 + b"."
    yield "text", b"\x80\x02X" + big + b"abc."
    yield "text of 64 bits", b"\x80\x04\x8d" + b"\xff" * 8 + b"abc."
    yield "bytes", b"\x80\x04B" + big + b"abc."
    yield "bytes of 64 bits", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"abc."
    yield "marks", b"\x80\x04" + b"(" * 2 * 10**6 + b"."
    yield "sets", b"\x80\x04(" + b"\x8f" * 3 * 10**6 + b"l."
    yield "dicts", b"\x80\x04" + b"}0" * 3 * 10**6 + b"N."
    yield "stack", b"\x80\x04" + b"N" * 2 * 10**6 + b"."
    yield "one key", b"\x80\x04}(" + b"N)" * 10**5 + b"u0" * 3 + b"."
    yield "long", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1."
    yield "integer", b"I" + b"9" * 10**5 + b"\n."
    yield "line", b"I" + b"9" * (3 * 2**20)
    nested = b"\x80\x04" + b")" + b"2\x86" * 60
    yield "hash of a tree", nested[:3] + b"}" + nested[3:] + b"Ns."
    yield "hash in a set", b"\x80\x04\x8f(" + nested[3:] + b"\x90."
    yield "frozen", b"\x80\x04(" + nested[3:] + b"\x91."


@pytest.mark.parametrize("name", [name for name, _ in bombs()])
def test_small_pickles_that_would_become_large(name):
    data = dict(bombs())[name]
    refused(data, max_memory=2**24)


class Admitted:
    pass


def harmful(ran):
    """Pickles that would run something, each by another way."""
    touch = f"touch {ran}"
    call = samples.Call
    for protocol in range(6):
        yield pickle.dumps(call(os.system, touch), protocol)
        yield pickle.dumps({"meta_archs": call(os.mkdir, str(ran))}, protocol)
        yield pickle.dumps([call(eval, f"open({str(ran)!r}, 'w')")], protocol)
        yield pickle.dumps((1, {2: call(exec, f"open({str(ran)!r}, 'w')")}), protocol)
        inner = call(getattr, call(__import__, "os"), "system")
        yield pickle.dumps(call(map, inner, [touch]), protocol)
    text = touch.encode()
    yield b"(S'" + text + b"'\nios\nsystem\n."  # INST
    yield b"(cos\nsystem\nS'" + text + b"'\no."  # OBJ
    yield b"\x80\x02\x82\x01."  # EXT1
    yield b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(text)) + text + b"\x85R."
    yield (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(text)])
        + text
        + b"\x85R."
    )
    dotted = b"OrderedDict.__init__.__globals__"
    yield b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(dotted)]) + dotted + b"\x93."
    yield b"\x80\x02ccollections\nOrderedDict\n}\x92."  # NEWOBJ_EX
    yield b"\x80\x02ccollections\nOrderedDict\n}b."  # A state for a name.
    yield b"\x80\x02cnumpy\ndtype\n(cos\nsystem\ntR."
    yield b"\x80\x02c__main__\nAdmitted\n)\x81}X\x05\x00\x00\x00buildcos\nsystem\nsb."
    yield b"\x80\x02X\x01\x00\x00\x00xX\x01\x00\x00\x00y\x85R."  # Calls a text.
    yield b"\x80\x02]}b."  # A state for a list.
    yield b"Pos.system\n."  # PERSID
    yield b"\x80\x02X\x01\x00\x00\x00xQ."  # BINPERSID
    yield b"\x80\x05\x97."  # NEXT_BUFFER


def test_what_would_run_is_refused(tmp_path):
    ran = tmp_path / "ran"
    all_of_them = [*harmful(ran)]
    assert len(all_of_them) == 45
    for data in all_of_them:
        message = refused(data)
        if b"system" in data and b"os" in data[:12]:
            assert "it asks for" in message or "has the instruction" in message
        assert not ran.exists()
    for data in (b"", b".", b"\x80", b"\x80\x04", b"N", b"0.", b"R.", b"u.", b"NN."):
        refused(data)


def test_a_damaged_pickle_is_refused_or_read():
    rng = np.random.default_rng(0)
    data = pickle.dumps({"a": [1.5, "x" * 50, {2: (3, None)}] * 20, "b": {1, 2}}, 4)
    for _ in range(2000):
        flipped = bytearray(data[: rng.integers(1, len(data) + 1)])
        for at in rng.integers(len(flipped), size=rng.integers(1, 4)):
            flipped[at] = rng.integers(256)
        try:
            load(bytes(flipped))
        except ValueError as error:
            assert "\n" not in str(error)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def survives(data):
    try:
        load(data, max_memory=2**20)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_one_line(data):
    survives(data)


@given(VALUES, st.integers(0, 5), st.data())
def test_a_pickle_with_a_byte_changed_is_a_value_or_one_line(value, protocol, data):
    whole = bytearray(pickle.dumps(value, protocol))
    survives(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    survives(bytes(whole))
