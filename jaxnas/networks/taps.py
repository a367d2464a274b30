"""Taps: small sums over the layers of a network, taken during its forward pass.

Zero-cost proxies need statistics of values inside the network, such as how many
rectifiers agree for two images. A network here is a pure function and has no hooks;
instead every part of it returns, besides its output, what a `Tap` measured in it. The
sums of all parts are added up, through `scan` over cells and `switch` over operations,
which is why a measurement must have one fixed shape for every layer.

    tap = Tap(jnp.zeros((b, b)), measure)
    forward(params, cell, x, tap=tap).tapped  # (b, b), or (a, b, b) with lanes

Without a tap (`NO_TAP`) every sum is the constant 0, which the compiler removes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# (name of the event, value, how often the measurement counts)
Event = tuple[str, Array, int]


class Tap(NamedTuple):
    """A quantity to sum over the layers during a forward pass.

    Attributes:
      zero: the neutral element of the sum, () or of any fixed shape.
      measure: `measure(event, value)` returns an array of `zero`'s shape, behind the
        lanes of the value, or None if the event does not count. Events:

        * "relu": the input of a rectifier, once for each convolution that reads it;
          "last relu": the input of the head's rectifier;
        * "variance": the unbiased variances (..., groups, k) of a batch norm's input;
        * "map": the output of a convolution, norm, rectifier, pooling or whole block, as
          often as modules of the benchmark's PyTorch program return it.
    """

    zero: Array | np.ndarray
    measure: Callable[[str, Array], Array | None]


def _nothing(event: str, value: Array) -> None:
    del event, value


NO_TAP = Tap(np.zeros((), np.float32), _nothing)


def tap_values(tap: Tap, lanes: tuple[int, ...], *events: Event) -> Array:
    """Sums the measurements of a tap over events.

    Args:
      tap: the tap.
      lanes: () or (a,), the lanes of the network.
      *events: (event, value, times); the measurement is multiplied by `times`.

    Returns:
      (*lanes, *tap.zero.shape); zeros if no event counts.
    """
    total = jnp.broadcast_to(tap.zero, lanes + tap.zero.shape)
    for event, value, times in events:
        measured = tap.measure(event, value)
        if measured is not None:
            total = total + times * measured
    return total
