"""Notations of other programs for the networks of `mobilenetv3`.

`from_ofa` and `to_ofa` convert from and to the settings of once-for-all's supernet,
`set_active_subnet(**to_ofa(arch))`; `ofa_encoding` is the input of its accuracy predictor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, mobilenetv3
from jaxnas.spaces.mobilenetv3 import DEPTHS, EXPANSIONS, KERNELS, LAYERS, LENGTH
from jaxnas.types import Array

ENCODED_RESOLUTIONS = tuple(range(112, 225, 16))
"""Resolutions that the encoding can express, in pixels."""
ENCODING_SIZE = 2 * 3 * LAYERS + len(ENCODED_RESOLUTIONS)
_SETTINGS = (("ks", KERNELS, LAYERS), ("e", EXPANSIONS, LAYERS), ("d", DEPTHS, 5))


def to_ofa(arch: Array | np.ndarray) -> dict[str, list[int]]:
    """Converts an architecture to once-for-all's settings, inactive layers included.

    Args:
      arch: (d,) integers; a resolution at position 45 is left out.

    Returns: `ks` (20 kernel sizes), `e` (20 expansion ratios) and `d` (5 depths).
    Raises: `ValueError` for choices out of range.
    """
    given = base.as_choices(mobilenetv3.SPACE, np.asarray(arch)[:LENGTH])
    parts = np.split(given, (LAYERS, 2 * LAYERS))
    pairs = zip(_SETTINGS, parts, strict=True)
    return {name: [values[i] for i in part] for (name, values, _), part in pairs}


def from_ofa(settings: Mapping[str, Any]) -> np.ndarray:
    """Converts once-for-all's settings to architectures; inverts `to_ofa`.

    Args:
      settings: with `ks` (..., 20), `e` (..., 20) and `d` (..., 5); other entries, such as
        the resolution `r`, are ignored.

    Returns: (..., 45) int32, with the settings of inactive layers as they are.
    Raises: `ValueError` for a setting that is missing, of another length, or has a value
      that the space lacks.
    """
    parts = [_indices(settings, *setting) for setting in _SETTINGS]
    return np.concatenate(parts, -1)


def _indices(
    settings: Mapping[str, Any], name: str, values: Sequence[int], length: int
) -> np.ndarray:
    """The values of one setting as indices (..., length) int32."""
    given = np.asarray(settings.get(name, ()))
    if given.shape[-1:] != (length,) or not np.isin(given, values).all():
        raise ValueError(
            f"settings of once-for-all need {name} as {length} numbers from "
            f"{', '.join(map(str, values))}, not {settings.get(name)!r}"
        )
    return np.searchsorted(values, given).astype(np.int32)


def ofa_encoding(arch: Array, resolution: Array | int | None = None) -> Array:
    """Encodes a network as the accuracy predictor of once-for-all takes it.

    One indicator for each kernel size of each layer, one for each expansion ratio, and one
    for each resolution. Those of inactive layers are all 0.

    Args:
      arch: (d,) int32.
      resolution: () one of `ENCODED_RESOLUTIONS`. Default: that of an architecture (46,),
        224 for an architecture (45,).

    Returns: (128,) float32.
    Raises: `ValueError` for a whole number that is not such a resolution; a traced one
      has no indicator.
    """
    if resolution is None:
        resolution = mobilenetv3.resolution(arch)
    elif isinstance(resolution, Integral) and resolution not in ENCODED_RESOLUTIONS:
        raise ValueError(
            f"the encoding has the resolutions {', '.join(map(str, ENCODED_RESOLUTIONS))}"
            f", not {resolution}"
        )
    choices = arch[: 2 * LAYERS].reshape(2, LAYERS, 1)
    active = mobilenetv3.active_layers(arch)[:, None]
    layers = (choices == jnp.arange(3)) & active
    pixels = jnp.asarray(ENCODED_RESOLUTIONS) == resolution
    return jnp.concatenate([layers.reshape(-1), pixels]).astype(jnp.float32)
