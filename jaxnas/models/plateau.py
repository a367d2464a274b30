"""Learning rates that fall when the loss stops improving, as PyTorch's ReduceLROnPlateau.

    state = plateau.start(1e-4)
    for epoch in range(epochs):
        ...
        state = plateau.step(state, loss)  # state.rate for the next epoch

Runs on the host, once an epoch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_THRESHOLD, _PATIENCE, _FACTOR, _MIN_CHANGE = 1e-4, 10, 0.1, 1e-8


class Plateau(NamedTuple):
    """State of the rule."""

    rate: float  # learning rate
    best: float  # lowest loss so far
    bad: int  # epochs since the last improvement or reduction


def start(rate: float) -> Plateau:
    """Makes the state before the first epoch."""
    return Plateau(rate, math.inf, 0)


def step(state: Plateau, loss: float) -> Plateau:
    """Updates the state by the loss of an epoch.

    The rate is divided by ten at the eleventh epoch in a row without an improvement of
    more than 1e-4 of the best loss, unless that changes it by less than 1e-8.

    Args:
      state: before the epoch.
      loss: of the epoch; NaN is no improvement.

    Returns: the state after it.
    """
    if loss < state.best * (1 - _THRESHOLD):
        return Plateau(state.rate, loss, 0)
    if state.bad < _PATIENCE:
        return state._replace(bad=state.bad + 1)
    reduced = state.rate * _FACTOR
    rate = reduced if state.rate - reduced > _MIN_CHANGE else state.rate
    return Plateau(rate, state.best, 0)
