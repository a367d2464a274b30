"""The final training: the best cell on the images of training and validation.

It takes what is left of the budget, a few seconds less for the test and the files. Its
network is that of the search, or of the size that `final_network` chooses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnas.datasets import opened
from jaxnas.io import checkpoints
from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.partial import PartialTraining
from jaxnas.networks.recipes import Recipe
from jaxnas.networks.runs import Trained
from jaxnas.spaces import nasbench201
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.final_network import FinalPlan, Phase
from jaxnas.studies.images.study import Study
from jaxnas.studies.images.tasks import ImageTask

MIN_PASSES = 30  # over all images, that a cell must have time for to be searched
MAX_PASSES = 60  # over all images
MAX_PASSES_FLIPPED = 200  # the same, if half of them are mirrored anew each time
CHECKPOINT_SECONDS = 20.0  # between checkpoints
RESERVE_SECONDS = 15.0  # for the test and the files
SAFETY_FACTOR = 0.9  # of the time that is left, as the speed of machines varies


def available_seconds(budget: TimeBudget) -> float:
    """Returns the seconds that the final training may take."""
    return SAFETY_FACTOR * (budget.left() - RESERVE_SECONDS)


def requirements(
    task: ImageTask, data: Data, budget: TimeBudget, search_end: float
) -> tuple[float, float]:
    """Estimates the time of the final training and the length that it needs.

    Args:
      task: all images.
      data: those of a training of the search, which are an epoch.
      budget: the whole of it.
      search_end: share of it that is spent when the search ends.

    Returns: seconds, and epochs.
    """
    seconds = SAFETY_FACTOR * ((1 - search_end) * budget.seconds - RESERVE_SECONDS)
    return seconds, MIN_PASSES * len(task.train_and_valid().x) / len(data.x)


def plan_phases(
    study: Study,
    phases: list[Phase],
    seconds: list[float],
    channels: int,
    valid: int,
    *,
    cutout: bool = False,
    static: bool = False,
    least: int = 1,
) -> FinalPlan:
    """Decides how many epochs there is time for.

    Args:
      study: with all images, the time that is left, and the recipe: with flips more passes
        over the images are worth their time.
      phases: of the training.
      seconds: of an epoch of each phase.
      channels: of the first stage.
      valid: images of an epoch's validation.
      cutout: as in `FinalPlan`.
      static: as in `FinalPlan`.
      least: epochs of the last phase.
    """
    passes = MAX_PASSES_FLIPPED if study.recipe.horizontal_flip else MAX_PASSES
    most = passes * len(study.task.train_and_valid().x)
    available = available_seconds(study.budget)
    timed = zip(phases, seconds, strict=True)
    epochs = [max(1, int(phase.share * available / each)) for phase, each in timed]
    epochs[-1] = max(epochs[-1], least)
    images = [phase.images for phase in phases]
    total = np.dot(epochs, images)
    if total > most:  # the same ratio
        epochs = [max(1, math.ceil(e * most / total)) for e in epochs]
    save_every = max(1, round(CHECKPOINT_SECONDS / seconds[-1]))
    sizes = [phase.size for phase in phases]
    return FinalPlan(channels, sizes, epochs, images, valid, cutout, static, save_every)


def _phase(
    study: Study, channels: int, size: int, images: tuple[int, int], cutout: bool
) -> tuple[NetworkConfig, Recipe, Data]:
    """The network and the recipe of a phase, and the shapes of its epochs.

    Args:
      study: what the stages share.
      channels: of the first stage.
      size: pixels on each side.
      images: of an epoch, and of its validation.
      cutout: as in `FinalPlan`.
    """
    task, (num, valid) = study.task, images
    sizes = {"stem_channels": channels, "image_size": size}
    network = dataclasses.replace(task.network, **sizes)
    augmentation = {"crop": size // 8, "cutout": cutout * (size // 2)}
    recipe = dataclasses.replace(study.recipe, **augmentation)
    both, most = task.train_and_valid(), max(images)
    first = both._replace(x=both.x[:most], y=both.y[:most])
    x, y, *_ = task.normalised(opened.resize_square(first, size))
    pad = -task.mean / task.std
    data = Data.without_test(x[:num], y[:num], x[:valid], y[:valid], pad)
    return network, recipe, data


def epoch_seconds(
    study: Study,
    arch: np.ndarray,
    channels: int,
    size: int,
    images: tuple[int, int],
    cutout: bool,
) -> float:
    """Measures the seconds of an epoch by a second one; the program has the cell in it.

    Args:
      study: what the stages share.
      arch: (6,) the cell.
      channels: of the first stage.
      size: pixels on each side.
      images: of an epoch, and of its validation.
      cutout: as in `FinalPlan`.
    """
    network, recipe, data = _phase(study, channels, size, images, cutout)
    recipe, key = dataclasses.replace(recipe, epochs=2), jax.random.key(0)
    options: dict[str, Any] = {"static": True, "clock": study.budget.clock}
    trained = runs.train(key, network, recipe, arch[None], data, **options)
    return max(float(trained.curves["seconds"][0, 1]), 1e-6)


def train_final(
    study: Study,
    arch: str,
    final: FinalPlan,
    report: Callable[[int, dict[str, np.ndarray]], None],
) -> Trained:
    """Trains one network on the images of training and validation.

    The validation curve is meaningless, as those are training images here.

    Args:
      study: what the stages share.
      arch: the architecture.
      final: the network and the length of the training.
      report: called with the number of each epoch, from 0, and the curves so far.
    """
    cell, done, trained = nasbench201.from_string(arch), 0, None
    # Checkpoints of one length of each phase, which larger budgets change.
    name = "".join(map(str, cell.tolist()))
    epochs = "+".join(map(str, final.epochs))
    folder = study.out / f"final/{name}-{final.channels}-{epochs}"
    phases = zip(final.sizes, final.epochs, final.images, strict=True)
    for size, epochs, images in phases:
        path, seed = folder / f"{size}-pixels", study.config.seed
        inputs = final.channels, size, (images, final.valid), final.cutout
        network, recipe, data = _phase(study, *inputs)
        previous = trained and PartialTraining(done, trained.state, trained.curves)
        done += epochs
        trained = runs.train(
            jax.random.key(seed),
            network,
            final.recipe(recipe),
            cell[None],
            data,
            folder=path,
            save_every=final.save_every,
            static=final.static,
            images=_epochs_of(study.task, size, images, seed),
            report=report,
            # A checkpoint of this phase continues it.
            resume_from=None if checkpoints.exists(path) else previous,
            stop_epoch=done,
        )
    assert trained is not None
    return trained


def _epochs_of(
    task: ImageTask, size: int, num: int, seed: int
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """The images of each epoch: all in random order, and then again in another."""
    images = task.normalised(opened.resize_square(task.train_and_valid(), size))

    def epoch_images(number: int) -> tuple[np.ndarray, np.ndarray]:
        passes, positions = np.divmod(number * num + np.arange(num), len(images.x))
        orders = {
            p: np.random.default_rng((seed, p)).permutation(len(images.x))
            for p in np.unique(passes)
        }
        pairs = zip(passes, positions, strict=True)
        chosen = np.array([orders[p][i] for p, i in pairs])
        return images.x[chosen], images.y[chosen]

    return epoch_images
