"""Log lines of a search on images, each with the time that is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxnas.search.drive import Evaluation
from jaxnas.studies.images.bounds import Bound
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.final_network import FinalPlan
from jaxnas.studies.images.stages import SearchPlan
from jaxnas.studies.images.tasks import ImageTask
from jaxnas.studies.images.training_costs import TrainingCosts
from jaxnas.studies.progress import Counter, Throttle, duration

MAX_NAMES = 20  # names of classes in a line
SECONDS = 5.0  # between lines that only count on


class SearchLog:
    """Prints one line for each event of a search; repeated events are throttled."""

    def __init__(self, console: Console, budget: TimeBudget):
        """Makes a log without an incumbent.

        Args:
          console: where lines are printed.
          budget: whose time each line begins with, as "[42 s of 10 min]".
        """
        self._console, self._budget = console, budget
        self._throttle = Throttle(SECONDS)
        self._best = -1.0  # validation accuracy of the incumbent, percent
        self._counter = Counter(0, "unit")  # of the scores, then of the epochs

    def _say(self, line: str) -> None:
        self._throttle.restart()
        spent, whole = duration(self._budget.spent()), duration(self._budget.seconds)
        line = f"[{spent} of {whole}] {line}"
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def begin(self, task: ImageTask, method: str, best: float) -> None:
        """Logs the task and the method.

        Args:
          task: its images and its network.
          method: the search, in words.
          best: validation accuracy of the incumbent of an earlier process, in percent;
            -1 if there is none.
        """
        self._best = best
        size, network = task.network.image_size, task.network
        self._say(
            f"{task.train.name}: {len(task.train.x)} images for training, "
            f"{len(task.valid.x)} for validation, {len(task.test.x)} for the test; "
            f"{size} x {size} x {network.in_channels}, {network.num_classes} classes; "
            f"networks of {3 * network.cells_per_stage} cells and "
            f"{network.stem_channels} channels; method {method}"
        )
        names, num = task.train.class_names, len(task.train.class_names)
        more = f", ... ({num} in all)" if num > MAX_NAMES else ""
        self._say(f"classes: {', '.join(names[:MAX_NAMES])}{more}")

    def scoring(self) -> None:
        """Starts the clock of the scores, before they are compiled."""
        self._counter = Counter(0, "cell")

    def compiling(self, what: str) -> None:
        """Logs that a program is compiled, which delays the next event."""
        self._say(f"compiling {what}")

    def scored(self, done: int, total: int) -> None:
        """Logs how many candidates have scores."""
        self._counter.total = total
        self._counter.add(done - self._counter.done)
        if self._throttle.due() or done == total:
            # The scores may end before all cells have one: their time is limited.
            self._say(f"scored {self._counter.text(time_left=False)}")

    def affordable(self, count: int, total: int) -> None:
        """Logs how many candidates fit the time budget, unless all do."""
        if count < total:
            self._say(f"{count} of {total} cells fit the time budget")

    def bounding(self, bounds: Sequence[Bound]) -> None:
        """Logs the bounds, before cells are measured."""
        limits = (
            f"{b.objective.name} of at most {b.limit:g} {b.objective.unit}"
            for b in bounds
        )
        self._say(f"cells with {' and '.join(limits)}")

    def planned(self, costs: TrainingCosts, plan: SearchPlan) -> None:
        """Logs the measured costs and the plan of the search."""
        self._say(
            f"an epoch takes {costs.lightest:.2g} to {costs.heaviest:.2g} s, depending on "
            f"the cell: trainings of {_counted(plan.epochs, 'epoch')}, at most "
            f"{max(plan.steps * plan.batch, 1)}, in batches of {plan.batch}"
        )

    def evaluated(self, new: Evaluation) -> None:
        """Logs a training of the search: every new incumbent, others now and then."""
        better = new.score > self._best
        failed = "failed, or beyond a bound"
        if better or self._throttle.due():
            self._best = max(self._best, new.score)
            score = failed if math.isnan(new.score) else f"{new.score:.2f} %"
            ending = ", the best so far" if better else f" (best: {self._best:.2f} %)"
            self._say(f"batch {(new.step or 0) + 1}: {new.arch} {score}{ending}")

    def comparing(self, history: list[Evaluation], plan: SearchPlan) -> None:
        """Logs that the search has ended and its finalists are compared."""
        line = f"cells trained for {_counted(plan.epochs, 'epoch')}: {len(history)}"
        if len(history) > 1:
            line += "; the finalists are retrained longer if time permits"
        self._say(line)

    def too_short_to_compile(self, compiling: float, left: float) -> None:
        """Logs why the final network is that of the search.

        Args:
          compiling: seconds for the programs of another network.
          left: seconds of the final training.
        """
        self._say(
            "the final network is that of the search: to compile another one would take "
            f"{duration(compiling)}, and {duration(max(left, 0))} are left"
        )

    def final_training(self, best: tuple[str, float], final: FinalPlan) -> None:
        """Logs the winner and the start of its final training.

        Args:
          best: the architecture, and its validation accuracy in percent.
          final: the plan of the training.
        """
        self._counter = Counter(sum(final.epochs), "epoch")
        phases = (
            f"{_counted(num, 'epoch')} of {images} images at {size} pixels"
            for num, images, size in zip(
                final.epochs, final.images, final.sizes, strict=True
            )
        )
        self._say(
            f"{best[0]} is the best, {best[1]:.2f} % of the validation images; its final "
            f"training: {final.channels} channels, {_counted(final.cells, 'cell')} in each "
            f"stage, {' and '.join(phases)}"
        )

    def epoch(self, number: int, curves: dict[str, np.ndarray]) -> None:
        """Logs an epoch of the final training.

        Args:
          number: of the epoch, from 0.
          curves: as `runs.train` reports them; `train` is (1, epochs) percent.
        """
        # The first report of a resumed training is of its last epochs as well.
        self._counter.add(number - self._counter.done, computed=False)
        self._counter.add(1)
        if self._throttle.due() or number + 1 == self._counter.total:
            accuracy = curves["train"][0, number]
            self._say(f"{self._counter.text()}; {accuracy:.2f} % of training images")

    def finished(self, result: dict[str, Any], out: Path) -> dict[str, Any]:
        """Logs the result, and returns it.

        Args:
          result: what result.json holds.
          out: the folder of the files.
        """
        test = result["test"]
        self._say(
            f"{result['architecture']}: {test['accuracy']:.2f} % of {test['images']} test "
            f"images (95 %: {test['low']:.2f} to {test['high']:.2f}); see {out}"
        )
        for name, checked in result.get("bounds", {}).items():
            relation = "within" if checked["within"] else "BEYOND"
            self._say(
                f"{name} of the final network: {checked['value']:g} {checked['unit']}, "
                f"{relation} the bound of {checked['limit']:g}"
            )
        return result


def _counted(number: int, unit: str) -> str:
    """A number of something in words: "1 epoch", "2 epochs"."""
    return f"{number} {unit}{'' if number == 1 else 's'}"
