"""Learning curves of all cells of NAS-Bench-201 by the surrogate of JAHS-Bench-201.

    table = named.open_table("jahs201")          # costs in epochs
    table = named.open_table("jahs201-seconds")  # in seconds of NAS-Bench-201

Validation accuracies on CIFAR-10 after each of 200 epochs, as the published gradient
boosting of Bansal et al. (2022) predicts them with the settings of NAS-Bench-201. It is
no measurement: it stands in for the curves of NAS-Bench-201 where its file is missing.
"""

from __future__ import annotations

import numpy as np

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import sources
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.spaces import encodings

EPOCHS = 200


def jahs201_table(*, seconds: bool = False) -> BenchmarkTable:
    """Opens the curves as a table of NAS-Bench-201.

    Args:
      seconds: whether the table has the training times of NAS-Bench-201 on CIFAR-10
        (half of the images for training). Otherwise costs are epochs.

    Returns: the columns `cifar10/valid/200` and `curve/cifar10/valid/200`, and perhaps
      `seconds/cifar10/200`. The few predictions below 0 are taken for 0.
    Raises: `ValueError` if a reference file is missing, damaged, or holds something else.
    """
    path = sources.reference_file("nb201_jahs_surrogate_curves.npz")
    names = ("valid_acc", "uid", "ops_naslib")
    arrays, sha256 = npz.read_npz_and_digest(path, names)
    curves = arrays["valid_acc"].astype(np.float32).clip(0, 100)
    if curves.ndim != 2 or curves.shape[1] != EPOCHS:
        raise ValueError(
            f"{path}: wanted curves of {EPOCHS} epochs, not {curves.shape}"
        )
    operations = arrays["ops_naslib"].astype(np.int32)
    archs = np.asarray(in_chunks(encodings.from_naslib201, operations))
    meaning = "predicted by the surrogate of JAHS-Bench-201"
    columns = {
        f"cifar10/valid/{EPOCHS}": curves[:, -1],
        f"curve/cifar10/valid/{EPOCHS}": curves[:, None],
    }
    if seconds:
        columns[f"seconds/cifar10/{EPOCHS}"] = _seconds(arrays["uid"])
    manifest = {
        "source": f"JAHS-Bench-201, {path.name}",
        "sha256": sha256,
        "columns": dict.fromkeys(columns, meaning),
        "points": {str(EPOCHS): list(range(1, EPOCHS + 1))},
    }
    name = "jahs201-seconds" if seconds else "jahs201"
    table = BenchmarkTable(
        name, "nasbench201", archs.astype(np.int8), columns, manifest
    )
    return sources.validated(path, table)


def _seconds(cells: np.ndarray) -> np.ndarray:
    """Seconds of 200 epochs of cells (n,), by their official number."""
    path = sources.reference_file("nb201_val_seeds.npz")
    name = "cifar10valid_train_time_s"
    times = npz.read_npz(path, [name])[name]
    if times.shape != (15_625,):
        raise ValueError(f"{path}: wanted {name} of 15,625 cells, not {times.shape}")
    return times[cells].astype(np.float32)
