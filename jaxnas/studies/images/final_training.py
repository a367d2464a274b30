"""The final training: the best cell on the images of training and validation.

It takes what is left of the budget, a few seconds less for the test and the files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.recipes import Recipe
from jaxnas.networks.runs import Trained
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.stages import SEARCH_END, SearchPlan
from jaxnas.studies.images.tasks import ImageTask

MIN_PASSES = 30  # over all images, that a cell must have time for to be searched
MAX_PASSES = 60  # over all images
MAX_PASSES_FLIPPED = 200  # the same, if half of them are mirrored anew each time
CHECKPOINT_SECONDS = 20.0  # between checkpoints
RESERVE_SECONDS = 15.0  # for the test and the files
SAFETY_FACTOR = 0.9  # of the time that is left, as the speed of machines varies


class FinalPlan(NamedTuple):
    """The length of the final training."""

    epochs: int  # each of as many images as an epoch of the search
    save_every: int  # epochs between checkpoints


def requirements(
    task: ImageTask, data: Data, budget: TimeBudget
) -> tuple[float, float]:
    """Estimates the time of the final training and the length that it needs.

    Args:
      task: all images.
      data: those of a training of the search, which are an epoch.
      budget: the whole of it.

    Returns: seconds, and epochs.
    """
    seconds = SAFETY_FACTOR * ((1 - SEARCH_END) * budget.seconds - RESERVE_SECONDS)
    return seconds, MIN_PASSES * len(task.train_and_valid().x) / len(data.x)


def plan_final_training(
    arch: str,
    history: list[Evaluation],
    data: Data,
    plan: SearchPlan,
    task: ImageTask,
    recipe: Recipe,
    budget: TimeBudget,
) -> FinalPlan:
    """Decides how many epochs there is time for.

    Args:
      arch: the architecture, whose cost in the search is that of an epoch.
      history: the evaluations of the search.
      data: the images of an epoch of the search.
      plan: of the search; the final training is never shorter than one of these.
      task: all images.
      recipe: with flips more passes over the images are worth their time.
      budget: the time that is left.
    """
    costs = [e.cost / plan.epochs for e in history if e.arch == arch] or [plan.seconds]
    seconds = max(costs[0], 1e-6)
    passes = MAX_PASSES_FLIPPED if recipe.horizontal_flip else MAX_PASSES
    most = math.ceil(passes * len(task.train_and_valid().x) / len(data.x))
    available = SAFETY_FACTOR * (budget.left() - RESERVE_SECONDS)
    epochs = min(max(int(available / seconds), plan.epochs), most)
    return FinalPlan(epochs, max(1, round(CHECKPOINT_SECONDS / seconds)))


def train_final(
    arch: str,
    final: FinalPlan,
    data: Data,
    task: ImageTask,
    recipe: Recipe,
    folder: Path,
    seed: int,
    report: Callable[[int, dict[str, np.ndarray]], None],
) -> Trained:
    """Trains one network on the images of training and validation.

    An epoch has as many images as one of the search, so that the compiled program is the
    same. The validation curve is meaningless, as those are training images here.

    Args:
      arch: the architecture.
      final: the length of the training.
      data: the images of a training of the search, for their number.
      task: all images.
      recipe: with the epochs of `final`.
      folder: of the checkpoints.
      seed: of the weights and the order of the images.
      report: called with the number of each epoch, from 0, and the curves so far.
    """
    images = task.normalised(task.train_and_valid())
    num = len(data.x)

    def epoch_images(number: int) -> tuple[np.ndarray, np.ndarray]:
        """The next `num` images: all in random order, and then again in another."""
        passes, positions = np.divmod(number * num + np.arange(num), len(images.x))
        orders = {
            p: np.random.default_rng((seed, p)).permutation(len(images.x))
            for p in np.unique(passes)
        }
        pairs = zip(passes, positions, strict=True)
        chosen = np.array([orders[p][i] for p, i in pairs])
        return images.x[chosen], images.y[chosen]

    return runs.train(
        jax.random.key(seed),
        task.network,
        recipe,
        nasbench201.from_string(arch)[None],
        data,
        folder=folder,
        save_every=final.save_every,
        images=epoch_images,
        report=report,
    )
