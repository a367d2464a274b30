"""Trains the networks of NAS-Bench-201 on small images, for a table with learning curves.

    python -m experiments.train_table
    python -m experiments.train_table --classes 1500 --out results/fashion
    python -m experiments.train_table --images cifar-10-batches-py --size 16

One network is trained for each function that cells can compute, in random order, so that
the functions trained so far are a random part of the space. The first ones are trained from
several seeds, all seeds of some functions before the next functions. Every finished chunk
is kept in --out; a run can be killed and started again, and devices share the work. Writes
to --out table.npz, a table file that drivers take as --benchmark, and trainings.npz, the
trainings by function; --export-only writes the table of the trainings finished so far,
also while another process trains. The package ships two files of trainings, the benchmarks
fashion and fashion-curves; this continues the first:

    python -m experiments.train_table --known fashion

Seconds are wall-clock seconds, or with --clock cpu, for one device alone, CPU seconds,
which do not depend on the load of the machine; the second was made by:

    JAX_NUM_CPU_DEVICES=1 NPROC=1 python -m experiments.train_table --clock cpu \\
      --train 3000 --valid 8000 --test 4000 --channels 4 --epochs 12 \\
      --classes 1000 --more 200 --known fashion-curves
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments.common.table_trainings import Curves, Job, train_all
from jaxnas.benchmarks import table_files, trained
from jaxnas.datasets import Images, opened
from jaxnas.io import records
from jaxnas.io.cache import array_digest
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import runs
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.studies import cli, seed_store

CLOCKS = {
    "wall": (time.perf_counter, "wall-clock seconds"),
    "cpu": (time.process_time, "CPU seconds of one core"),
}


@dataclass(frozen=True)
class Config:
    """What to train, on which images, and how long."""

    images: str = "fashion-mnist"
    """fashion-mnist (Debian: dataset-fashion-mnist), digits, an npz of x and y, a folder of
    class folders (or of train and test with class folders), of idx files or of CIFAR's
    batches, or a batch of CIFAR."""
    size: int = 8
    """Pixels on each side to which images are scaled."""
    train: int = 2000
    """Training images, drawn at random."""
    valid: int = 2000
    """Validation images, from the same part."""
    test: int = 2000
    """Test images, from the test part where the images have one."""
    channels: int = 8
    """Channels of the first stage."""
    cells_per_stage: int = 3
    """Cells in each stage."""
    epochs: int = 4
    """Passes over the training images."""
    batch: int = 64
    """Images in a step."""
    lr: float = 0.1
    """Highest learning rate."""
    classes: int | None = None
    """How many of the 5,260 functions are trained; default: all."""
    more: int = 500
    """How many of these are trained from more than one seed."""
    seeds: int = 3
    """Seeds from which each of these is trained."""
    chunk: int = 10
    """Networks between two saves; on an accelerator they are trained side by side."""
    seed: int = 0
    """Seed of the images and of the order of the functions; run s trains from (seed, s)."""
    clock: Literal["wall", "cpu"] = "wall"
    """Clock of the seconds in the table; cpu needs a single device, a CPU."""
    known: str | None = None
    """A trainings.npz of the same settings, whose trainings are not repeated; or fashion or
    fashion-curves, which are embedded."""
    export_only: bool = False
    """Train nothing, and write the trainings that are finished in --out."""
    out: str = "results/train_table"
    """Folder for the results."""


def main(config: Config) -> None:
    """Trains what is missing and writes the table.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    archs = trained.representatives(config.seed)
    total = len(archs) if config.classes is None else config.classes
    if not 1 <= total <= len(archs):
        raise ValueError(f"--classes must be 1 to {len(archs)}, not {total}")
    archs = archs[:total]
    counts = (config.train, config.valid, config.test)
    data, source = opened.training_data(config.images, config.size, counts, config.seed)
    network, recipe = _network(config, source), _recipe(config)
    runs.validate_training(network, recipe, archs, data)
    identity = _identity(config, array_digest(*data[:6]))
    known = _known(config.known, identity, archs)
    folder = seed_store.open_folder(config.out, identity)
    clock, unit = CLOCKS[config.clock]
    if config.export_only:
        curves = _finished(folder, config)
        archs = archs[: len(curves[0]["loss"])]
    else:
        job = Job(folder, network, recipe, data, config.chunk, clock)
        # The number of functions of each run.
        numbers = [total] + [min(config.more, total)] * (config.seeds - 1)
        curves = train_all(job, archs, numbers, known)
    manifest = {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(recipe),
        "settings": identity,
        "clock": unit,
        "hours": float(sum(np.nansum(run["seconds"]) for run in curves)) / 3600,
        "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__},
        "platform": jax.default_backend(),
    }
    _write(folder, trained.Trainings(archs, curves, source.name, manifest))


def _network(config: Config, images: Images) -> NetworkConfig:
    return NetworkConfig(
        config.channels,
        config.cells_per_stage,
        images.num_classes,
        config.size,
        images.x.shape[-1],
    )


def _recipe(config: Config) -> Recipe:
    return Recipe(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        warmup=min(1.0, config.epochs / 8),
        per_step_schedule=True,
    )


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong whatever the images are."""
    cli.positive(config, "chunk", "train", "valid", "test", "seeds")
    cli.positive(config, "channels", "cells_per_stage")
    cli.at_most(config, channels=512, cells_per_stage=50, seeds=1000, epochs=100_000)
    if config.size % 4 or not 4 <= config.size <= 256:
        raise ValueError(
            f"--size must be a multiple of 4, at most 256, not {config.size}"
        )
    if config.more < 0:
        raise ValueError(f"--more must be at least 0, not {config.more}")
    if config.export_only and config.known is not None:
        raise ValueError("--export-only writes what is in --out: it takes no --known")
    devices = jax.local_devices()
    alone = len(devices) == 1 and devices[0].platform == "cpu"
    if config.clock == "cpu" and not (alone or config.export_only):
        raise ValueError(
            f"--clock cpu needs one CPU device, found {len(devices)} of "
            f"{devices[0].platform}: set JAX_NUM_CPU_DEVICES=1 NPROC=1 JAX_PLATFORMS=cpu"
        )


def _identity(config: Config, images_sha256: str) -> dict[str, Any]:
    """All that the trainings depend on, by name.

    Args:
      config: the settings.
      images_sha256: of the images that networks are trained and tested on.
    """
    free = ("classes", "more", "seeds", "chunk", "known", "out", "export_only")
    identity = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    # The shipped trainings by wall-clock time were made before there was a choice.
    if config.clock == "wall":
        del identity["clock"]
    return identity | {"driver": "train_table", "images_sha256": images_sha256}


def _known(
    path: str | None, identity: dict[str, Any], archs: np.ndarray
) -> Sequence[Curves]:
    """Reads trainings of the same settings.

    Files that were written before there was a digest of the images, such as the shipped
    ones, are checked by their other settings.

    Args:
      path: a file, or the name of shipped trainings; None: no earlier trainings.
      identity: the settings that they must have.
      archs: (n, 6) the architectures of this table, which they must begin with.

    Returns: for each run the curves (m, epochs) of the first m architectures.
    Raises: `ValueError` for trainings of other settings or architectures.
    """
    if path is None:
        return ()
    known = trained.load(trained.SHIPPED.get(path, path))
    settings = known.manifest.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    added = ("driver", "images_sha256")
    identity = {k: v for k, v in identity.items() if k in settings or k not in added}
    records.require_identity(
        f"--known {path}",
        settings,
        identity,
        "wanted trainings of the same settings",
    )
    both = min(len(archs), len(known.archs))
    if not np.array_equal(known.archs[:both], archs[:both]):
        raise ValueError(f"--known {path} has other architectures, or another order")
    return known.runs


def _finished(folder: RunFolder, config: Config) -> list[Curves]:
    """Reads the finished trainings of each run, up to the first that is missing.

    Returns: the curves of the runs that have any.
    Raises: `ValueError` if the first run has none.
    """
    num = len(trained.representatives(config.seed))
    runs = [seed_store.finished(folder, f"run-{r}", num) for r in range(config.seeds)]
    if not runs[0]:
        raise ValueError(f"{folder.path} has no finished trainings of the first seed")
    most = len(runs[0]["loss"])
    return [{n: run[n][:most] for n in trained.CURVES} for run in runs if run]


def _write(folder: RunFolder, done: trained.Trainings) -> None:
    """Writes trainings.npz and table.npz."""
    trained.save(folder.path / "trainings.npz", done)
    path = folder.path / "table.npz"
    table_files.save(path, trained.as_table(done))
    number = sum(len(run["loss"]) for run in done.runs)
    line = f"{path}: {len(done.archs)} functions, {number} trainings"
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.command(main, Config)
