"""The instructions of pickles, but for the frequent ones, which `Machine.run` has.

Each is a function of the machine. `INSTRUCTIONS` maps the codes of protocols 0 to 5 to
them; those that no benchmark or weight file uses are left out, and so refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from jaxnas.io.pickle_machine import (
    CONTAINER,
    ENTRY,
    ITEM,
    Admitted,
    GlobalName,
    Instructions,
    Machine,
)
from jaxnas.io.streams import printable

# Types of dict keys whose hash takes time in proportion to their size.
_PLAIN_KEYS = {str, int, float, bool, bytes, type(None)}
# Cells of NAS-Bench-NLP are keys (((source, target), ...), operations, outputs).
_KEY_DEPTH, _KEY_SIZE = 3, 1000
_int32 = struct.Struct("<i").unpack


def _set_items(m: Machine, items: list[Any]) -> None:
    """SETITEM, SETITEMS: adds [key, value, key, value ...] to the dict on the stack.

    The machine's `fold` sees a dict as soon as it has the fold key.
    """
    target, keys = m.stack[-1], items[::2]
    if type(target) is not dict or len(items) % 2:
        raise ValueError("it sets items of a value that is not a dict")
    check_keys(keys)
    m.charge(ENTRY * len(keys))
    target.update(zip(keys, items[1::2], strict=True))
    if m.fold is not None and m.fold_key in target:
        m.left += ENTRY * m.fold(target)


def _append_items(m: Machine, items: list[Any]) -> None:
    """APPEND, APPENDS."""
    if type(m.stack[-1]) is not list:
        raise ValueError("it appends to a value that is not a list")
    m.charge(ITEM * len(items))
    m.stack[-1].extend(items)


def _add_items(m: Machine) -> None:
    """ADDITEMS: adds the values since the mark to the set below it."""
    items = m.pop_mark()
    if type(m.stack[-1]) is not set:
        raise ValueError("it adds to a value that is not a set")
    check_keys(items)
    m.charge(ENTRY * len(items))
    m.stack[-1].update(items)


def _tuple_of(m: Machine, size: int) -> None:
    """TUPLE1 to TUPLE3."""
    items = tuple(m.stack[-size:])
    if len(items) != size:
        raise ValueError("it has a tuple with fewer items than it says")
    del m.stack[-size:]
    m.push_charged(items, CONTAINER)


def _dict_of(m: Machine) -> None:
    """DICT: a dict of the values since the mark."""
    items = m.pop_mark()
    m.push_charged({}, CONTAINER)
    _set_items(m, items)


def _list_of(m: Machine, kind: type) -> None:
    """LIST, TUPLE, FROZENSET: a container of the values since the mark."""
    items = m.pop_mark()
    if kind is frozenset:
        check_keys(items)
    m.push_charged(kind(items), CONTAINER + ITEM * len(items))


def _push_global(m: Machine, module: Any, name: Any) -> None:
    """Pushes a name; `ValueError` unless it is admitted."""
    if type(module) is not str or type(name) is not str:
        raise ValueError("it asks for a name that is not a text")
    if (module, name) not in m.admitted:
        raise ValueError(
            f"it asks for {printable(module)}.{printable(name)}, and only "
            f"{_listed(m.admitted)} are admitted"
        )
    m.stack.append(GlobalName(module, name, m.admitted[module, name]))


def _call(m: Machine) -> None:
    """REDUCE, NEWOBJ: calls the admitted function of a name."""
    arguments, function = m.stack.pop(), m.stack.pop()
    if type(function) is not GlobalName or function.make is None:
        raise ValueError("it calls a value that may not be called")
    if type(arguments) is not tuple:
        raise ValueError(f"it calls {function.name} without arguments")
    m.push_charged(function.make(*arguments), CONTAINER)


def _build(m: Machine) -> None:
    """BUILD: gives an object its state, and what follows the instruction if it reads on."""
    state, target = m.stack.pop(), m.stack[-1]
    # The attributes of an OrderedDict, such as the version of weights, are dropped.
    if type(target) is dict:
        return
    target.build(state)
    read_on = getattr(target, "read_on", None)
    if read_on is not None:
        read_on(m.source, m.charge)


def _global_name(m: Machine) -> None:
    module, name = m.source.line(), m.source.line()
    _push_global(m, module.decode(), name.decode())


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    _push_global(m, module, name)


def _persistent_id(m: Machine) -> None:
    """BINPERSID: a value outside of the pickle, such as the storage of a tensor."""
    if m.persistent_load is None:
        raise ValueError("it refers to a value outside of it")
    m.push_charged(m.persistent_load(m.stack.pop()), CONTAINER)


def _take_number(m: Machine, width: int) -> int:
    """The next unsigned integer of `width` bytes, little-endian."""
    return int.from_bytes(m.source.take(width), "little")


def _bytes_of(m: Machine, width: int) -> None:
    """BINBYTES and its kin: a size of `width` bytes, and as many bytes."""
    raw = m.source.take(_take_number(m, width))
    m.push_charged(raw, 50 + len(raw))


def _integer(m: Machine, line: bytes) -> Any:
    """INT, LONG: an integer as decimal text; INT has also the booleans, 00 and 01."""
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > 64:
        raise ValueError("it has an integer of more than 64 digits")
    return int(line.rstrip(b"L"))


def _long(m: Machine) -> None:
    """LONG1: an integer of up to 255 bytes, of which 32 are admitted."""
    size = _take_number(m, 1)
    if size > 32:
        raise ValueError(f"it has an integer of {size} bytes")
    value = int.from_bytes(m.source.take(size), "little", signed=True)
    m.stack.append(value)


def check_keys(keys: list[Any]) -> None:
    """Refuses keys that are neither plain nor small tuples of plain values.

    Hashing nested tuples can take exponential time, so that depth and size are bounded.

    Args:
      keys: of a dict, or the values of a set.

    Raises: `ValueError` that names the type.
    """
    kinds = set(map(type, keys)) - _PLAIN_KEYS
    if kinds - {tuple}:
        raise ValueError(f"it has a key of the type {kinds.pop().__name__}")
    if kinds:
        for key in keys:
            if type(key) is tuple:
                _check_tuple(key, _KEY_DEPTH, _KEY_SIZE)


def _check_tuple(key: tuple, depth: int, room: int) -> int:
    """Checks a tuple that is a key.

    Args:
      key: the tuple.
      depth: levels of tuples that it may have.
      room: values that it may have, at all levels.

    Returns: the room that is left.
    Raises: `ValueError` for a value that is not plain, and for a tuple that is too large.
    """
    room -= len(key)
    if room < 0 or not depth:
        raise ValueError("it has a key that is a tuple of too many tuples")
    for value in key:
        if type(value) is tuple:
            room = _check_tuple(value, depth - 1, room)
        elif type(value) not in _PLAIN_KEYS:
            raise ValueError(
                f"it has a key of a tuple with the type {type(value).__name__}"
            )
    return room


def _listed(admitted: Admitted) -> str:
    """The admitted names for a message, by module."""
    modules: dict[str, list[str]] = {}
    for module, name in admitted:
        modules.setdefault(module, []).append(name)
    parts = [f"{' and '.join(names)} of {m}" for m, names in modules.items()]
    return printable(", ".join(parts) or "plain values", 200)


def _push(value: Any) -> Callable[[Machine], None]:
    """An instruction that pushes a constant."""
    return lambda m: m.stack.append(value)


def _line(convert: Callable[[Machine, bytes], Any]) -> Callable[[Machine], None]:
    """An instruction of protocol 0, whose argument is the rest of the line."""
    return lambda m: m.stack.append(convert(m, m.source.line()))


# By code, in the order of the protocols. Others, such as the instances of Python 2 and the
# extension registry, do not occur in the files that the library reads.
INSTRUCTIONS: Instructions = {
    ord("("): Machine.mark,
    ord("0"): lambda m: m.stack.pop() if m.stack else m.pop_mark(),
    ord("1"): Machine.pop_mark,
    ord("2"): lambda m: m.stack.append(m.stack[-1]),
    ord("F"): _line(lambda m, line: float(line)),
    ord("I"): _line(_integer),
    ord("L"): _line(_integer),
    ord("V"): _line(lambda m, line: line.decode("raw-unicode-escape")),
    ord("g"): _line(lambda m, line: m.memo[int(line)]),
    ord("p"): lambda m: m.put(int(m.source.line())),
    ord("J"): lambda m: m.stack.append(_int32(m.source.take(4))[0]),
    ord("M"): lambda m: m.stack.append(_take_number(m, 2)),
    ord("N"): _push(None),
    ord("Q"): _persistent_id,
    ord("R"): _call,
    ord("a"): lambda m: _append_items(m, [m.stack.pop()]),
    ord("e"): lambda m: _append_items(m, m.pop_mark()),
    ord("b"): _build,
    ord("c"): _global_name,
    ord("d"): _dict_of,
    ord("l"): lambda m: _list_of(m, list),
    ord("t"): lambda m: _list_of(m, tuple),
    ord("]"): lambda m: m.push_charged([], CONTAINER),
    ord("}"): lambda m: m.push_charged({}, CONTAINER),
    ord(")"): _push(()),
    ord("s"): lambda m: _set_items(m, [m.stack.pop(), m.stack.pop()][::-1]),
    ord("u"): lambda m: _set_items(m, m.pop_mark()),
    0x80: lambda m: m.source.take(1),  # PROTO
    0x81: _call,  # NEWOBJ
    0x85: lambda m: _tuple_of(m, 1),
    0x86: lambda m: _tuple_of(m, 2),
    0x87: lambda m: _tuple_of(m, 3),
    0x88: _push(True),
    0x89: _push(False),
    0x8A: _long,
    # Texts of Python 2, of unknown encoding, stay bytes.
    ord("T"): lambda m: _bytes_of(m, 4),
    ord("U"): lambda m: _bytes_of(m, 1),
    ord("B"): lambda m: _bytes_of(m, 4),
    ord("C"): lambda m: _bytes_of(m, 1),
    0x8E: lambda m: _bytes_of(m, 8),
    0x8D: lambda m: m.stack.append(m.text(m.source.take(_take_number(m, 8)))),
    0x8F: lambda m: m.push_charged(set(), 2 * CONTAINER),
    0x90: _add_items,
    0x91: lambda m: _list_of(m, frozenset),
    0x93: _stack_global,
    0x95: lambda m: m.source.take(8),  # FRAME
}
