"""The files of a search on images.

result.json holds the state, the architecture and its test accuracy; cell.png shows the
cell, curves.png and curves.npz the trainings, and the folder model/ is the network, which
`jaxnas.load` opens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnas
from jaxnas import metrics
from jaxnas.benchmarks import training_store
from jaxnas.io import npz, records
from jaxnas.networks import counting, model_files
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.networks.runs import Trained
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies.images import cell_picture, figures, front_figure
from jaxnas.studies.images.bounds import Bound, front
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.final_network import FinalPlan
from jaxnas.studies.images.stages import FINALIST_FACTOR, SearchPlan
from jaxnas.studies.images.tasks import ImageTask

LEVEL = 0.95  # of the confidence interval of the test accuracy
FORMAT = 1  # of result.json
TEST_FIELDS = ("accuracy", "low", "high", "level", "hits", "images")


class Results:
    """Writes result.json, the figures, the curves and the network to a folder."""

    def __init__(self, out: Path, task: ImageTask, settings: dict[str, Any]):
        """Opens the folder, without writing.

        Args:
          out: the folder.
          task: the images and the network.
          settings: of the search, plain JSON values, which result.json repeats.
        """
        self._out, self._task, self._settings = out, task, settings
        self._path = out / "result.json"

    def read(self) -> dict[str, Any]:
        """Reads result.json.

        Returns: its content; empty if there is no such file.
        Raises: `ValueError` if it is damaged or of another format.
        """
        if not self._path.exists():
            return {}
        content = records.read_record(self._path, FORMAT)
        _require_fields(self._path, content)
        return content

    def finished(self, minutes: float) -> bool:
        """Returns whether the search of this folder is complete.

        Args:
          minutes: that it was to take, at least.
        """
        content = self.read()
        of_settings = content.get("settings", {})
        return (
            content.get("state") == "finished"
            and of_settings.get("minutes", 0.0) >= minutes
        )

    def save_incumbent(self, new: Evaluation) -> None:
        """Saves the incumbent, so that an interrupted search still leaves a result.

        Args:
          new: an evaluation; nothing is written unless it is better than all before it.
            The tested result of a shorter search stays until this one is finished.
        """
        content = self.read()
        before = content.get("validation accuracy", -math.inf)
        if content.get("state") == "finished" or math.isnan(new.score):
            return
        if _rounded(new.score) > before:
            self._save(
                {
                    "state": "searching: the best so far",
                    "dataset": self._task.train.name,
                    "classes": list(self._task.train.class_names),
                    "architecture": new.arch,
                    "validation accuracy": _rounded(new.score),
                    "settings": self._settings,
                }
            )
            self._draw(new.arch, f"{new.score:.1f} % of validation images, so far")

    def write(
        self,
        history: list[Evaluation],
        ranked: list[tuple[str, float]],
        plan: SearchPlan,
        network: NetworkConfig,
        final: FinalPlan,
        trained: Trained,
        recipe: Recipe,
        budget: TimeBudget,
        bounds: Sequence[Bound] = (),
    ) -> None:
        """Tests the final network and writes all files; result.json is the last.

        Args:
          history: the evaluations of the search, with bounded quantities as metrics.
          ranked: finalists and their validation accuracy in percent, best first.
          plan: of the search.
          network: the final one, its sizes.
          final: of the final training.
          trained: the final network.
          recipe: of the final training.
          budget: for the time spent, which is saved.
          bounds: which the network is checked against, and whose front is drawn.
        """
        task, (arch, valid) = self._task, ranked[0]
        cell = nasbench201.from_string(arch)
        params = jax.tree.map(lambda leaf: leaf[0], trained.params)
        model = self._out / "model"
        arguments = params, network, cell, task.mean, task.std
        names = task.train.class_names
        model_files.save(model, *arguments, dataset=task.train.name, class_names=names)
        test = _test(model, task)
        accuracy, low, high = test["accuracy"], test["low"], test["high"]
        self._draw(arch, f"{accuracy:.1f} % of test images ({low:.1f} to {high:.1f})")
        self._curves(history, ranked, plan, trained, (accuracy, low, high))
        bounded = self._check_bounds(network, cell, history, bounds)
        budget.save()
        self._save(
            {
                "state": "finished",
                "dataset": task.train.name,
                "classes": list(task.train.class_names),
                "architecture": arch,
                "test": test,
                "validation accuracy": _rounded(valid),
                "parameters": int(counting.parameters(network, cell)),
                **bounded,
                "seconds": budget.spent(),
                "searched cells": len(history),
                "finalists": {name: _rounded(value) for name, value in ranked},
                "plan": plan._asdict(),
                "final": final._asdict() | {"recipe": dataclasses.asdict(recipe)},
                "network": dataclasses.asdict(network),
                "settings": self._settings,
                "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__},
                "platform": jax.default_backend(),
            }
        )

    def _check_bounds(
        self,
        network: NetworkConfig,
        cell: np.ndarray,
        history: list[Evaluation],
        bounds: Sequence[Bound],
    ) -> dict[str, Any]:
        """Measures the final network again, and writes front.png.

        Returns: for result.json, "bounds" with the value of each quantity, and "front".
        """
        if not bounds:
            return {}
        checked = {}
        for bound in bounds:
            value = bound.check(network, cell)
            name, unit = bound.objective.name, bound.objective.unit
            within = bool(value <= bound.limit)
            checked[name] = {"value": round(value, 4), "unit": unit}
            checked[name] |= {"limit": bound.limit, "within": within}
        best = front(history, bounds)
        path, name = self._out / "front.png", self._task.train.name
        front_figure.draw(path, history, best, bounds, title=f"Cells for {name}")
        return {"bounds": checked, "front": best}

    def _draw(self, arch: str, accuracy: str) -> None:
        """Writes cell.png."""
        title = f"Best cell for {self._task.train.name}: {accuracy}"
        cell_picture.draw(self._out / "cell.png", arch, title=title)

    def _curves(
        self,
        history: list[Evaluation],
        ranked: list[tuple[str, float]],
        plan: SearchPlan,
        trained: Trained,
        test: tuple[float, float, float],
    ) -> None:
        """Writes curves.npz and curves.png."""
        folder = self._out / "trainings"
        searched = _read(folder, [e.arch for e in history], plan.epochs)
        names = [name for name, _ in ranked] if len(ranked) > 1 else []
        longer = _read(folder, names, FINALIST_FACTOR * plan.epochs)
        final = {name: values[0] for name, values in trained.curves.items()}
        arrays = {f"searched/{n}": v for n, v in searched.items()}
        arrays |= {f"finalists/{n}": v for n, v in longer.items()}
        # The final training has no validation images.
        arrays |= {f"final/{n}": final[n] for n in ("loss", "train", "seconds")}
        manifest = {"dataset": self._task.train.name, "settings": self._settings}
        npz.save_arrays(self._out / "curves.npz", arrays, manifest)
        figures.draw_trainings(
            self._out / "curves.png",
            searched["valid"],
            list(longer.get("valid", ())),
            final["train"],
            test,
            title=f"Search on {self._task.train.name} ({self._settings['method']})",
        )

    def _save(self, result: dict[str, Any]) -> None:
        # The training of a finalist can have diverged.
        records.write_record(self._path, records.without_nan(result), FORMAT)


def _require_fields(path: Path, content: dict[str, Any]) -> None:
    """Raises `ValueError` unless a result has what later readers take from it."""
    fields: dict[str, Any] = {"architecture": str, "validation accuracy": float}
    if finished := content.get("state") == "finished":
        fields["test"] = dict
    lacks = [n for n, kind in fields.items() if not isinstance(content.get(n), kind)]
    if finished and not lacks:
        lacks = [f"test {n}" for n in TEST_FIELDS if n not in content["test"]]
    if lacks:
        raise ValueError(f"cannot read {path}, without {lacks[0]}: {records.DAMAGED}")


def _test(model: Path, task: ImageTask) -> dict[str, Any]:
    """The test accuracy of the network on disk, with its confidence interval."""
    hits, num = _hits(model, task), len(task.test.x)
    low, high = (100 * end for end in metrics.wilson(hits, num, LEVEL))
    return {
        "accuracy": _rounded(100 * hits / num),
        "low": _rounded(low),
        "high": _rounded(high),
        "level": LEVEL,
        "hits": hits,
        "images": num,
    }


def _rounded(accuracy: float) -> float:
    """An accuracy in percent as result.json has it, with 4 decimals."""
    return round(float(accuracy), 4)


def _hits(model: Path, task: ImageTask) -> int:
    """Counts the test images that the network on disk classifies correctly."""
    predict = jaxnas.load(model)
    predicted = np.asarray(predict(task.test.x))  # as many at a time as memory allows
    return int(np.sum(np.argmax(predicted, -1) == task.test.y))


def _read(folder: Path, names: list[str], epochs: int) -> dict[str, np.ndarray]:
    """Reads the curves (n, epochs) of trainings, and adds their architectures.

    Args:
      folder: of the trainings of the search.
      names: architectures in the notation of the benchmark.
      epochs: of their trainings.

    Returns: arrays by name; empty if there are no architectures.
    """
    archs = [nasbench201.from_string(name) for name in names]
    curves = [training_store.load_curves(folder, arch, epochs) for arch in archs]
    if not curves:
        return {}
    stacked = {
        name: np.stack([curve[name] for curve in curves])
        for name in ("loss", "train", "valid", "seconds")
    }
    return stacked | {"arch": np.stack(archs)}
