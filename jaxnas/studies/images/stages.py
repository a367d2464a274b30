"""Stages of a search on images: the plan, the search, and the comparison of finalists.

Every stage reads what an earlier process has finished of it and does the rest. The shares
of the budget are counted from its start, so that a stage that ends early leaves its time
to the next ones. The last stage is in `final_stage`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.predictors import few_labels
from jaxnas.search import drive, presets
from jaxnas.search.base import Search
from jaxnas.search.drive import Evaluation
from jaxnas.search.gp import selectors
from jaxnas.search.ordered import in_order
from jaxnas.search.random import random_search
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_class
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.cell_scores import ScoredCells
from jaxnas.studies.images.training_costs import TrainingCosts, padded_query
from jaxnas.types import Evaluate

MAX_EPOCHS, MAX_EVALUATIONS = 12, 400  # of the search
MIN_STEPS = 50  # optimiser steps of a training of the search, for running statistics
FINALIST_FACTOR = 4  # epochs of a finalist, as a multiple of those of the search


class Shares(NamedTuple):
    """Shares of the budget that are spent when a stage ends, at most."""

    scoring: float
    search: float
    finalists: float


UNGUIDED = Shares(0.1, 0.6, 0.7)
GUIDED = Shares(0.05, 0.25, 0.35)  # by a prior, which makes most trainings unnecessary
GIVEN = Shares(0.0, 0.0, 0.0)  # a given cell: nothing is searched
GUIDED_EPOCHS = 8  # with a prior, at least: shorter trainings say less than it


class SearchPlan(NamedTuple):
    """The size of a search that fits the budget."""

    epochs: int  # of a training of the search
    steps: int  # of the search, at most; 0: the first cell of the pool is trained alone
    batch: int  # architectures of a step
    seconds: float  # of an epoch of a typical cell of the pool
    parallel: int  # trainings side by side, all of which take these seconds
    search_end: float = 0.6  # shares of the budget, as in `Shares`
    finalists_end: float = 0.7


class TimeIsUp(Exception):
    """Ends a search whose share of the budget is spent."""


def training_recipe(
    network: NetworkConfig, images: int, lr: float, horizontal_flip: bool | None
) -> Recipe:
    """The recipe of the trainings of the search, for one epoch.

    The plan replaces the epochs, and `final_network.FinalPlan.recipe` what differs in the
    final training.

    Args:
      network: its image size sets the crops, a single colour channel turns flips off.
      images: of an epoch; they set the size of a minibatch, 8 to 64.
      lr: the highest learning rate.
      horizontal_flip: mirror half of the images; default: where they have colours.
    """
    return Recipe(
        epochs=1,
        batch=min(64, max(8, images // 16)),
        lr=lr,
        per_step_schedule=True,
        crop=network.image_size // 8,
        horizontal_flip=network.in_channels > 1
        if horizontal_flip is None
        else horizontal_flip,
    )


def make_search_plan(
    costs: TrainingCosts,
    typical: float,
    steps: float,
    budget: TimeBudget,
    shares: Shares = UNGUIDED,
    history: Sequence[Evaluation] = (),
) -> SearchPlan:
    """Divides the time of the search into evaluations and epochs.

    The epochs of a training grow with the square root of the epochs there is time for, as
    does the number of trainings. With a prior trainings are long, or there is only one.

    Args:
      costs: of trainings, as they were measured.
      typical: seconds of an epoch of a typical cell of the pool.
      steps: optimiser steps of an epoch.
      budget: the time that is left for the search.
      shares: of the budget.
      history: the evaluations of the search under a smaller budget, which is continued:
        its trainings keep their epochs.
    """
    # In epochs.
    available = max(budget.left(shares.search), 0.0) / typical * costs.parallel
    # Running statistics need several steps, unless there is no time for one batch then.
    least = max(min(MIN_STEPS / steps, available / costs.batch), 1)
    epochs = round(max(min(0.4 * math.sqrt(available), MAX_EPOCHS), least))
    if shares == GUIDED:
        epochs = max(epochs, GUIDED_EPOCHS)
    epochs = (history[0].epoch if history else None) or epochs
    evaluations = min(len(history) + available / epochs, MAX_EVALUATIONS)
    rounds = max(int(evaluations / costs.batch), -(-len(history) // costs.batch))
    if shares == UNGUIDED:
        rounds = max(1, rounds)
    elif not rounds:
        epochs = round(least)
    ends = shares.search, shares.finalists
    return SearchPlan(epochs, rounds, costs.batch, typical, costs.parallel, *ends)


def read_history(folder: Path) -> list[Evaluation]:
    """Reads the evaluations of the search in a folder; none if it has not begun."""
    return drive.read(folder) if folder.exists() else []


def cells(history: Sequence[Evaluation]) -> np.ndarray:
    """Returns the architectures (n, 6) of a history."""
    archs = [nasbench201.from_string(e.arch) for e in history]
    return np.array(archs, np.int32).reshape(-1, 6)


def gp_search(scored: ScoredCells, plan: SearchPlan) -> Search:
    """Bayesian optimisation over the scored cells, with k-DPP batches.

    The search is `presets.gp_tw2g_plus`, with a distance of the ranks of the scores.

    Args:
      scored: the pool.
      plan: of the search.
    """
    ranks = few_labels.ranked(np.stack(list(scored.scores.values()), 1))
    features = few_labels.features_by_architecture(SPACE, scored.arch, ranks)
    evaluations = max(plan.steps * plan.batch, 2)
    return presets.gp_tw2g_plus(
        SPACE,
        scored.arch,
        init=min(presets.INIT, evaluations),
        batch=plan.batch,
        extra=[features],
        select=selectors.kdpp(),
        capacity=evaluations,
        epoch=plan.epochs,
    )


def guided_search(scored: ScoredCells, plan: SearchPlan) -> Search:
    """Bayesian optimisation with a prior, in whose order it begins.

    Args:
      scored: the pool, with accuracies on other images among its scores.
      plan: of the search.
    """
    values = scored.total()[:, None]
    return presets.gp_tw2g_plus(
        SPACE,
        scored.arch,
        batch=plan.batch,
        prior=few_labels.features_by_architecture(SPACE, scored.arch, values),
        capacity=max(plan.steps * plan.batch, presets.GUIDED_INIT),
        epoch=plan.epochs,
    )


def random_baseline(plan: SearchPlan, archs: np.ndarray | None, seed: int) -> Search:
    """Random search, each function once.

    Args:
      plan: of the search.
      archs: (n, 6) candidates; None: all cells.
      seed: of the order of the candidates.
    """
    if archs is not None:
        archs = np.random.default_rng(seed).permutation(archs)
        return in_order(SPACE, archs, batch=plan.batch, epoch=plan.epochs)
    return random_search(
        SPACE,
        batch=plan.batch,
        capacity=plan.steps * plan.batch,
        epoch=plan.epochs,
        same=function_class,
    )


def run_search(
    make: Callable[[], Search],
    evaluate: Evaluate,
    plan: SearchPlan,
    budget: TimeBudget,
    folder: Path,
    seed: int,
    on_evaluation: Callable[[Evaluation], object],
) -> list[Evaluation]:
    """Runs the search until its steps are done or its share of the budget is spent.

    Args:
      make: builds the search; not called if the search has ended before.
      evaluate: trains a batch of architectures for the epochs of the plan.
      plan: of the search.
      budget: checked after each batch; it keeps that the search has ended.
      folder: of the history.
      seed: of the search.
      on_evaluation: called with each new evaluation.

    Returns: the history.
    """

    def check_time(new: Evaluation) -> None:
        on_evaluation(new)
        if new.slot == plan.batch - 1 and budget.left(plan.search_end) <= 0:
            raise TimeIsUp

    if "searched" not in budget:
        key = jax.random.key(seed)
        objective = drive.BatchObjective(evaluate)
        with contextlib.suppress(TimeIsUp):
            drive.optimise(
                key, make(), objective, plan.steps, folder, on_evaluation=check_time
            )
    history = drive.read(folder)
    budget.once("searched", lambda: len(history))
    return history


def train_given(arch: np.ndarray, evaluate: Evaluate, plan: SearchPlan) -> Evaluation:
    """Trains one architecture as the search would, in place of a search.

    Args:
      arch: (6,) integers.
      evaluate: trains a batch of architectures for the epochs of the plan.
      plan: of the search.
    """
    result = evaluate(jax.random.key(0), padded_query([arch], plan.epochs, plan.batch))
    score, cost = float(result.score[0]), float(result.cost[0])
    name = nasbench201.to_string(arch)
    return Evaluation(name, score, plan.epochs, cost=cost, step=0)


def rank_finalists(
    history: list[Evaluation], evaluate: Evaluate, plan: SearchPlan, budget: TimeBudget
) -> list[tuple[str, float]]:
    """Trains the best architectures of the search again for longer, and ranks them.

    Args:
      history: the evaluations of the search.
      evaluate: trains for `FINALIST_FACTOR` times the epochs of the search.
      plan: of the search.
      budget: decides once how many finalists there are, at most a batch; if there is
        time for one alone it is not trained again.

    Returns: architectures and their validation accuracy in percent, best first; as the
      search has it if all of the longer trainings diverge.
    Raises: `ValueError` if no training of the search has a finite accuracy.
    """
    trained = [e for e in history if not math.isnan(e.score)]
    trained.sort(key=lambda e: -e.score)
    if not trained:
        raise ValueError(f"none of {len(history)} trainings has a finite accuracy")
    epochs = FINALIST_FACTOR * plan.epochs

    def choose() -> list[str]:
        rounds = budget.left(plan.finalists_end) / (epochs * plan.seconds)
        count = min(plan.batch, int(rounds * plan.parallel), len(trained))
        return [e.arch for e in trained[: max(count, 1)]]

    names = budget.once("finalists", choose)
    shorter = [(e.arch, e.score) for e in trained[: len(names)]]
    if len(names) == 1:
        return shorter
    query = padded_query([*map(nasbench201.from_string, names)], epochs, plan.batch)
    score = np.asarray(evaluate(jax.random.key(0), query).score)[: len(names)]
    if np.isnan(score).all():
        return shorter
    order = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")
    return [(names[i], float(score[i])) for i in order]
