"""The stack machine that reads pickles; `pickles` is how to use it.

Here is what it holds and its frequent instructions; the others are in `instructions`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.io.streams import ByteStream

Admitted = Mapping[tuple[str, str], Callable[..., Any] | None]

_AHEAD = 16  # The longest instruction of fixed size has 9 bytes.
_MAX_DEPTH, _MAX_STACK = 2**14, 2**20
# Bytes of memory that values are taken to need, rounded up.
CONTAINER, ENTRY, ITEM = 128, 128, 40
_double = struct.Struct(">d").unpack_from
# Entries "key from the memo, float" and "small int, float" come by the hundred million.
_RUNS = {
    code: (re.compile(pattern), np.dtype([("", "u1"), ("key", k), ("", "u1"), ("", d)]))
    for code, pattern, k, d in (
        (0x6A, rb"(?:j[\s\S]{4}G[\s\S]{8}){8,}", "<u4", ">f8"),
        (0x68, rb"(?:h[\s\S]G[\s\S]{8}){8,}", "u1", ">f8"),
        (0x4B, rb"(?:K[\s\S]G[\s\S]{8}){8,}", "u1", ">f8"),
    )
}


Instructions = Mapping[int, Callable[["Machine"], Any]]


class Named(NamedTuple):
    """What an admitted name stands for in the file: no more than the name."""

    module: str
    name: str
    make: Callable[..., Any] | None


class Machine:
    """The state of one reading; arguments as for `pickles.load`."""

    def __init__(
        self,
        source: ByteStream,
        admitted: Admitted,
        persistent: Callable[[Any], Any] | None,
        fold: tuple[str, Callable[[dict], int]] | None,
        max_memory: int,
    ):
        self.source, self.admitted, self.persistent = source, admitted, persistent
        self.fold_key, self.fold = fold or (None, None)
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.texts: dict[bytes, str] = {}
        self.max_memory = self.left = max_memory

    def charge(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"its values need more than {self.max_memory} bytes")

    def refill(self) -> None:
        """Reads on, and bounds what single bytes can add to."""
        source = self.source
        if source.ended:
            raise ValueError("it ends in the middle")
        if len(self.stack) + sum(map(len, self.marks)) > _MAX_STACK:
            raise ValueError("it has more on its stack than a sound pickle")
        if 8 * len(self.memo) > self.left:
            raise ValueError(f"its values need more than {self.max_memory} bytes")
        source.more()

    def run(self, instructions: Instructions) -> Any:
        """The value of the pickle; `ValueError` or whatever a damaged one raises."""
        # The frequent instructions are written out here, because the official files
        # have about a billion of them.
        source, memo, texts, number = (
            self.source,
            self.memo,
            self.texts,
            int.from_bytes,
        )
        while True:
            data, at, stack = source.data, source.at, self.stack
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
                        source.at = start
                        push(self.text(source.take(end - start)))
                        break
                    raw = data[start:end]
                    push(texts.get(raw) or self.text(raw))
                    at = end
                elif code == 0x2E:  # STOP
                    source.at = at
                    if self.marks or len(stack) != 1:
                        raise ValueError("it ends inside a value")
                    return stack[0]
                else:
                    source.at = at
                    instruction = instructions.get(code)
                    if instruction is None:
                        raise ValueError(f"it has the instruction {code:#04x}")
                    instruction(self)
                    break
            else:
                source.at = at
                self.refill()

    def text(self, raw: bytes) -> str:
        text = raw.decode("utf-8", "surrogatepass")
        if len(raw) <= 128 and len(self.texts) < 2**16:
            self.texts[raw] = text  # Keys such as x-valid@17 come a million times.
        self.charge(50 + 4 * len(raw))
        return text

    def put(self, index: int) -> None:
        memo = self.memo
        # Picklers count from 0, that of Python 2 from 1: a leap is no sound pickle.
        if index > len(memo) + 1:
            raise ValueError(f"it numbers a value {index} after {len(memo)} values")
        while index >= len(memo):
            memo.append(None)
        memo[index] = self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) > _MAX_DEPTH:
            raise ValueError("it has more lists in lists than a sound pickle")
        self.marks.append(self.stack)
        self.stack = []
        source = self.source
        run = (
            _RUNS.get(source.data[source.at]) if source.at < len(source.data) else None
        )
        match = run and run[0].match(source.data, source.at)
        if run and match:
            rows = np.frombuffer(match[0], run[1])
            keys = rows["key"].tolist()
            if match[0][0] != 0x4B:
                keys = [self.memo[key] for key in keys]
            pairs: list[Any] = [None] * (2 * len(keys))
            pairs[::2], pairs[1::2] = keys, rows["f3"].tolist()
            self.stack = pairs
            source.at = match.end()

    def popped(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def made(self, value: Any, size: int) -> None:
        self.charge(size)
        self.stack.append(value)
