"""The searches that drivers compare, by the names that their results carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from jaxnas.search.base import Search
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.random_search import random_search
from jaxnas.spaces.base import Space


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

METHODS: dict[str, Method] = {
    "random": lambda space, archs, b: random_search(space, capacity=b.evaluations),
    "evolution": lambda space, archs, b: regularized_evolution(space, init=b.init),
}


def check(names: Sequence[str]) -> None:
    """Raises `ValueError` for a name that there is not."""
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ValueError(
            f"no method {', '.join(unknown) or 'given'}: wanted some of "
            f"{', '.join(METHODS)}"
        )
