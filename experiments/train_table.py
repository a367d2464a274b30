"""Trains the networks of NAS-Bench-201 on small images, for a table with learning curves.

    python -m experiments.train_table
    python -m experiments.train_table --classes 1500 --out results/fashion
    python -m experiments.train_table --images cifar-10-batches-py --size 16

One network is trained for each function that cells can compute, in random order: whatever
has been trained is a random part of the space. The first ones are trained with more seeds,
all seeds of some functions before the next functions. Every finished chunk is kept in
--out; a run can be killed and started again, and devices share the work. Writes to --out
table.npz, a table file that drivers take as --benchmark, and trainings.npz, the same
before it stands for all cells of a function; --export-only writes them of what there is,
also while another process trains. The package has two of the latter, the benchmarks
fashion and fashion-curves; to go on with the first:

    python -m experiments.train_table --known fashion

Seconds are wall-clock seconds, or with --clock cpu, for one device alone, CPU seconds,
which do not depend on what else the machine does; so the second was made:

    JAX_NUM_CPU_DEVICES=1 NPROC=1 python -m experiments.train_table --clock cpu \\
      --train 3000 --valid 8000 --test 4000 --channels 4 --epochs 12 \\
      --classes 1000 --more 200 --known fashion-curves
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from rich.console import Console

import jaxnas
from jaxnas.benchmarks import table_files, trained
from jaxnas.datasets import opened
from jaxnas.io import run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import Data, NetworkConfig, Recipe, runs
from jaxnas.networks.devices import map_over_devices
from jaxnas.studies import cli, seed_store

Curves = Mapping[str, np.ndarray]  # `trained.CURVES` by name, (n, epochs)
# The functions with more seeds are trained in about so many parts.
PARTS = 10
CLOCKS = {
    "wall": (time.perf_counter, "wall-clock seconds"),
    "cpu": (time.process_time, "CPU seconds of one core"),
}


@dataclass(frozen=True)
class Config:
    """What to train, on which images, and how long."""

    images: str = "fashion-mnist"
    """fashion-mnist (Debian: dataset-fashion-mnist), digits, an npz of x and y, a folder of
    class folders, of idx files or of CIFAR's batches, or a batch of CIFAR."""
    size: int = 8
    """Pixels on each side to which images are scaled."""
    train: int = 2000
    """Training images, drawn at random."""
    valid: int = 2000
    """Validation images, from the same part."""
    test: int = 2000
    """Test images, from the test part where the images have one."""
    channels: int = 8
    """Of the first stage."""
    cells_per_stage: int = 3
    """Cells in each stage."""
    epochs: int = 4
    """Passes over the training images."""
    batch: int = 64
    """Images in a step."""
    lr: float = 0.1
    """Highest learning rate."""
    classes: int | None = None
    """How many functions, of the 5,260; default: all."""
    more: int = 500
    """Of how many of them there are more seeds."""
    seeds: int = 3
    """Seeds of those."""
    chunk: int = 10
    """Networks between two saves; on an accelerator they are trained side by side."""
    seed: int = 0
    """Of the images and of the order of the functions; run s trains from (seed, s)."""
    clock: Literal["wall", "cpu"] = "wall"
    """What seconds are; cpu needs one device, a CPU."""
    known: str | None = None
    """A trainings.npz of the same settings, which are not repeated; or fashion, or
    fashion-curves."""
    export_only: bool = False
    """Train nothing, and write what is finished in --out."""
    out: str = "results/train_table"
    """Folder for the results."""


def main(config: Config) -> None:
    """Trains what is missing and writes the table.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _check(config)
    archs = trained.representatives(config.seed)
    total = len(archs) if config.classes is None else config.classes
    if not 1 <= total <= len(archs):
        raise ValueError(f"--classes must be 1 to {len(archs)}, not {total}")
    archs = archs[:total]
    counts = config.train, config.valid, config.test
    data, source = opened.training_data(config.images, config.size, counts, config.seed)
    shape = source.num_classes, config.size, source.x.shape[-1]
    network = NetworkConfig(config.channels, config.cells_per_stage, *shape)
    recipe = Recipe(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        warmup=min(1.0, config.epochs / 8),
        per_step_schedule=True,
    )
    runs.validate_training(network, recipe, archs, data)
    described = _described(config)
    known = _known(config.known, described, archs)
    folder = seed_store.open_folder(config.out, described)
    if config.export_only:
        found = _finished(folder, config)
        archs = archs[: len(found[0]["loss"])]
    else:
        clock, _ = CLOCKS[config.clock]
        job = Job(folder, network, recipe, data, config.chunk, clock)
        found = _train_all(job, archs, _numbers(config, total), known)
    manifest = {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(recipe),
        "settings": described,
        "clock": CLOCKS[config.clock][1],
        "hours": float(sum(np.nansum(f["seconds"]) for f in found)) / 3600,
        "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__},
        "platform": jax.default_backend(),
    }
    _write(folder, trained.Trainings(archs, found, source.name, manifest))


def _check(config: Config) -> None:
    """Raises `ValueError` for settings that need no images to be seen as wrong."""
    cli.positive(config, "chunk", "train", "valid", "test", "seeds")
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


def _described(config: Config) -> dict[str, Any]:
    """All that the trainings depend on, by name."""
    free = ("classes", "more", "seeds", "chunk", "known", "out", "export_only")
    described = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    # Results that were made before there was a choice say nothing about it.
    if config.clock == "wall":
        del described["clock"]
    return described


def _numbers(config: Config, total: int) -> list[int]:
    """How many functions each run trains."""
    return [total] + [min(config.more, total)] * (config.seeds - 1)


def _known(
    path: str | None, described: dict[str, Any], archs: np.ndarray
) -> Sequence[Curves]:
    """Of each run the curves (m, epochs) that are known of the first m architectures.

    Raises: `ValueError` for trainings of other settings.
    """
    if path is None:
        return ()
    known = trained.load(trained.SHIPPED.get(path, path))
    theirs = known.manifest.get("settings")
    differ = run_folder.differences(
        theirs if isinstance(theirs, dict) else {}, described
    )
    if differ:
        raise ValueError(f"--known {path} was trained with other settings ({differ})")
    both = min(len(archs), len(known.archs))
    if not np.array_equal(known.archs[:both], archs[:both]):
        raise ValueError(f"--known {path} has other architectures, or another order")
    return known.runs


def _finished(folder: RunFolder, config: Config) -> list[Curves]:
    """What is there of each run, as far as it has none missing; runs of nothing left out.

    Raises: `ValueError` if the first run has nothing.
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


class Job(NamedTuple):
    """What the trainings of one table share."""

    folder: RunFolder
    network: NetworkConfig
    recipe: Recipe
    data: Data
    chunk: int
    clock: Callable[[], float]


def _train_all(
    job: Job, archs: np.ndarray, numbers: Sequence[int], known: Sequence[Curves]
) -> list[Curves]:
    """The curves of all runs, of the first `numbers[run]` of the architectures each.

    The functions of all runs come first, part by part with all seeds of a part together,
    so that what is there at any time is of use.
    """
    shared = min(numbers)
    step = job.chunk * max(1, round(shared / job.chunk / PARTS))
    found: list[Curves] = []
    for end in [*range(step, shared, step), shared or None, None]:
        found = [
            _train(job, run, archs[:num], known[run] if run < len(known) else None, end)
            for run, num in enumerate(numbers)
        ]
    return found


def _train(
    job: Job, run: int, archs: np.ndarray, known: Curves | None, end: int | None
) -> Curves:
    """The curves (n, epochs) of one run of architectures (n, 6), the first `end` of them.

    Args:
      known: the curves (m, epochs) of the first m.
    """
    archs = archs[:end]
    num = len(known["loss"]) if known else 0
    devices = jax.local_devices()
    own = [jax.device_put(job.data, device) for device in devices]
    key = seed_store.seed_keys(job.folder.identity["seed"], np.array([run]))[0]

    def simulate(label: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        # More than there are may be asked for, so that all chunks are of one size.
        indices = np.minimum(indices, len(archs) - 1)
        # On a CPU one after another, for seconds of their own; else side by side.
        alone = devices[0].platform == "cpu"
        back = np.arange(len(indices))
        if alone:
            indices, back = np.unique(indices, return_inverse=True)
        new = archs[indices[indices >= num]]
        parts = len(new) if alone else min(len(new), len(devices))
        groups = np.array_split(new, parts) if parts else []

        def one(group: np.ndarray, index: int) -> Curves:
            arguments = key, job.network, job.recipe, group, own[index]
            return runs.train(*arguments, device=devices[index], clock=job.clock).curves

        found = map_over_devices(one, groups, len(devices))
        if known:
            old = indices[indices < num]
            found.insert(0, {name: known[name][old] for name in trained.CURVES})
        return {n: np.concatenate([f[n] for f in found])[back] for n in found[0]}

    label = f"run-{run}"
    return seed_store.run_chunks(
        job.folder, [label], len(archs), simulate, chunk=job.chunk, evaluations=1
    )[label]


if __name__ == "__main__":
    cli.command(main, Config)
