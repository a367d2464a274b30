"""Chunks of architectures in which every operation is equally frequent on every edge.

A linear code over GF(5) whose generator has no zero column has every value equally
often at every position, and so has each of its cosets; the cosets of a code divide the
whole space. So one compiled program with groups of one size serves all of the chunks.
"""

from __future__ import annotations

import itertools

import numpy as np

# Generators of the chunks of 25 and of 125 architectures.
_GENERATORS = {
    25: ((1, 0, 1, 1, 1, 1), (0, 1, 1, 2, 3, 4)),
    125: ((1, 0, 0, 1, 1, 1), (0, 1, 0, 1, 2, 3), (0, 0, 1, 1, 4, 2)),
}


def balanced(size: int = 125) -> np.ndarray:
    """The whole space in chunks (15,625 / size, size, 6) int32.

    Each operation is on each edge of size / 5 architectures of every chunk.

    Raises: `ValueError` for a size other than 25 and 125.
    """
    if size not in _GENERATORS:
        raise ValueError(f"there are balanced chunks of 25 and 125, not of {size}")
    generator = np.array(_GENERATORS[size])
    rank = len(generator)
    messages = np.array(list(itertools.product(range(5), repeat=rank)))
    # The generators begin with a unit matrix, so what differs in the rest is one coset.
    shifts = np.array(list(itertools.product(range(5), repeat=6 - rank)))
    shifts = np.pad(shifts, ((0, 0), (rank, 0)))
    return ((messages @ generator + shifts[:, None]) % 5).astype(np.int32)
