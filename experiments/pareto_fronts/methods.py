"""Searches for fronts, with the settings of a space, under the names of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxnas.pareto import Objective
from jaxnas.search import multi_objective
from jaxnas.search.base import Search
from jaxnas.search.random import random_search
from jaxnas.spaces import mobilenetv3
from jaxnas.spaces.base import Space

# (space, objectives, evaluations of a run, random ones at its start) -> the search.
Method = Callable[[Space, Sequence[Objective], int, int], Search]


def _random(
    space: Space, objectives: Sequence[Objective], evaluations: int, init: int
) -> Search:
    """Random search without repeats."""
    del objectives, init
    return random_search(space, capacity=evaluations)


def _evolution(
    space: Space, objectives: Sequence[Objective], evaluations: int, init: int
) -> Search:
    """Aging evolution, of the better of two populations for each space."""
    del evaluations
    if space.name == mobilenetv3.SPACE.name:
        sizes = {"population": 50, "tournament": 10}
    else:
        sizes = {"population": 20, "tournament": 5, "init": init}
    return multi_objective.regularized_evolution(space, objectives, **sizes)


def _nsga2(population: int) -> Method:
    """NSGA-II of a population, whose children compete as soon as they are evaluated."""
    return lambda space, objectives, evaluations, init: multi_objective.nsga2(
        space, objectives, population=population
    )


def _gp(
    space: Space, objectives: Sequence[Objective], evaluations: int, init: int
) -> Search:
    """Gaussian processes: over all architectures, or over candidates of a large space."""
    del evaluations
    if space.name == mobilenetv3.SPACE.name:
        return multi_objective.gp_subnets(objectives, init=init)
    return multi_objective.gp_pareto(space, objectives, init=init)


METHODS: dict[str, Method] = {
    "random": _random,
    "evolution": _evolution,
    "nsga2": _nsga2(10),
    "nsga2-20": _nsga2(20),
    "gp": _gp,
}
"""The searches by name; those of other packages are in `peers`."""
