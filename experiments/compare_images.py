"""How does a search on images compare with no search and with simpler learners?

    python -m experiments.compare_images --data digits --minutes 10 --seeds 5
    python -m experiments.compare_images --data photos.npz --minutes 20 --seeds 1

Every method has the same images and the same minutes, in a process whose program is
compiled separately. `gp` and `random` are those of search_images, `gp-prior` is its
--prior; `fixed` trains one cell of 3 x 3 convolutions with a shortcut, without a search.
--final-network says how the network around the cell is chosen, for all of them. Two
learners of scikit-learn are compared as well: `svc`, support vectors whose C is chosen by
the validation images, and `mlp`, two hidden layers of 256. All are trained on the images of
training and validation in the end, and each seed divides the images differently. Prints
accuracies on test images and how many cells each search trained, and writes them as
table.csv to --out. The searches are kept there, and the same command resumes them, or
continues finished ones if it has more --minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from experiments import search_images
from experiments.common import cores
from experiments.common.image_peers import PEERS, peer
from jaxnas.io import files, run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.studies.images import tasks
from jaxnas.studies.images.prior import open_prior
from jaxnas.studies.images.results import Results
from jaxnas.studies.images.tasks import ImageTask

SEARCHES = ("gp", "gp-prior", "random", "fixed")
FIXED = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


@dataclass(frozen=True)
class Config:
    """Which images, how long, and what to compare."""

    data: str = "digits"
    """The images, as for search_images."""
    minutes: float = 10.0
    """Minutes of each search."""
    seeds: int = 5
    """Runs of each method; seed i divides the images in another way."""
    base_seed: int = 0
    """The first seed."""
    methods: tuple[str, ...] = ("gp", "random", "fixed", *PEERS)
    """Which methods: gp, gp-prior, random, fixed, svc, mlp."""
    prior: tuple[str, ...] = ("fashion",)
    """The prior of gp-prior, as --prior of search_images."""
    prior_from: str | None = None
    """The table of --prior."""
    final_network: Literal["sized", "searched"] | None = None
    """How the final network of each search is chosen, as for search_images."""
    clock: Literal["wall", "cpu"] = "wall"
    """What --minutes counts: wall-clock time, or CPU time, of which other programs take
    nothing."""
    together: int = 1
    """Searches at the same time, each on its share of the cores."""
    size: int | None = None
    """Pixels on each side; default: that of search_images."""
    channels: int | None = None
    """Channels of the first stage; default: that of search_images."""
    out: str = "results/compare_images"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs what is missing, prints and writes.

    Returns: percent of the test images (seeds,) of each method.
    Raises: `ValueError` for bad input, and if a search cannot be run.
    """
    _validate(config)
    seeds = range(config.base_seed, config.base_seed + config.seeds)
    tasks = {seed: _task(config, seed) for seed in seeds}
    # A digest that does not depend on the seeds, which may be added later.
    first = tasks[0] if 0 in tasks else _task(config, 0)
    folder = _claim_folder(config, first.digest())
    console = Console(stderr=True)

    def report(method: str, seed: int, accuracy: float) -> None:
        line = f"{method}, seed {seed}: {accuracy:.2f} % of test images"
        console.print(line, highlight=False, soft_wrap=True)

    def keep(method: str, seed: int, accuracy: float) -> None:
        piece = f"accuracies/{method}-{seed}"
        arrays, labels = {"accuracy": np.array(accuracy)}, _labels(config, method)
        run_folder.save_piece(folder, piece, arrays, labels)
        report(method, seed, accuracy)

    missing = [
        (method, seed)
        for seed in seeds
        for method in config.methods
        if _stored(config, folder, method, seed) is None
    ]
    # Those of scikit-learn first: they have no clock that others could disturb.
    for method, seed in (job for job in missing if job[0] in PEERS):
        keep(method, seed, peer(method, tasks[seed], seed))
    searches = files.make_folder(folder.path / "searches")
    run = partial(_search, config, searches, tasks)
    jobs = [job for job in missing if job[0] in SEARCHES]
    cores.run_on_cores(run, jobs, config.together, keep)
    accuracies = _accuracies(config, folder, seeds)
    _write(accuracies, tasks, config, folder.path)
    return accuracies


def _labels(config: Config, method: str) -> dict[str, float]:
    """What an accuracy depends on beside the folder: of a search, its minutes."""
    return {"minutes": config.minutes} if method in SEARCHES else {}


def _stored(config: Config, folder: RunFolder, method: str, seed: int) -> float | None:
    """The test accuracy in percent that was kept, or None."""
    name, labels = f"accuracies/{method}-{seed}", _labels(config, method)
    try:
        piece = run_folder.load_piece(folder, name, labels)
    except ValueError:
        return None
    return float(piece["accuracy"])


def _accuracies(
    config: Config, folder: RunFolder, seeds: range
) -> dict[str, np.ndarray]:
    """Percent (seeds,) of the methods, and of the folder's others with all seeds."""
    others = [m for m in SEARCHES + PEERS if m not in config.methods]
    methods = (*config.methods, *others)
    stored = {m: [_stored(config, folder, m, s) for s in seeds] for m in methods}
    complete = {m: v for m, v in stored.items() if None not in v}
    return {m: np.array(v, float) for m, v in complete.items()}


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong whatever the images hold."""
    cli.positive(config, "seeds", "together")
    cli.at_most(config, seeds=10_000)
    cli.seed(config)
    if config.base_seed + config.seeds > 2**32:
        raise ValueError("--base-seed + --seeds must be at most 2^32")
    cli.require_names(config.methods, SEARCHES + PEERS, "method")
    cli.minutes(config)
    if "gp-prior" in config.methods:
        options = {n: getattr(config, n) for n in ("data", "prior", "prior_from")}
        if open_prior(search_images.Config(**options)) is None:
            raise ValueError("--prior is empty: gp-prior needs one")
    num_cores = max(len(cores.available_cores()), 1)
    if config.together > num_cores:
        raise ValueError(
            f"--together must be at most {num_cores}, the number of cores, not "
            f"{config.together}"
        )


def _claim_folder(config: Config, images_sha256: str) -> RunFolder:
    """Makes the folder; seeds, methods and minutes may be added to it later."""
    names = ("data", "size", "channels", "together", "final_network")
    names += ("clock", "prior", "prior_from")
    identity = {n: getattr(config, n) for n in names}
    identity |= {"driver": "compare_images", "images_sha256": images_sha256}
    folder = seed_store.open_folder(config.out, identity)
    run_folder.create(folder)
    return folder


def _task(config: Config, seed: int) -> ImageTask:
    """The images, divided as search_images divides them with this seed."""
    defaults = search_images.Config()
    return tasks.load_task(
        config.data,
        size=config.size,
        channels=config.channels,
        cells_per_stage=defaults.cells_per_stage,
        valid_share=defaults.valid_share,
        test_share=defaults.test_share,
        seed=seed,
    )


def _search(
    config: Config,
    folder: Path,
    tasks: dict[int, ImageTask],
    job: tuple[str, int],
) -> float:
    """Runs search_images in a process of its own, or continues it.

    Args:
      config: the images and the minutes.
      folder: of all searches.
      tasks: by seed.
      job: method and seed.

    Returns: the test accuracy in percent.
    Raises: `ValueError` with the last line of its log if it fails.
    """
    method, seed = job
    out = folder / f"{method}-{seed}"
    command = [sys.executable, "-m", "experiments.search_images"]
    command += ["--data", config.data, "--minutes", str(config.minutes)]
    command += ["--seed", str(seed), "--out", str(out)]
    command += ["--clock", config.clock]
    command += _method_flags(config, method)
    for name in ("size", "channels", "final_network"):
        if (value := getattr(config, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    environment = _environment(config)
    with open(folder / f"{method}-{seed}.log", "a+") as log:
        done = subprocess.run(command, env=environment, stderr=log, stdout=log)
        log.seek(0)
        last = (log.read().splitlines() or ["it gave no reason"])[-1]
    if done.returncode:
        raise ValueError(f"{method}, seed {seed}: {last.removeprefix('error: ')}")
    result = Results(out, tasks[seed], {}).read()
    return result["test"]["accuracy"]


def _method_flags(config: Config, method: str) -> list[str]:
    """The flags of search_images that make it a method."""
    if method == "fixed":
        return ["--arch", FIXED]
    if method != "gp-prior":
        return ["--method", method]
    flags = ["--prior", *config.prior]
    return flags + (["--prior-from", config.prior_from] if config.prior_from else [])


def _environment(config: Config) -> dict[str, str]:
    """The environment of a search.

    A program from the cache of another run would be time that it did not spend. CPU time
    is that of one thread.
    """
    without = ("JAX_COMPILATION_CACHE_DIR",)
    environment = {k: v for k, v in os.environ.items() if k not in without}
    if config.clock == "cpu":
        environment |= {"NPROC": "1", "JAX_NUM_CPU_DEVICES": "1"}
    return environment


def _write(
    accuracies: dict[str, np.ndarray],
    tasks: dict[int, ImageTask],
    config: Config,
    out: Path,
) -> None:
    """Prints accuracies and numbers of cells by method and seed, and writes table.csv."""
    shown, written = [], []
    for method, values in accuracies.items():
        several = len(values) > 1
        error = values.std(ddof=1) / np.sqrt(len(values)) if several else np.nan
        cells = [
            _cells(out / "searches" / f"{method}-{s}", t) for s, t in tasks.items()
        ]
        numbers = (values.mean(), error, *values)
        written.append([method, *(f"{v:.6g}" for v in numbers), *cells])
        mean = f"{values.mean():.2f}" + (f" ± {error:.2f}" if several else "")
        shown.append([method, mean, *(f"{v:.2f}" for v in values), " ".join(cells)])
    first = next(iter(tasks.values()))
    title = (
        f"{first.train.name}: {len(first.test.x)} test images each, searches of "
        f"{config.minutes:g} {'CPU minutes' if config.clock == 'cpu' else 'minutes'}"
    )
    console = Console()
    seeds = [f"seed {seed}" for seed in tasks]
    header = ["method", "test accuracy", *seeds, "cells trained"]
    terminal.show_rows(console, header, shown, title)
    header = ["method", "mean", "standard error", *seeds]
    header += [f"cells trained, {seed}" for seed in seeds]
    files.write_csv(out / "table.csv", header, written)
    console.print(f"{out}: table.csv, searches", highlight=False, soft_wrap=True)


def _cells(out: Path, task: ImageTask) -> str:
    """Number of the cells that a search trained; a dash for a peer."""
    return str(Results(out, task, {}).read().get("searched cells", "-"))


if __name__ == "__main__":
    cli.command(main, Config)
