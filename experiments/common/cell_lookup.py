"""NAS-Bench-201's accuracies on CIFAR-10 from a reference file, and a search by them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks import sources
from jaxnas.io import npz
from jaxnas.predictors.few_labels import features_by_architecture
from jaxnas.search import presets
from jaxnas.search.loop import simulate
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array, Query, Result

VALIDATION, TEST = "e200_cifar10valid_val", "nats_e200_cifar10_test"
OTHER = "e200_ImageNet16-120_val"  # orders cells for a control


class Lookup(NamedTuple):
    """Accuracies of all 15,625 cells."""

    ops: np.ndarray  # (n, 6)
    validation: np.ndarray  # (n,) percent
    test: np.ndarray  # (n,)
    other: np.ndarray  # (n,) on another dataset
    row: np.ndarray  # (5,) * 6, the row of a cell

    def rows(self, cells: np.ndarray) -> np.ndarray:
        """The rows (m,) of cells (m, 6)."""
        return self.row[tuple(np.asarray(cells).T)]


def read_lookup() -> Lookup:
    """Reads the accuracies of NAS-Bench-201.

    Raises: `ValueError` if the reference file is missing or damaged.
    """
    path = sources.reference_file("nb201_accuracy.npz")
    table = npz.read_npz(path, ["ops", VALIDATION, TEST, OTHER])
    row = np.empty((5,) * 6, int)
    row[tuple(table["ops"].T)] = np.arange(len(table["ops"]))
    ops, *accuracies = table.values()
    return Lookup(ops, accuracies[0], accuracies[1], accuracies[2], row)


def gp_order(
    key: Array,
    lookup: Lookup,
    count: int,
    cells: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> np.ndarray:
    """Orders cells as `presets.gp_tw2g_plus` tries them, by validation accuracy.

    Args:
      key: PRNG key of the search.
      lookup: of the accuracies.
      count: of evaluations.
      cells: (n, 6) candidates; default: all cells.
      predicted: (n,) their predicted accuracies, the prior mean; default: no prior.

    Returns: (n,) rows of the candidates, in the order in which they are tried; those that
      are not, as the others that compute the same function as one that is, come last.
    """
    arch = lookup.ops if cells is None else cells
    prior = None
    if predicted is not None:
        prior = features_by_architecture(SPACE, arch, predicted[:, None])
    search = presets.gp_tw2g_plus(SPACE, arch, prior=prior)
    by_rank = lookup.validation[lookup.rows(base.every(SPACE))]
    accuracies = Partial(_look_up, jnp.asarray(by_rank, jnp.float32))
    assert search.candidates is not None
    count = min(count, len(search.candidates))  # those of different functions
    trace = simulate(key[None], search, accuracies, count)
    tried, rows = lookup.rows(np.asarray(trace.query.arch)[0, :, 0]), lookup.rows(arch)
    return np.concatenate([tried, rows[~np.isin(rows, tried)]])


def _look_up(table: Array, key: Array, query: Query) -> Result:
    """An evaluation: scores (15,625,) in the order of the space."""
    del key
    score = table[base.rank(SPACE, query.arch)]
    return Result(score, score[:, None], jnp.ones_like(score))
