"""The program of a search for the best cell on the user's images.

`search_images` reads as the stages follow each other; a `study.Study` is what they share.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxnas.io import files
from jaxnas.networks.recipes import epoch_steps
from jaxnas.search.base import Search
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies.images import (
    bounds,
    cell_scores,
    final_stage,
    final_training,
    prior,
    stages,
    training_costs,
)
from jaxnas.studies.images.cell_scores import ScoredCells
from jaxnas.studies.images.config import Config
from jaxnas.studies.images.stages import SearchPlan
from jaxnas.studies.images.study import Study, open_study, trainings
from jaxnas.studies.images.training_costs import TrainingCosts, affordable

HOOK_SECONDS = 45.0  # for scores, below which hook_logdet would hardly be compiled


def search_images(config: Config) -> dict[str, Any]:
    """Searches the best cell for images, or continues the search of the folder.

    The stages: scores of untrained cells or a prior, costs of trainings and the plan, the
    search with short trainings, longer trainings of its finalists, and the final training
    with the test. What a stage has finished is kept in the folder, so that the same call
    goes on after a kill, and one with more minutes after the end.

    Args:
      config: the images, the minutes, the sizes, the bounds and the folder.

    Returns: the content of result.json: "architecture", "test" with "accuracy", "low" and
      "high" in percent, "finalists", "plan" and others.
    Raises: `ValueError` for bad input, before anything is compiled or written; if no
      training has a finite accuracy; and if no cell is within the bounds.
    """
    study = open_study(config)
    config, results, log = study.config, study.results, study.log
    if results.finished(config.minutes):
        return log.finished(results.read(), study.out)
    method = config.method if config.arch is None else "the cell that was given"
    # Not that of result.json, which may be of a longer training.
    before = stages.read_history(study.out / "search")
    best = max((e.score for e in before if not math.isnan(e.score)), default=-1.0)
    log.begin(study.task, method, best)
    candidates = _candidates(study)
    costs = _measure_costs(study)
    pool = _pool(study, candidates, costs)
    plan = _plan(study, costs, pool)
    history = _search(study, pool, plan)
    log.comparing(history, plan)
    # A longer training has a schedule of its own.
    longer = trainings(study, stages.FINALIST_FACTOR * plan.epochs)
    ranked = stages.rank_finalists(history, longer, plan, study.budget)
    final_stage.train_and_test(study, history, ranked, plan, costs)
    return log.finished(results.read(), study.out)


def _candidates(study: Study) -> np.ndarray:
    """The cells (n, 6) within the bounds: all functions, or the cell that is given.

    Bounds come first, so that one that no cell is within ends the search early.

    Raises: `ValueError` if no cell is within the bounds.
    """
    arch = study.config.arch
    cells = (
        cell_scores.candidates()
        if arch is None
        else nasbench201.from_string(arch)[None]
    )
    if not study.bounds:
        return cells
    study.log.bounding(study.bounds)
    return cells[bounds.feasible(study.bounds, study.task.network, cells)]


def _measure_costs(study: Study) -> TrainingCosts:
    """Measures the costs of trainings, once for the folder."""
    config = study.config

    def measure() -> TrainingCosts:
        study.log.compiling("a training of the search")
        inputs = study.task.network, study.recipe, study.data
        options = config.batch, config.workers, study.budget.clock
        return training_costs.measure(*inputs, *options)

    return study.budget.once_as(TrainingCosts, "costs", measure)


def _pool(study: Study, candidates: np.ndarray, costs: TrainingCosts) -> ScoredCells:
    """The candidates with their scores, and with time for their final training.

    Scores are the prior's, or those of untrained cells for a Gaussian process without
    one; a given cell and the cells of random search have none, which leaves more time for
    trainings.

    Args:
      study: what the stages share.
      candidates: (n, 6) cells within the bounds.
      costs: of trainings.
    """
    config = study.config
    if study.prior is not None:
        folder = files.make_folder(study.out / "scores")
        pool = prior.prior_cells(study.prior, study.task, folder)
    elif config.method == "gp" and config.arch is None:
        pool = _score(study)
    else:
        return ScoredCells(candidates, {})
    pool = pool.only(pool.among(candidates))
    seconds = costs.of(study.task.network, pool.arch)
    needed = final_training.requirements(
        study.task, study.data, study.budget, study.shares.search
    )
    # What a shorter run has trained stays in the pool.
    trained = stages.read_history(study.out / "search")
    allowed = affordable(seconds, *needed) | pool.among(stages.cells(trained))
    study.log.affordable(int(allowed.sum()), len(allowed))
    return pool.only(allowed)


def _score(study: Study) -> ScoredCells:
    """Scores untrained cells until their share of the time is spent.

    Below `HOOK_SECONDS` for the scores only the closed form is computed.
    """
    config, budget, share = study.config, study.budget, study.shares.scoring

    def report(done: int, total: int) -> bool:
        budget.save()
        study.log.scored(done, total)
        return budget.left(share) <= 0

    hook = 60 * config.minutes * share >= HOOK_SECONDS
    study.log.scoring()
    if hook:
        study.log.compiling("scores of untrained networks")
    folder = files.make_folder(study.out / "scores")
    options = {"hook": hook, "seed": config.seed, "report": report}
    return cell_scores.score_cells(study.task, folder, **options)


def _plan(study: Study, costs: TrainingCosts, pool: ScoredCells) -> SearchPlan:
    """Plans the search, once for the folder."""
    archs = pool.arch
    if pool.scores:
        archs = pool.best(study.config.keep, stages.MAX_EVALUATIONS).arch
    typical = float(costs.of(study.task.network, archs).mean())
    steps, _ = epoch_steps(study.recipe, len(study.data.x))

    def decide() -> SearchPlan:
        history = stages.read_history(study.out / "search")
        inputs = costs, typical, steps, study.budget, study.shares, history
        return stages.make_search_plan(*inputs)

    plan = study.budget.once_as(SearchPlan, "plan", decide)
    study.log.planned(costs, plan)
    return plan


def _search(study: Study, pool: ScoredCells, plan: SearchPlan) -> list[Evaluation]:
    """Runs the search, or trains the first cell of the pool alone.

    Args:
      study: what the stages share.
      pool: the candidates.
      plan: of the search.

    Returns: the evaluations, in the order of the search.
    Raises: `ValueError` if all cells that the search asked for are beyond a bound.
    """
    config, budget = study.config, study.budget
    evaluate, folder = trainings(study, plan.epochs), study.out / "search"
    if not plan.steps:
        inputs = study.bounds, study.task.network, pool.in_order()
        first = bounds.first_within(*inputs)
        return [stages.train_given(first, evaluate, plan)]

    def make() -> Search:
        if not pool.scores:
            archs = pool.arch if study.bounds else None
            return stages.random_baseline(plan, archs, config.seed)
        trained = stages.cells(stages.read_history(folder))
        best = pool.best(config.keep, plan.steps * plan.batch, trained)
        if study.prior is not None:
            return stages.guided_search(best, plan)
        return stages.gp_search(best, plan)

    def on_evaluation(new: Evaluation) -> None:
        budget.save()
        study.log.evaluated(new)
        study.results.save_incumbent(new)

    history = stages.run_search(
        make, evaluate, plan, budget, folder, config.seed, on_evaluation
    )
    bounds.first_within(study.bounds, study.task.network, stages.cells(history))
    return history
