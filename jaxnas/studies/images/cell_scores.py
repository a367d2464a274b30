"""The candidate pool of a search on images: the cells that score best untrained.

Candidates are one cell of each of the 5,260 functions of NAS-Bench-201. They are scored
by live_macs, a closed form, and if there is time by hook_logdet of a small network; the
sum of log ranks decides (AZ-NAS, Lee and Ham, 2024).
"""

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
from jaxnas.studies.images.tasks import ImageTask

HOOK_IMAGES = 32  # images of the batch that hook_logdet sees
HOOK_SIZE = 16  # pixels on each side to which they are scaled, at most
MIN_CELLS = 50  # cells that a search has at least
CELLS_PER_TRAINING = 20  # cells in the pool for each training of the search, at most


NO_CELLS = np.zeros((0, 6), np.int32)


class ScoredCells(NamedTuple):
    """Cells of different functions, with their scores."""

    arch: np.ndarray  # (n, 6)
    scores: dict[str, np.ndarray]  # by name, (n,) each; higher is better

    def total(self) -> np.ndarray:
        """Returns the sum (n,) of the log ranks of all scores."""
        return ensembles.log_rank_sum(list(self.scores.values()))

    def best(
        self, share: float, trainings: int, searched: np.ndarray = NO_CELLS
    ) -> ScoredCells:
        """Returns the cells with the best totals, in their order.

        Args:
          share: of all cells, at most; in (0, 1].
          trainings: of the search; of few trainings it gets fewer cells, but never less
            than `MIN_CELLS`.
          searched: (m, 6) cells that are kept whatever their totals are.
        """
        most = CELLS_PER_TRAINING * trainings
        count = max(min(int(share * len(self.arch)), most), MIN_CELLS)
        kept = self.among(searched)
        kept[np.argsort(-self.total(), kind="stable")[:count]] = True
        return self.only(kept)

    def among(self, archs: np.ndarray) -> np.ndarray:
        """Returns the mask (n,) of those that are among other cells (m, 6)."""
        choices = nasbench201.SPACE.choices
        ranks, wanted = (np.ravel_multi_index(a.T, choices) for a in (self.arch, archs))
        return np.isin(ranks, wanted)

    def in_order(self) -> np.ndarray:
        """Returns the cells (n, 6) by their totals, best first; as they are without."""
        if not self.scores:
            return self.arch
        return self.arch[np.argsort(-self.total(), kind="stable")]

    def only(self, which: np.ndarray) -> ScoredCells:
        """Returns a subset of the cells: indices (m,), or a mask (n,) of bool."""
        scores = {name: score[which] for name, score in self.scores.items()}
        return ScoredCells(self.arch[which], scores)


def candidates() -> np.ndarray:
    """Returns the first cell (n, 6) of each function that cells compute."""
    _, first = np.unique(nasbench201_classes.function_classes(), return_index=True)
    return base.every(nasbench201.SPACE)[first]


def score_cells(
    task: ImageTask,
    folder: Path,
    *,
    hook: bool,
    seed: int,
    report: Callable[[int, int], bool],
) -> ScoredCells:
    """Scores the candidates, or reads the scores that an earlier process has finished.

    Args:
      task: the images and the network.
      folder: keeps scores.npz, and chunks while hook_logdet is computed.
      hook: compute hook_logdet too, of a small network.
      seed: of the weights and the batch of images.
      report: called with the numbers of scored cells and of all; True ends the scoring,
        and cells without a score are left out.

    Returns: the cells that have every score.
    """

    def compute() -> ScoredCells:
        archs = candidates()
        macs = counting.macs(task.network, archs, live_only=True)
        scores = {"live_macs": macs / 1e6}
        if not hook:
            return ScoredCells(archs, scores)
        value = _hook_logdet(task, archs, folder / "chunks", seed, report)
        scored = ScoredCells(archs, scores | {"hook_logdet": value})
        return scored.only(~np.isnan(value))

    return read_or_compute(folder, compute)


def read_or_compute(folder: Path, compute: Callable[[], ScoredCells]) -> ScoredCells:
    """Reads the scores of a folder, or computes and saves them.

    Args:
      folder: of scores.npz.
      compute: called if there is no such file.
    """
    path = folder / "scores.npz"
    if path.exists():
        saved, _ = npz.load_arrays(path)
        return ScoredCells(saved.pop("arch"), saved)
    scored = compute()
    arrays = scored.scores | {"arch": scored.arch}
    npz.save_arrays(path, arrays, {"kind": "image scores"})
    return scored


def _hook_logdet(
    task: ImageTask,
    archs: np.ndarray,
    folder: Path,
    seed: int,
    report: Callable[[int, int], bool],
) -> np.ndarray:
    """hook_logdet (n,) of small networks; NaN for cells that were not reached."""
    network = task.network
    size = min(network.image_size, HOOK_SIZE)
    small = NetworkConfig(8, 1, network.num_classes, size, network.in_channels)
    images = tasks.subsample(task.train, HOOK_IMAGES, seed)
    images = datasets.resize(images, small.image_size)
    x = datasets.normalise(images, task.mean, task.std).x
    settings = scoring.ScoringSettings(small, "hook_logdet")
    options = {"folder": folder, "report": report}
    key = jax.random.key(seed)
    scores = scoring.score_many(key, settings, archs, x, images.y, **options)
    return scores.values["hook_logdet"]
