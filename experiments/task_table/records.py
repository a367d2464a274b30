"""The published records of MetaD2A's predictor: accuracies of cells on ImageNet tasks.

4,630 accuracies of 1,553 cells of NAS-Bench-201 on 3,031 tasks of 20 classes. The images
are not published. A class is represented by its row of the classifier of an
EfficientNet-lite0 that was trained on ImageNet, or by the features of one image.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks import sources
from jaxnas.io import npz
from jaxnas.kernels import gram
from jaxnas.predictors.tasks import TaskKernels, task_kernels
from jaxnas.types import Array

NUM_VALIDATION = 400  # records, the first of the published permutation
# Records from here on were collected by a second procedure: the list starts anew in the
# order of the tasks, and accuracies fall by 17 points. No predictor sees this.
SECOND_PROCEDURE = 4152
_SIDES = ("val", "test")
_DATASETS = ("cifar10valid", "cifar100", "ImageNet16-120")
_ACCURACIES = (
    *(f"e200_{dataset}_{side}" for dataset in _DATASETS for side in _SIDES),
    *(f"e12_{dataset}_val" for dataset in ("cifar10", "cifar100", "ImageNet16-120")),
)


class Records(NamedTuple):
    """n records of a distinct cells on t distinct tasks."""

    accuracy: np.ndarray  # (n,) float32, percent
    arch: np.ndarray  # (n,) row of the cell
    task: np.ndarray  # (n,) row of the task
    order: np.ndarray  # (n,) the published permutation; validation first
    operations: np.ndarray  # (a, 30) one-hot operations
    table: np.ndarray  # (a, 9) standardised accuracies on three other datasets
    classes: np.ndarray  # (t, 20) from 0
    embeddings: np.ndarray  # (k, 1280) classifier rows of all classes
    images: np.ndarray  # (k, 544) features of one image of each class
    kernels: TaskKernels  # of the t tasks

    @property
    def validation(self) -> np.ndarray:
        """The published validation records."""
        return self.order[:NUM_VALIDATION]

    @property
    def training(self) -> np.ndarray:
        """All other records."""
        return self.order[NUM_VALIDATION:]

    @property
    def second(self) -> np.ndarray:
        """(n,) bool, the records of the second procedure."""
        return np.arange(len(self.accuracy)) >= SECOND_PROCEDURE


def read_records() -> Records:
    """Reads records, cells and classes.

    Raises: `ValueError` if a reference file is missing or damaged.
    """
    table = npz.read_npz(_file("metad2a_nb201_meta_train_4630.npz"))
    cells, arch = np.unique(table["uid"], return_inverse=True)
    tasks, task = np.unique(table["task"], return_inverse=True)
    benchmark = npz.read_npz(_file("nb201_accuracy.npz"), ["ops", *_ACCURACIES])
    accuracies = np.stack([benchmark[name][cells] for name in _ACCURACIES], 1)
    prototypes = npz.read_npz(
        _file("imagenet_class_prototypes.npz"), ["fc_weight", "one_image_taps"]
    )
    classes = table["task_classes"][tasks].astype(np.int32) - 1
    embeddings = prototypes["fc_weight"].astype(np.float32)
    return Records(
        table["acc"].astype(np.float32),
        arch.reshape(-1),
        task.reshape(-1),
        table["split_idx"],
        np.eye(5)[benchmark["ops"][cells]].reshape(len(cells), -1),
        np.clip(
            (accuracies - accuracies[arch].mean(0)) / accuracies[arch].std(0), -3, 3
        ),
        classes,
        embeddings,
        prototypes["one_image_taps"].astype(np.float32),
        task_kernels(classes, embeddings),
    )


def cell_kernel(records: Records, table: bool, scale: float) -> Array:
    """Laplace kernel (a, a) of the operations of cells.

    Args:
      records: whose cells they are.
      table: whether the accuracies on other datasets are part of the distance.
      scale: length-scale of the L1 distance of one-hot operations and standardised
        accuracies.
    """
    parts = [records.operations, *([records.table] if table else [])]
    return _laplace(jnp.asarray(np.concatenate(parts, 1).T, jnp.float32), scale)


@jax.jit
def _laplace(x: Array, scale: Array) -> Array:
    return gram.laplace(gram.l1(x, x)[None], jnp.asarray(scale)[None])


def _file(name: str) -> Path:
    return sources.reference_file(name)
