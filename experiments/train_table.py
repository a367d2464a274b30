"""Trains the networks of NAS-Bench-201 on small images, for a table with learning curves.

    python -m experiments.train_table
    python -m experiments.train_table --classes 1500 --out results/fashion
    python -m experiments.train_table --images cifar-10-batches-py --size 16

One network is trained for each function that cells can compute, in random order: whatever
has been trained is a random part of the space. The first ones are trained with more seeds.
Every finished chunk is kept in --out; a run can be killed and started again, and devices
share the work. Writes to --out table.npz, a table file that drivers take as --benchmark,
and trainings.npz, the same before it stands for all cells of a function. The package has
one of the latter, the benchmark fashion; to go on with it:

    python -m experiments.train_table --known fashion
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments import chunks, images, settings
from experiments.chunks import Folder
from jaxnas.benchmarks import files, sources, trained
from jaxnas.networks import runs
from jaxnas.networks.nasbench201 import Network
from jaxnas.networks.train import Data, Recipe

Curves = Mapping[str, np.ndarray]  # `trained.CURVES` by name, (n, epochs)


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
    depth: int = 3
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
    known: str | None = None
    """A trainings.npz of the same settings, which are not repeated, or fashion."""
    out: str = "results/train_table"
    """Folder for the results."""


def main(config: Config) -> None:
    """Trains what is missing and writes the table.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    settings.positive(config, "chunk", "train", "valid", "test", "seeds")
    if config.more < 0:
        raise ValueError(f"--more must be at least 0, not {config.more}")
    archs = trained.representatives(config.seed)
    total = len(archs) if config.classes is None else config.classes
    if not 1 <= total <= len(archs):
        raise ValueError(f"--classes must be 1 to {len(archs)}, not {total}")
    archs = archs[:total]
    data, source = images.parts(
        config.images,
        config.size,
        (config.train, config.valid, config.test),
        config.seed,
    )
    network = Network(
        config.channels, config.depth, source.classes, config.size, source.x.shape[-1]
    )
    recipe = Recipe(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        warmup=min(1.0, config.epochs / 8),
        each_step=True,
    )
    runs.check(network, recipe, archs, data)
    free = ("classes", "more", "seeds", "chunk", "known", "out")
    described = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    known = _known(config.known, described, archs)
    folder = chunks.open_folder(config.out, described)
    job = Job(folder, network, recipe, data, config.chunk)
    found = [
        _train(job, run, archs[:number], known[run] if run < len(known) else None)
        for run, number in enumerate(_numbers(config, total))
    ]
    manifest = {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(recipe),
        "settings": described,
        "hours": float(sum(np.nansum(f["seconds"]) for f in found)) / 3600,
        "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__},
        "platform": jax.default_backend(),
    }
    done = trained.Trainings(archs, found, source.name, manifest)
    trained.save(folder.path / "trainings.npz", done)
    path = folder.path / "table.npz"
    files.save(path, trained.table(done))
    line = f"{path}: {total} functions, {sum(len(f['loss']) for f in found)} trainings"
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)


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
    known = trained.load(sources.FASHION if path == "fashion" else path)
    theirs = known.manifest.get("settings")
    differ = chunks.differences(theirs if isinstance(theirs, dict) else {}, described)
    if differ:
        raise ValueError(f"--known {path} was trained with other settings ({differ})")
    both = min(len(archs), len(known.archs))
    if not np.array_equal(known.archs[:both], archs[:both]):
        raise ValueError(f"--known {path} has other architectures, or another order")
    return known.runs


class Job(NamedTuple):
    """What the trainings of one table share."""

    folder: Folder
    network: Network
    recipe: Recipe
    data: Data
    chunk: int


def _train(job: Job, run: int, archs: np.ndarray, known: Curves | None) -> Curves:
    """The curves (n, epochs) of one run of each architecture (n, 6).

    Args:
      known: the curves (m, epochs) of the first m.
    """
    num = len(known["loss"]) if known else 0
    devices = jax.local_devices()
    own = [jax.device_put(job.data, device) for device in devices]
    key = chunks.seed_keys(job.folder.settings["seed"], np.array([run]))[0]

    def simulate(label: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        # More than there are may be asked for, so that all chunks are of one size.
        indices = np.minimum(indices, len(archs) - 1)
        new = archs[indices[indices >= num]]
        # On a CPU one after another, for seconds of their own; else side by side.
        alone = devices[0].platform == "cpu"
        parts = len(new) if alone else min(len(new), len(devices))
        groups = np.array_split(new, parts) if parts else []

        def one(group: np.ndarray, index: int) -> Curves:
            arguments = key, job.network, job.recipe, group, own[index]
            return runs.train(*arguments, device=devices[index]).curves

        found = runs.on_devices(one, groups, len(devices))
        if known:
            old = indices[indices < num]
            found.insert(0, {name: known[name][old] for name in trained.CURVES})
        return {name: np.concatenate([f[name] for f in found]) for name in found[0]}

    label = f"run-{run}"
    return chunks.run_chunks(
        job.folder, [label], len(archs), simulate, chunk=job.chunk, evaluations=1
    )[label]


if __name__ == "__main__":
    settings.command(main, Config)
