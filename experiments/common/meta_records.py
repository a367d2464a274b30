"""The trainings of a meta-database: cells on tasks, in chunks that are kept.

Tasks are method `records` of `seed_store`, whose "seeds" are the numbers of the tasks;
the grid of cells on tasks is method `grid`, numbered by cell, seed and task. A finished
training is kept and not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common.meta_pools import Pool
from experiments.common.table_trainings import train_on_devices
from jaxnas import datasets
from jaxnas.datasets.tasks import Task, task_images
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import runs
from jaxnas.networks.accuracy import accuracies
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces import moves
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import seed_store
from jaxnas.types import Array

RECORDS, GRID = "records", "grid"
SEEDS = 2  # of the grid
CHUNK = 24  # trainings between two saves
LANES = 200  # cells of the grid that an accelerator trains side by side by default


class Job(NamedTuple):
    """What the trainings of a meta-database share."""

    folder: RunFolder
    pools: Mapping[str, Pool]
    tasks: Sequence[Task]
    recipe: Recipe
    channels: int  # of the stem
    cells: int  # of a task
    repeat_every: int  # of so many tasks, one has a cell that is trained twice
    chunk: int | None  # trainings between two saves; None: by part and device
    seed: int


class Grid(NamedTuple):
    """Cells that are all trained on some of the tasks."""

    tasks: Sequence[int]  # (g,) numbers of tasks
    archs: np.ndarray  # (c, 6)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells, seeds and tasks, in the order of the trainings."""
        return len(self.archs), SEEDS, len(self.tasks)

    @property
    def size(self) -> int:
        """Number of trainings."""
        return math.prod(self.shape)


def train_records(job: Job) -> None:
    """Trains cells on every task.

    Half of a task's cells are uniform; each of the others is a mutant of the best cell
    trained before it. Every `repeat_every`-th task has one cell trained from a second seed
    too, which measures the noise of the labels.
    """

    def simulate(method: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        del method
        # The last chunk is filled with the last task.
        numbers = np.minimum(indices, len(job.tasks) - 1)
        done = {
            number: _train_task(job, number) for number in np.unique(numbers).tolist()
        }
        results = [done[number] for number in numbers.tolist()]
        return {name: np.stack([r[name] for r in results]) for name in results[0]}

    chunk = max(1, (job.chunk or CHUNK) // job.cells)
    seed_store.run_chunks(
        job.folder, [RECORDS], len(job.tasks), simulate,
        chunk=chunk, unit="task", work=(job.cells, "training"),
    )  # fmt: skip


def repeat_cell(job: Job, number: int) -> int:
    """The index of the cell of task `number` that is trained twice; -1: none."""
    if number % job.repeat_every:
        return -1
    return number // job.repeat_every % job.cells


def _train_task(job: Job, number: int) -> dict[str, np.ndarray]:
    """Trains the cells of one task, by its number.

    Returns:
      `arch` (cells, 6); `train` and `test` (cells, epochs) percent, `seconds` (cells,);
      `repeat` (epochs,), the test accuracy of cell `repeat_cell` from a second seed, NaN
      without one.
    """
    rng = np.random.default_rng((job.seed, 1, number))
    data = task_data(job, job.tasks[number])
    archs = rng.integers(0, SPACE.choices, ((job.cells + 1) // 2, 6), np.int32)
    curves = train_cells(job, number, archs, data, seed=0)
    while len(archs) < job.cells:
        best = archs[np.argmax(np.nan_to_num(curves["valid"][:, -1]))]
        mutant = new_mutant(rng, best, archs)[None]
        new = train_cells(job, number, mutant, data, seed=0)
        archs = np.concatenate([archs, mutant])
        curves = {n: np.concatenate([curves[n], new[n]]) for n in curves}
    repeat, cell = (
        np.full(job.recipe.epochs, np.nan, np.float32),
        repeat_cell(job, number),
    )
    if cell >= 0:
        repeat = train_cells(job, number, archs[[cell]], data, seed=1)["valid"][0]
    return {
        "arch": archs,
        "train": curves["train"],
        "test": curves["valid"],
        "seconds": curves["seconds"].sum(1),
        "repeat": repeat,
    }


def new_mutant(
    rng: np.random.Generator, arch: np.ndarray, existing: np.ndarray
) -> np.ndarray:
    """Mutates a cell, repeatedly until it differs from all existing cells.

    Args:
      rng: of the mutations.
      arch: (6,), one of the existing cells.
      existing: (n, 6), fewer than all cells.

    Returns:
      (6,) int32.
    """
    while (existing == arch).all(1).any():
        arch = np.asarray(_mutate(jax.random.key(rng.integers(2**31)), arch))
    return arch


@jax.jit
def _mutate(key: Array, arch: Array) -> Array:
    return moves.mutate(key, SPACE, arch)


def train_grid(job: Job, grid: Grid) -> None:
    """Trains the same cells on several tasks, from two seeds each.

    Both seeds of a cell on all tasks come before the next cell, so that the finished part
    is a smaller grid at any time. On an accelerator the cells of a task are trained side by
    side, and chunks are larger: with other cells the groups have other sizes, so that the
    programs are compiled anew for each chunk.
    """
    on_cpu = jax.default_backend() == "cpu"
    chunk = job.chunk or (CHUNK if on_cpu else LANES * SEEDS * len(grid.tasks))

    def simulate(method: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        del method
        indices = np.minimum(indices, grid.size - 1)
        cell, seed, row = np.unravel_index(indices, grid.shape)
        test = np.zeros(len(indices), np.float32)
        pairs = row * SEEDS + seed
        for pair in np.unique(pairs):
            number = grid.tasks[pair // SEEDS]
            # The last cell, which fills the last chunk, is trained once.
            cells, inverse = np.unique(cell[pairs == pair], return_inverse=True)
            data, archs = task_data(job, job.tasks[number]), grid.archs[cells]
            last = train_cells(
                job, number, archs, data, seed=pair % SEEDS, last_only=True
            )["valid"][:, -1]
            test[pairs == pair] = last[inverse]
        return {"test": test}

    seed_store.run_chunks(
        job.folder, [GRID], grid.size, simulate, chunk=chunk, unit="training"
    )


def finished_records(job: Job) -> dict[str, np.ndarray]:
    """Reads the finished tasks of `train_records`, up to the first missing one.

    Raises: `ValueError` if no task is finished.
    """
    done = seed_store.finished(job.folder, RECORDS, len(job.tasks))
    if not done:
        raise ValueError(f"{job.folder.path} has no finished trainings")
    return {name: array for name, array in done.items() if name != "seed"}


def finished_grid(job: Job, grid: Grid) -> np.ndarray:
    """Reads the finished trainings of `train_grid`.

    Returns:
      (2, tasks, cells) test accuracy in percent of the last epoch; NaN where missing.
    """
    test = np.full(grid.size, np.nan, np.float32)
    if grid.size:
        done = seed_store.finished(job.folder, GRID, grid.size)
        test[: len(done.get("test", ()))] = done.get("test", ())
    return test.reshape(grid.shape).transpose(1, 2, 0)


def train_cells(
    job: Job,
    number: int,
    archs: np.ndarray,
    data: Data,
    *,
    seed: int,
    last_only: bool = False,
) -> dict[str, np.ndarray]:
    """Trains cells on one task, on all devices.

    Args:
      job: what the trainings share.
      number: of the task; its cells share their initial weights.
      archs: (a, 6).
      data: of the task.
      seed: index of the repetition.
      last_only: test after the last epoch alone, which takes half of the time where a
        class has 100 test images. The other test accuracies mean nothing then.

    Returns:
      `runs.Curves`, (a, epochs) each; `valid` is the test accuracy of the task.
    """
    keys = seed_store.seed_keys(job.seed, np.array([seed]))
    key = jax.random.fold_in(keys[0], number)
    network = network_of(job, data)
    few = data._replace(x_valid=data.x_valid[:1], y_valid=data.y_valid[:1])

    def train_group(group: np.ndarray, device: Any) -> runs.Curves:
        given = few if last_only else data
        trained = runs.train(key, network, job.recipe, group, given, device=device)
        if last_only:
            trained.curves["valid"][:, -1] = accuracies(
                network,
                group,
                trained.params,
                data.x_valid,
                data.y_valid,
                device=device,
            )
        return trained.curves

    return train_on_devices(train_group, archs)


def network_of(job: Job, data: Data) -> NetworkConfig:
    """The sizes of the networks of a task: one cell in each stage."""
    size, channels = data.x.shape[2:]
    return NetworkConfig(job.channels, 1, int(data.y.max()) + 1, size, channels)


def task_data(job: Job, task: Task) -> Data:
    """The images of a task, normalised by its training images; tests are validation."""
    pool = job.pools[task.pool]
    train, test = task_images(pool.images, pool.division, task)
    mean, std = datasets.normalisation_constants(train._replace(name="task"))
    x, x_test = (datasets.normalise(part, mean, std).x for part in (train, test))
    pad_value: Array = -mean / std  # type: ignore
    return Data.without_test(x, train.y, x_test, test.y, pad_value)
