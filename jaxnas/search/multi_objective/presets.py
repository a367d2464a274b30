"""Tuned searches for several objectives, under the names that results use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from jaxnas.kernels import feature_maps
from jaxnas.pareto.objectives import Objective, validate_objectives
from jaxnas.predictors.pool import make_pool
from jaxnas.search.base import Search
from jaxnas.search.multi_objective.gaussian_process import bayesopt
from jaxnas.spaces.base import Space
from jaxnas.types import Array

INIT = 10
"""Random evaluations of `gp_pareto`."""


def gp_pareto(
    space: Space,
    objectives: Sequence[Objective],
    arch: Array | np.ndarray | None = None,
    *,
    init: int = INIT,
    batch: int = 1,
    epoch: int | None = None,
    capacity: int | None = None,
) -> Search:
    """A Gaussian process of each objective, and expected hypervolume improvement.

    The first objective is what networks are trained for: its distances are
    tree-Wasserstein of operation 1- and 2-grams (Nguyen et al., 2021) and Hamming. The
    others are costs, which depend on every operation: their distances are Hamming.

    Args:
      space: of the architectures.
      objectives: of the results, in their order.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      init: random evaluations before the first fit, at least 2.
      batch: architectures in a step.
      epoch: the epoch to which every architecture is trained; default: the last one.
      capacity: evaluations that there is room for, for ask and tell from Python.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, and for
      candidates that are not of the space.
    """
    objectives = validate_objectives(objectives)
    hamming = feature_maps.hamming_features(space)
    grams = feature_maps.tree_wasserstein_features(space, 2)
    # Costs differ between cells that compute the same function: each is a candidate.
    make = partial(make_pool, space, arch=arch)
    costs = make([hamming])
    pools = make([grams, hamming]), *(costs for _ in objectives[1:])
    options = {"init": init, "batch": batch, "epoch": epoch, "capacity": capacity}
    return bayesopt(pools, objectives, **options)
