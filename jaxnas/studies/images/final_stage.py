"""The last stage of a search on images: the final training, its test, and the files."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies.images import bounds, final_network, final_training
from jaxnas.studies.images.final_network import FinalPlan, Phase
from jaxnas.studies.images.stages import SearchPlan
from jaxnas.studies.images.study import Study
from jaxnas.studies.images.training_costs import TrainingCosts

COMPILING_SHARE = 0.2  # of the time that is left, which new programs may take
# Images for validation, of which there are none in the final training.
VALID_IMAGES = 8
VALID_COST = 1 / 3  # of an image for validation, as a share of one for training


def train_and_test(
    study: Study,
    history: list[Evaluation],
    ranked: list[tuple[str, float]],
    plan: SearchPlan,
    costs: TrainingCosts,
) -> None:
    """Trains the best architecture on all images, tests it, and writes the results.

    Args:
      study: what the stages share.
      history: the evaluations of the search.
      ranked: finalists and their validation accuracy in percent, best first.
      plan: of the search.
      costs: of trainings of the search.
    """
    task, budget = study.task, study.budget
    (arch, _), *_ = ranked

    def decide() -> FinalPlan:
        epochs = [e.cost / plan.epochs for e in history if e.arch == arch]
        seconds = max((epochs or [plan.seconds])[0], 1e-6)
        total = len(task.train_and_valid().x)
        phases = final_network.phases_of(task.network.image_size, total)
        compiling = costs.compiling * len(phases)
        time_left = final_training.available_seconds(budget)
        chosen = study.config.final_network
        # Smaller images have one phase, for which nothing was measured.
        sized = chosen == "sized" or (chosen is None and len(phases) > 1)
        if sized and compiling <= COMPILING_SHARE * time_left:
            return _sized(study, arch, seconds, phases)
        if sized:
            study.log.too_short_to_compile(compiling, time_left)
        return _as_searched(study, seconds, plan.epochs)

    def report(number: int, curves: dict[str, np.ndarray]) -> None:
        budget.save()
        study.log.epoch(number, curves)

    final = budget.once_as(FinalPlan, "final", decide)
    study.log.final_training(ranked[0], final)
    trained = final_training.train_final(study, arch, final, report)
    network = final.network(task.network)
    recipe = final.recipe(study.recipe)
    measured = bounds.with_values(history, study.bounds, task.network)
    study.results.write(
        measured, ranked, plan, network, final, trained, recipe, budget, study.bounds
    )


def _as_searched(study: Study, seconds: float, least: int) -> FinalPlan:
    """The network, the epochs and so the compiled program of the search.

    Args:
      study: what the stages share.
      seconds: of an epoch.
      least: epochs.
    """
    network, data = study.task.network, study.data
    draft = FinalPlan(
        network.stem_channels,
        network.cells_per_stage,
        [network.image_size],
        [least],
        [len(data.x)],
        len(data.x_valid),
        save_every=1,
        sized=False,
    )
    return final_training.with_epochs(study, draft, [1.0], [seconds], least)


def _sized(study: Study, arch: str, seconds: float, phases: list[Phase]) -> FinalPlan:
    """A network that is as large as there is time for, whose epochs are timed.

    Args:
      study: what the stages share.
      arch: the cell.
      seconds: of an epoch of the search.
      phases: of the training.
    """
    task, data, cell = study.task, study.data, nasbench201.from_string(arch)
    total = len(task.train_and_valid().x)

    def allowed(network: Any) -> bool:
        return bounds.is_within(study.bounds, network, cell)

    chosen = final_network.choose_size(
        task.network,
        seconds / (len(data.x) + VALID_COST * len(data.x_valid)),
        total,
        final_training.available_seconds(study.budget),
        allowed,
    )
    sizes, shares, images = map(list, zip(*phases, strict=True))
    valid, ones = min(VALID_IMAGES, total), [1] * len(phases)
    draft = FinalPlan(
        chosen.stem_channels, chosen.cells_per_stage, sizes, ones, images, valid,
        save_every=1, sized=True,
    )  # fmt: skip
    seconds_of = []
    for phase, size in enumerate(sizes):
        study.log.compiling(f"the final training at {size} pixels")
        seconds_of.append(final_training.epoch_seconds(study, cell, draft, phase))
    return final_training.with_epochs(study, draft, shares, seconds_of)
