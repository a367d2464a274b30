"""Official benchmark files, recognised by their content and not by their names.

    official.convert("NAS-Bench-201-v1_1-096897.pth", "nb201.npz")
    table = named.open_table("nb201.npz")

A file is read once and becomes a table file, which holds every number of it that the
benchmark documents. Nothing in the file is run, and none of the benchmark's libraries is
needed. `nb101` and `nb201` read the formats.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers import nb101, nb201
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import tfrecord, torch_files
from jaxnas.io.streams import Progress, named_errors, printable

_FORMATS = (
    "NAS-Bench-201 (.pth, a file of torch.save), NATS-Bench topology (a folder with "
    "meta.pickle.pbz2, or .pickle.pbz2) and NAS-Bench-101 (.tfrecord)"
)


def detect(path: str | os.PathLike) -> Callable[..., BenchmarkTable]:
    """Finds the function that reads a file or folder, by its content.

    Args:
      path: the file, or the folder of NATS-Bench.

    Returns: a function as `read`.
    Raises: `ValueError`, of one line, if it is missing or of no known format.
    """
    path = Path(path)
    if path.is_dir():
        if (path / nb201.META).is_file():
            return nb201.read_nats
        raise ValueError(f"{path} has no {nb201.META}; what can be read: {_FORMATS}")
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise ValueError(f"{what}: {path}")
    with named_errors(path), open(path, "rb") as file:
        start = file.read(len(torch_files.LEGACY_MAGIC))
    if start == torch_files.LEGACY_MAGIC or start[:4] == b"PK\x03\x04":
        return nb201.read_pth
    if start[:3] == b"BZh":
        return nb201.read_nats
    if tfrecord.is_header(start[: tfrecord.HEADER]):
        return nb101.read
    begin = printable(start[:8]) if start else "nothing"
    raise ValueError(
        f"{path} is of no known format: it begins with {begin}; "
        f"what can be read: {_FORMATS}"
    )


def num_bytes(path: str | os.PathLike) -> int:
    """The number of bytes to read, for a progress bar; `path` is as for `read`."""
    path = Path(path)
    parts = path.iterdir() if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


def read(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """Reads any of the known files as a table with all curves.

    Args:
      path: the file, or the folder of NATS-Bench.
      partial: accept a file that lacks architectures of its space.
      progress: called with the number of bytes of every piece that was read.

    Raises: `ValueError`, of one line that names the file, if it is missing, of no known
      format, damaged, incomplete, or asks for anything that could run.
    """
    return detect(path)(path, partial=partial, progress=progress)


def convert(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    name: str | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> BenchmarkTable:
    """Reads an official file and writes it as a table file, atomically.

    Args:
      path: as for `read`.
      out: the npz file to write; its folder must exist.
      name: of the table in results; default: nb201, nats-tss or nb101.
      partial: as for `read`.
      progress: as for `read`.

    Returns: the table that was written.
    Raises: `ValueError` as `read` does, and if `out` cannot be written; an earlier file
      is then left as it was.
    """
    out = Path(out)
    # Refused before the minutes that reading takes.
    if out.suffix != ".npz":
        raise ValueError(f"wanted a name that ends in .npz, found {out}")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK) or out.is_dir():
        raise ValueError(f"cannot write {out}: its folder is missing or read-only")
    table = read(path, partial=partial, progress=progress)
    table = dataclasses.replace(table, name=name or table.name)
    table_files.save(out, table)
    return table
