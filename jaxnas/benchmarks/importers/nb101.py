"""NAS-Bench-101 (Ying et al., 2019), from its official files to a table.

The files are `nasbench_only108.tfrecord` and `nasbench_full.tfrecord`. Each record is a
JSON list of the cell's hash, the epochs of the schedule, the adjacency matrix as 0 and 1,
the operations with commas, and a `ModelMetrics` message in base64, which has an evaluation
before, in the middle of and after training, as `api.py` and `model_metrics.proto` of
google-research/nasbench define it. The importer was written from these definitions and
tested on files made by them, not on the official ones: their size, and the time and memory
that they take, have not been checked.

`Cells` collects the records; runs are kept in flat arrays, because the full file has
1,270,872 x 4 of them.
"""

from __future__ import annotations

import base64
import json
import math
import os
from array import array
from pathlib import Path

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.nb101_encoding import encode_cells
from jaxnas.benchmarks.importers.nb101_metrics import NUM_POINTS, decode_metrics
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


def read(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """Reads NAS-Bench-101 from its file, as a table with curves of three points.

    The runs of a cell are numbered by their order in the file. Accuracies are in percent,
    times in seconds, parameters in millions.

    Args:
      path: the TFRecord file.
      partial: accept a file that lacks cells or runs.
      progress: called with the number of bytes of every piece that was read.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      incomplete, or holds something else.
    """
    path = Path(path)
    with named_errors(path):
        cells, digest = read_records(path, progress)
        return _table(path.name, digest, cells, partial)


def read_records(path: Path, progress: Progress | None = None) -> tuple[Cells, str]:
    """Reads all records of a file.

    Args:
      path: the TFRecord file.
      progress: called with the number of bytes of every piece that was read.

    Returns: the cells with their runs, and the SHA-256 of the file.
    Raises: `ValueError` if it is damaged or holds something else.
    """
    cells = Cells()
    with open(path, "rb") as file:
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
                    f"record {number} is not of a cell: {reason}"
                ) from error
        return cells, hashed.finish(path.name)[0]


class _Schedule:
    """The runs of one number of epochs, as flat arrays in the order of the file.

    Attributes:
      row: of the cell, by run.
      repeat: of the run among those of its cell, from 0.
      numbers: 12 a run: time and three accuracies of each point.
      total: seconds of the whole run, NaN if unknown.
    """

    def __init__(self):
        self.row, self.repeat = array("i"), array("b")
        self.numbers, self.total = array("f"), array("f")


class Cells:
    """The cells of a file and their runs.

    Attributes:
      rows: of the cells, by hash, in the order of the file.
      cells: matrix and operations as texts, and parameters, by row.
      schedules: the runs, by epochs.
    """

    def __init__(self):
        self.rows: dict[bytes, int] = {}
        self.cells: list[tuple[str, str, int]] = []
        self.schedules: dict[int, _Schedule] = {}
        self._repeats: dict[int, dict[int, int]] = {}
        self._texts: dict[str, str] = {}

    def add(self, record: bytes) -> None:
        """Adds the run of a record.

        Raises: `ValueError`, or an error of the functions that decode the record, if it
          is of another form, contradicts another record, or is one run too many.
        """
        content = json.loads(record)
        kinds = [type(x) for x in content] if type(content) is list else []
        if kinds != [str, int, str, str, str]:
            raise ValueError("wanted a list of a hash, epochs, matrix and operations")
        name, epochs, matrix, operations, metrics = content
        digest = bytes.fromhex(name)
        if len(digest) != 16 or not 1 <= epochs <= _MAX_EPOCHS:
            raise ValueError(f"it has the hash {printable(name)} and {epochs} epochs")
        numbers, params, total = decode_metrics(
            base64.b64decode(metrics, validate=True)
        )
        row = self.rows.setdefault(digest, len(self.cells))
        # There are few different texts: equal ones share an object.
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
        """The cells (n, 26) int8, by row; `ValueError` if one is not a cell."""
        num = len(self.cells)
        num_vertices, code = np.zeros(num, np.uint8), np.zeros(num, np.uint64)
        ops = np.full((num, 5), -1, np.int8)
        for row, (matrix, operations, _) in enumerate(self.cells):
            vertices, names = math.isqrt(len(matrix)), operations.split(",")
            square = vertices**2 == len(matrix) and not set(matrix) - {"0", "1"}
            ends = len(names) == vertices and names[0] + names[-1] == "inputoutput"
            if not square or not ends or not 2 <= vertices <= 7:
                raise ValueError(
                    f"cell {row} is {printable(matrix)} of {printable(operations)}"
                )
            num_vertices[row] = vertices
            for at in (i for i, bit in enumerate(matrix) if bit == "1"):
                code[row] |= np.uint64(1 << (7 * (at // vertices) + at % vertices))
            for vertex, label in enumerate(names[1:-1]):
                ops[row, vertex] = nasbench101.OPERATIONS.index(label)
        return encode_cells(num_vertices, code, ops)


def _table(name: str, digest: str, cells: Cells, partial: bool) -> BenchmarkTable:
    """Makes the table of all records.

    Args:
      name: of the file.
      digest: SHA-256 of the file.
      cells: the records.
      partial: accept a file that lacks cells or runs.
    """
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
    """The columns of one schedule, by name.

    Args:
      num: rows of the table.
      epochs: of the schedule.
      schedule: its runs.
      partial: accept cells that lack runs.
    """
    row, repeat = np.array(schedule.row), np.array(schedule.repeat)
    repeats = int(repeat.max()) + 1
    if len(row) != num * repeats and not partial:
        raise ValueError(
            f"it has {len(row)} runs of {epochs} epochs, wanted {repeats} of each cell"
        )
    numbers = np.full((num, repeats, NUM_POINTS, 4), np.nan, np.float32)
    numbers[row, repeat] = np.array(schedule.numbers).reshape(-1, NUM_POINTS, 4)
    total = np.full((num, repeats), np.nan, np.float32)
    total[row, repeat] = schedule.total
    columns, name = {}, f"cifar10/{{}}/{epochs}".format
    for index, split in enumerate(_SPLITS, 1):
        curve = np.ascontiguousarray(numbers[..., index])
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
    """Describes a column for the manifest."""
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
