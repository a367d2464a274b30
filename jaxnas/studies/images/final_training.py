"""The final training: the best cell on the images of training and validation.

It takes what is left of the budget, a few seconds less for the test and the files. Its
network is that of the search, or of the size that `final_network` chooses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
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
from jaxnas.studies.images.final_network import FinalPlan
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


def with_epochs(
    study: Study,
    draft: FinalPlan,
    shares: Sequence[float],
    seconds: Sequence[float],
    least: int = 1,
) -> FinalPlan:
    """Decides how many epochs there is time for.

    Args:
      study: with all images, the time that is left, and the recipe: with flips more passes
        over the images are worth their time.
      draft: a plan with other numbers of epochs.
      shares: of the time, of each phase.
      seconds: of an epoch of each phase.
      least: epochs of the last phase.
    """
    passes = MAX_PASSES_FLIPPED if study.recipe.horizontal_flip else MAX_PASSES
    most = passes * len(study.task.train_and_valid().x)
    available = available_seconds(study.budget)
    timed = zip(shares, seconds, strict=True)
    epochs = [max(1, int(share * available / each)) for share, each in timed]
    epochs[-1] = max(epochs[-1], least)
    total = sum(e * i for e, i in zip(epochs, draft.images, strict=True))
    if total > most:  # the same ratio
        epochs = [max(1, math.ceil(e * most / total)) for e in epochs]
    save_every = max(1, round(CHECKPOINT_SECONDS / seconds[-1]))
    return draft._replace(epochs=epochs, save_every=save_every)


def _phase(
    study: Study, final: FinalPlan, phase: int
) -> tuple[NetworkConfig, Recipe, Data]:
    """The network and the recipe of a phase, and the shapes of its epochs.

    Args:
      study: what the stages share.
      final: the plan.
      phase: its number.
    """
    task, size, num = study.task, final.sizes[phase], final.images[phase]
    network = final.network(task.network, phase)
    both, most = task.train_and_valid(), max(num, final.valid)
    first = both._replace(x=both.x[:most], y=both.y[:most])
    x, y, *_ = task.normalised(opened.resize_square(first, size))
    pad = -task.mean / task.std
    data = Data.without_test(x[:num], y[:num], x[: final.valid], y[: final.valid], pad)
    return network, final.recipe(study.recipe, phase), data


def epoch_seconds(
    study: Study, arch: np.ndarray, final: FinalPlan, phase: int
) -> float:
    """Measures the seconds of an epoch by a second one.

    Args:
      study: what the stages share.
      arch: (6,) the cell.
      final: the plan, with any numbers of epochs.
      phase: its number.
    """
    network, recipe, data = _phase(study, final, phase)
    recipe, key = dataclasses.replace(recipe, epochs=2), jax.random.key(0)
    options: dict[str, Any] = {"static": final.sized, "clock": study.budget.clock}
    trained = runs.train(key, network, recipe, arch[None], data, **options)
    return max(float(trained.curves["seconds"][0, 1]), 1e-6)


def train_final(
    study: Study,
    arch: str,
    final: FinalPlan,
    report: Callable[[int, dict[str, np.ndarray]], None],
) -> Trained:
    """Trains one network on the images of training and validation.

    The validation curve is meaningless, as those are training images here. Phases that
    were finished before are neither compiled nor reported again.

    Args:
      study: what the stages share.
      arch: the architecture.
      final: the network and the length of the training.
      report: called with the number of each epoch, from 0, and the curves so far.
    """
    cell, trained = nasbench201.from_string(arch), None
    # Checkpoints of one length of each phase, which larger budgets change.
    name = "".join(map(str, cell.tolist()))
    epochs = "+".join(map(str, final.epochs))
    folder = study.out / f"final/{name}-{final.channels}x{final.cells}-{epochs}"
    paths = [folder / f"{size}-pixels" for size in final.sizes]
    # The phases before it are finished, and it has their state and curves.
    begun = max(
        (i for i, path in enumerate(paths) if checkpoints.exists(path)), default=0
    )
    done = sum(final.epochs[:begun])
    for phase in range(begun, len(paths)):
        path, size, seed = paths[phase], final.sizes[phase], study.config.seed
        network, recipe, data = _phase(study, final, phase)
        previous = trained and PartialTraining(done, trained.state, trained.curves)
        done += final.epochs[phase]
        trained = runs.train(
            jax.random.key(seed),
            network,
            recipe,
            cell[None],
            data,
            folder=path,
            save_every=final.save_every,
            static=final.sized,
            images=_epochs_of(study.task, size, len(data.x), seed),
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
