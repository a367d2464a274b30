"""What the stages of a search on images share, and how it is opened and claimed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from jaxnas.benchmarks.training import training_benchmark
from jaxnas.io import run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.recipes import Recipe
from jaxnas.studies import seed_store
from jaxnas.studies.images import bounds, stages, training_costs
from jaxnas.studies.images.bounds import Bound
from jaxnas.studies.images.budget import CLOCKS, TimeBudget
from jaxnas.studies.images.config import Config, validate
from jaxnas.studies.images.log import SearchLog
from jaxnas.studies.images.prior import Prior, open_prior
from jaxnas.studies.images.results import Results
from jaxnas.studies.images.tasks import ImageTask, default_data, load_task, subsample
from jaxnas.types import Evaluate

MIN_FREE = 2**26  # bytes on the disk of the results


class Study(NamedTuple):
    """Settings and services that all stages of a search share."""

    config: Config  # with the name of the images filled in
    task: ImageTask  # all images, and the network of the search
    data: Data  # images of a training of the search
    recipe: Recipe  # of one epoch
    out: Path  # the folder of all files
    budget: TimeBudget
    bounds: tuple[Bound, ...]
    prior: Prior | None  # accuracies on other images
    shares: stages.Shares  # of the budget
    log: SearchLog
    results: Results


class Inputs(NamedTuple):
    """What is read and checked before the folder of a search is touched."""

    config: Config  # with the name of the images filled in
    task: ImageTask
    data: Data  # images of a training of the search
    recipe: Recipe  # of one epoch


def open_inputs(config: Config) -> Inputs:
    """Validates the settings and loads the images.

    Args:
      config: the settings.

    Raises: `ValueError` for settings and images that cannot be used.
    """
    name = default_data() if config.data is None else config.data
    config = dataclasses.replace(config, data=name)
    validate(config)
    task = load_task(
        name,
        size=config.size,
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        valid_share=config.valid_share,
        test_share=config.test_share,
        seed=config.seed,
    )
    train = subsample(task.train, config.train_images, config.seed)
    valid = subsample(task.valid, config.valid_images, config.seed)
    data = task.data(train, valid)
    options = config.lr, config.horizontal_flip
    recipe = stages.training_recipe(task.network, len(data.x), *options)
    runs.validate_training(task.network, recipe, training_costs.HEAVIEST[None], data)
    return Inputs(config, task, data, recipe)


def open_study(config: Config) -> Study:
    """Validates the settings, loads the images and claims the folder.

    Args:
      config: the settings.

    Raises: `ValueError` for settings, images, priors and folders that cannot be used.
    """
    config, task, data, recipe = open_inputs(config)
    prior = None if config.arch is not None else open_prior(config)
    folder = check_folder(config, task, prior)
    run_folder.create(folder)
    out = folder.path
    results = Results(out, task, dataclasses.asdict(config))
    clock = CLOCKS[config.clock]
    budget = TimeBudget(out / "budget.json", 60 * config.minutes, clock)
    limits = bounds.make_bounds(config.latency, config.macs, budget)
    log = SearchLog(Console(stderr=True), budget)
    shares = stages.UNGUIDED if prior is None else stages.GUIDED
    if config.arch is not None:
        shares = stages.GIVEN
    return Study(
        config, task, data, recipe, out, budget, limits, prior, shares, log, results
    )


def trainings(study: Study, epochs: int) -> Evaluate:
    """Makes the benchmark that trains architectures for so many epochs.

    Curves and scores of finished trainings are kept in the folder, by architecture. Cells
    beyond a bound fail without a training.

    Args:
      study: what the stages share.
      epochs: of the schedule.
    """
    evaluate = training_benchmark(
        jax.random.key(study.config.seed),
        study.task.network,
        dataclasses.replace(study.recipe, epochs=epochs),
        study.data,
        folder=study.out / "trainings",
        devices=jax.local_devices()[: study.config.workers],
        clock=study.budget.clock,
    )
    return bounds.within(evaluate, study.bounds, study.task.network)


def check_folder(
    config: Config, task: ImageTask, prior: Prior | None = None
) -> RunFolder:
    """Checks that the results can be kept in the folder; writes nothing.

    It is to belong to these settings, these images and the content of the prior.

    Args:
      config: the settings.
      task: the images.
      prior: accuracies on other images.

    Raises: `ValueError` if it belongs to others, cannot be written, or its disk is full.
    """
    identity = dataclasses.asdict(config) | {"images_sha256": task.digest()}
    # A search can be given more minutes, as `TimeBudget` checks.
    del identity["out"], identity["minutes"]
    identity["driver"] = "search_images"
    if prior is not None:
        identity["prior_sha256"] = prior.sha256
    folder = seed_store.open_folder(config.out, identity)
    out = folder.path
    try:
        nearest = next(p for p in (out, *out.absolute().parents) if p.exists())
        free = shutil.disk_usage(nearest).free
    except OSError as error:
        raise ValueError(f"cannot use --out {out}: {error.strerror}") from error
    if free < MIN_FREE:
        raise ValueError(
            f"cannot use --out {out}: {free >> 20} MiB are free there, wanted "
            f"{MIN_FREE >> 20}"
        )
    return folder
