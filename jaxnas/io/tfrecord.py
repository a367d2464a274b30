"""TFRecord files and protocol buffers, read without TensorFlow.

A TFRecord file is a sequence of records: the length (uint64, little-endian), a checksum
of these eight bytes, the data, a checksum of the data. The checksum is CRC-32C
(Castagnoli), rotated right by 15 bits, plus a constant ("masked"). `read` yields the data
of the records, `fields` parses data that is a protocol buffer message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from jaxnas.io.streams import BinaryReader, ByteStream

MAX_RECORD = 2**14
"""Most bytes of a record; those of NAS-Bench-101 have less than a thousand."""
HEADER = 12
"""Bytes of a record before its data."""
_BATCH = 4096  # records whose checksums are computed side by side
_header = struct.Struct("<QI").unpack
_int32, _MASK = struct.Struct("<I").unpack, 0xA282EAD8


def _table() -> np.ndarray:
    """The effect (256,) uint32 of each byte on the checksum, lowest bit first."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table.astype(np.uint32)


_TABLE = _table()
_TABLE_LIST = _TABLE.tolist()


def mask_crc(crc: int) -> int:
    """Rotates and shifts a CRC-32C as TFRecord files store it."""
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, B.4) of a few bytes: 0xE3069283 of b"123456789"."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE_LIST[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc32c_batch(items: Sequence[bytes]) -> np.ndarray:
    """CRC-32C of n items, computed side by side.

    The loop is over byte positions; the longest items come first, so that those that
    have a byte at a position are a prefix.

    Args:
      items: n byte strings of any lengths.

    Returns: (n,) uint32.
    """
    sizes = np.array([len(item) for item in items])
    order = np.argsort(-sizes, kind="stable")
    data = np.frombuffer(b"".join(items), np.uint8)
    start = (np.cumsum(sizes) - sizes)[order]
    # The number of items, longest first, that have a byte at each position.
    longer = np.searchsorted(-sizes[order], -np.arange(sizes.max(initial=0)))
    crc = np.full(len(items), 0xFFFFFFFF, np.uint32)
    for position, num in enumerate(longer):
        part = crc[:num]
        byte = data[start[:num] + position]
        crc[:num] = _TABLE[(part ^ byte) & 255] ^ (part >> 8)
    result = np.empty_like(crc)
    result[order] = crc ^ np.uint32(0xFFFFFFFF)
    return result


def is_header(data: bytes) -> bool:
    """Whether 12 bytes are the header of a record: length and its checksum."""
    if len(data) != HEADER:
        return False
    _, checksum = _header(data)
    return mask_crc(crc32c(data[:8])) == checksum


def read(file: BinaryReader) -> Iterator[bytes]:
    """Yields the data of each record, after its checksum was compared.

    Args:
      file: the file, at its start; it is read a piece at a time.

    Raises: `ValueError` for a file that ends in the middle of a record, for a record
      whose checksums are wrong, and for one of more than `MAX_RECORD` bytes.
    """
    source, batch, checksums = ByteStream(file), [], []
    number = 0
    while True:
        if source.position == len(source.data):
            source.read_more()
        ended = source.ended and source.position == len(source.data)
        if not ended:
            header = source.take(HEADER)
            size, _ = _header(header)
            if not is_header(header) or size > MAX_RECORD:
                raise ValueError(f"the length of record {number + len(batch)} is wrong")
            batch.append(source.take(size))
            checksums.append(_int32(source.take(4))[0])
        if len(batch) == _BATCH or ended:
            crcs = crc32c_batch(batch).tolist()
            for crc, checksum in zip(crcs, checksums, strict=True):
                if mask_crc(crc) != checksum:
                    raise ValueError(f"the checksum of record {number} is wrong")
                number += 1
            yield from batch
            batch, checksums = [], []
        if ended:
            return


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the fields of a protocol buffer message in their order.

    Args:
      message: as the wire format of protocol buffers encodes it.

    Returns: pairs of field number and value: an integer for a varint, else the bytes of
      a fixed64, fixed32 or length-delimited field, which the caller decodes.
    Raises: `ValueError` for a message that is cut off, and for groups.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = _varint(message, at)
            value = message[at : at + size]
            if len(value) < size:
                raise ValueError("a message ends in the middle")
            at += size
        else:
            raise ValueError(f"a message has a field of the kind {kind}")
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Decodes a base-128 varint; returns its value and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise ValueError("a message ends in the middle")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a message has a number of more than 64 bits")
