"""NAS-Bench-101 (Ying et al., 2019), from its official files to a table.

Read are `nasbench_only108.tfrecord` and `nasbench_full.tfrecord`. Each record is a JSON
list of the cell's hash, the epochs of the schedule, the adjacency matrix as 0 and 1, the
operations with commas, and a `ModelMetrics` message in base64, which has an evaluation
before, in the middle of and after training. That is what `api.py` and
`model_metrics.proto` of google-research/nasbench say; the official files were not at
hand, so that their size and their time to import could not be checked.
"""

from __future__ import annotations

import base64
import json
import math
import os
import struct
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.nb101_encoding import encode_cells
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import tfrecord
from jaxnas.io.streams import HashingReader, Progress, named_errors, printable
from jaxnas.spaces import nasbench101

_SPLITS = ("train", "valid", "test")
_TRAINED = "CIFAR-10, trained on 40,000 images"
_EVALUATED = {
    "train": "10,000 of the training images",
    "valid": "the 10,000 validation images",
    "test": "the 10,000 test images",
}
_MAX_REPEATS, _MAX_EPOCHS = 16, 1000
# current_epoch, training_time, train, validation and test accuracy: five doubles, each
# behind its tag.
_FIVE = struct.Struct("<BdBdBdBdBd")
_TAGS = (0x09, 0x11, 0x19, 0x21, 0x29)
_POINTS = 3


def read(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """NAS-Bench-101 from its file, as a table with curves of three points.

    The runs of a cell are numbered as they come in the file. Accuracies are in percent,
    times in seconds, parameters in millions.

    Args:
      path: the TFRecord file.
      partial: also read a file that lacks cells or runs.
      progress: is told how many bytes were read more.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      incomplete, or not what it should be.
    """
    path, cells = Path(path), _Cells()
    with named_errors(path), open(path, "rb") as file:
        hashed = HashingReader(file, progress)
        for number, record in enumerate(tfrecord.read(hashed)):
            try:
                cells.add(record)
            except (
                ValueError,
                LookupError,
                TypeError,
                ArithmeticError,
                RecursionError,
            ) as error:
                reason = printable(error, 200)
                raise ValueError(
                    f"record {number} is none of a cell: {reason}"
                ) from error
        digest, _ = hashed.finish(path.name)
        return _table(path.name, digest, cells, partial)


class _Schedule:
    """What is known of the runs of one number of epochs."""

    def __init__(self):
        self.row, self.repeat = array("i"), array("b")
        self.numbers = array("f")  # By run: time and three accuracies of each point.
        self.total = array("f")


class _Cells:
    """Cells by hash, and their runs by schedule."""

    def __init__(self):
        self.rows: dict[bytes, int] = {}
        self.cells: list[tuple[str, str, int]] = []  # matrix, operations, parameters
        self.schedules: dict[int, _Schedule] = {}
        self._repeats: dict[int, dict[int, int]] = {}
        self._texts: dict[str, str] = {}

    def add(self, record: bytes) -> None:
        content = json.loads(record)
        kinds = [type(x) for x in content] if type(content) is list else []
        if kinds != [str, int, str, str, str]:
            raise ValueError("wanted a list of a hash, epochs, matrix and operations")
        name, epochs, matrix, operations, metrics = content
        digest = bytes.fromhex(name)
        if len(digest) != 16 or not 1 <= epochs <= _MAX_EPOCHS:
            raise ValueError(f"it has the hash {printable(name)} and {epochs} epochs")
        numbers, params, total = _metrics(base64.b64decode(metrics, validate=True))
        row = self.rows.setdefault(digest, len(self.cells))
        # Few texts are different, and all of a kind share one.
        cell = matrix, self._texts.setdefault(operations, operations), params
        if row == len(self.cells):
            self.cells.append(cell)
        elif self.cells[row] != cell:
            raise ValueError(f"it is another cell of the hash {printable(name)}")
        schedule = self.schedules.setdefault(epochs, _Schedule())
        repeats = self._repeats.setdefault(epochs, {})
        repeat = repeats[row] = repeats.get(row, -1) + 1
        if repeat == _MAX_REPEATS:
            raise ValueError(f"the hash {printable(name)} has more than {repeat} runs")
        schedule.row.append(row)
        schedule.repeat.append(repeat)
        schedule.numbers.extend(numbers)
        schedule.total.append(total)

    def archs(self) -> np.ndarray:
        """(n, 26) int8, in the order of the file."""
        num = len(self.cells)
        nv, code = np.zeros(num, np.uint8), np.zeros(num, np.uint64)
        ops = np.full((num, 5), -1, np.int8)
        for row, (matrix, operations, _) in enumerate(self.cells):
            vertices, names = math.isqrt(len(matrix)), operations.split(",")
            square = vertices**2 == len(matrix) and not set(matrix) - {"0", "1"}
            ends = len(names) == vertices and names[0] + names[-1] == "inputoutput"
            if not square or not ends or not 2 <= vertices <= 7:
                raise ValueError(
                    f"cell {row} is {printable(matrix)} of {printable(operations)}"
                )
            nv[row] = vertices
            for at in (i for i, bit in enumerate(matrix) if bit == "1"):
                code[row] |= np.uint64(1 << (7 * (at // vertices) + at % vertices))
            for place, label in enumerate(names[1:-1]):
                ops[row, place] = nasbench101.OPERATIONS.index(label)
        return encode_cells(nv, code, ops)


def _metrics(message: bytes) -> tuple[list[float], int, float]:
    """Of a ModelMetrics message: time and percentages of the three evaluations, 12
    numbers in all, the number of parameters, and the time of the whole run."""
    points, params, total = [], None, math.nan
    for number, value in tfrecord.fields(message):
        if number == 1 and type(value) is bytes:
            points.append(_evaluation(value))
        elif number == 2 and type(value) is int:
            params = value
        elif number == 3 and type(value) is bytes:
            (total,) = struct.unpack("<d", value)
    if len(points) != _POINTS or params is None or params >= 2**31:
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
    """Epoch, time, and accuracy on train, validation and test images."""
    if len(message) >= _FIVE.size:
        found = _FIVE.unpack_from(message)
        rest = message[_FIVE.size : _FIVE.size + 1]
        # The fields in their order, and behind them at most the name of a checkpoint.
        if found[::2] == _TAGS and rest in (b"", b"\x32"):
            if not rest or all(
                n == 6 for n, _ in tfrecord.fields(message[_FIVE.size :])
            ):
                return [*found[1::2]]
    values: dict[int, Any] = dict(tfrecord.fields(message))
    if any(
        type(values.get(n)) is not bytes or len(values[n]) != 8 for n in range(2, 6)
    ):
        raise ValueError("an evaluation has no time, or not all accuracies")
    epoch = values.get(1, bytes(8))
    return [
        struct.unpack("<d", x)[0] for x in (epoch, *(values[n] for n in range(2, 6)))
    ]


def _table(name: str, digest: str, cells: _Cells, partial: bool) -> BenchmarkTable:
    num, size = len(cells.cells), nasbench101.NUM_CELLS
    if num < size and not partial or not num:
        raise ValueError(
            f"it has {num} of {size} cells: only as a partial table (--partial)"
        )
    columns: dict[str, np.ndarray] = {}
    for epochs, schedule in sorted(cells.schedules.items()):
        columns |= _columns(num, epochs, schedule, partial)
    params = np.array([params for *_, params in cells.cells])
    columns["params/cifar10"] = params / 1e6
    epochs = sorted(cells.schedules)
    manifest = {
        "part": num < size,
        "source": f"NAS-Bench-101, {name}",
        "sha256": digest,
        "checksum": "CRC-32C of each record",
        "columns": {column: _meaning(column) for column in columns},
        "points": {f"{e}": [0, e / 2 if e % 2 else e // 2, e] for e in epochs},
        "counts": {
            "architectures": num,
            "runs": sum(len(s.row) for s in cells.schedules.values()),
            **{f"runs of cifar10/{e}": len(cells.schedules[e].row) for e in epochs},
        },
    }
    return table_files.validate_table(
        BenchmarkTable("nb101", "nasbench101", cells.archs(), columns, manifest)
    )


def _columns(
    num: int, epochs: int, schedule: _Schedule, partial: bool
) -> dict[str, np.ndarray]:
    row, repeat = np.array(schedule.row), np.array(schedule.repeat)
    repeats = int(repeat.max()) + 1
    if len(row) != num * repeats and not partial:
        raise ValueError(
            f"it has {len(row)} runs of {epochs} epochs, wanted {repeats} of each cell"
        )
    numbers = np.full((num, repeats, _POINTS, 4), np.nan, np.float32)
    numbers[row, repeat] = np.array(schedule.numbers).reshape(-1, _POINTS, 4)
    total = np.full((num, repeats), np.nan, np.float32)
    total[row, repeat] = schedule.total
    columns, name = {}, f"cifar10/{{}}/{epochs}".format
    for place, split in enumerate(_SPLITS, 1):
        curve = np.ascontiguousarray(numbers[..., place])
        columns[f"curve/{name(split)}"] = curve
        if not np.isnan(curve[:, :, -1]).all(1).any():
            columns[name(split)] = np.ascontiguousarray(curve[:, :, -1])
    elapsed = np.ascontiguousarray(numbers[..., 0])
    columns[f"elapsed/{name('train')}"] = elapsed
    if not np.isnan(elapsed[:, :, -1]).all(1).any():
        mean = np.nanmean(elapsed[:, :, -1], 1, np.float64)
        columns[f"seconds/cifar10/{epochs}"] = mean.astype(np.float32)
    if not np.isnan(total).all():
        columns[f"total/cifar10/{epochs}"] = total
    return columns


def _meaning(column: str) -> str:
    """What a column is, in words."""
    what, *rest = column.split("/")
    if what == "cifar10":
        return f"{_TRAINED}; accuracy on {_EVALUATED[rest[0]]} at the end"
    if what == "curve":
        when = "before, in the middle of and after training"
        return f"{_TRAINED}; accuracy on {_EVALUATED[rest[1]]} {when}"
    return {
        "elapsed": "seconds of training without evaluation, up to each point",
        "seconds": "seconds of training without evaluation, mean of the runs",
        "total": "seconds of the whole run, with its evaluations",
        "params": "millions of trainable parameters",
    }[what]
