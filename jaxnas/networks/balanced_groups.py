"""Chunks of architectures in which every operation is equally frequent on every edge.

The grouped engine (`cells`) compiles for the largest number of each operation on any edge.
Chunks in which these numbers are all equal waste nothing, and share one program. They are
cosets of a linear code over GF(5): a code whose generator has no zero column has every
value equally often at every position, and so has each of its cosets; the cosets
partition the whole space of 5^6 cells.
"""

from __future__ import annotations

import itertools

import numpy as np

# Generator matrices of the codes with 25 and with 125 words.
_GENERATORS = {
    25: ((1, 0, 1, 1, 1, 1), (0, 1, 1, 2, 3, 4)),
    125: ((1, 0, 0, 1, 1, 1), (0, 1, 0, 1, 2, 3), (0, 0, 1, 1, 4, 2)),
}


def balanced(size: int = 125) -> np.ndarray:
    """Partitions the whole space into balanced chunks.

    Args:
      size: architectures of a chunk, 25 or 125.

    Returns:
      (15,625 / size, size, 6) int32; each operation is on each edge of size / 5
      architectures of every chunk.

    Raises: `ValueError` for another size.
    """
    if size not in _GENERATORS:
        raise ValueError(f"there are balanced chunks of 25 and 125, not of {size}")
    generator = np.array(_GENERATORS[size])
    rank = len(generator)
    messages = np.array(list(itertools.product(range(5), repeat=rank)))
    # The generators begin with a unit matrix: words that are 0 there represent the cosets.
    shifts = np.array(list(itertools.product(range(5), repeat=6 - rank)))
    shifts = np.pad(shifts, ((0, 0), (rank, 0)))
    return ((messages @ generator + shifts[:, None]) % 5).astype(np.int32)
