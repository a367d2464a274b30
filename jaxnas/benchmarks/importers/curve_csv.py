"""Learning curves of your own trainings in a CSV file, as a table.

    table = curve_csv.read("mine.csv", named.SPACES)

The first line names the columns, each further line is a training:

    nasbench201,seed,seconds,1,2,3
    |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|,0,71.5,31.2,44.0,52.9

The architecture is in the column named after its space, in the notation that the space's
`from_string` reads; `seed` and `seconds`, of the whole training, are optional. All other
columns are named by a number of epochs and have the accuracy on validation images after
that epoch, in percent. Lines of one architecture are its runs, ordered by seed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import files
from jaxnas.io.streams import named_errors, printable
from jaxnas.spaces.base import Space, identify

_SEED, _SECONDS = "seed", "seconds"
_FURTHER = (_SEED, _SECONDS)


class _Header(NamedTuple):
    """Columns of a file."""

    names: tuple[str, ...]
    space: Space
    epochs: tuple[int, ...]  # ascending


class _Trainings(NamedTuple):
    """The lines of a file."""

    arch: np.ndarray  # (m, d) int32
    row: np.ndarray  # (m,) int, equal for one architecture
    curve: np.ndarray  # (m, e) float32
    seed: np.ndarray  # (m,) int
    seconds: np.ndarray | None  # (m,)


def read(path: str | os.PathLike, spaces: Mapping[str, Space]) -> BenchmarkTable:
    """Reads a file of curves; the dataset of the table's columns is the file's name.

    Args:
      path: the file, UTF-8.
      spaces: supported search spaces by name.

    Returns: a table of accuracies (n, runs) and curves (n, runs, e), and the mean seconds
      (n,) if the file has any.
    Raises: `ValueError`, of one line that names the file, for a file that cannot be read,
      a column that is unknown, missing or duplicated, and, with the number of the line,
      for an architecture that the space does not have, curves of unequal length, values
      that are not finite, and a duplicated seed of an architecture.
    """
    path = Path(path)
    with files.reading(path):
        raw = path.read_bytes()
    with named_errors(path):
        if not table_files.is_name(path.stem):
            raise ValueError("its name must be of letters, digits, '.', '_' and '-'")
        header, trainings = _trainings(raw.decode("utf-8-sig"), spaces)
        return _table(path.stem, header, trainings, hashlib.sha256(raw).hexdigest())


def _trainings(text: str, spaces: Mapping[str, Space]) -> tuple[_Header, _Trainings]:
    """Reads the lines of a file; the arguments are as for `read`."""
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = _header(next(lines, []), spaces)
        rows = [_training(row, header, lines.line_num) for row in lines if any(row)]
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    if not rows:
        raise ValueError("it has no training")
    arch, curve, seed, seconds = (np.array(x) for x in zip(*rows, strict=True))
    row = np.unique(identify(header.space, arch), return_inverse=True)[1]
    if _SEED not in header.names:
        seed = _counted(row)
    curve = curve.astype(np.float32)
    timed = seconds if _SECONDS in header.names else None
    return header, _Trainings(arch.astype(np.int32), row, curve, seed, timed)


def _header(names: list[str], spaces: Mapping[str, Space]) -> _Header:
    """Reads the first line; `ValueError` that names an invalid column."""
    names = [name.strip() for name in names]
    named = [name for name in names if name in spaces]
    if len(named) != 1:
        raise ValueError(
            "wanted one column of architectures, named after their space: "
            f"{' or '.join(spaces)}; found the columns {printable(', '.join(names))}"
        )
    epochs = []
    for name in names:
        if name in (*named, *_FURTHER):
            continue
        if not (name.isascii() and name.isdecimal() and int(name) > 0):
            raise ValueError(
                f"unknown column {printable(name)}: wanted {named[0]}, "
                f"{', '.join(_FURTHER)}, and numbers of epochs from 1 on"
            )
        epochs.append(int(name))
    if not epochs or len(set(names)) < len(names):
        raise ValueError("wanted a column for each number of epochs, and none twice")
    if epochs != sorted(epochs):
        raise ValueError(f"the columns of epochs must ascend, found {epochs}")
    return _Header(tuple(names), spaces[named[0]], tuple(epochs))


def _training(
    row: list[str], header: _Header, number: int
) -> tuple[np.ndarray, list[float], int, float]:
    """Architecture (d,), curve (e,), seed and seconds of a line.

    Args:
      row: fields of the line.
      header: columns of the file.
      number: of the line, for messages.
    """
    with named_errors(f"line {number}"):
        fields = dict(zip(header.names, (x.strip() for x in row), strict=False))
        length = len(header.epochs) - (len(header.names) - len(row))
        if len(row) != len(header.names) or not all(fields.values()):
            blank = sum(not x for x in fields.values())
            raise ValueError(
                f"it has a curve of {length - blank} values, where the columns are "
                f"{len(header.epochs)} epochs: cut the curves to one length, or repeat the "
                "last value"
            )
        arch = header.space.from_string(fields[header.space.name])
        curve = [_number(fields[str(e)], f"after {e} epochs") for e in header.epochs]
        seed = _number(fields.get(_SEED, "0"), _SEED)
        if seed != int(seed):
            raise ValueError(f"the seed {fields[_SEED]} is not a whole number")
        seconds = _number(fields.get(_SECONDS, "1"), _SECONDS)
        if seconds <= 0:
            raise ValueError(f"seconds must be above 0, not {fields[_SECONDS]}")
        return arch, curve, int(seed), seconds


def _number(text: str, what: str) -> float:
    """Parses a number that float32 holds; `ValueError` that begins with `what` else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= np.finfo(np.float32).max:
        raise ValueError(
            f"{what}: wanted a finite number, found {printable(text)}; leave trainings "
            "that have diverged out"
        )
    return value


def _counted(group: np.ndarray) -> np.ndarray:
    """How many rows before each (m,) are of the same group (m,) int."""
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], group[order])
    count = np.empty_like(order)
    count[order] = np.arange(len(group)) - start
    return count


def _table(
    name: str, header: _Header, trainings: _Trainings, digest: str
) -> BenchmarkTable:
    """The table, with a row for each architecture and a run for each seed.

    Raises: `ValueError` for a duplicated seed of an architecture, and as
      `validate_table` does.
    """
    arch, row, curve, seed, seconds = trainings
    _, first = np.unique(row, return_index=True)
    seeds, run = np.unique(seed, return_inverse=True)
    pairs, counts = np.unique(np.stack([row, run]), axis=1, return_counts=True)
    if counts.max() > 1:
        twice = pairs[:, counts.argmax()]
        text = header.space.to_string(arch[first[twice[0]]])
        raise ValueError(f"seed {seeds[twice[1]]} appears twice for {printable(text)}")
    curves = np.full((len(first), len(seeds), curve.shape[1]), np.nan, np.float32)
    curves[row, run] = curve
    last = header.epochs[-1]
    column = f"{name}/valid/{last}"
    columns = {column: curves[..., -1].copy(), f"curve/{column}": curves}
    if seconds is not None:
        total = np.bincount(row, seconds) / np.bincount(row)
        columns[f"seconds/{name}/{last}"] = total.astype(np.float32)
    manifest = {
        "source": f"{name}.csv",
        "sha256": digest,
        "columns": dict.fromkeys(columns, "as the file has it"),
        "points": {str(last): list(header.epochs)},
        "part": True,
    }
    table = BenchmarkTable(name, header.space.name, arch[first], columns, manifest)
    return table_files.validate_table(table)
