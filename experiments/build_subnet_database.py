"""Makes a meta-database of MobileNetV3 subnets, labelled by predicted accuracies.

    python -m experiments.build_subnet_database
    python -m experiments.train_metad2a --database results/subnets/database.npz
        --models generator --candidates 0 --best 1 --out results/metad2a_subnets

Tasks are those of classes and image features of another meta-database. Every task has
--subnets random subnets of similar size, whose labels are the outputs of once-for-all's
accuracy predictor, in percent. As no accuracies of subnets on other datasets are public,
labels do not depend on the task, and the manifest says so. The size of a task is drawn
uniformly between those of the smallest and the largest of --pool random subnets, so that
the best subnets of tasks are good ones of all sizes: the best of ten of any size is never
below 229 million multiply-adds.

Takes a few seconds and the reference files (JAXNAS_SHARED). Writes database.npz, which
`experiments.train_metad2a` reads.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.tree_util import Partial
from rich.console import Console

import jaxnas
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import accuracy_predictor, ofa
from jaxnas.datasets import meta_database, tasks
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.io import run_folder
from jaxnas.spaces import mobilenetv3, mobilenetv3_counts
from jaxnas.studies import cli

# Random subnets of similar size that those of a task are drawn from.
_SIMILAR = 1000
LABELS = (
    "output of the accuracy predictor of once-for-all at 224 pixels, times 100: not "
    "conditioned on the dataset"
)


@dataclass(frozen=True)
class Config:
    """The tasks, and the subnets of each."""

    images: str = "free-images"
    """Meta-database with the features of the images: free-images, or a file."""
    tasks: tuple[int, int, int, int] = (2000, 100, 15, 5)
    """Numbers of tasks for meta-training, validation and tests, and of unseen pools."""
    subnets: int = 10
    """Subnets of each task."""
    pool: int = 500_000
    """Random subnets that those of all tasks are drawn from."""
    seed: int = 0
    """Seed of the tasks and subnets."""
    out: str = "results/subnets"
    """Folder for the results."""


def main(config: Config) -> MetaDatabase:
    """Draws tasks and subnets, labels them, and writes the database.

    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.seed(config, "seed")
    cli.positive(config, "subnets")
    if not _SIMILAR <= config.pool <= 10**7 or config.subnets > _SIMILAR:
        raise ValueError(
            f"--pool must be {_SIMILAR} to 10^7 and --subnets at most {_SIMILAR}, not "
            f"{config.pool} and {config.subnets}"
        )
    source = meta_database.load(config.images)
    try:
        drawn = _tasks(config, source)
    except ValueError as error:
        raise ValueError(f"--tasks or --images: {error}") from None
    predictor = accuracy_predictor()
    path = run_folder.open_or_create(cli.named(config.out), _identity(config), cli.OUT)
    archs = _subnets(config, len(drawn))
    predict = Partial(ofa.predicted_accuracy, predictor)
    labels = 100 * in_chunks(predict, archs.reshape(-1, archs.shape[-1]))
    database = _assembled(config, source, drawn, archs, labels)
    meta_database.save(path.path / "database.npz", database)
    line = f"{path.path / 'database.npz'}: {len(drawn)} tasks, {labels.size} subnets"
    Console().print(line, highlight=False, soft_wrap=True)
    return database


def _tasks(config: Config, source: MetaDatabase) -> list[tasks.Task]:
    """Draws tasks from the classes of each part of the source, divided as there."""
    settings = source.manifest.get("settings", {})
    unseen, seed = settings.get("unseen", ()), settings.get("seed", 0)
    parts = {
        name: tasks.all_unseen(len(features))
        if name in unseen
        else tasks.divide_classes(len(features), name=name, seed=seed)
        for name, features in source.features.items()
    }
    sizes = sorted({len(task.classes) for task in source.tasks})
    return tasks.draw_tasks(parts, config.tasks, sizes=sizes, seed=config.seed)


def _subnets(config: Config, num: int) -> np.ndarray:
    """Draws subnets of similar size for each of the tasks: (num, subnets, 45) int32."""
    rng = np.random.default_rng((config.seed, 1))
    shape = config.pool, mobilenetv3.LENGTH
    pool = in_chunks(mobilenetv3.canonical, rng.integers(0, 3, shape, np.int32))
    sizes = in_chunks(mobilenetv3_counts.multiply_adds, pool)
    order = np.argsort(sizes, kind="stable")
    wanted = rng.uniform(sizes[order[0]], sizes[order[-1]], num)
    nearest = np.searchsorted(sizes[order], wanted)
    first = np.clip(nearest - _SIMILAR // 2, 0, config.pool - _SIMILAR)
    rows = [f + rng.choice(_SIMILAR, config.subnets, replace=False) for f in first]
    return pool[order[np.stack(rows)]]


def _assembled(
    config: Config,
    source: MetaDatabase,
    drawn: list[tasks.Task],
    archs: np.ndarray,
    labels: np.ndarray,
) -> MetaDatabase:
    """The database: one epoch, nothing trained twice, and no grid."""
    accuracy = labels.reshape(*archs.shape[:2], 1)
    manifest = {
        "space": mobilenetv3.SPACE.name,
        "pools": source.manifest.get("pools", {}),
        "settings": _identity(config) | {"labels": LABELS},
        "jaxnas": jaxnas.__version__,
    }
    return MetaDatabase(
        tasks=tuple(drawn),
        arch=archs,
        train=accuracy,
        test=accuracy,
        seconds=np.zeros(archs.shape[:2]),
        repeat=np.full((len(drawn), 1), np.nan),
        repeat_cell=np.full(len(drawn), -1),
        grid_arch=archs[0, :0],
        grid_task=np.zeros(0, int),
        grid_test=np.zeros((2, 0, 0)),
        features=source.features,
        kind=source.kind,
        manifest=manifest,
    )


def _identity(config: Config) -> dict[str, Any]:
    """The settings that the database depends on, as JSON values."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
    return settings | {"driver": "build_subnet_database"}


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: the same command starts over")
