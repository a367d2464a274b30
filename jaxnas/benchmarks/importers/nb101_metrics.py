"""The measurements in a record of NAS-Bench-101: a `ModelMetrics` protocol buffer.

The message has three evaluations (field 1), the number of parameters (2) and the seconds
of the run (3), as `model_metrics.proto` of google-research/nasbench defines it.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from jaxnas.io import tfrecord

NUM_POINTS = 3
"""Evaluations of a run: before, in the middle of and after training."""
# current_epoch, training_time, train, validation and test accuracy: five doubles, each
# preceded by its tag.
_FIVE = struct.Struct("<BdBdBdBdBd")
_TAGS = (0x09, 0x11, 0x19, 0x21, 0x29)


def decode_metrics(message: bytes) -> tuple[list[float], int, float]:
    """Decodes a ModelMetrics message.

    Args:
      message: as the wire format of protocol buffers encodes it.

    Returns: 12 numbers (seconds and three accuracies in percent of each evaluation), the
      number of parameters, and the seconds of the whole run, NaN if they are not sound.
    Raises: `ValueError` unless there are three evaluations in order with sound numbers.
    """
    points, params, total = [], None, math.nan
    for number, value in tfrecord.fields(message):
        if number == 1 and type(value) is bytes:
            points.append(_evaluation(value))
        elif number == 2 and type(value) is int:
            params = value
        elif number == 3 and type(value) is bytes:
            (total,) = struct.unpack("<d", value)
    if len(points) != NUM_POINTS or params is None or params >= 2**31:
        raise ValueError(f"wanted parameters and 3 evaluations, found {len(points)}")
    epochs = [point[0] for point in points]
    if epochs != sorted(epochs):
        raise ValueError("its evaluations are not in the order of training")
    numbers = []
    for _, time, *accuracies in points:
        if not 0 <= time < 1e9 or not all(0 <= x <= 1 for x in accuracies):
            raise ValueError(f"it has the time {time} and the accuracies {accuracies}")
        numbers += [time, *(100 * x for x in accuracies)]
    return numbers, params, total if 0 <= total < 1e9 else math.nan


def _evaluation(message: bytes) -> list[float]:
    """Decodes an evaluation: epoch, seconds, and accuracies on train, valid and test."""
    if len(message) >= _FIVE.size:
        tags_and_values = _FIVE.unpack_from(message)
        rest = message[_FIVE.size : _FIVE.size + 1]
        # Fast path: the fields in order, followed at most by the name of a checkpoint.
        if tags_and_values[::2] == _TAGS and rest in (b"", b"\x32"):
            if not rest or all(
                n == 6 for n, _ in tfrecord.fields(message[_FIVE.size :])
            ):
                return [*tags_and_values[1::2]]
    values: dict[int, Any] = dict(tfrecord.fields(message))
    if any(
        type(values.get(n)) is not bytes or len(values[n]) != 8 for n in range(2, 6)
    ):
        raise ValueError("an evaluation has no time, or not all accuracies")
    epoch = values.get(1, bytes(8))
    return [
        struct.unpack("<d", x)[0] for x in (epoch, *(values[n] for n in range(2, 6)))
    ]
