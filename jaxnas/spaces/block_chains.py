"""Spaces of networks that are chains of blocks, as products of choices.

Only tables of measurements of these spaces are read here; no network of them is built.
"""

from __future__ import annotations

from jaxnas.spaces.base import product

FBNET = product("fbnet", (9,) * 22)
"""FBNet (Wu et al., 2019): one of nine operations, eight blocks and a skip connection, at
each of 22 layers."""

_STAGE_LAYERS = (3, 3, 3, 3, 3, 4, 3)
MNASNET = product(
    "mnasnet", tuple(c for most in _STAGE_LAYERS for c in (3, 2, most, 2))
)
"""MnasNet (Tan et al., 2019) as in Accel-NASBench: for each of seven stages an expansion
ratio (1, 4, 6), a kernel size (3, 5), a number of layers (from 1) and whether there is
squeeze-and-excitation."""
