"""Training as a benchmark: the interface of a table, answered by training networks.

    data = Data.without_test(train.x, train.y, valid.x, valid.y)
    benchmark = training_benchmark(key, network, RECIPES["short"], data, folder="kept")
    drive.optimise(key, search, drive.BatchObjective(benchmark), 10, "search")

The recipe's epochs are the schedule, and the query says where on it a training stops. A
stopped training resumes from its checkpoint. A schedule of another length is another
recipe, and so another benchmark. `training_query` answers the queries, `training_store`
keeps curves and checkpoints on disk.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks.base import Benchmark, Target, continued_levels
from jaxnas.benchmarks.training_query import TrainingEvaluator
from jaxnas.benchmarks.training_store import Curves, Store
from jaxnas.networks import runs, train
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array


def training_benchmark(
    key: Array,
    network: NetworkConfig,
    recipe: Recipe,
    data: Data,
    *,
    folder: str | Path | None = None,
    devices: Sequence[Any] | None = None,
    report: Callable[[np.ndarray, Curves], object] | None = None,
    name: str = "images",
    clock: Callable[[], float] = time.perf_counter,
) -> Benchmark:
    """Trains cells of NAS-Bench-201 to answer queries.

    On a CPU the architectures of a query are trained one after another, on an
    accelerator side by side. One program is compiled, on an accelerator one for each
    number of architectures in a query.

    A training to epoch 3 that is resumed to epoch 9 equals a training to epoch 9: bit by
    bit if the same architectures are trained side by side, which always holds on a CPU.
    If a checkpoint is missing or damaged, the training restarts from epoch 0, and the
    cost includes every epoch that is trained again.

    Args:
      key: of all trainings: initial weights, order of the images, augmentation. Trainings
        differ by architecture and by `Query.seed` alone.
      network: the network around the cells.
      recipe: its epochs are the schedule of every training.
      data: images on the host; see `Data.without_test`.
      folder: keeps curves and checkpoints. Epochs on disk are not trained again: the
        same query has the same scores and the same cost, and slots of a query that ask
        for the same training share it. Without a folder nothing can be resumed.
      devices: default: the first. On several CPU devices trainings run at the same time,
        and the program is compiled separately for each device; of accelerators only the
        first is used.
      report: called with the architecture (6,) and the curves up to the query's epoch
        for each training that ends or is read from disk, from any thread.
      name: of the images, for the description.
      clock: of the costs, as for `runs.train`; those on disk keep theirs.

    Returns:
      A benchmark with one level for each epoch of the recipe and cells of NAS-Bench-201
      as its space; neither truth nor optimum are known. `evaluate` runs on the host,
      cannot be traced, and ignores its key. The score is the accuracy on the validation
      images after the query's epoch, in percent; the curve is (b, recipe.epochs); the
      cost is the seconds of the epochs after `start`. Epochs past the schedule mean its
      last one. A vector that is not a cell has a NaN score at cost 0. Without a folder,
      `start > 0` raises `ValueError`.

    Raises: `ValueError` if the data do not fit the network.
    """
    runs.validate_training(network, recipe, np.zeros((1, 6), np.int32), data)
    devices = tuple(devices or jax.local_devices()[:1])
    side_by_side = devices[0].platform != "cpu"
    if side_by_side:
        devices = devices[:1]
    evaluate = TrainingEvaluator(
        key,
        network,
        recipe,
        placed=tuple(jax.device_put(data, device) for device in devices),
        devices=devices,
        side_by_side=side_by_side,
        store=None if folder is None else _open(folder, key, network, recipe, data),
        report=report,
        clock=clock,
    )
    return Benchmark(
        space=SPACE,
        evaluate=Partial(evaluate),
        levels=continued_levels(range(1, recipe.epochs + 1)),
        target=Target("validation accuracy", "percent"),
        cost_unit="seconds",
        description=f"trainings of {recipe.epochs} epochs on {name}",
    )


def _open(
    folder: str | Path, key: Array, network: NetworkConfig, recipe: Recipe, data: Data
) -> Store:
    """The trainings on disk; schedules of other lengths have other files in the folder."""
    record = runs.training_identity(
        key, network, dataclasses.replace(recipe, epochs=1), data
    )
    like = jax.eval_shape(lambda: train.initial_state(key, network, 1))
    return Store(Path(folder), record, recipe.epochs, like)
