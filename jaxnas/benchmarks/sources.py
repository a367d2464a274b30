"""Where tables come from: an installed package, reference files, or a table file.

The reference files are looked for in the folder `data` of the folder that the
environment variable JAXNAS_SHARED names, by default `shared` beside the project.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.analog import analog
from jaxnas.benchmarks.table_files import Table
from jaxnas.benchmarks.trained import fashion, fashion_curves
from jaxnas.io import npz

__all__ = [
    "NAMES",
    "analog",
    "fashion",
    "fashion_curves",
    "nb101",
    "nb201",
    "open_table",
    "shared_folder",
    "zerocost",
]

_HALF = "CIFAR-10, trained on 25,000 images"
_FULL = "CIFAR-10, trained on all 50,000 images"
_HUNDRED = "trained on all images of CIFAR-100"
_IMAGENET = "trained on all images of ImageNet16-120"
_MEAN, _ONE = "mean of the runs", "one run"
_TIME = "training, and evaluating on the validation images, on one GPU"
# Our columns, the file's arrays, and what they mean. Which runs the numbers belong to
# was checked against complete records of three cells.
_NB201 = {
    "cifar10/valid/12": ("e12_cifar10_val", f"{_HALF}, mean of two runs"),
    "cifar10/test/12": ("e12_cifar10_test", f"{_FULL}, {_ONE}"),
    "cifar10/test/200": ("nats_e200_cifar10_test", f"{_FULL}, {_MEAN}"),
    "cifar10-seeds/test/200": (
        "e200_cifar10_test_seeds",
        f"{_FULL}, one to three runs, the others NaN; where less than three are listed "
        "their mean can differ from cifar10/test/200",
    ),
    "cifar10-valid/train/200": ("e200_cifar10valid_train", f"{_HALF}, {_MEAN}"),
    "cifar10-valid/valid/200": ("e200_cifar10valid_val", f"{_HALF}, {_MEAN}"),
    "cifar10-valid/test/200": ("e200_cifar10valid_test", f"{_HALF}, {_MEAN}"),
    "cifar100/valid/12": ("e12_cifar100_val", f"{_HUNDRED}, {_ONE}"),
    "cifar100/test/12": ("e12_cifar100_test", f"{_HUNDRED}, {_ONE}"),
    "cifar100/train/200": ("e200_cifar100_train", f"{_HUNDRED}, {_MEAN}"),
    "cifar100/valid/200": ("e200_cifar100_val", f"{_HUNDRED}, {_MEAN}"),
    "cifar100/test/200": ("e200_cifar100_test", f"{_HUNDRED}, {_MEAN}"),
    "ImageNet16-120/valid/12": ("e12_ImageNet16-120_val", f"{_IMAGENET}, {_ONE}"),
    "ImageNet16-120/test/12": ("e12_ImageNet16-120_test", f"{_IMAGENET}, {_ONE}"),
    "ImageNet16-120/train/200": ("e200_ImageNet16-120_train", f"{_IMAGENET}, {_MEAN}"),
    "ImageNet16-120/valid/200": ("e200_ImageNet16-120_val", f"{_IMAGENET}, {_MEAN}"),
    "ImageNet16-120/test/200": ("e200_ImageNet16-120_test", f"{_IMAGENET}, {_MEAN}"),
    "seconds/cifar10/12": ("e12_cifar10_time_s", f"{_HALF}: {_TIME}"),
    "seconds/cifar100/12": ("e12_cifar100_time_s", f"{_HUNDRED}: {_TIME}"),
    "seconds/ImageNet16-120/12": ("e12_ImageNet16-120_time_s", f"{_IMAGENET}: {_TIME}"),
}


def nb201(path: str | os.PathLike | None = None) -> Table:
    """NAS-Bench-201 (Dong and Yang, 2020): 15,625 cells on three datasets.

    The manifest says which training each column belongs to: `cifar10/valid/12` is of
    the networks trained on half of the images, `cifar10/test/...` of those trained on
    all, and the seconds of CIFAR-10 are those of the former.

    Args:
      path: the reference file nb201_accuracy.npz; default: see the module.

    Raises: `ValueError` if it is missing, damaged, or not what it should be.
    """
    path = _reference("nb201_accuracy.npz", path)
    arrays = npz.read_npz(path, ["ops", *(c for c, _ in _NB201.values())])
    manifest = {
        "source": "NAS-Bench-201 v1.1 and NATS-Bench, nb201_accuracy.npz",
        "sha256": _sha256(path),
        "columns": {name: meaning for name, (_, meaning) in _NB201.items()},
    }
    columns = {name: arrays[theirs] for name, (theirs, _) in _NB201.items()}
    return _checked(
        path, Table("nb201", "nasbench201", arrays["ops"], columns, manifest)
    )


def nb101(path: str | os.PathLike | None = None) -> Table:
    """NAS-Bench-101 (Ying et al., 2019): 423,624 cells, CIFAR-10, 108 epochs.

    One column, the mean test accuracy of three runs: a search that is fed with it sees
    what is reported.

    Args:
      path: the reference file nb101.npz; default: see the module.

    Raises: `ValueError` if it is missing, damaged, or not what it should be.
    """
    path = _reference("nb101.npz", path)
    wanted = ("nv", "adj_code", "ops", "test_acc_108_mean")
    nv, adj_code, ops, accuracy = npz.read_npz(path, wanted).values()
    try:
        arch = nb101_vectors(nv, adj_code, ops)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} holds no cells of NAS-Bench-101: {error}") from error
    column = "cifar10/test/108"
    manifest = {
        "source": "NAS-Bench-101, nb101.npz",
        "sha256": _sha256(path),
        "columns": {column: "CIFAR-10, trained on 40,000 images, mean of three runs"},
    }
    columns = {column: np.asarray(accuracy * 100, np.float32)}
    return _checked(path, Table("nb101", "nasbench101", arch, columns, manifest))


def nb101_vectors(nv: np.ndarray, adj_code: np.ndarray, ops: np.ndarray) -> np.ndarray:
    """Vectors (n, 26) int8 of our NAS-Bench-101 space.

    Args:
      nv: (n,) number of vertices, the input first and the output last.
      adj_code: (n,) uint64; bit 7 i + j is the edge from vertex i to vertex j.
      ops: (n, 5) operations of the interior vertices; negative where there is none.

    Vertex nv - 1 becomes vertex 6; what lies between has no edges, and operation 0.
    """
    num = len(nv)
    if nv.shape != (num,) or adj_code.shape != (num,) or ops.shape != (num, 5):
        raise ValueError(f"shapes {nv.shape}, {adj_code.shape} and {ops.shape}")
    octets = adj_code.astype("<u8").view(np.uint8).reshape(num, 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    adj = bits[:, :49].reshape(num, 7, 7)
    interior = np.arange(5) < nv[:, None].astype(int) - 2
    right = (nv >= 2) & (nv <= 7) & ~bits[:, 49:].any(1)
    right &= ((ops >= 0) == interior).all(1) & (ops <= 2).all(1)
    for vertices in range(2, 7):
        small = np.flatnonzero(nv == vertices)
        right[small] &= ~adj[small, :, vertices:].any((1, 2))
        adj[small, :, 6] = adj[small, :, vertices - 1]
        adj[small, :, vertices - 1] = 0
        right[small] &= ~adj[small, vertices - 1 : 6].any((1, 2))
    upper = np.triu(np.ones((7, 7), bool), 1)
    right &= ~adj[:, ~upper].any(1) & (adj.sum((1, 2)) <= 9)
    if not right.all():
        raise ValueError(f"{(~right).sum()} of {num} rows, first {np.argmin(right)}")
    return np.concatenate([adj[:, upper], np.maximum(ops, 0)], 1).astype(np.int8)


def zerocost(path: str | os.PathLike | None = None) -> Table:
    """Scores of untrained networks of all cells of NAS-Bench-201, beside `nb201`.

    Columns are those of `nb201`, `<dataset>-one-run/test/200`, the accuracy of one run
    that the searches of the Free-Training NAS project report, and scores by four
    programs, each with its own networks, images and constants: they are not comparable.

    Args:
      path: the reference file nb201_zerocost.npz; default: see the module. The file
        nb201_accuracy.npz has to be beside it.

    Raises: `ValueError` if one is missing, damaged, or not what it should be.
    """
    path = _reference("nb201_zerocost.npz", path)
    accuracies = path.with_name("nb201_accuracy.npz")
    table, theirs = nb201(accuracies), npz.read_npz(path)
    one_run = {d: f"e200_{d}_test_one_seed_zc" for d in _DATASETS}
    runs = npz.read_npz(accuracies, list(one_run.values()))
    added = {f"{d}-one-run/test/200": runs[name] for d, name in one_run.items()}
    meanings = dict.fromkeys(added, "one run of one to three, drawn at random")
    try:
        columns, of_scores = _score_columns(theirs, len(table.arch))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} holds no scores of NAS-Bench-201: {error}") from error
    manifest = {
        "source": f"nb201_zerocost.npz, and accuracies of {table.manifest['source']}",
        "sha256": _sha256(path),
        "sha256_accuracies": table.manifest["sha256"],
        "columns": table.manifest["columns"] | meanings | of_scores,
    }
    columns = table.columns | added | columns
    return _checked(path, Table("zerocost", table.space, table.arch, columns, manifest))


_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def _score_columns(
    theirs: dict[str, np.ndarray], num: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Score columns, and what they mean."""
    columns: dict[str, np.ndarray] = {}
    meanings: dict[str, str] = {}

    def add(what: str, dataset: str, values: np.ndarray, meaning: str) -> None:
        # A program that failed everywhere has a column of NaN.
        if not np.isnan(values).all():
            columns[f"score/{what}/{dataset}"] = np.asarray(values, np.float64)
            meanings[f"score/{what}/{dataset}"] = meaning

    for dataset in _DATASETS:
        for what in ("hook_logdet", "synflow", "snip"):
            values = theirs[f"zc_{dataset}_{what}"]
            add(what, dataset, values, "Free-Training NAS, one batch of 128")
            cost = f"scoring/{what}/{dataset}"
            columns[cost] = theirs[f"zc_{dataset}_{what}_time_s"]
            meanings[cost] = "seconds on its GPU, the network's way there included"
        for what in ("logsynflow", "naswot", "nregions", "synflow"):
            add(
                f"freerea-{what}",
                dataset,
                theirs[f"freerea_{dataset}_{what}"],
                "FreeREA",
            )
    for dataset in ("cifar10", "ImageNet16-120"):
        rows, values = (theirs[f"suitezero_{dataset}{end}"] for end in ("_idx", ""))
        for what, column in zip(theirs["suitezero_columns"], values.T, strict=True):
            full = np.full(num, np.nan)
            full[rows] = column
            meaning = "NAS-Bench-Suite-Zero, a part of the cells; -1e8 is a failure"
            add(f"suitezero-{what}", dataset, full, meaning)
    for what in ("oneshot", "fewshot"):
        meaning = (
            f"{what} supernet (few-shot NAS): accuracy with shared weights, percent"
        )
        add(f"{what}-supernet", "cifar10", theirs[f"supernet_acc_{what}"], meaning)
    return columns, meanings


NAMES: dict[str, Callable[[], Table]] = {
    "analog": analog,
    "fashion": fashion,
    "fashion-curves": fashion_curves,
    "nb201": nb201,
    "nb101": nb101,
    "zerocost": zerocost,
}


def open_table(
    name_or_path: str | os.PathLike, *, curves: Sequence[str] | None = ()
) -> Table:
    """The table that `NAMES` has, or the one in a table file.

    Args:
      curves: of a table file, the columns of three axes to read as well; None: all.

    Raises: `ValueError` for a name that is none of these, and what the source raises.
    """
    name = os.fspath(name_or_path)
    if name in NAMES:
        return NAMES[name]()
    if not os.path.exists(name) and not name.endswith(".npz"):
        raise ValueError(
            f"unknown benchmark {name!r}: wanted {', '.join(NAMES)}, or a table file "
            "(.npz)"
        )
    return table_files.load(name, curves)


def shared_folder() -> Path:
    """The folder of reference files, which need not exist; see the module."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("JAXNAS_SHARED") or beside)


def _reference(name: str, path: str | os.PathLike | None) -> Path:
    if path is not None:
        return Path(path)
    path = shared_folder() / "data" / name
    if not path.is_file():
        raise ValueError(
            f"no such file: {path}; set JAXNAS_SHARED to the folder that has "
            f"data/{name}"
        )
    return path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(path: Path, table: Table) -> Table:
    try:
        return table_files.check(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
