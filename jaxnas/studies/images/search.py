"""The program of a search for the best cell on the user's images.

`search_images` reads as the stages follow each other; a `Study` is what they share.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxnas.benchmarks.training import training_benchmark
from jaxnas.io import files, run_folder
from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.recipes import Recipe, epoch_steps
from jaxnas.search.base import Search
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies import seed_store
from jaxnas.studies.images import (
    cell_scores,
    final_training,
    stages,
    training_costs,
)
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.cell_scores import ScoredCells
from jaxnas.studies.images.config import Config, validate
from jaxnas.studies.images.log import SearchLog
from jaxnas.studies.images.results import Results
from jaxnas.studies.images.tasks import ImageTask, default_data, load_task, subsample
from jaxnas.studies.images.training_costs import TrainingCosts, affordable
from jaxnas.types import Evaluate

MIN_FREE = 2**26  # bytes on the disk of the results
HOOK_SECONDS = 45.0  # for scores, below which hook_logdet would hardly be compiled


class Study(NamedTuple):
    """Settings and services that all stages of a search share."""

    config: Config  # with the name of the images filled in
    task: ImageTask  # all images, and the network
    data: Data  # images of a training of the search
    recipe: Recipe  # of one epoch
    out: Path  # the folder of all files
    budget: TimeBudget
    log: SearchLog
    results: Results


def search_images(config: Config) -> dict[str, Any]:
    """Searches the best cell for images, or continues the search of the folder.

    The stages: scores of untrained cells, costs of trainings and the plan, the search
    with short trainings, longer trainings of its finalists, and the final training with
    the test. What a stage has finished is kept in the folder, so that the same call goes
    on after a kill, and one with more minutes after the end.

    Args:
      config: the images, the minutes, the sizes and the folder.

    Returns: the content of result.json: "architecture", "test" with "accuracy", "low" and
      "high" in percent, "finalists", "plan" and others.
    Raises: `ValueError` for bad input, before anything is compiled or written, and if no
      training has a finite accuracy.
    """
    study = _open(config)
    config, results, log = study.config, study.results, study.log
    if results.finished(config.minutes):
        return log.finished(results.read(), study.out)
    method = config.method if config.arch is None else "the cell that was given"
    log.begin(study.task, method, results.read().get("validation accuracy", -1.0))
    # Without scores there is more time for trainings.
    scored = None
    if config.method == "gp" and config.arch is None:
        scored = _score(study)
    scored, plan = _plan(study, scored)
    history = _search(study, scored, plan)
    log.comparing(history, plan)
    # A longer training has a schedule of its own.
    longer = _trainings(study, stages.FINALIST_FACTOR * plan.epochs)
    ranked = stages.rank_finalists(history, longer, plan, study.budget)
    _train_final(study, history, ranked, plan)
    return log.finished(results.read(), study.out)


def _open(config: Config) -> Study:
    """Validates the settings, loads the images and claims the folder.

    Raises: `ValueError` for settings, images and folders that cannot be used.
    """
    data = default_data() if config.data is None else config.data
    config = dataclasses.replace(config, data=data)
    validate(config)
    task = load_task(
        data,
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
    out = _claim_folder(config, task)
    results = Results(out, task, dataclasses.asdict(config))
    budget = TimeBudget(out / "budget.json", 60 * config.minutes)
    log = SearchLog(Console(stderr=True), budget)
    return Study(config, task, data, recipe, out, budget, log, results)


def _score(study: Study) -> ScoredCells:
    """Scores untrained cells until their share of the time is spent.

    Below `HOOK_SECONDS` for the scores only the closed form is computed.
    """
    config, budget = study.config, study.budget

    def report(done: int, total: int) -> bool:
        budget.save()
        study.log.scored(done, total)
        return budget.left(stages.SCORING_END) <= 0

    hook = 60 * config.minutes * stages.SCORING_END >= HOOK_SECONDS
    study.log.scoring()
    if hook:
        study.log.compiling("scores of untrained networks")
    folder = files.make_folder(study.out / "scores")
    options = {"hook": hook, "seed": config.seed, "report": report}
    return cell_scores.score_cells(study.task, folder, **options)


def _plan(
    study: Study, scored: ScoredCells | None
) -> tuple[ScoredCells | None, stages.SearchPlan]:
    """Measures costs, drops cells that are too expensive, and plans the search.

    Args:
      study: what the stages share.
      scored: cells with scores; None for a search over all cells, or of a given cell.

    Returns: the cells whose final training fits the budget, and the plan. Costs and plan
      are decided once for the folder.
    """
    config, task, budget = study.config, study.task, study.budget
    history = stages.read_history(study.out / "search")

    def measure() -> dict[str, Any]:
        study.log.compiling("a training of the search")
        options = config.batch, config.workers
        costs = training_costs.measure(task.network, study.recipe, study.data, *options)
        return costs._asdict()

    costs = TrainingCosts(**budget.once("costs", measure))
    if config.arch is not None:
        archs = nasbench201.from_string(config.arch)[None]
    elif scored is None:
        archs = cell_scores.candidates()
    else:
        seconds = costs.of(task.network, scored.arch)
        needed = final_training.requirements(task, study.data, budget)
        # What a shorter run has trained stays in the pool.
        allowed = affordable(seconds, *needed) | scored.among([e.arch for e in history])
        study.log.affordable(int(allowed.sum()), len(allowed))
        scored = scored.only(allowed)
        archs = scored.best(config.keep, stages.MAX_EVALUATIONS).arch
    typical = float(costs.of(task.network, archs).mean())
    steps, _ = epoch_steps(study.recipe, len(study.data.x))

    def decide() -> dict[str, Any]:
        inputs = costs, typical, steps, budget, history
        return stages.make_search_plan(*inputs)._asdict()

    plan = stages.SearchPlan(**budget.once("plan", decide))
    study.log.planned(costs, plan)
    return scored, plan


def _search(
    study: Study, scored: ScoredCells | None, plan: stages.SearchPlan
) -> list[Evaluation]:
    """Runs the search, or the one training of a given architecture.

    Args:
      study: what the stages share.
      scored: the pool of the Gaussian process; None for random search.
      plan: of the search.

    Returns: the evaluations, in the order of the search.
    """
    config, budget = study.config, study.budget
    evaluate, folder = _trainings(study, plan.epochs), study.out / "search"
    if config.arch is not None:
        return [stages.train_given(config.arch, evaluate, plan)]

    def make() -> Search:
        if scored is None:
            return stages.random_baseline(plan)
        trainings = plan.steps * plan.batch
        searched = [e.arch for e in stages.read_history(folder)]
        return stages.gp_search(scored.best(config.keep, trainings, searched), plan)

    def on_evaluation(new: Evaluation) -> None:
        budget.save()
        study.log.evaluated(new)
        study.results.save_incumbent(new)

    return stages.run_search(
        make, evaluate, plan, budget, folder, config.seed, on_evaluation
    )


def _trainings(study: Study, epochs: int) -> Evaluate:
    """Makes the benchmark that trains architectures for so many epochs.

    Curves and scores of finished trainings are kept in the folder, by architecture.
    """
    return training_benchmark(
        jax.random.key(study.config.seed),
        study.task.network,
        dataclasses.replace(study.recipe, epochs=epochs),
        study.data,
        folder=study.out / "trainings",
        devices=jax.local_devices()[: study.config.workers],
    )


def _train_final(
    study: Study,
    history: list[Evaluation],
    ranked: list[tuple[str, float]],
    plan: stages.SearchPlan,
) -> None:
    """Trains the best architecture on all images, tests it, and writes the results.

    Args:
      study: what the stages share.
      history: the evaluations of the search.
      ranked: finalists and their validation accuracy in percent, best first.
      plan: of the search.
    """
    task, data, budget = study.task, study.data, study.budget
    (arch, _), *_ = ranked

    def decide() -> dict[str, Any]:
        inputs = arch, history, data, plan, task, study.recipe, budget
        return final_training.plan_final_training(*inputs)._asdict()

    def report(number: int, curves: dict[str, np.ndarray]) -> None:
        budget.save()
        study.log.epoch(number, curves)

    final = final_training.FinalPlan(**budget.once("final", decide))
    warmup = min(1.0, final.epochs / 8)
    recipe = dataclasses.replace(study.recipe, epochs=final.epochs, warmup=warmup)
    study.log.final_training(ranked[0], final, len(data.x))
    # Checkpoints of one length of the training, which larger budgets change.
    name = "".join(map(str, nasbench201.from_string(arch).tolist()))
    folder, seed = study.out / f"final/{name}-{final.epochs}", study.config.seed
    trained = final_training.train_final(
        arch, final, data, task, recipe, folder, seed, report
    )
    study.results.write(history, ranked, plan, final, trained, recipe, budget)


def _claim_folder(config: Config, task: ImageTask) -> Path:
    """Makes the folder for the results, which belongs to these settings and images.

    Raises: `ValueError` if it belongs to others, cannot be written, or its disk is full.
    """
    identity = dataclasses.asdict(config) | {"images_sha256": task.digest()}
    # A search can be given more minutes, as `TimeBudget` checks.
    del identity["out"], identity["minutes"]
    identity["driver"] = "search_images"
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
    run_folder.create(folder)
    return out
