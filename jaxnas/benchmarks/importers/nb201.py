"""NAS-Bench-201 and NATS-Bench (topology), from their official files to a table.

Read are `NAS-Bench-201-v1_0-e61699.pth` and `NAS-Bench-201-v1_1-096897.pth`, the folder
`NATS-tss-v1_0-3ffb9-simple` of packed pickles, and the one file it was cut from. What
each number means was checked against the API objects of nas-bench-201 2.1, built from
small files of the same structure, and against complete records of three cells. The
official files were not at hand: their size, what they take in time and memory, and
whether they hold anything that the packages do not mention, could not be checked.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.nb201_runs import DATASETS, FOLD_KEY, Key, Runs
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import pickles, torch_files
from jaxnas.io.streams import (
    ByteStream,
    Bz2Reader,
    HashingReader,
    Progress,
    named_errors,
    printable,
)
from jaxnas.spaces import nasbench201

# How the files call the two schedules.
_EPOCHS = {"less": 12, "full": 200, "12": 12, "200": 200}
META = "meta.pickle.pbz2"
# Bytes that Python objects may take: the official file has about 100 million texts and
# tables, of which 8 bytes are kept each, and its runs are taken out as they come.
_MAX_MEMORY, _MAX_MEMORY_EACH = 2**32, 2**28
# Bytes that a file may unpack to. One cell of NATS-Bench has less than a million.
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
    "valtest": "the official test images, which valid and test are halves of (ori-test)",
}


def read_pth(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """NAS-Bench-201 (Dong and Yang, 2020) from its file, as a table with curves.

    Accuracies are in percent, losses as they are, times in seconds, FLOPs and parameters
    in millions; point i of a curve is after epoch i + 1. The datasets are those of the
    file: `cifar10-valid` is CIFAR-10 trained on half of the images.

    Args:
      path: a file of `torch.save` in either of its formats.
      partial: also read a file that lacks cells.
      progress: is told how many bytes were read more.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      incomplete, or not what it should be.
    """
    path, runs = Path(path), Runs()
    contents = torch_files.load(
        path,
        fold=(FOLD_KEY, runs.fold),
        max_memory=_MAX_MEMORY,
        progress=progress,
    )
    with named_errors(path):
        strings, infos = _whole(contents.value)
        cells = _place(runs, strings, infos, partial)
        checked = contents.sha256, contents.integrity
        return _table("nb201", f"NAS-Bench-201, {path.name}", checked, cells, runs)


def read_nats(
    path: str | os.PathLike, *, partial: bool = False, progress: Progress | None = None
) -> BenchmarkTable:
    """NATS-Bench (Dong et al., 2021), topology space, as a table with curves.

    Args:
      path: the folder of `meta.pickle.pbz2` and a file for each cell, or the one large
        file; else as for `read_pth`.

    Raises: as `read_pth`.
    """
    path = Path(path)
    read = _read_folder if path.is_dir() else _read_single
    return read(path, partial, progress)


def _read_single(
    path: Path, partial: bool, progress: Progress | None
) -> BenchmarkTable:
    runs = Runs()
    value, digest = _unpickle(path, runs, _MAX_UNPACKED, _MAX_MEMORY, progress)
    with named_errors(path):
        strings, infos = _whole(value)
        return _nats_table(path, digest, _place(runs, strings, infos, partial), runs)


def _read_folder(
    folder: Path, partial: bool, progress: Progress | None
) -> BenchmarkTable:
    """The SHA-256 of a folder is that of the lines "SHA-256, two spaces, name"."""
    runs, infos = Runs(), {}
    limits = _MAX_UNPACKED_EACH, _MAX_MEMORY_EACH
    meta, digest = _unpickle(folder / META, runs, *limits, progress)
    lines = [f"{digest}  {META}\n"]
    with named_errors(folder / META):
        strings = _strings(meta)
    for index in range(len(strings)):
        names = [f"{index:06d}.pickle.pbz2", f"{index}.pickle.pbz2"]
        name = next((n for n in names if (folder / n).exists()), None)
        if name is None:
            continue
        infos[index], digest = _unpickle(folder / name, runs, *limits, progress)
        lines.append(f"{digest}  {name}\n")
        with named_errors(folder / name):
            # Now, so that an error names the file.
            _check_infos(infos[index], index, strings[index])
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    with named_errors(folder):
        return _nats_table(folder, digest, _place(runs, strings, infos, partial), runs)


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
    """The value of a packed pickle, and the SHA-256 of the file."""
    with named_errors(path), open(path, "rb") as file:
        hashed = HashingReader(file, progress)
        unpacked = Bz2Reader(hashed, max_unpacked)
        source = ByteStream(unpacked)
        fold = FOLD_KEY, runs.fold
        value = pickles.load(source, pickles.PLAIN, fold=fold, max_memory=max_memory)
        source.finish()
        unpacked.finish()
        return value, hashed.finish(path.name)[0]


def _strings(meta: Any) -> list[str]:
    """All cells as texts, by index, also those that were not trained."""
    strings = meta.get("meta_archs") if type(meta) is dict else None
    if type(strings) is not list or any(type(text) is not str for text in strings):
        raise ValueError("wanted the list 'meta_archs' of cells, found none")
    if len(strings) > nasbench201.NUM_CELLS or len({*strings}) != len(strings):
        raise ValueError(f"it lists {len(strings)} cells, or one twice")
    return strings


def _whole(value: Any) -> tuple[list[str], dict]:
    """All cells as texts, and what is known of those that were trained."""
    keys = ("meta_archs", "arch2infos", "evaluated_indexes")
    if type(value) is not dict or any(key not in value for key in keys):
        there = ", ".join(map(str, value)) if type(value) is dict else type(value)
        raise ValueError(
            f"it is no file of NAS-Bench-201: wanted {', '.join(keys)}, "
            f"found {printable(there)}"
        )
    infos, indexes = value["arch2infos"], value["evaluated_indexes"]
    if type(infos) is not dict or type(indexes) not in (list, tuple, set):
        raise ValueError("its cells are no dict, or the trained ones no list")
    if any(type(index) is not int for index in (*indexes, *infos)):
        raise ValueError("it has an index that is no integer")
    if {*indexes} != infos.keys():
        raise ValueError(f"it has {len(infos)} cells and says {len(indexes)}")
    return _strings(value), infos


def _check_infos(infos: Any, index: int, string: str) -> None:
    if type(infos) is not dict or not infos:
        raise ValueError(f"cell {index} has no runs")
    for schedule, info in infos.items():
        if schedule not in _EPOCHS:
            raise ValueError(f"cell {index} has the schedule {printable(schedule)}")
        if type(info) is not dict:
            raise ValueError(f"cell {index} has no results")
        if (info.get("arch_index"), info.get("arch_str")) != (index, string):
            raise ValueError(f"cell {index} says that it is another one")
        results, seeds = info.get("all_results"), info.get("dataset_seed")
        if type(results) is not dict or type(seeds) is not dict:
            raise ValueError(f"cell {index} has no results")
        if any(type(seed) is not int for own in seeds.values() for seed in own):
            raise ValueError(f"cell {index} has a seed that is no integer")
        listed = [(dataset, seed) for dataset, own in seeds.items() for seed in own]
        if {*listed} != results.keys() or len(listed) != len(results):
            raise ValueError(f"cell {index} has other runs than it lists")


def _place(
    runs: Runs, strings: list[str], infos: dict, partial: bool
) -> list[np.ndarray]:
    """Gives each run its cell; returns the cells, in the order of the file."""
    size = nasbench201.NUM_CELLS
    if not infos:
        raise ValueError("it has no trained cells")
    if len(infos) < size and not partial:
        raise ValueError(
            f"it has {len(infos)} of {size} cells: only as a partial table (--partial)"
        )
    cells = []
    for index in sorted(infos):
        if type(index) is not int or not 0 <= index < len(strings):
            raise ValueError(f"it has a cell {printable(index)} that it does not list")
        _check_infos(infos[index], index, strings[index])
        for schedule, info in infos[index].items():
            for (dataset, seed), state in info["all_results"].items():
                key = dataset, _EPOCHS[schedule]
                runs.place(runs.number(state), len(cells), key, seed)
        cells.append(nasbench201.from_string(strings[index]).astype(np.int8))
    return cells


def _table(
    name: str, source: str, checked: tuple[str, str], cells: list, runs: Runs
) -> BenchmarkTable:
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
        "seeds": {f"{d}/{e}": runs.slots((d, e)) for d, e in keys},
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
    """What each schedule takes: training, and evaluating on the validation images."""
    seconds = {}
    for dataset, epochs in keys:
        times = [
            columns[name].mean(2, dtype=np.float64) * epochs
            for split in ("train", "valid")
            if (name := f"time/{dataset}/{split}/{epochs}") in columns
        ]
        trained = f"time/{dataset}/train/{epochs}" in columns
        total = np.sum(times, 0) if trained else np.full((1, 1), np.nan)
        known = ~np.isnan(total)
        if known.any(1).all():
            mean = np.sum(total, 1, where=known) / known.sum(1)
            seconds[f"seconds/{dataset}/{epochs}"] = mean.astype(np.float32)
    return seconds


def _meaning(column: str) -> str:
    """What a column is, in words."""
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
