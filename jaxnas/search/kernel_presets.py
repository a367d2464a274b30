"""Gaussian processes on the distances of the literature, with expected improvement.

`presets` exports them and documents their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxnas.kernels import distance_matrices, feature_maps, graph_distances
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.kernels.graph_distances import GraphDistance
from jaxnas.predictors.pool import Pool, make_pool
from jaxnas.search.base import Search
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.spaces import nasbench201, nasbench201_classes
from jaxnas.spaces.base import Space
from jaxnas.types import Array

SCALE = 0.6
"""Prior median of the length-scales of the plain presets, in units of the prior of
`make_pool`; shorter length-scales make the search explore more."""

# (space, arch=None, *, init, batch, copies, extra, prior, epoch) -> the search, see the
# module.
Preset = Callable[..., Search]


def function_classes_of(space: Space) -> Callable[[Array], Array] | None:
    """The class function of a space whose architectures are redundant.

    Returns: arch (d,) -> () int32 for NAS-Bench-201, None for every other space.
    """
    if space.name == nasbench201.SPACE.name:
        return nasbench201_classes.function_class
    return None


def features_of(
    space: Space,
    maps: Sequence[Callable[[Space], FeatureMap]],
    extra: Sequence[FeatureMap],
) -> list[FeatureMap]:
    """Feature maps of a space, then the `extra` ones."""
    return [*(of_space(space) for of_space in maps), *extra]


def over_features(
    name: str, distance: str, *features: Callable[[Space], FeatureMap]
) -> Preset:
    """A preset of a Gaussian process on feature maps, with expected improvement.

    Args:
      name: of the preset, as `help` shows it.
      distance: name of the distance that the features embed, and its source.
      *features: each space -> feature map.
    """

    def make(space: Space, **options: Any) -> Pool:
        extra = options.pop("extra")
        return make_pool(space, features_of(space, features, extra), **options)

    return _over_pool(name, distance, make)


def over_graph_distance(
    name: str, distance: str, graph_distance: Callable[[Space], GraphDistance]
) -> Preset:
    """The same for a graph distance without an embedding, by the matrix of all pairs.

    The matrix takes up to several minutes, once: it is kept in the cache folder. None of
    these distances is negative definite; negative eigenvalues are clipped.

    Args:
      name: of the preset, as `help` shows it.
      distance: its name and its source.
      graph_distance: space -> graph distance, as in `kernels.graph_distances`.
    """

    def make(space: Space, **options: Any) -> Pool:
        of_pairs = {"distance": graph_distance(space), "same": options["same"]}
        matrix = partial(
            distance_matrices.distance_matrix, space, repair="clip", **of_pairs
        )
        features = options.pop("extra")
        return make_pool(space, features, distance_matrices=[matrix], **options)

    return _over_pool(name, distance, make)


def _over_pool(name: str, distance: str, make: Callable[..., Pool]) -> Preset:
    """A preset with expected improvement.

    Args:
      name: of the preset.
      distance: of its kernel, for the docstring.
      make: (space, arch=, same=, extra=, prior_scores=, scale=) -> the pool.
    """

    def preset(
        space: Space,
        arch: Array | np.ndarray | None = None,
        *,
        init: int = 10,
        batch: int = 1,
        copies: bool = False,
        extra: Sequence[FeatureMap] = (),
        prior: FeatureMap | None = None,
        epoch: int | None = None,
    ) -> Search:
        options = {"extra": extra, "prior_scores": prior, "scale": SCALE}
        options["same"] = None if copies else function_classes_of(space)
        pool = make(space, arch=arch, **options)
        return bayesopt(pool, init=init, batch=batch, epoch=epoch)

    preset.__name__ = preset.__qualname__ = name
    preset.__doc__ = (
        f"Gaussian process on {distance}, with expected improvement.\n\n"
        "For the arguments see `Preset` and the module."
    )
    return preset


gp_hamming = over_features(
    "gp_hamming",
    "Hamming distances (White et al., 2020)",
    feature_maps.hamming_features,
)
gp_path = over_features(
    "gp_path", "path encodings (White et al., 2021)", feature_maps.path_features
)
gp_nasbot = over_features(
    "gp_nasbot",
    "NASBOT-like distances (White et al., 2020)",
    feature_maps.nasbot_like_features,
)
gp_ot = over_features(
    "gp_ot",
    "optimal transport of operations (Nguyen et al., 2021)",
    feature_maps.operation_transport_features,
)
gp_tw = over_features(
    "gp_tw",
    "tree-Wasserstein distances (Nguyen et al., 2021)",
    feature_maps.tree_wasserstein_features,
)
gp_tw2g = over_features(
    "gp_tw2g",
    "2-gram tree-Wasserstein (Nguyen et al., 2021)",
    partial(feature_maps.tree_wasserstein_features, n=2),
)
gp_sinkhorn = over_graph_distance(
    "gp_sinkhorn",
    "Sinkhorn divergences (Feydy et al., 2019)",
    graph_distances.sinkhorn_divergence,
)
gp_gw = over_graph_distance(
    "gp_gw",
    "Gromov-Wasserstein distances (Mémoli, 2011)",
    graph_distances.gromov_wasserstein,
)
gp_fgw = over_graph_distance(
    "gp_fgw",
    "fused Gromov-Wasserstein (Vayer et al., 2019)",
    graph_distances.fused_gromov_wasserstein,
)
gp_gwot = over_graph_distance(
    "gp_gwot",
    "the GW+OT baseline (Nguyen et al., 2021)",
    graph_distances.gromov_and_counts,
)
gp_otmann = over_graph_distance(
    "gp_otmann", "OTMANN, of NASBOT (Kandasamy et al., 2018)", graph_distances.otmann
)
