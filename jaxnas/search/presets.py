"""Tuned searches, under the names that the results in README and docs use.

Each preset takes a space and returns a `Search`; the README's `gp-tw2g-plus` is
`gp_tw2g_plus`. The constants below were chosen by regret on runs of the embedded
NAS-Bench-201 table from `--base-seed 0`, and the published figures are of other runs.

    search = presets.gp_tw2g_plus(SPACE)
    trace = simulate(keys, search, benchmark, 100)

All Gaussian-process presets share these arguments:

  * `arch`: (n, d) int32 candidates; default: every architecture of the space.
  * `init`: random evaluations before the first fit, at least 2.
  * `batch`: architectures in a step.
  * `copies`: whether cells of NAS-Bench-201 that compute the same function are different
    candidates. By default they count once, as a search that cannot tell them apart
    trains one function again and again.
  * `extra`: further feature maps, such as scores of untrained networks
    (`few_labels.features_by_architecture`), each of whose arrays is a part of the
    distance.
  * `epoch`: the epoch to which every architecture is trained; default: the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxnas.acquisition import confidence_bound
from jaxnas.kernels import distance_matrices, feature_maps, graph_distances
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.kernels.graph_distances import GraphDistance
from jaxnas.predictors.pool import Pool, make_pool
from jaxnas.search import neural_predictor
from jaxnas.search.base import Search
from jaxnas.search.gp import selectors
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.spaces import nasbench201, nasbench201_classes
from jaxnas.spaces.base import Space
from jaxnas.types import Array

SCALE = 0.6
"""Prior median of the length-scales of the plain presets, in units of the prior of
`make_pool`; shorter length-scales make the search explore more."""

CLIP_BELOW = 2.0
"""Clipping of low scores, in distances from the median to the upper quartile below the
median: how badly a network failed to train carries no information."""

INIT = 5
"""Random evaluations of `gp_tw2g_plus`; few, as its priors follow the distances."""

EXPLORE = selectors.maximise(confidence_bound(2.25))
"""Mean + 1.5 standard deviations (Srinivas et al., 2010, with beta = 2.25). Expected
improvement stops exploring as soon as the model is confident."""

FEATURES: tuple[Callable[[Space], FeatureMap], ...] = (
    partial(feature_maps.tree_wasserstein_features, n=2),
    feature_maps.hamming_features,
)
"""Feature maps of `gp_tw2g_plus`: tree-Wasserstein on 1- and 2-grams, and Hamming."""


# (space, arch=None, *, init, batch, copies, extra, epoch) -> the search, see the module.
Preset = Callable[..., Search]


def function_classes_of(space: Space) -> Callable[[Array], Array] | None:
    """The class function of a space whose architectures are redundant.

    Returns: arch (d,) -> () int32 for NAS-Bench-201, None for every other space.
    """
    if space.name == nasbench201.SPACE.name:
        return nasbench201_classes.function_class
    return None


def bananas(
    space: Space, *, init: int = 10, batch: int = 1, epoch: int | None = None
) -> Search:
    """BANANAS (White et al., 2021) on path encodings, with failed trainings clipped."""
    encode = feature_maps.path_encoder(space)
    options = {"init": init, "batch": batch, "clip_below": CLIP_BELOW, "epoch": epoch}
    return neural_predictor.bananas(space, encode, **options)


def gp_tw2g_plus(
    space: Space,
    arch: Array | np.ndarray | None = None,
    *,
    init: int = INIT,
    batch: int = 1,
    copies: bool = False,
    extra: Sequence[FeatureMap] = (),
    epoch: int | None = None,
    select: selectors.Select = EXPLORE,
) -> Search:
    """The best search of the published comparisons.

    A Gaussian process on tree-Wasserstein distances of operation 1- and 2-grams (Nguyen
    et al., 2021) and a Hamming distance, failed trainings clipped, an upper confidence
    bound as acquisition, and five random evaluations.

    Args:
      space: of the architectures.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      init: random evaluations before the first fit.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.
      extra: further feature maps.
      epoch: the epoch to which every architecture is trained; default: the last one.
      select: how a batch is chosen, such as `selectors.kdpp()`.

    Raises: `ValueError` for candidates that are not of the space.
    """
    same = None if copies else function_classes_of(space)
    pool = make_pool(space, _features(space, FEATURES, extra), arch=arch, same=same)
    options = {"select": select, "clip_below": CLIP_BELOW, "epoch": epoch}
    return bayesopt(pool, init=init, batch=batch, **options)


def gp_tw2g_plus_sampled(
    space: Space,
    *,
    batch: int = 1,
    copies: bool = False,
    extra: Sequence[FeatureMap] = (),
    epoch: int | None = None,
) -> Search:
    """`gp_tw2g_plus` over 1,000 candidates that are sampled for each step.

    For spaces that are too large for a pool.

    Args:
      space: of the architectures.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.
      extra: further feature maps.
      epoch: the epoch to which every architecture is trained; default: the last one.
    """
    same = None if copies else function_classes_of(space)
    features = _features(space, FEATURES, extra)
    options = {
        "init": INIT,
        "batch": batch,
        "select": EXPLORE,
        "clip_below": CLIP_BELOW,
    }
    return bayesopt_sampled(space, features, same=same, epoch=epoch, **options)


def expected_improvement(*features: Callable[[Space], FeatureMap]) -> Preset:
    """A preset of a Gaussian process on these feature maps with expected improvement.

    Args:
      *features: each space -> feature map.
    """

    def make(space: Space, **options: Any) -> Pool:
        extra = options.pop("extra")
        return make_pool(space, _features(space, features, extra), **options)

    return _over_pool(make)


def from_distance_matrix(distance: Callable[[Space], GraphDistance]) -> Preset:
    """The same for a graph distance without an embedding, by the matrix of all pairs.

    The matrix takes up to several minutes, once: it is kept in the cache folder. None of
    these distances is negative definite; negative eigenvalues are clipped.

    Args:
      distance: space -> graph distance, as in `kernels.graph_distances`.
    """

    def make(space: Space, **options: Any) -> Pool:
        of_pairs = {"distance": distance(space), "same": options["same"]}
        matrix = partial(
            distance_matrices.distance_matrix, space, repair="clip", **of_pairs
        )
        features = options.pop("extra")
        return make_pool(space, features, distance_matrices=[matrix], **options)

    return _over_pool(make)


def _over_pool(make: Callable[..., Pool]) -> Preset:
    """A preset with expected improvement.

    Args:
      make: (space, arch=, same=, extra=, scale=) -> the pool.
    """

    def preset(
        space: Space,
        arch: Array | np.ndarray | None = None,
        *,
        init: int = 10,
        batch: int = 1,
        copies: bool = False,
        extra: Sequence[FeatureMap] = (),
        epoch: int | None = None,
    ) -> Search:
        same = None if copies else function_classes_of(space)
        pool = make(space, arch=arch, same=same, extra=extra, scale=SCALE)
        return bayesopt(pool, init=init, batch=batch, epoch=epoch)

    return preset


gp_hamming = expected_improvement(feature_maps.hamming_features)
gp_path = expected_improvement(feature_maps.path_features)
gp_nasbot = expected_improvement(feature_maps.nasbot_like_features)
gp_ot = expected_improvement(feature_maps.operation_transport_features)
gp_tw = expected_improvement(feature_maps.tree_wasserstein_features)
gp_tw2g = expected_improvement(partial(feature_maps.tree_wasserstein_features, n=2))
gp_sinkhorn = from_distance_matrix(graph_distances.sinkhorn_divergence)
gp_gw = from_distance_matrix(graph_distances.gromov_wasserstein)
gp_fgw = from_distance_matrix(graph_distances.fused_gromov_wasserstein)
gp_gwot = from_distance_matrix(graph_distances.gromov_and_counts)
gp_otmann = from_distance_matrix(graph_distances.otmann)


def _document(preset: Any, name: str, distance: str) -> None:
    """Gives a preset of `_over_pool` the name and docstring that `help` shows."""
    preset.__name__ = preset.__qualname__ = name
    preset.__doc__ = (
        f"Gaussian process on {distance}, with expected improvement.\n\n"
        "For the arguments see `Preset` and the module."
    )


for _preset, _name, _distance in (
    (gp_hamming, "gp_hamming", "Hamming distances (White et al., 2020)"),
    (gp_path, "gp_path", "path encodings (White et al., 2021)"),
    (gp_nasbot, "gp_nasbot", "NASBOT-like distances (White et al., 2020)"),
    (gp_ot, "gp_ot", "optimal transport of operations (Nguyen et al., 2021)"),
    (gp_tw, "gp_tw", "tree-Wasserstein distances (Nguyen et al., 2021)"),
    (gp_tw2g, "gp_tw2g", "2-gram tree-Wasserstein (Nguyen et al., 2021)"),
    (gp_sinkhorn, "gp_sinkhorn", "Sinkhorn divergences (Feydy et al., 2019)"),
    (gp_gw, "gp_gw", "Gromov-Wasserstein distances (Mémoli, 2011)"),
    (gp_fgw, "gp_fgw", "fused Gromov-Wasserstein (Vayer et al., 2019)"),
    (gp_gwot, "gp_gwot", "the GW+OT baseline (Nguyen et al., 2021)"),
    (gp_otmann, "gp_otmann", "OTMANN, of NASBOT (Kandasamy et al., 2018)"),
):
    _document(_preset, _name, _distance)


def _features(
    space: Space,
    maps: Sequence[Callable[[Space], FeatureMap]],
    extra: Sequence[FeatureMap],
) -> list[FeatureMap]:
    """Feature maps of a space, then the `extra` ones."""
    return [*(of_space(space) for of_space in maps), *extra]
