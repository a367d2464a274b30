"""NAS-Bench-201 and NATS-Bench (topology), from their official files to a table.

The files are `NAS-Bench-201-v1_0-e61699.pth` and `NAS-Bench-201-v1_1-096897.pth`, the
folder `NATS-tss-v1_0-3ffb9-simple` of packed pickles, and the one file that it was split
from. The meaning of each number was checked against the API objects of nas-bench-201 2.1,
built from small files of the same structure, and against complete records of three cells,
but not on the official files: their size, the time and memory that they take, and whether
they hold anything that the packages do not mention, have not been checked.

The runs are extracted while the pickle is read (`nb201_runs`); the remaining dicts say
which cell each run belongs to (`nb201_cells`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.nb201_cells import (
    assign_runs,
    listed_cells,
    split_file,
    validate_cell,
)
from jaxnas.benchmarks.importers.nb201_runs import DATASETS, FOLD_KEY, Key, Runs
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import pickles, torch_files
from jaxnas.io.streams import (
    ByteStream,
    HashingReader,
    Progress,
    Unpacked,
    named_errors,
)
from jaxnas.spaces import nasbench201

META = "meta.pickle.pbz2"
"""The file of a NATS-Bench folder that lists all cells."""
# Bytes that Python objects may take, of a whole file and of one of a folder. The official
# file has about 100 million values; its runs are taken out while it is read.
_MAX_MEMORY, _MAX_MEMORY_EACH = 2**32, 2**28
# Bytes that a file may unpack to; one cell of NATS-Bench has less than a million.
_MAX_UNPACKED, _MAX_UNPACKED_EACH = 2**34, 2**24
_TRAINED = {
    "cifar10-valid": "CIFAR-10, trained on 25,000 images",
    "cifar10": "CIFAR-10, trained on all 50,000 images",
    "cifar100": "CIFAR-100, trained on all 50,000 images",
    "ImageNet16-120": "ImageNet16-120, trained on all its training images",
}
_EVALUATED = {
    "train": "training images, as they were trained on",
    "valid": "validation images (x-valid)",
    "test": "test images (ori-test of CIFAR-10, x-test of the others)",
    "valtest": "the official test images, of which valid and test are halves (ori-test)",
}


def read_pth(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """Reads NAS-Bench-201 (Dong and Yang, 2020) from its file, as a table with curves.

    Accuracies are in percent, losses as they are, times in seconds, FLOPs and parameters
    in millions; point i of a curve is after epoch i + 1. The datasets are those of the
    file: `cifar10-valid` is CIFAR-10 trained on half of the images.

    Args:
      path: a file of `torch.save` in either of its formats.
      partial: accept a file that lacks cells.
      progress: called with the number of bytes of every piece that was read.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      incomplete, or holds something else.
    """
    path, runs = Path(path), Runs()
    contents = torch_files.load(
        path,
        fold=(FOLD_KEY, runs.fold),
        max_memory=_MAX_MEMORY,
        progress=progress,
    )
    with named_errors(path):
        strings, infos = split_file(contents.value)
        cells = assign_runs(runs, strings, infos, partial)
        checked = contents.sha256, contents.integrity
        return _table("nb201", f"NAS-Bench-201, {path.name}", checked, cells, runs)


def read_nats(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """Reads NATS-Bench (Dong et al., 2021), topology space, as a table with curves.

    Units and datasets are those of `read_pth`.

    Args:
      path: the folder of `meta.pickle.pbz2` and a file for each cell, or the one large
        file.
      partial: accept files that lack cells.
      progress: called with the number of bytes of every piece that was read.

    Raises: `ValueError` as `read_pth` does.
    """
    path = Path(path)
    read = _read_folder if path.is_dir() else _read_single
    return read(path, partial, progress)


def _read_single(
    path: Path, partial: bool, progress: Progress | None
) -> BenchmarkTable:
    """Reads the one large file of NATS-Bench."""
    runs = Runs()
    value, digest = _unpickle(path, runs, _MAX_UNPACKED, _MAX_MEMORY, progress)
    with named_errors(path):
        strings, infos = split_file(value)
        return _nats_table(
            path, digest, assign_runs(runs, strings, infos, partial), runs
        )


def _read_folder(
    folder: Path, partial: bool, progress: Progress | None
) -> BenchmarkTable:
    """Reads a folder of NATS-Bench, a file at a time.

    Its SHA-256 is that of the lines "SHA-256 of the file, two spaces, name".
    """
    runs, infos = Runs(), {}
    limits = _MAX_UNPACKED_EACH, _MAX_MEMORY_EACH
    meta, digest = _unpickle(folder / META, runs, *limits, progress)
    lines = [f"{digest}  {META}\n"]
    with named_errors(folder / META):
        strings = listed_cells(meta)
    for index in range(len(strings)):
        names = [f"{index:06d}.pickle.pbz2", f"{index}.pickle.pbz2"]
        name = next((n for n in names if (folder / n).exists()), None)
        if name is None:
            continue
        infos[index], digest = _unpickle(folder / name, runs, *limits, progress)
        lines.append(f"{digest}  {name}\n")
        with named_errors(folder / name):
            # Checked here already, so that an error names the file.
            validate_cell(infos[index], index, strings[index])
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    with named_errors(folder):
        return _nats_table(
            folder, digest, assign_runs(runs, strings, infos, partial), runs
        )


def _nats_table(path: Path, digest: str, cells: list, runs: Runs) -> BenchmarkTable:
    source = f"NATS-Bench topology, {path.name}"
    return _table("nats-tss", source, (digest, "CRC-32 of bz2"), cells, runs)


def _unpickle(
    path: Path,
    runs: Runs,
    max_unpacked: int,
    max_memory: int,
    progress: Progress | None,
) -> tuple[Any, str]:
    """Reads a pickle that was packed by bz2.

    Args:
      path: the file.
      runs: collects the runs in it.
      max_unpacked: bytes that the file may unpack to.
      max_memory: bytes that Python objects may take.
      progress: called with the number of packed bytes of every piece.

    Returns: the value without its runs, and the SHA-256 of the file.
    """
    with named_errors(path), open(path, "rb") as file:
        hashed = HashingReader(file, progress)
        source = ByteStream(Unpacked(hashed, max_unpacked, bz2=True))
        fold = FOLD_KEY, runs.fold
        value = pickles.load(source, pickles.PLAIN, fold=fold, max_memory=max_memory)
        source.finish()
        return value, hashed.finish(path.name)[0]


def _table(
    name: str, source: str, checked: tuple[str, str], cells: list, runs: Runs
) -> BenchmarkTable:
    """Makes the table of all runs.

    Args:
      name: of the table.
      source: for the manifest.
      checked: SHA-256 of the file, and the checksum that was compared, in words.
      cells: by row.
      runs: each assigned to a row.
    """
    columns = dict(runs.columns(len(cells)))
    keys = sorted(set(runs.keys))
    columns |= _seconds(columns, keys)
    count = {key: runs.keys.count(key) for key in keys}
    manifest = {
        "part": len(cells) < nasbench201.NUM_CELLS,
        "source": source,
        "sha256": checked[0],
        "checksum": checked[1],
        "columns": {column: _meaning(column) for column in columns},
        "points": {f"{e}": list(range(1, e + 1)) for e in sorted({e for _, e in keys})},
        "seeds": {f"{d}/{e}": runs.seeds_of((d, e)) for d, e in keys},
        "counts": {
            "architectures": len(cells),
            "runs": len(runs.keys),
            **{f"runs of {d}/{e}": num for (d, e), num in count.items()},
        },
    }
    return table_files.validate_table(
        BenchmarkTable(name, "nasbench201", np.stack(cells), columns, manifest)
    )


def _seconds(columns: dict[str, np.ndarray], keys: list[Key]) -> dict[str, np.ndarray]:
    """The seconds of each schedule: training, and evaluating on the validation images.

    Args:
      columns: those of the runs.
      keys: datasets and epochs.

    Returns: `seconds/...` columns (n,), means of the runs, where all rows have one.
    """
    seconds = {}
    for dataset, epochs in keys:
        times = [
            columns[name].mean(2, dtype=np.float64) * epochs
            for split in ("train", "valid")
            if (name := f"time/{dataset}/{split}/{epochs}") in columns
        ]
        trained = f"time/{dataset}/train/{epochs}" in columns
        total = np.sum(times, 0) if trained else np.full((1, 1), np.nan)
        measured = ~np.isnan(total)
        if measured.any(1).all():
            mean = np.sum(total, 1, where=measured) / measured.sum(1)
            seconds[f"seconds/{dataset}/{epochs}"] = mean.astype(np.float32)
    return seconds


def _meaning(column: str) -> str:
    """Describes a column for the manifest."""
    what, *rest = column.split("/")
    if what in ("flops", "params"):
        return f"millions of {'FLOPs' if what == 'flops' else 'parameters'}, {rest[0]}"
    if what in DATASETS:
        return f"{_TRAINED[what]}; accuracy on the {_EVALUATED[rest[0]]} at the end"
    trained = _TRAINED[rest[0]]
    if what == "seconds":
        return f"{trained}: training, and evaluating on x-valid if that was done"
    if what == "latency":
        return f"{trained}: seconds to evaluate one batch, mean of what was measured"
    kind = {
        "curve": "accuracy on",
        "loss": "loss on",
        "time": "seconds to train on or evaluate on",
    }[what]
    return f"{trained}; {kind} the {_EVALUATED[rest[1]]}, by epoch"
