"""Tuned searches for several objectives, under the names that results use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np

from jaxnas.kernels import feature_maps
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto.objectives import Objective, optimised, validate_objectives
from jaxnas.predictors.pool import make_pool
from jaxnas.search.base import Search
from jaxnas.search.gp import proposals
from jaxnas.search.multi_objective import acquire as acquisitions
from jaxnas.search.multi_objective import batches
from jaxnas.search.multi_objective.acquire import Acquire
from jaxnas.search.multi_objective.gaussian_process import bayesopt
from jaxnas.search.multi_objective.sampled_search import bayesopt_sampled
from jaxnas.spaces import base, mobilenetv3, nasbench201, nasbench201_classes
from jaxnas.spaces.base import Space
from jaxnas.types import Array

INIT = 10
"""Random evaluations of `gp_pareto`."""

BETA = 1.0
"""Squared weight of the standard deviation in the confidence bound of `gp_pareto`."""


def gp_pareto(
    space: Space,
    objectives: Sequence[Objective],
    arch: Array | np.ndarray | None = None,
    *,
    size: Callable[[Array], Array] | None = None,
    init: int = INIT,
    batch: int = 1,
    select: batches.Select = batches.kriging_believer,
    epoch: int | None = None,
    capacity: int | None = None,
) -> Search:
    """A Gaussian process of each objective, and the hypervolume of confidence bounds.

    The first objective is what networks are trained for, and so are others of its unit and
    direction, such as accuracies on other images. Their distances are tree-Wasserstein of
    operation 1- and 2-grams (Nguyen et al., 2021), Hamming, and the difference of log
    sizes, of cells in their canonical form. All others are costs, which depend on every
    operation, and differ between cells that compute the same function: their distances are
    Hamming. The acquisition of two objectives is the improvement of the
    hypervolume by mean + sqrt(BETA) std; of another number of them `default_acquire`.

    Args:
      space: of the architectures.
      objectives: of the results, in their order.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      size: arch (d,) -> () positive, a size that is known without a measurement, such as
        multiply-accumulates. Default: these for NAS-Bench-201, and none for other spaces.
      init: random evaluations before the first fit, at least 2.
      batch: architectures in a step.
      select: how a batch is chosen, such as `batches.kdpp()`; default: one after another,
        each as if those before it had their posterior means.
      epoch: the epoch to which every architecture is trained; default: the last one.
      capacity: evaluations that there is room for, for ask and tell from Python.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, and for
      candidates that are not of the space.
    """
    objectives = validate_objectives(objectives)
    sizes = _size_features(space, size)
    hamming = feature_maps.hamming_features(space)
    grams = feature_maps.tree_wasserstein_features(space, 2)
    make = partial(make_pool, space, arch=arch)
    costs = make([hamming])
    of_function = [_canonical(space, part) for part in (grams, hamming, *sizes)]
    trained, first = make(of_function), objectives[0]
    pools = [
        trained if (o.unit, o.direction) == (first.unit, first.direction) else costs
        for o in objectives
    ]
    options = {"init": init, "batch": batch, "select": select}
    options |= {"epoch": epoch, "capacity": capacity}
    return bayesopt(pools, objectives, acquire=_acquire(objectives), **options)


def gp_subnets(
    objectives: Sequence[Objective],
    *,
    init: int = INIT,
    batch: int = 1,
    epoch: int | None = None,
    capacity: int | None = None,
) -> Search:
    """A Gaussian process of each objective, over candidates among MobileNetV3 subnets.

    Distances are steps between the choices of kernels, expansions and depths, with a
    length-scale for each of these parts. Candidates are 100 random subnets and 200 mutants
    of the best so far. The acquisition is as for `gp_pareto`.

    Args:
      objectives: of the results, in their order.
      init: random evaluations before the first fit, at least 2.
      batch: architectures in a step.
      epoch: the epoch to which every architecture is trained; default: the last one.
      capacity: evaluations that there is room for, for ask and tell from Python.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, and for sizes
      below their least.
    """
    space = mobilenetv3.SPACE
    features = [feature_maps.ordinal_features(space, mobilenetv3.PARTS)]
    # A thousand candidates take three times as long, and are no better.
    uniform, mutants = proposals.uniform(space, 100), proposals.mutants(space, 200)
    candidates = proposals.mixture(uniform, mutants)
    options = {"init": init, "batch": batch, "epoch": epoch, "capacity": capacity}
    options["acquire"] = _acquire(validate_objectives(objectives))
    return bayesopt_sampled(space, features, objectives, candidates, **options)


def _acquire(objectives: Sequence[Objective]) -> Acquire:
    """Confidence bounds of two objectives that are optimised, or else the default."""
    if len(optimised(objectives)) == 2:
        return acquisitions.confidence_bound(BETA)
    return acquisitions.default_acquire(objectives)


def _size_features(
    space: Space, size: Callable[[Array], Array] | None
) -> list[FeatureMap]:
    """The logarithm of the size as a part of the distance, if a size is known."""
    if size is None and space.name == nasbench201.SPACE.name:
        size = _multiply_accumulates()
    return [] if size is None else [lambda arch: (jnp.log(size(arch))[None],)]


def _multiply_accumulates() -> Callable[[Array], Array]:
    """Multiply-accumulates () of a cell of NAS-Bench-201, in millions."""
    every = base.every(nasbench201.SPACE)
    macs = jnp.asarray(counting.macs(NetworkConfig(), every) / 1e6)
    return lambda arch: macs[base.rank(nasbench201.SPACE, arch)]


def _canonical(space: Space, features: FeatureMap) -> FeatureMap:
    """Features of the canonical form, where a space has one by its function."""
    if space.name != nasbench201.SPACE.name:
        return features
    return lambda arch: features(nasbench201_classes.canonical(arch))
