"""Parametric families as arrays, so that a loop over them is one compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves.extrapolate.families import Coordinates, Family
from jaxnas.types import Array

# Points of a grid over the coordinates, and along each of two.
GRID_SIZE, _SIDE = 256, 16


class Constants(NamedTuple):
    """Constants of k families, as arrays for a loop over them."""

    index: Array  # (k,) int, position of the family
    grid: Array  # (k, 2, g) starting points
    low: Array  # (k, 2) bounds of the coordinates, equal for unused ones
    high: Array  # (k, 2)
    sign: Array  # (k,) of the factor, 0: any
    intercept: Array  # (k,) 0 or 1: whether it is fitted
    factor: Array  # (k,) 0 or 1


def stack(families: Sequence[Family]) -> Constants:
    """Gathers the constants of k families; the grid of each has `GRID_SIZE` points."""
    boxes = np.zeros((len(families), 2, 2))
    grids = []
    for box, family in zip(boxes, families, strict=True):
        box[: len(family.box)] = family.box or 0
        num = GRID_SIZE if len(family.box) < 2 else _SIDE
        # Inside of the box, whose edges are the limits of other shapes.
        lines = [low + (high - low) * (np.arange(num) + 0.5) / num for low, high in box]
        lines[1] = lines[1] if len(family.box) > 1 else np.zeros(1)
        grids.append(np.stack([g.ravel() for g in np.meshgrid(*lines, indexing="ij")]))
    flags = lambda name: np.array([float(getattr(f, name)) for f in families])  # noqa: E731
    arrays = (
        *(np.arange(len(families)), np.stack(grids), boxes[..., 0], boxes[..., 1]),
        *(flags(name) for name in ("sign", "intercept", "factor")),
    )
    return Constants(*map(jnp.asarray, arrays))


def evaluate_shape(
    families: Sequence[Family], index: Array, z: Coordinates, x: Array
) -> Array:
    """Evaluates the shape of one family, broadcast over coordinates and epochs.

    Args:
      families: k families.
      index: () position of the family, which may be traced.
      z: coordinates of the shape.
      x: epochs, broadcast against each of `z`.
    """
    size = jnp.broadcast_shapes(z[0].shape, x.shape)
    branches = [
        lambda z, x, f=family: jnp.broadcast_to(f.shape(z, x), size)
        for family in families
    ]
    return jax.lax.switch(index, branches, z, x)
