"""The stack machine that reads pickles; `pickles` is its interface.

A pickle pushes values on a stack, collects those above a mark into lists and dicts, and
keeps values in a memo to refer to them again (PEP 307, PEP 3154, and `pickletools` of the
standard library). This module has the state of the machine and its frequent
instructions; `pickle_opcodes` has the others.

Memory is charged before it is used: each text, container and entry takes an estimate from
a budget, so that a small file cannot become large values.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.io.streams import ByteStream

Admitted = Mapping[tuple[str, str], Callable[..., Any] | None]
"""The functions that a pickle may call, by (module, name); None: may only be named."""

_AHEAD = 16  # bytes to have in the buffer; the longest fixed-size instruction has 9
_MAX_DEPTH, _MAX_STACK = 2**14, 2**20  # marks, and values on the stack
CONTAINER, ENTRY, ITEM = 128, 128, 40
"""Bytes charged for a container, an entry of a dict or set, and an item of a list."""
_double = struct.Struct(">d").unpack_from
# Runs of 8 or more dict entries "key from the memo, float" or "small int, float", of which
# the official files have hundreds of millions, are read at once: for the code of the first
# instruction, the pattern of a run and the NumPy type of an entry.
_RUNS = {
    code: (re.compile(pattern), np.dtype([("", "u1"), ("key", k), ("", "u1"), ("", d)]))
    for code, pattern, k, d in (
        (0x6A, rb"(?:j[\s\S]{4}G[\s\S]{8}){8,}", "<u4", ">f8"),
        (0x68, rb"(?:h[\s\S]G[\s\S]{8}){8,}", "u1", ">f8"),
        (0x4B, rb"(?:K[\s\S]G[\s\S]{8}){8,}", "u1", ">f8"),
    )
}


Instructions = Mapping[int, Callable[["Machine"], Any]]
"""Effect of each opcode on the machine, by code."""


class GlobalName(NamedTuple):
    """A name of the file that was admitted, on the stack until it is called."""

    module: str
    name: str
    make: Callable[..., Any] | None


class Machine:
    """The state of reading one pickle.

    Attributes:
      source: the bytes, at the next instruction.
      admitted: as for `pickles.load`, like `persistent_load`, `fold` and `max_memory`.
      stack: values since the last mark.
      marks: the stacks below each mark, the lowest first.
      memo: values that the pickle may refer to, by index.
      texts: short texts by their bytes, so that equal ones are one object.
      left: bytes of `max_memory` that have not been charged.
    """

    def __init__(
        self,
        source: ByteStream,
        admitted: Admitted,
        persistent_load: Callable[[Any], Any] | None,
        fold: tuple[str, Callable[[dict], int]] | None,
        max_memory: int,
    ):
        self.source, self.admitted = source, admitted
        self.persistent_load = persistent_load
        self.fold_key, self.fold = fold or (None, None)
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.texts: dict[bytes, str] = {}
        self.max_memory = self.left = max_memory

    def charge(self, size: int) -> None:
        """Takes bytes from the memory budget; `ValueError` if it does not suffice."""
        self.left -= size
        if self.left < 0:
            raise ValueError(f"its values need more than {self.max_memory} bytes")

    def refill(self) -> None:
        """Reads more of the file, and checks the sizes of stack and memo.

        Single-byte instructions add to them without a charge, so that they are bounded
        once a piece.

        Raises: `ValueError` at the end of the file, and if they are too large.
        """
        source = self.source
        if source.ended:
            raise ValueError("it ends in the middle")
        if len(self.stack) + sum(map(len, self.marks)) > _MAX_STACK:
            raise ValueError("it has more on its stack than a sound pickle")
        if 8 * len(self.memo) > self.left:
            raise ValueError(f"its values need more than {self.max_memory} bytes")
        source.read_more()

    def run(self, instructions: Instructions) -> Any:
        """Runs the pickle up to its STOP instruction and returns its value.

        Args:
          instructions: those that are not written out here.

        Raises: `ValueError` for an unknown instruction, for a pickle that ends early or
          is too large; a damaged one can raise other errors, see `pickles.load`.
        """
        # The frequent instructions are written out here: the official files have about a
        # billion of them.
        source, memo, texts = self.source, self.memo, self.texts
        number = int.from_bytes
        while True:
            data, at, stack = source.data, source.position, self.stack
            push = stack.append
            limit = len(data) - (0 if source.ended else _AHEAD)
            while at < limit:
                code = data[at]
                at += 1
                if code == 0x47:  # BINFLOAT
                    push(_double(data, at)[0])
                    at += 8
                elif code == 0x4B:  # BININT1
                    push(data[at])
                    at += 1
                elif code == 0x94:  # MEMOIZE
                    memo.append(stack[-1])
                elif code == 0x6A:  # LONG_BINGET
                    push(memo[number(data[at : at + 4], "little")])
                    at += 4
                elif code == 0x68:  # BINGET
                    push(memo[data[at]])
                    at += 1
                elif code == 0x72 or code == 0x71:  # LONG_BINPUT, BINPUT
                    end = at + (4 if code == 0x72 else 1)
                    index = number(data[at:end], "little")
                    at = end
                    if index == len(memo):
                        memo.append(stack[-1])
                    else:
                        self.put(index)
                elif code == 0x58 or code == 0x8C:  # BINUNICODE, SHORT_BINUNICODE
                    start = at + (4 if code == 0x58 else 1)
                    end = start + number(data[at:start], "little")
                    if end > limit:
                        source.position = start
                        push(self.text(source.take(end - start)))
                        break
                    raw = data[start:end]
                    push(texts.get(raw) or self.text(raw))
                    at = end
                elif code == 0x2E:  # STOP
                    source.position = at
                    if self.marks or len(stack) != 1:
                        raise ValueError("it ends inside a value")
                    return stack[0]
                else:
                    source.position = at
                    instruction = instructions.get(code)
                    if instruction is None:
                        raise ValueError(f"it has the instruction {code:#04x}")
                    instruction(self)
                    break
            else:
                source.position = at
                self.refill()

    def text(self, raw: bytes) -> str:
        """Decodes and charges a text."""
        text = raw.decode("utf-8", "surrogatepass")
        if len(raw) <= 128 and len(self.texts) < 2**16:
            self.texts[raw] = text  # keys such as x-valid@17 occur a million times
        self.charge(50 + 4 * len(raw))
        return text

    def put(self, index: int) -> None:
        """Stores the top of the stack in the memo."""
        memo = self.memo
        # Picklers count from 0, that of Python 2 from 1: no sound pickle leaps.
        if index > len(memo) + 1:
            raise ValueError(f"it numbers a value {index} after {len(memo)} values")
        while index >= len(memo):
            memo.append(None)
        memo[index] = self.stack[-1]

    def mark(self) -> None:
        """Begins a new stack, and reads a run of dict entries if one follows."""
        if len(self.marks) > _MAX_DEPTH:
            raise ValueError("it has more lists in lists than a sound pickle")
        self.marks.append(self.stack)
        self.stack = []
        source = self.source
        run = (
            _RUNS.get(source.data[source.position])
            if source.position < len(source.data)
            else None
        )
        match = run and run[0].match(source.data, source.position)
        if run and match:
            rows = np.frombuffer(match[0], run[1])
            keys = rows["key"].tolist()
            if match[0][0] != 0x4B:
                keys = [self.memo[key] for key in keys]
            pairs: list[Any] = [None] * (2 * len(keys))
            pairs[::2], pairs[1::2] = keys, rows["f3"].tolist()
            self.stack = pairs
            source.position = match.end()

    def pop_mark(self) -> list[Any]:
        """Returns the values since the last mark, and continues below it."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push_charged(self, value: Any, size: int) -> None:
        """Charges `size` bytes for a value and pushes it."""
        self.charge(size)
        self.stack.append(value)
