"""The stages of a search on images: plan, search, finalists, final training.

Every stage reads what it finished before, and does the rest. Shares of the budget are
counted from its start, so that what one leaves is the next one's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.networks import runs
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.runs import Trained
from jaxnas.networks.train import Data, Recipe
from jaxnas.predictors import few_labels
from jaxnas.predictors.pool import make_pool
from jaxnas.search import drive, presets
from jaxnas.search.base import Search
from jaxnas.search.drive import Evaluation
from jaxnas.search.gp import selectors
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.random import random_search
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_class
from jaxnas.studies.images.budget import Ledger
from jaxnas.studies.images.cell_scores import Scored
from jaxnas.studies.images.tasks import Task
from jaxnas.studies.images.training_costs import Costs, query
from jaxnas.types import Evaluate

# Shares of the budget that are spent when a stage ends.
SCORED, SEARCHED, COMPARED = 0.1, 0.6, 0.7
MOST_EPOCHS, MOST_EVALUATIONS = 12, 400  # of the search
LONGER = 4  # times the epochs of the search, for the finalists
STEPS = 50  # of a training of the search, at least
FINAL_PASSES = 60  # over all images, at most,
FLIPPED_PASSES = 200  # and where half of them are mirrored anew each time
SAVED = 20.0  # seconds between checkpoints of the final training
SPARE = 15.0  # seconds for the tests and files of the end
FITTING = 0.9  # of the time that is left, as machines are not always as fast
ENOUGH = 30  # passes of the final training, of cells that can be afforded


class Plan(NamedTuple):
    """What there is time for."""

    epochs: int  # of a training of the search
    steps: int  # of the search, at most
    batch: int  # architectures of a step
    seconds: float  # of an epoch of a typical cell of those that are searched, alone
    side: int  # trainings that take these seconds together


class Enough(Exception):
    """The time of a stage is over."""


def recipe(network: NetworkConfig, images: int, lr: float, flip: bool | None) -> Recipe:
    """Of a training on so many images, whose epochs the plan says.

    With other epochs and a warm-up it is that of the final training, so that one program
    serves both.
    """
    return Recipe(
        epochs=1,
        batch=min(64, max(8, images // 16)),
        lr=lr,
        per_step_schedule=True,
        crop=network.image_size // 8,
        horizontal_flip=network.in_channels > 1 if flip is None else flip,
    )


def plan(costs: Costs, typical: float, steps: float, ledger: Ledger) -> Plan:
    """Shares out the time that is left.

    Args:
      typical: seconds of an epoch of a cell of those that are searched.
      steps: of an epoch.
    """
    room = max(ledger.left(SEARCHED), 0.0) / typical * costs.side  # epochs
    # Running statistics need some steps; but one batch there has to be.
    least = min(STEPS / steps, room / costs.batch)
    epochs = max(min(0.4 * math.sqrt(room), MOST_EPOCHS), least, 1)
    epochs = round(epochs)
    count = min(room / epochs, MOST_EVALUATIONS)
    rounds = max(1, int(count / costs.batch))
    return Plan(epochs, rounds, costs.batch, typical, costs.side)


def enough(task: Task, data: Data, ledger: Ledger) -> tuple[float, float]:
    """Seconds for the final training, and epochs that it should have at least."""
    seconds = FITTING * ((1 - SEARCHED) * ledger.seconds - SPARE)
    return seconds, ENOUGH * len(task.both().x) / len(data.x)


def gaussian_process(scored: Scored, plan: Plan) -> Search:
    """k-DPP batches among the scored cells, whose ranks are part of the distance."""
    ranks = few_labels.ranked(np.stack(list(scored.scores.values()), 1))
    parts: list[FeatureMap] = [feature(SPACE) for feature in presets.FEATURES]
    parts.append(few_labels.features_by_architecture(SPACE, scored.arch, ranks))
    evaluations = max(plan.steps * plan.batch, 2)
    return bayesopt(
        make_pool(SPACE, parts, arch=scored.arch, same=function_class),
        init=min(presets.INIT, evaluations),
        batch=plan.batch,
        select=selectors.kdpp(),
        clip_below=presets.CLIP_BELOW,
        capacity=evaluations,
        epoch=plan.epochs,
    )


def random(plan: Plan) -> Search:
    """Any cells, each function once."""
    capacity = plan.steps * plan.batch
    return random_search(
        SPACE,
        batch=plan.batch,
        capacity=capacity,
        epoch=plan.epochs,
        same=function_class,
    )


def searched(
    make: Callable[[], Search],
    evaluate: Evaluate,
    plan: Plan,
    ledger: Ledger,
    folder: Path,
    seed: int,
    tell: Callable[[Evaluation], object],
) -> list[Evaluation]:
    """The history, when all steps of the search are done or the time is over."""

    def told(new: Evaluation) -> None:
        tell(new)
        if new.slot == plan.batch - 1 and ledger.left(SEARCHED) <= 0:
            raise Enough

    if "searched" not in ledger:
        key = jax.random.key(seed)
        asked = drive.Together(evaluate)
        try:
            drive.optimise(key, make(), asked, plan.steps, folder, tell=told)
        except Enough:
            pass
    found = drive.read(folder)
    ledger.once("searched", lambda: len(found))
    return found


def given(arch: str, evaluate: Evaluate, plan: Plan) -> Evaluation:
    """A training of the search of this cell, in place of a search."""
    asked = query([nasbench201.from_string(arch)], plan.epochs, plan.batch)
    result = evaluate(jax.random.key(0), asked)
    score, cost = float(result.score[0]), float(result.cost[0])
    return Evaluation(arch, score, plan.epochs, cost=cost, step=0)


def compared(
    found: list[Evaluation], evaluate: Evaluate, plan: Plan, ledger: Ledger
) -> list[tuple[str, float]]:
    """The best architectures and their validation accuracy in percent, best first.

    Where there is time these have had a longer training each.

    Args:
      evaluate: trains for `LONGER` times the epochs of the search.
    """
    scored = sorted(
        (e for e in found if not math.isnan(e.score)), key=lambda e: -e.score
    )
    if not scored:
        raise ValueError(f"none of {len(found)} trainings has given a finite accuracy")

    def choose() -> list[str]:
        rounds = ledger.left(COMPARED) / (LONGER * plan.epochs * plan.seconds)
        count = min(plan.batch, int(rounds * plan.side), len(scored))
        return [e.arch for e in scored[: max(count, 1)]]

    names = ledger.once("finalists", choose)
    if len(names) == 1:
        return [(e.arch, e.score) for e in scored[:1]]
    archs = [nasbench201.from_string(name) for name in names]
    asked = query(archs, LONGER * plan.epochs, plan.batch)
    score = np.asarray(evaluate(jax.random.key(0), asked).score)[: len(names)]
    order = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")
    return [(names[i], float(score[i])) for i in order]


class Final(NamedTuple):
    """The final training, as it was planned."""

    epochs: int  # each of as many images as one of the search
    save_every: int  # epochs


def planned(
    arch: str,
    found: list[Evaluation],
    data: Data,
    plan: Plan,
    task: Task,
    recipe: Recipe,
    ledger: Ledger,
) -> Final:
    """How many epochs there is time for, with this architecture."""
    each = [e.cost / plan.epochs for e in found if e.arch == arch] or [plan.seconds]
    each = max(each[0], 1e-6)
    passes = FLIPPED_PASSES if recipe.horizontal_flip else FINAL_PASSES
    most = math.ceil(passes * len(task.both().x) / len(data.x))
    # Never fewer than a training of the search has.
    fitting = max(int(FITTING * (ledger.left() - SPARE) / each), plan.epochs)
    return Final(min(fitting, most), max(1, round(SAVED / each)))


def finally_trained(
    arch: str,
    final: Final,
    data: Data,
    task: Task,
    recipe: Recipe,
    folder: Path,
    seed: int,
    report: Callable[[int, dict[str, np.ndarray]], object],
) -> Trained:
    """Trains one network on the images of training and validation.

    An epoch is as many of them as in the search, whose program it is. What it says of
    validation means nothing, as those are training images here.
    """
    images = task.normalised(task.both())
    num = len(data.x)

    def some(number: int) -> tuple[np.ndarray, np.ndarray]:
        """The next ones: all, in random order, and then again in another."""
        passes, places = np.divmod(number * num + np.arange(num), len(images.x))
        orders = {p: np.random.default_rng((seed, p)) for p in np.unique(passes)}
        order = {p: rng.permutation(len(images.x)) for p, rng in orders.items()}
        chosen = np.array([order[p][i] for p, i in zip(passes, places, strict=True)])
        return images.x[chosen], images.y[chosen]

    return runs.train(
        jax.random.key(seed),
        task.network,
        recipe,
        nasbench201.from_string(arch)[None],
        data,
        folder=folder,
        save_every=final.save_every,
        images=some,
        report=report,
    )
