"""The searches that drivers compare, by the names that their results carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from rich.console import Console

from jaxnas.acquisition import confidence_bound
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import sources
from jaxnas.kernels import distance_matrices, feature_maps, graph_distances
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.kernels.graph_distances import GraphDistance
from jaxnas.predictors.pool import make_pool
from jaxnas.search.base import Search
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp import selectors
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.random import random_search
from jaxnas.spaces import nasbench201, nasbench201_classes
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Prior median of the length-scales: shorter ones than the prior of `make_pool` leave
# more to be found. Chosen on runs from --base-seed 0, as everything below.
SCALE = 0.6

# Of the improved search. Scores further below the median than this many distances to
# the upper quartile are networks that failed to train: how badly does not matter.
CLIP_BELOW = 2.0
# Random evaluations before the first fit: its priors know the size of the distances.
INIT = 5
# mean + 1.5 std: expected improvement of a model that is sure of itself stops looking.
EXPLORE = selectors.maximise(confidence_bound(2.25))
# Parts of its distance.
PLUS = (
    partial(feature_maps.tree_wasserstein_features, n=2),
    feature_maps.hamming_features,
)


class Budget(Protocol):
    """What a method may know of the experiment."""

    @property
    def evaluations(self) -> int:
        """Evaluations of one run."""
        ...

    @property
    def init(self) -> int:
        """Random ones among them, before a method begins to learn."""
        ...

    @property
    def benchmark(self) -> str:
        """The name of a table, or its file."""
        ...

    @property
    def copies(self) -> bool | None:
        """Whether cells of the same function are different; None: in a file they are."""
        ...

    def parts(self, space: Space) -> list[FeatureMap]:
        """Of the distance, beside a method's own."""
        ...


# (space, architectures of the table (n, d), budget) -> the search.
Method = Callable[[Space, np.ndarray, Budget], Search]


def same_function(space: Space, budget: Budget) -> Callable[[Array], Array] | None:
    """Classes of cells that are the same function, where they are to count once.

    A search that does not know them for the same spends its evaluations on training one
    function again and again, as no distance between cells says that it is 0.
    """
    own = budget.benchmark not in sources.NAMES
    copies = own if budget.copies is None else budget.copies
    merged = space.name == nasbench201.SPACE.name and not copies
    return nasbench201_classes.function_class if merged else None


def check_room(
    space: Space,
    archs: np.ndarray,
    budget: Budget,
    same: Callable[[Array], Array] | None = None,
) -> int:
    """How many different architectures there are for a Gaussian process.

    Raises: `ValueError` for a budget that has no room in them.
    """
    different = space.identity if same is None else same
    num = len(np.unique(in_chunks(different, archs.astype(np.int32)), axis=0))
    among = f"the {num} different architectures that Gaussian processes know"
    if budget.evaluations > num:
        given = budget.evaluations
        raise ValueError(f"--evaluations must be at most {among}, not {given}")
    if not 2 <= budget.init <= num:
        raise ValueError(f"--init must be 2 to {among}, not {budget.init}")
    return num


def gaussian_process(*features: Callable, copies: bool = False) -> Method:
    """Expected improvement over the whole table, with these parts of the distance.

    With `copies`, cells of the same function are candidates each for itself.
    """

    def method(
        space: Space, archs: np.ndarray, budget: Budget, batch: int = 1
    ) -> Search:
        parts = [feature(space) for feature in features] + budget.parts(space)
        same = None if copies else same_function(space, budget)
        check_room(space, archs, budget, same)
        pool = make_pool(space, parts, arch=archs, same=same, scale=SCALE)
        return bayesopt(pool, init=budget.init, batch=batch)

    return method


def improved(space: Space, archs: np.ndarray, budget: Budget, batch: int = 1) -> Search:
    """What gave the best results: more distances, fewer outliers, more exploration."""
    parts = [feature(space) for feature in PLUS] + budget.parts(space)
    same = same_function(space, budget)
    check_room(space, archs, budget, same)
    pool = make_pool(space, parts, arch=archs, same=same)
    return bayesopt(pool, init=INIT, batch=batch, select=EXPLORE, clip_below=CLIP_BELOW)


def sampled(space: Space, archs: np.ndarray, budget: Budget) -> Search:
    """The same among 1,000 candidates that are drawn anew for each evaluation."""
    parts = [feature(space) for feature in PLUS] + budget.parts(space)
    same = same_function(space, budget)
    check_room(space, archs, budget, same)
    settings = {"init": INIT, "select": EXPLORE, "clip_below": CLIP_BELOW}
    return bayesopt_sampled(space, parts, same=same, **settings)


def transport_process(distance: Callable[[Space], GraphDistance]) -> Method:
    """The same with one distance that has no embedding, from a table of all cells.

    The table takes up to some minutes, once: it is kept in the cache folder. None of
    these distances is negative definite; they are repaired by clipping.
    """

    def method(space: Space, archs: np.ndarray, budget: Budget) -> Search:
        of_pairs, parts = distance(space), budget.parts(space)
        same = same_function(space, budget)
        if check_room(space, archs, budget, same) > distance_matrices.MAX_KINDS:
            raise ValueError(
                f"{of_pairs.name} has no embedding, and a table of the distances of all "
                f"{len(archs)} cells is too large: wanted at most "
                f"{distance_matrices.MAX_KINDS}"
            )
        table = partial(
            distance_matrices.distance_matrix,
            space,
            distance=of_pairs,
            same=same,
            repair="clip",
        )
        with Console(stderr=True).status(f"distances of all cells: {of_pairs.name}"):
            pool = make_pool(
                space,
                parts,
                arch=archs,
                same=same,
                distance_matrices=[table],
                scale=SCALE,
            )
        return bayesopt(pool, init=budget.init)

    return method


METHODS: dict[str, Method] = {
    "random": lambda space, archs, b: random_search(space, capacity=b.evaluations),
    "evolution": lambda space, archs, b: regularized_evolution(space, init=b.init),
    "bananas": lambda space, archs, b: bananas(
        space, feature_maps.path_encoder(space), init=b.init, clip_below=CLIP_BELOW
    ),
    "gp-hamming": gaussian_process(feature_maps.hamming_features),
    "gp-path": gaussian_process(feature_maps.path_features),
    "gp-nasbot": gaussian_process(feature_maps.nasbot_like_features),
    "gp-ot": gaussian_process(feature_maps.operation_transport_features),
    "gp-sinkhorn": transport_process(graph_distances.sinkhorn_divergence),
    "gp-gw": transport_process(graph_distances.gromov_wasserstein),
    "gp-fgw": transport_process(graph_distances.fused_gromov_wasserstein),
    "gp-gwot": transport_process(graph_distances.gromov_and_counts),
    "gp-otmann": transport_process(graph_distances.otmann),
    "gp-tw": gaussian_process(feature_maps.tree_wasserstein_features),
    "gp-tw2g": gaussian_process(partial(feature_maps.tree_wasserstein_features, n=2)),
    "gp-tw2g-copies": gaussian_process(
        partial(feature_maps.tree_wasserstein_features, n=2), copies=True
    ),
    "gp-tw2g-plus": improved,
    "gp-tw2g-plus-sampled": sampled,
}

# The kernels that Nguyen et al. (2021) compare, and what else there is of their kind:
# python -m experiments.tw_sequential --methods (these, separated by spaces)
KERNELS = (
    "gp-tw", "gp-tw2g", "gp-gw", "gp-ot", "gp-gwot", "gp-path", "gp-hamming",
    "gp-nasbot", "gp-otmann", "gp-fgw", "gp-sinkhorn",
)  # fmt: skip

# What the main job compares; training the ensembles of BANANAS takes minutes more.
MAIN = ("random", "evolution", "gp-tw", "gp-tw2g", "gp-tw2g-plus")


# (space, architectures of the table (n, d), budget, batch) -> the search.
BatchMethod = Callable[[Space, np.ndarray, Budget, int], Search]


def in_batches(select: selectors.Select) -> BatchMethod:
    """The best Gaussian process above; `select` chooses its batches."""

    def method(space: Space, archs: np.ndarray, budget: Budget, batch: int) -> Search:
        parts = [feature(space) for feature in PLUS] + budget.parts(space)
        same = same_function(space, budget)
        check_room(space, archs, budget, same)
        pool = make_pool(space, parts, arch=archs, same=same)
        settings = {"init": budget.init, "batch": batch, "clip_below": CLIP_BELOW}
        return bayesopt(pool, select=select, **settings)

    return method


BATCH_METHODS: dict[str, BatchMethod] = {
    "random": lambda space, archs, b, batch: random_search(
        space, batch=batch, capacity=-(-b.evaluations // batch) * batch
    ),
    "evolution": lambda space, archs, b, batch: regularized_evolution(
        space, init=b.init, batch=batch
    ),
    "top-ei": in_batches(selectors.maximise()),
    "kdpp": in_batches(selectors.kdpp()),
    "kdpp-no-quality": in_batches(selectors.kdpp(quality=False)),
    "quality-only": in_batches(selectors.kdpp(diversity=False)),
    "greedy-map": in_batches(selectors.greedy_map()),
    "thompson": in_batches(selectors.thompson()),
    "gp-bucb": in_batches(selectors.kriging_believer(confidence_bound(4.0))),
    "believer": in_batches(selectors.kriging_believer()),
    "liar": in_batches(selectors.constant_liar(value="best")),
    "penalisation": in_batches(selectors.local_penalisation()),
    "uniform": in_batches(selectors.uniform),
}
# What the parallel comparison compares.
MAIN_BATCH = ("random", "evolution", "top-ei", "quality-only", "kdpp")


def check(names: Sequence[str], known: Mapping[str, object] = METHODS) -> None:
    """Raises `ValueError` for a name that there is not, or that is there twice."""
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"no method {', '.join(unknown) or 'given'}: wanted some of "
            f"{', '.join(known)}"
        )
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"--methods names {', '.join(sorted(twice))} more than once")
