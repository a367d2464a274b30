"""Makes a meta-database from images: tasks, cells trained on them, features of the images.

    python -m experiments.build_meta_database --pools photos drawings --unseen digits
    python -m experiments.build_meta_database --pools fashion-mnist glyphs --tasks 20 4 4 4
        --unseen digits --grid 50 --out results/small

The classes of each pool are divided into those for meta-training, validation and test
before any task is drawn; pools of --unseen give tasks for tests alone. On every task
--cells cells of NAS-Bench-201 are trained, half of them uniform, half mutants of the
best so far; one task in --repeat-every has a cell trained twice, to measure label
noise. Then a grid of cells is trained on all tasks for tests, from two seeds, one to
choose by and one to report. Tests are on the other images of a class, up to --max-test;
those of small classes are repeated.

Every finished chunk is kept in --out: the same command resumes a run that was killed, and
--export-only writes the database of the finished trainings, also while another process
trains. Tasks are ordered so that every prefix has all parts. Writes database.npz, which
`jaxnas.datasets.meta_database` reads, and prints the label noise and the
correlation that it allows: docs/meta_database.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.console import Console

import jaxnas
from experiments.common import meta_pools, meta_records
from experiments.common.meta_records import Grid, Job
from jaxnas import datasets
from jaxnas.datasets import meta_database, tasks
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import cli, seed_store

EXTRACTORS = {
    "default": datasets.default_extractor,
    "lite0": datasets.lite0_extractor,
    "hog": datasets.hog_extractor,
    "untrained": datasets.untrained_extractor,
}


@dataclass(frozen=True)
class Config:
    """Images, tasks, and the training of cells on them."""

    pools: tuple[str, ...] = ("fashion-mnist",)
    """Images: digits, fashion-mnist, mnist-5000, glyphs, openclipart, noto-emoji, folders
    of class folders, npz files; tasks of all parts come from them."""
    unseen: tuple[str, ...] = ("digits",)
    """Images of held-out pools, whose tasks are for tests alone."""
    licence: str = "not stated"
    """Licence of images in your own files, for the manifest."""
    size: int = 16
    """Pixels on each side, a multiple of 4."""
    train: int = 32
    """Training images of a class."""
    min_test: int = 28
    """Classes with fewer images left for tests are not used."""
    max_test: int = 200
    """Largest number of test images of a class."""
    tasks: tuple[int, int, int, int] = (30, 1, 1, 20)
    """Tasks for meta-training, validation and test, and of unseen pools."""
    sizes: tuple[int, ...] = (2, 3, 5, 10)
    """Possible numbers of classes of a task."""
    cells: int = 6
    """Cells that are trained on each task."""
    repeat_every: int = 3
    """One in this many tasks has a cell that is trained twice."""
    grid: int = 200
    """Cells that are trained on all tasks for tests; 0: none."""
    channels: int = 8
    """Channels of the first stage."""
    epochs: int = 12
    """Passes over the training images."""
    batch: int = 16
    """Images in a step."""
    lr: float = 0.1
    """Highest learning rate."""
    chunk: int | None = None
    """Trainings between two saves; default: 24, and on a GPU all of 200 grid cells."""
    features: Literal["default", "lite0", "hog", "untrained"] = "default"
    """Features of the images; default: lite0 where its weights are installed; untrained:
    of a network with random weights, as a control."""
    feature_images: int = 0
    """Images of each class whose features are written; 0: all training images."""
    add_records: tuple[str, ...] = ()
    """Files (database.npz) whose records are added to those written, made with the
    same settings except --tasks and --grid."""
    seed: int = 0
    """Seed of divisions, tasks, cells and trainings."""
    export_only: bool = False
    """Train nothing, and write the database of the finished trainings in --out."""
    out: str = "results/meta_database"
    """Folder for the results."""


def main(config: Config) -> MetaDatabase:
    """Trains what is missing and writes the database.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    extractor = EXTRACTORS[config.features]()
    pools = meta_pools.open_pools(
        (*config.pools, *config.unseen), config.licence, config.size, config.train,
        (config.min_test, config.max_test), config.seed,
    )  # fmt: skip
    unseen = {*map(meta_pools.pool_name, config.unseen)}
    sizes = {name: len(pool.division.classes) for name, pool in pools.items()}
    parts = {
        name: tasks.all_unseen(size)
        if name in unseen
        else tasks.divide_classes(size, name=name, seed=config.seed)
        for name, size in sizes.items()
    }
    try:
        drawn = tasks.draw_tasks(
            parts, config.tasks, sizes=config.sizes, seed=config.seed
        )
    except ValueError as error:
        raise ValueError(f"--tasks, --sizes, --pools or --unseen: {error}") from None
    more = [meta_database.load(path) for path in config.add_records]
    job = _job(config, pools, drawn)
    _require_joinable(config, job, more)
    grid = _grid(config, drawn)
    if not config.export_only:
        meta_records.train_records(job)
        if grid.size:
            meta_records.train_grid(job, grid)
    database = _export(config, job, extractor, grid)
    for other in more:
        database = meta_database.join(database, other)
    path = job.folder.path / "database.npz"
    meta_database.save(path, database)
    for line in (f"{path}: {len(database.tasks)} tasks", *noise_lines(database)):
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
    return database


def noise_lines(database: MetaDatabase) -> list[str]:
    """States the noise of the labels, and the correlations that it allows, in words."""
    noise = meta_database.label_noise(database)
    if not noise.pairs:
        return ["no cell was trained twice: the noise of the labels is unknown"]
    lines = [
        f"an accuracy differs between seeds by a standard deviation of "
        f"{noise.deviation:.2f} percent ({noise.pairs} cells trained twice)",
        f"which allows correlations up to {noise.ceiling:.3f} over all records and "
        f"{noise.ceiling_within:.3f} within tasks",
    ]
    reliability = meta_database.grid_reliability(database)
    reliability = reliability[np.isfinite(reliability)]
    if len(reliability):
        lines.append(
            f"the seeds of the grid order cells alike by a rank correlation of "
            f"{reliability.mean():.3f} on average over tasks, {reliability.min():.3f} to "
            f"{reliability.max():.3f}"
        )
    return lines


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are invalid for any images."""
    names = ("size", "train", "min_test", "repeat_every", "chunk", "channels")
    cli.positive(config, *names)
    cli.at_most(config, size=256, channels=512, epochs=10_000, batch=100_000)
    cli.at_most(config, cells=15_625)
    cli.seed(config, "seed")
    if not 0 <= config.feature_images <= config.train:
        raise ValueError(
            f"--feature-images must be 0 to --train {config.train}, not "
            f"{config.feature_images}"
        )
    if config.size % 4:
        raise ValueError(f"--size must be a multiple of 4, not {config.size}")
    if config.max_test < config.min_test:
        raise ValueError("--max-test must be at least --min-test")
    if not 0 <= config.grid <= base.num_vectors(SPACE):
        raise ValueError(
            f"--grid must be 0 to {base.num_vectors(SPACE)}, not {config.grid}"
        )
    if not 1 <= config.cells <= base.num_vectors(SPACE):
        raise ValueError(
            f"--cells must be 1 to {base.num_vectors(SPACE)}, not {config.cells}"
        )
    if not config.pools and not config.unseen:
        raise ValueError("no images are named: give --pools")


def _job(
    config: Config, pools: dict[str, meta_pools.Pool], drawn: list[tasks.Task]
) -> Job:
    """Collects what the trainings share, and checks --out."""
    free = ("chunk", "grid", "features", "feature_images", "add_records",
            "export_only", "out", "licence")  # fmt: skip
    identity = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    # Paths may change, and the images may not.
    identity |= {
        "pools": [*pools],
        "unseen": [*map(meta_pools.pool_name, config.unseen)],
    }
    identity["driver"] = "build_meta_database"
    identity["origins"] = {
        n: (*pool.origin[:2], pool.division.test.shape[1]) for n, pool in pools.items()
    }
    recipe = Recipe(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        warmup=min(1.0, config.epochs / 8),
        per_step_schedule=True,
    )
    folder = seed_store.open_folder(config.out, identity)
    return Job(
        folder, pools, drawn, recipe, config.channels, config.cells,
        config.repeat_every, config.chunk, config.seed,
    )  # fmt: skip


def _require_joinable(config: Config, job: Job, more: list[MetaDatabase]) -> None:
    """Raises `ValueError` for --add-records of other settings, before trainings start."""
    ours = _manifest(config, job, 0.0)
    for path, other in zip(config.add_records, more, strict=True):
        try:
            meta_database.require_same_settings(ours, other.manifest)
        except ValueError as error:
            raise ValueError(f"--add-records {path}: {error}") from error


def _grid(config: Config, drawn: list[tasks.Task]) -> Grid:
    """Draws the cells of the grid; a larger grid begins with those of a smaller one."""
    wanted = tasks.PARTS.index("test"), tasks.PARTS.index("unseen")
    numbers = [n for n, task in enumerate(drawn) if task.part in wanted]
    order = np.random.default_rng((config.seed, 2)).permutation(base.num_vectors(SPACE))
    return Grid(numbers, base.every(SPACE)[order[: config.grid]])


def _export(
    config: Config, job: Job, extractor: datasets.Extractor, grid: Grid
) -> MetaDatabase:
    """Collects the finished trainings and the features of all pools.

    Raises: `ValueError` if no task is finished.
    """
    records = meta_records.finished_records(job)
    count = len(records["arch"])
    repeat_cell = [meta_records.repeat_cell(job, number) for number in range(count)]
    # The grid starts after the last record; an export may come before.
    rows = [row for row, number in enumerate(grid.tasks) if number < count]
    return MetaDatabase(
        tuple(job.tasks[:count]),
        repeat_cell=np.array(repeat_cell),
        grid_arch=grid.archs,
        grid_task=np.array(grid.tasks, np.int16)[rows],
        grid_test=meta_records.finished_grid(job, grid)[:, rows],
        features={
            name: meta_pools.training_features(pool, extractor)[
                :, : config.feature_images or None
            ]
            for name, pool in job.pools.items()
        },
        kind=extractor.kind,
        manifest=_manifest(config, job, float(records["seconds"].sum()) / 3600),
        **records,
    )


def _manifest(config: Config, job: Job, hours: float) -> dict[str, Any]:
    """Describes pools, settings and versions as JSON."""
    pools = {
        name: {
            **pool.origin._asdict(),
            "classes": [pool.images.class_names[c] for c in pool.division.classes],
            "left_out": pool.images.num_classes - len(pool.division.classes),
            "test_images": meta_pools.num_test_images(pool),
        }
        for name, pool in job.pools.items()
    }
    settings = {k: v for k, v in job.folder.identity.items() if k != "origins"}
    return {"pools": pools, "settings": settings, "grid": config.grid,
            "hours": hours, "jaxnas": jaxnas.__version__}  # fmt: skip


if __name__ == "__main__":
    cli.command(main, Config)
