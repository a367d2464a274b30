"""What does a search on images give that no search and simpler learners do not?

    python -m experiments.compare_images --data digits --minutes 10 --seeds 5
    python -m experiments.compare_images --data photos.npz --minutes 20 --seeds 1

Every method has the same images and the same minutes, in a process of its own that
compiles for itself: `gp` and `random` are those of search_images, `fixed` is one cell of
3 x 3 convolutions with a shortcut that is trained without a search. Beside them are those
of scikit-learn: `svc`, support vectors whose C is chosen by the validation images, and
`mlp`, two hidden layers of 256. All learn from the images of training and validation in
the end, and each seed has other parts. Prints, and writes as table.csv to --out, accuracies
on test images; what was searched stays there, and the same command goes on with it.
"""

from __future__ import annotations

import csv
import io
import os
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments import search_images
from experiments.zero_cost import score_columns
from jaxnas.io import files, run_folder
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.studies.images import tasks
from jaxnas.studies.images.results import Results
from jaxnas.studies.images.tasks import Task

SEARCHES = ("gp", "random", "fixed")
PEERS = ("svc", "mlp")
FIXED = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


@dataclass(frozen=True)
class Config:
    """Which images, how long, and what to compare."""

    data: str = "digits"
    """As of search_images."""
    minutes: float = 10.0
    """Of each search."""
    seeds: int = 5
    """Runs of each method; seed i divides the images in another way."""
    base_seed: int = 0
    """The first seed."""
    methods: tuple[str, ...] = SEARCHES + PEERS
    """gp, random, fixed, svc, mlp."""
    together: int = 1
    """Searches at the same time, each on its share of the cores."""
    size: int | None = None
    """Pixels on each side; default: that of search_images."""
    channels: int | None = None
    """Of the first stage; default: that of search_images."""
    out: str = "results/compare_images"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs what is missing, prints and writes.

    Returns: percent of the test images (seeds,) of each method.
    Raises: `ValueError` for bad input, and if a search cannot be run.
    """
    cli.positive(config, "seeds", "together")
    cli.seed(config)
    if config.base_seed + config.seeds > 2**32:
        raise ValueError("--base-seed + --seeds must be at most 2^32")
    score_columns.require_known(
        config.methods, dict.fromkeys(SEARCHES + PEERS), "method"
    )
    if len(set(config.methods)) < len(config.methods):
        raise ValueError("--methods names some more than once")
    cli.minutes(config)
    if config.together > max(len(_cores()), 1):
        raise ValueError(
            f"--together must be at most {max(len(_cores()), 1)}, the number of cores, "
            f"not {config.together}"
        )
    seeds = range(config.base_seed, config.base_seed + config.seeds)
    tasks = {seed: _task(config, seed) for seed in seeds}
    # More seeds and other methods may join those that are there.
    searched = {n: getattr(config, n) for n in ("data", "minutes", "size", "channels")}
    folder = seed_store.open_folder(config.out, {"driver": "compare_images"} | searched)
    run_folder.create(folder)
    out = folder.path
    console = Console(stderr=True)

    def say(method: str, seed: int, accuracy: float) -> None:
        line = f"{method}, seed {seed}: {accuracy:.2f} % of test images"
        console.print(line, highlight=False, soft_wrap=True)

    found: dict[tuple[str, int], float] = {}
    # Those of scikit-learn first: they have no clock that others could disturb.
    for method in (m for m in PEERS if m in config.methods):
        for seed in seeds:
            found[method, seed] = peer(method, tasks[seed], seed)
            say(method, seed, found[method, seed])
    wanted = [(m, s) for s in seeds for m in SEARCHES if m in config.methods]
    files.make_folder(out / "searches")
    run = partial(_search, config, out / "searches", tasks)
    for (method, seed), accuracy in zip(
        wanted, _on_cores(run, wanted, config.together, say), strict=True
    ):
        found[method, seed] = accuracy
    accuracies = {m: np.array([found[m, s] for s in seeds]) for m in config.methods}
    _report(accuracies, seeds, tasks[seeds[0]], config, out)
    return accuracies


def _task(config: Config, seed: int) -> Task:
    """The images and parts that search_images has with this seed."""
    theirs = search_images.Config()
    return tasks.load_task(
        config.data,
        size=config.size,
        channels=config.channels,
        cells_per_stage=theirs.cells_per_stage,
        valid_share=theirs.valid_share,
        test_share=theirs.test_share,
        seed=seed,
    )


def peer(method: str, task: Task, seed: int) -> float:
    """Percent of the test images that a learner of scikit-learn gets right."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    def pixels(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) / max(float(np.abs(task.train.x).max()), 1e-12)

    both = task.train_and_valid()
    x, y = pixels(both.x), both.y
    if method == "mlp":
        model = MLPClassifier((256, 256), max_iter=500, random_state=seed)
    else:
        num = len(task.train.x)
        tried = [SVC(C=c).fit(x[:num], y[:num]) for c in (1.0, 10.0, 100.0)]
        valid = [m.score(x[num:], y[num:]) for m in tried]
        model = SVC(C=tried[int(np.argmax(valid))].C)
    return 100 * float(model.fit(x, y).score(pixels(task.test.x), task.test.y))


def _cores() -> list[int]:
    """Those that this process may use; nothing where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _on_cores(
    run: Callable[[tuple[str, int]], float],
    wanted: list[tuple[str, int]],
    together: int,
    say: Callable[[str, int, float], None],
) -> list[float]:
    """Runs so many at the same time, each on cores of its own."""
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for part in range(together):
        shares.put(set(_cores()[part::together]))

    def one(which: tuple[str, int]) -> float:
        share = shares.get()
        try:
            if share:  # of this thread, and of the process that it starts
                os.sched_setaffinity(0, share)
            accuracy = run(which)
        finally:
            shares.put(share)
        say(*which, accuracy)
        return accuracy

    with ThreadPoolExecutor(together) as pool:
        futures = [pool.submit(one, which) for which in wanted]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def _search(
    config: Config,
    folder: Path,
    tasks: dict[int, Task],
    which: tuple[str, int],
) -> float:
    """A search in a process of its own, or what one has left before."""
    method, seed = which
    out = folder / f"{method}-{seed}"
    command = [sys.executable, "-m", "experiments.search_images"]
    command += ["--data", config.data, "--minutes", str(config.minutes)]
    command += ["--seed", str(seed), "--out", str(out)]
    command += ["--arch", FIXED] if method == "fixed" else ["--method", method]
    for name in ("size", "channels"):
        if (value := getattr(config, name)) is not None:
            command += [f"--{name}", str(value)]
    # A program that another run has compiled would be time that it did not have.
    own = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    with open(folder / f"{method}-{seed}.log", "a+") as log:
        done = subprocess.run(command, env=own, stderr=log, stdout=log)
        log.seek(0)
        last = (log.read().splitlines() or ["nothing was said"])[-1]
    if done.returncode:
        raise ValueError(f"{method}, seed {seed}: {last.removeprefix('error: ')}")
    result = Results(out, tasks[seed], {}).read()
    return result["test"]["accuracy"]


def _report(
    accuracies: dict[str, np.ndarray],
    seeds: range,
    task: Task,
    config: Config,
    out: Path,
) -> None:
    console, shown, text = Console(), terminal.plain(), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "mean", "standard error", *(f"seed {s}" for s in seeds)])
    for column in ("method", "test accuracy", *(f"seed {s}" for s in seeds)):
        shown.add_column(column, no_wrap=True)
    for method, values in accuracies.items():
        several = len(values) > 1
        error = values.std(ddof=1) / np.sqrt(len(values)) if several else np.nan
        writer.writerow(
            [method, *(f"{v:.6g}" for v in (values.mean(), error, *values))]
        )
        mean = f"{values.mean():.2f}" + (f" ± {error:.2f}" if several else "")
        shown.add_row(method, mean, *(f"{v:.2f}" for v in values))
    console.print(
        f"{task.train.name}: {len(task.test.x)} test images each, searches of "
        f"{config.minutes:g} minutes",
        highlight=False,
        soft_wrap=True,
    )
    terminal.show(console, shown)
    files.atomic_write(out / "table.csv", text.getvalue().encode())
    console.print(f"{out}: table.csv, searches", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.command(main, Config)
