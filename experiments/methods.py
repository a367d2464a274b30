"""The searches that drivers compare, by the names that their results carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from rich.console import Console

from jaxnas.acquisition import confidence_bound
from jaxnas.kernels import distances, graph_distances, tables
from jaxnas.kernels.graph_distances import GraphDistance
from jaxnas.search.bananas import bananas
from jaxnas.search.base import Search
from jaxnas.search.bayesopt import bayesopt
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.pool import make_pool
from jaxnas.search.random_search import random_search
from jaxnas.spaces import nasbench201
from jaxnas.spaces.base import Space

# Scores further below the median than this many distances to the upper quartile are
# networks that failed to train: how badly does not matter.
TAIL = 2.0
# Random evaluations before the first fit: its priors know the size of the distances.
INIT = 5
# mean + 2 std: expected improvement of a model that is sure of itself stops looking.
EXPLORE = confidence_bound(4.0)


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


# (space, architectures of the table (n, d), budget) -> the search.
Method = Callable[[Space, np.ndarray, Budget], Search]


def gaussian_process(*features: Callable) -> Method:
    """Bayesian optimisation over the whole table with these parts of the distance."""

    def method(space: Space, archs: np.ndarray, budget: Budget) -> Search:
        pool = make_pool(space, archs, [feature(space) for feature in features])
        return bayesopt(space, pool, init=INIT, acquire=EXPLORE, tail=TAIL)

    return method


def transport_process(distance: Callable[[Space], GraphDistance]) -> Method:
    """The same with one distance that has no embedding, from a table of all cells.

    Isomorphic cells of NAS-Bench-201 are at distance 0, so the table is one of 6,466
    cells. It takes up to some minutes, once: it is kept in the cache folder. None of
    these distances is negative definite; they are repaired by clipping.
    """

    def method(space: Space, archs: np.ndarray, budget: Budget) -> Search:
        of_pairs = distance(space)
        isomorphic = nasbench201.UP_TO_ISOMORPHISM.code
        settings = {
            "same": isomorphic if space == nasbench201.SPACE else None,
            "repair": "clip",
        }
        table = lambda arch: tables.table(space, arch, of_pairs, **settings)  # noqa: E731
        with Console(stderr=True).status(f"distances of all cells: {of_pairs.name}"):
            pool = make_pool(space, archs, tables=[table])
        return bayesopt(space, pool, init=INIT, acquire=EXPLORE, tail=TAIL)

    return method


METHODS: dict[str, Method] = {
    "random": lambda space, archs, b: random_search(space, capacity=b.evaluations),
    "evolution": lambda space, archs, b: regularized_evolution(space, init=b.init),
    "bananas": lambda space, archs, b: bananas(
        space, distances.path_encoder(space), init=b.init, tail=TAIL
    ),
    "gp-hamming": gaussian_process(distances.hamming),
    "gp-path": gaussian_process(distances.path),
    "gp-nasbot": gaussian_process(distances.nasbot_like),
    "gp-ot": gaussian_process(distances.operation_transport),
    "gp-sinkhorn": transport_process(graph_distances.sinkhorn_divergence),
    "gp-gw": transport_process(graph_distances.gromov_wasserstein),
    "gp-fgw": transport_process(graph_distances.fused_gromov_wasserstein),
    "gp-gwot": transport_process(graph_distances.gromov_and_counts),
    "gp-otmann": transport_process(graph_distances.otmann),
    "gp-tw": gaussian_process(distances.tree_wasserstein),
    "gp-tw2g": gaussian_process(partial(distances.tree_wasserstein, n=2)),
    "gp-tw2g-plus": gaussian_process(
        partial(distances.tree_wasserstein, n=2),
        partial(distances.live_tree_wasserstein, n=2),
        distances.hamming,
    ),
}

# The kernels that Nguyen et al. (2021) compare, and what else there is of their kind:
# python -m experiments.tw_sequential --methods (these, separated by spaces)
KERNELS = (
    "gp-tw", "gp-tw2g", "gp-gw", "gp-ot", "gp-gwot", "gp-path", "gp-hamming",
    "gp-nasbot", "gp-otmann", "gp-fgw", "gp-sinkhorn",
)  # fmt: skip

# What the main job compares; training the ensembles of BANANAS takes minutes more.
MAIN = ("random", "evolution", "gp-tw", "gp-tw2g", "gp-tw2g-plus")


def check(names: Sequence[str]) -> None:
    """Raises `ValueError` for a name that there is not."""
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ValueError(
            f"no method {', '.join(unknown) or 'given'}: wanted some of "
            f"{', '.join(METHODS)}"
        )
