"""The searches that drivers compare, by the names that their results carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from jaxnas.acquisition import confidence_bound
from jaxnas.kernels import distances
from jaxnas.search import selectors
from jaxnas.search.bananas import bananas
from jaxnas.search.base import Search
from jaxnas.search.bayesopt import bayesopt
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.pool import make_pool
from jaxnas.search.random_search import random_search
from jaxnas.spaces.base import Space

# Scores further below the median than this many distances to the upper quartile are
# networks that failed to train: how badly does not matter.
TAIL = 2.0
# Random evaluations before the first fit: its priors know the size of the distances.
INIT = 5
# mean + 2 std: expected improvement of a model that is sure of itself stops looking.
EXPLORE = selectors.best(confidence_bound(4.0))


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
        return bayesopt(space, pool, init=INIT, select=EXPLORE, tail=TAIL)

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
    "gp-tw": gaussian_process(distances.tree_wasserstein),
    "gp-tw2g": gaussian_process(partial(distances.tree_wasserstein, n=2)),
    "gp-tw2g-plus": gaussian_process(
        partial(distances.tree_wasserstein, n=2),
        partial(distances.live_tree_wasserstein, n=2),
        distances.hamming,
    ),
}

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
