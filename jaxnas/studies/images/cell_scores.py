"""Which cells a search on images may ask: those that score best untrained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnas import datasets, ensembles
from jaxnas.io import npz
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import scoring
from jaxnas.spaces import base, nasbench201, nasbench201_classes
from jaxnas.studies.images import tasks
from jaxnas.studies.images.tasks import Task

IMAGES = 32  # that hook_logdet sees
SIZE = 16  # pixels to which they are scaled
FEWEST = 50  # cells that are left to search
CELLS_EACH = 20  # of those for each training of the search, at most


class Scored(NamedTuple):
    """Cells of different functions."""

    arch: np.ndarray  # (n, 6)
    scores: dict[str, np.ndarray]  # (n,) each

    def total(self) -> np.ndarray:
        """(n,): the sum of log ranks, as of AZ-NAS."""
        return ensembles.log_rank_sum(list(self.scores.values()))

    def best(self, share: float, trainings: int) -> Scored:
        """This share of them by `total`, or fewer for a search of few trainings."""
        count = max(min(int(share * len(self.arch)), CELLS_EACH * trainings), FEWEST)
        return self.only(np.sort(np.argsort(-self.total(), kind="stable")[:count]))

    def only(self, which: np.ndarray) -> Scored:
        """Some of them: indices, or (n,) bool."""
        return Scored(self.arch[which], {n: s[which] for n, s in self.scores.items()})


def candidates() -> np.ndarray:
    """(n, 6): a cell of each function."""
    _, first = np.unique(nasbench201_classes.function_classes(), return_index=True)
    return base.every(nasbench201.SPACE)[first]


def score(
    task: Task,
    folder: Path,
    *,
    hook: bool,
    seed: int,
    report: Callable[[int, int], bool],
) -> Scored:
    """Scores the candidates; reads what is there already.

    Args:
      folder: keeps scores.npz, and chunks of what is being scored.
      hook: compute hook_logdet too, of a small network; otherwise live_macs alone, which
        is a closed form.
      report: called with how many of how many cells are done; True ends the scoring, and
        the others are left out of the search.
    """
    path = folder / "scores.npz"
    if path.exists():
        saved, _ = npz.load_arrays(path)
        return Scored(saved.pop("arch"), saved)
    archs, network = candidates(), task.network
    scores = {"live_macs": counting.macs(network, archs, live_only=True) / 1e6}
    if hook:
        small = NetworkConfig(
            8,
            1,
            network.num_classes,
            min(network.image_size, SIZE),
            network.in_channels,
        )
        some = tasks.some(task.train, IMAGES, seed)
        some = datasets.resize(some, small.image_size)
        x = datasets.normalise(some, task.mean, task.std).x
        found = scoring.score_many(
            jax.random.key(seed),
            scoring.ScoringSettings(small, "hook_logdet"),
            archs,
            x,
            some.y,
            folder=folder / "chunks",
            report=report,
        ).values["hook_logdet"]
        known = ~np.isnan(found)
        scores = {n: s[known] for n, s in (scores | {"hook_logdet": found}).items()}
        archs = archs[known]
    npz.save_arrays(path, scores | {"arch": archs}, {"kind": "image scores"})
    return Scored(archs, scores)
