"""Learning rates that fall when a loss stops to improve, as PyTorch's ReduceLROnPlateau.

    state = plateau.start(1e-4)
    for epoch in range(epochs):
        ...
        state = plateau.step(state, loss)  # state.rate for the next epoch

Runs on the host, once an epoch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_THRESHOLD, _PATIENCE, _FACTOR, _SMALLEST_CUT = 1e-4, 10, 0.1, 1e-8


class Plateau(NamedTuple):
    """State of the rule."""

    rate: float  # learning rate
    best: float  # lowest loss so far
    bad: int  # epochs since the last improvement or cut


def start(rate: float) -> Plateau:
    """Makes the state before the first epoch."""
    return Plateau(rate, math.inf, 0)


def step(state: Plateau, loss: float) -> Plateau:
    """Updates the state by the loss of an epoch.

    The rate is divided by ten in the eleventh epoch in a row without an improvement of
    more than 1e-4 of the best loss, and cuts below 1e-8 are not made.

    Args:
      state: before the epoch.
      loss: of the epoch; NaN is no improvement.

    Returns: the state after it.
    """
    if loss < state.best * (1 - _THRESHOLD):
        return Plateau(state.rate, loss, 0)
    if state.bad < _PATIENCE:
        return state._replace(bad=state.bad + 1)
    cut = state.rate * _FACTOR
    rate = cut if state.rate - cut > _SMALLEST_CUT else state.rate
    return Plateau(rate, state.best, 0)
