"""Searches the best cell for the user's images in a given number of minutes."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from jaxnas.benchmarks.training import training_benchmark
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.networks import runs
from jaxnas.networks.train import Data, Recipe, epoch_steps
from jaxnas.search.base import Search
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies import cli, seed_store
from jaxnas.studies.images import cell_scores, stages, training_costs
from jaxnas.studies.images.budget import Ledger
from jaxnas.studies.images.log import Lines
from jaxnas.studies.images.results import Results
from jaxnas.studies.images.tasks import Task, default_data, some, task
from jaxnas.studies.images.training_costs import Costs, affordable
from jaxnas.types import Evaluate

ROOM = 2**26  # bytes that have to be free
HOOK_SECONDS = 45.0  # of the time for scores, from which on hook_logdet is one


@dataclass(frozen=True)
class Config:
    """Which images, how long, and how large the networks are."""

    data: str | None = None
    """fashion-mnist (Debian: dataset-fashion-mnist), digits, an npz of x and y, a folder of
    class folders with PNG, JPEG or WebP files, which are turned upright and laid over white
    where they are transparent, a folder of idx files or of CIFAR's batches, or a batch of
    CIFAR. Default: fashion-mnist where it is installed, else digits."""
    minutes: float = 10.0
    """Of work, compilation included, which alone takes up to two; what was done before a
    kill counts."""
    method: Literal["gp", "random"] = "gp"
    """Gaussian process over the best-scored cells, or random search over all."""
    arch: str | None = None
    """A cell in NAS-Bench-201's notation that is trained without a search."""
    size: int | None = None
    """Pixels on each side to which images are scaled, files that are not square squeezed;
    default: those of the images, to the nearest multiple of 4, at most 32."""
    channels: int | None = None
    """Of the first stage; default: 8, and 16 from 32 pixels."""
    cells_per_stage: int = 1
    """Cells in each of the three stages."""
    batch: int | None = None
    """Architectures that are chosen together; default: by the devices."""
    workers: int = 1
    """Trainings of the search at the same time on a CPU, each of which compiles the program
    for itself: pays where there are many cores; at most 50. The first device may use all
    cores too."""
    keep: float = 0.25
    """The share of cells that is searched, those with the best scores."""
    train_images: int = 2000
    """Of a training of the search, at most."""
    valid_images: int = 1000
    """By which those are compared, at most."""
    valid_share: float = 0.2
    """Of the images that are for validation."""
    test_share: float = 0.2
    """Of the images that are for tests, where they have no test part of their own."""
    lr: float = 0.1
    """Highest learning rate."""
    flip: bool | None = None
    """Mirror half of the training images; default: those with colours."""
    seed: int = 0
    """Of the parts, the weights and the search."""
    out: str = "results/search_images"
    """Folder for the results."""


def search_images(config: Config) -> dict[str, Any]:
    """Searches, or goes on with what is in the folder.

    Returns: what result.json holds.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    config = dataclasses.replace(
        config, data=default_data() if config.data is None else config.data
    )
    _check(config)
    what = _task(config)
    short = some(what.train, config.train_images, config.seed)
    data = what.data(short, some(what.valid, config.valid_images, config.seed))
    recipe = stages.recipe(what.network, len(data.x), config.lr, config.flip)
    runs.validate_training(what.network, recipe, training_costs.HEAVIEST[None], data)
    out = _claim(config, what)
    results = Results(out, what, dataclasses.asdict(config))
    ledger = Ledger(out / "ledger.json", 60 * config.minutes)
    lines = Lines(Console(stderr=True), ledger)
    if results.finished():
        return lines.finished(results.read(), out)
    method = config.method if config.arch is None else "the cell that was given"
    lines.begin(what, method, results.read().get("validation accuracy", -1.0))

    def tell(new: Evaluation) -> None:
        ledger.save()
        lines.evaluated(new)
        results.best_so_far(new)

    def search() -> Search:
        if scored is None:
            return stages.random(plan)
        return stages.gaussian_process(
            scored.best(config.keep, plan.steps * plan.batch), plan
        )

    def report(number: int, curves: dict[str, np.ndarray]) -> None:
        ledger.save()
        lines.trained(number, curves)

    # Without scores there is more time for trainings.
    scored = None
    if config.method == "gp" and config.arch is None:
        scored = _scored(config, what, out, ledger, lines)
    scored, plan = _planned(config, what, data, recipe, scored, ledger, lines)
    key = jax.random.key(config.seed)

    def trainings(epochs: int) -> Evaluate:
        return training_benchmark(
            key,
            what.network,
            dataclasses.replace(recipe, epochs=epochs),
            data,
            folder=out / "trainings",
            devices=jax.local_devices()[: config.workers],
        )

    evaluate = trainings(plan.epochs)
    if config.arch is not None:
        found = [stages.given(config.arch, evaluate, plan)]
    else:
        found = stages.searched(
            search, evaluate, plan, ledger, out / "search", config.seed, tell
        )
    lines.comparing(found, plan)
    # A longer training has a schedule of its own.
    longer = trainings(stages.LONGER * plan.epochs)
    ranked = stages.compared(found, longer, plan, ledger)
    final = stages.Final(
        **ledger.once(
            "final",
            lambda: stages.planned(
                ranked[0][0], found, data, plan, what, recipe, ledger
            )._asdict(),
        )
    )
    last = dataclasses.replace(
        recipe, epochs=final.epochs, warmup=min(1.0, final.epochs / 8)
    )
    lines.finally_trains(ranked[0], final, len(data.x))
    trained = stages.finally_trained(
        ranked[0][0], final, data, what, last, out / "final", config.seed, report
    )
    results.write(found, ranked, plan, final, trained, last, ledger)
    return lines.finished(results.read(), out)


def _task(config: Config) -> Task:
    return task(
        config.data or "",
        size=config.size,
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        valid_share=config.valid_share,
        test_share=config.test_share,
        seed=config.seed,
    )


def _planned(
    config: Config,
    what: Task,
    data: Data,
    recipe: Recipe,
    scored: cell_scores.Scored | None,
    ledger: Ledger,
    lines: Lines,
) -> tuple[cell_scores.Scored | None, stages.Plan]:
    """Of the scored cells those that can be afforded, and what there is time for."""

    def measure() -> dict[str, Any]:
        lines.compiling("a training of the search")
        found = training_costs.measured(
            what.network, recipe, data, config.batch, config.workers
        )
        return found._asdict()

    costs = Costs(**ledger.once("costs", measure))
    if config.arch is not None:
        archs = nasbench201.from_string(config.arch)[None]
    elif scored is None:
        archs = cell_scores.candidates()
    else:
        seconds = costs.of(what.network, scored.arch)
        allowed = affordable(seconds, *stages.enough(what, data, ledger))
        lines.affordable(int(allowed.sum()), len(allowed))
        scored = scored.only(allowed)
        archs = scored.best(config.keep, stages.MOST_EVALUATIONS).arch
    typical = float(costs.of(what.network, archs).mean())
    steps, _ = epoch_steps(recipe, len(data.x))
    plan = stages.Plan(
        **ledger.once(
            "plan", lambda: stages.plan(costs, typical, steps, ledger)._asdict()
        )
    )
    lines.planned(costs, plan)
    return scored, plan


def _scored(
    config: Config, what: Task, out: Path, ledger: Ledger, lines: Lines
) -> cell_scores.Scored:
    def report(done: int, total: int) -> bool:
        ledger.save()
        lines.scored(done, total)
        return ledger.left(stages.SCORED) <= 0

    # In less time hardly more than its compilation would be done.
    hook = 60 * config.minutes * stages.SCORED >= HOOK_SECONDS
    lines.compiling("scores of untrained networks" if hook else None)
    scores = files.make_folder(out / "scores")
    return cell_scores.score(what, scores, hook=hook, seed=config.seed, report=report)


def _check(config: Config) -> None:
    """Raises `ValueError` for what no search can have."""
    cli.minutes(config)
    if not 0 < config.keep <= 1:
        raise ValueError(f"--keep must be above 0 and at most 1, not {config.keep}")
    cli.seed(config, "seed")
    if config.arch is not None:
        nasbench201.from_string(config.arch)
    cli.positive(config, "train_images", "valid_images")
    # By default a batch has a cell for every worker.
    for flag, value in (("batch", config.batch), ("workers", config.workers)):
        if value is not None and not 1 <= value <= cell_scores.FEWEST:
            raise ValueError(
                f"--{flag} must be 1 to {cell_scores.FEWEST}, the fewest cells that are "
                f"searched, not {value}"
            )
    checkpoints.require_orbax()


def _claim(config: Config, what: Task) -> Path:
    """The folder for the results, made where it is missing."""
    described = dataclasses.asdict(config) | {"images_sha256": what.digest()}
    del described["out"]
    folder = seed_store.open_folder(config.out, described)
    out = folder.path
    try:
        there = next(p for p in (out, *out.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free < ROOM:
            found, wanted = free >> 20, ROOM >> 20
            raise ValueError(
                f"cannot use --out {out}: {found} MiB are free there, wanted {wanted}"
            )
    except OSError as error:
        raise ValueError(f"cannot use --out {out}: {error.strerror}") from error
    run_folder.create(folder)
    return out
