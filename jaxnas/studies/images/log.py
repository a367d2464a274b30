"""What a search on images shows of itself: lines, each with the time that is spent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxnas.search.drive import Evaluation
from jaxnas.studies.images.budget import Ledger
from jaxnas.studies.images.tasks import Task
from jaxnas.studies.progress import duration

SECONDS = 5.0  # between lines of the same kind, where nothing new is in them


class Lines:
    """Prints to a console."""

    def __init__(self, console: Console, ledger: Ledger):
        self._console, self._ledger = console, ledger
        self._shown, self._best, self._number, self._of = 0.0, -1.0, 0, 0

    def _say(self, line: str) -> None:
        self._shown = time.monotonic()
        spent, whole = duration(self._ledger.spent()), duration(self._ledger.seconds)
        line = f"[{spent} of {whole}] {line}"
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _due(self) -> bool:
        return time.monotonic() - self._shown > SECONDS

    def begin(self, task: Task, method: str, best: float) -> None:
        """What is to be done; the best so far is from before."""
        self._best = best
        size, network = task.network.image_size, task.network
        self._say(
            f"{task.train.name}: {len(task.train.x)} images for training, "
            f"{len(task.valid.x)} for validation, {len(task.test.x)} for the test; "
            f"{size} x {size} x {network.in_channels}, {network.num_classes} classes; "
            f"networks of {3 * network.cells_per_stage} cells and "
            f"{network.stem_channels} channels; "
            f"method {method}"
        )

    def compiling(self, what: str | None) -> None:
        """The next thing takes a while before it begins."""
        if what is not None:
            self._say(f"compiling {what}")

    def scored(self, done: int, total: int) -> None:
        """So many cells have scores."""
        if self._due() or done == total:
            self._say(f"scored {done} of {total} untrained cells")

    def affordable(self, count: int, total: int) -> None:
        """So many of the cells are light enough."""
        if count < total:
            self._say(f"{count} of {total} cells are light enough for the minutes")

    def planned(self, costs: Any, plan: Any) -> None:
        """What there is time for."""
        self._of = plan.steps * plan.batch
        self._say(
            f"an epoch takes {costs.lightest:.2g} to {costs.heaviest:.2g} s, by the cell: "
            f"trainings of {plan.epochs} epochs, {self._of} at most, in batches of "
            f"{plan.batch}"
        )

    def evaluated(self, new: Evaluation) -> None:
        """A training of the search has ended."""
        self._number = new.step + 1
        better = new.score > self._best
        if better or self._due():
            self._best = max(self._best, new.score)
            said = f"{new.score:.2f} %" if not new.error else "failed"
            ending = ", the best so far" if better else f" (best: {self._best:.2f} %)"
            self._say(f"batch {self._number}: {new.arch} {said}{ending}")

    def comparing(self, found: list[Evaluation], plan: Any) -> None:
        """The search has ended."""
        self._say(
            f"{len(found)} cells were trained for {plan.epochs} epochs; the best are next, "
            "where there is time for longer trainings"
        )

    def finally_trains(self, best: tuple[str, float], final: Any, images: int) -> None:
        """The final training is next."""
        self._say(
            f"{best[0]} is the best, {best[1]:.2f} % of the validation images; "
            f"its final training: {final.epochs} epochs of {images} images"
        )

    def trained(self, number: int, curves: dict[str, np.ndarray]) -> None:
        """An epoch of the final training has ended."""
        epochs = curves["train"].shape[1]
        if self._due() or number + 1 == epochs:
            now = curves["train"][0, number]
            self._say(f"epoch {number + 1} of {epochs}: {now:.2f} % of training images")

    def finished(self, result: dict[str, Any], out: Path) -> dict[str, Any]:
        """The result, which is returned."""
        test = result["test"]
        self._say(
            f"{result['architecture']}: {test['accuracy']:.2f} % of {test['images']} test "
            f"images (95 %: {test['low']:.2f} to {test['high']:.2f}); see {out}"
        )
        return result
