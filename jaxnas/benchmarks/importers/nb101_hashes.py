"""Cells of NAS-Bench-101 by hash, which names them in its files and in NAS-Bench-111's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.benchmarks.importers import nb101
from jaxnas.benchmarks.importers.nb101_metrics import NUM_POINTS
from jaxnas.io.streams import Progress, named_errors

_VALID = 2  # of the numbers of a point: time; train, valid and test accuracy


class HashedCells(NamedTuple):
    """Cells of NAS-Bench-101, in the order of its file."""

    hashes: tuple[str, ...]  # n, 32 hexadecimal digits each
    arch: np.ndarray  # (n, 26) int8
    accuracy: dict[int, np.ndarray]  # (n,) fractions by epochs; NaN: no run of them


def read(path: str | os.PathLike, *, progress: Progress | None = None) -> HashedCells:
    """Reads the cells of NAS-Bench-101 and their hashes from its file.

    The accuracies are those on the validation images at the end of training, means over
    the runs of each schedule.

    Args:
      path: the TFRecord file, `nasbench_full.tfrecord` for all four schedules.
      progress: called with the number of bytes of every piece that was read.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged or
      holds something else.
    """
    path = Path(path)
    with named_errors(path):
        cells, _ = nb101.read_records(path, progress)
        hashes, arch = tuple(row.hex() for row in cells.rows), cells.archs()
    accuracy = {}
    for epochs, schedule in sorted(cells.schedules.items()):
        row = np.array(schedule.row)
        last = np.array(schedule.numbers).reshape(-1, NUM_POINTS, 4)[:, -1, _VALID]
        runs = np.bincount(row, minlength=len(arch))
        total = np.bincount(row, last.astype(np.float64) / 100, len(arch))
        accuracy[epochs] = np.where(runs > 0, total / np.maximum(runs, 1), np.nan)
    return HashedCells(hashes, arch, accuracy)
