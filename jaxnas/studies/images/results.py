"""The files that a search on images leaves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnas
from jaxnas import metrics
from jaxnas.benchmarks import training_store
from jaxnas.io import files, npz
from jaxnas.networks import counting, model_files
from jaxnas.networks.runs import Trained
from jaxnas.networks.train import Recipe
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.studies.images import cell_picture, figures
from jaxnas.studies.images.budget import Ledger
from jaxnas.studies.images.stages import LONGER, Final, Plan
from jaxnas.studies.images.tasks import Task

LEVEL = 0.95
BLOCK = 250  # images that are tested at once


class Results:
    """result.json, the pictures, the curves and the network, in a folder."""

    def __init__(self, out: Path, task: Task, settings: dict[str, Any]):
        self._out, self._task, self._settings = out, task, settings
        self._path = out / "result.json"

    def read(self) -> dict[str, Any]:
        """What result.json holds; empty where there is none."""
        if not self._path.exists():
            return {}
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {self._path}: remove it") from error
        return found if isinstance(found, dict) else {}

    def finished(self) -> bool:
        """Whether everything is there."""
        return self.read().get("state") == "finished"

    def best_so_far(self, new: Evaluation) -> None:
        """Keeps a cell that is better than those before, for who stops the search."""
        before = self.read().get("validation accuracy", -math.inf)
        if not math.isnan(new.score) and new.score > before:
            self._save(
                {
                    "state": "searching: the best so far",
                    "dataset": self._task.train.name,
                    "architecture": new.arch,
                    "validation accuracy": new.score,
                    "settings": self._settings,
                }
            )
            self._draw(new.arch, f"{new.score:.1f} % of validation images, so far")

    def write(
        self,
        found: list[Evaluation],
        ranked: list[tuple[str, float]],
        plan: Plan,
        final: Final,
        trained: Trained,
        recipe: Recipe,
        ledger: Ledger,
    ) -> None:
        """All files; result.json is the last."""
        task, (arch, valid) = self._task, ranked[0]
        cell = nasbench201.from_string(arch)
        params = jax.tree.map(lambda leaf: leaf[0], trained.params)
        model = self._out / "model"
        arguments = params, task.network, cell, task.mean, task.std
        model_files.save(model, *arguments, dataset=task.train.name)
        hits = _hits(model, task)
        num = len(task.test.x)
        low, high = (100 * end for end in metrics.wilson(hits, num, LEVEL))
        accuracy = 100 * hits / num
        self._draw(arch, f"{accuracy:.1f} % of test images ({low:.1f} to {high:.1f})")
        self._curves(found, ranked, plan, trained, (accuracy, low, high))
        ledger.save()
        self._save(
            {
                "state": "finished",
                "dataset": task.train.name,
                "architecture": arch,
                "test": {
                    "accuracy": accuracy,
                    "low": low,
                    "high": high,
                    "level": LEVEL,
                    "hits": hits,
                    "images": num,
                },
                "validation accuracy": valid,
                "parameters": int(counting.parameters(task.network, cell)),
                "seconds": ledger.spent(),
                "searched cells": len(found),
                "finalists": dict(ranked),
                "plan": plan._asdict(),
                "final": final._asdict() | {"recipe": dataclasses.asdict(recipe)},
                "network": dataclasses.asdict(task.network),
                "settings": self._settings,
                "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__},
                "platform": jax.default_backend(),
            }
        )

    def _draw(self, arch: str, says: str) -> None:
        title = f"Best cell for {self._task.train.name}: {says}"
        cell_picture.draw(self._out / "cell.png", arch, title=title)

    def _curves(
        self,
        found: list[Evaluation],
        ranked: list[tuple[str, float]],
        plan: Plan,
        trained: Trained,
        test: tuple[float, float, float],
    ) -> None:
        folder = self._out / "trainings"
        searched = _read(folder, [e.arch for e in found], plan.epochs)
        names = [name for name, _ in ranked] if len(ranked) > 1 else []
        longer = _read(folder, names, LONGER * plan.epochs)
        final = {name: values[0] for name, values in trained.curves.items()}
        arrays = {f"searched/{n}": v for n, v in searched.items()}
        arrays |= {f"finalists/{n}": v for n, v in longer.items()}
        # There is no validation in the final training.
        arrays |= {f"final/{n}": final[n] for n in ("loss", "train", "seconds")}
        manifest = {"dataset": self._task.train.name, "settings": self._settings}
        npz.save_arrays(self._out / "curves.npz", arrays, manifest)
        figures.curves(
            self._out / "curves.png",
            searched["valid"],
            list(longer.get("valid", ())),
            final["train"],
            test,
            title=f"Search on {self._task.train.name} ({self._settings['method']})",
        )

    def _save(self, result: dict[str, Any]) -> None:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        files.atomic_write(self._path, text.encode())


def _hits(model: Path, task: Task) -> int:
    """How many test images the network on disk gets right."""
    predict = jaxnas.load(model)
    x, num = task.test.x, len(task.test.x)
    # Blocks of one size, so that one program serves all.
    size = min(BLOCK, num)
    padded = np.pad(x, ((0, -num % size), (0, 0), (0, 0), (0, 0)), mode="edge")
    found = [
        np.asarray(predict(part)) for part in np.split(padded, len(padded) // size)
    ]
    return int(np.sum(np.argmax(np.concatenate(found)[:num], -1) == task.test.y))


def _read(folder: Path, names: list[str], epochs: int) -> dict[str, np.ndarray]:
    """The curves (n, epochs) of trainings, and their architectures."""
    archs = [nasbench201.from_string(name) for name in names]
    curves = [training_store.load_curves(folder, arch, epochs) for arch in archs]
    if not curves:
        return {}
    wanted = "loss", "train", "valid", "seconds"
    together = {name: np.stack([c[name] for c in curves]) for name in wanted}
    return together | {"arch": np.stack(archs)}
