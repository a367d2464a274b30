"""Splits of architectures into parts to fit and to test a surrogate on.

    train, test = split(key, identities, (0.9, 0.1))

Rows of one group, such as trainings of an architecture with other seeds, are in one part.
Groups are put in order by their numbers before they are drawn, so that a split depends on
the key and on the set of groups, and not on the order of the rows; every row is in a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.types import Array


def split(
    key: Array, groups: np.ndarray, shares: Sequence[float]
) -> tuple[np.ndarray, ...]:
    """Splits rows into random parts of whole groups.

    Args:
      key: random key.
      groups: (n,) the number of the group of each row, such as `spaces.base.identify`.
      shares: of the groups in each part, positive, of sum 1.

    Returns: the rows of each part, ascending; part boundaries are rounded down, so that
      90 % of 15,625 groups are 14,062.
    Raises: `ValueError` for other shares, and for a part without any group.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be positive and of sum 1, not {tuple(shares)}")
    known, index = np.unique(np.asarray(groups), return_inverse=True)
    # The small number keeps 0.1 + 0.2 of 10 groups at 3.
    ends = np.floor(np.cumsum(shares[:-1]) * len(known) + 1e-6).astype(int)
    place = np.empty(len(known), int)
    place[np.asarray(jax.random.permutation(key, len(known)))] = np.arange(len(known))
    part = np.searchsorted(ends, place[index.reshape(-1)], side="right")
    found = tuple(np.flatnonzero(part == i) for i in range(len(shares)))
    if any(not len(rows) for rows in found):
        raise ValueError(
            f"{len(known)} architectures are too few for parts of {tuple(shares)}"
        )
    return found


class LeftOut(NamedTuple):
    """A split that leaves one optimiser out."""

    optimiser: str
    train: np.ndarray  # rows of all others, ascending
    valid: np.ndarray  # further rows of them
    test: np.ndarray  # every row of the optimiser


def leave_one_optimiser_out(
    key: Array, optimisers: Sequence[str], groups: np.ndarray, valid: float = 0.1
) -> Iterator[LeftOut]:
    """Splits by the search that proposed each architecture, leaving each out once.

    A surrogate is used by searches that it was not fitted on; this tests it on
    architectures of such a search (Siems et al., 2020, section 4.3).

    Args:
      key: random key.
      optimisers: (n,) the name of the search that each row is from, two or more of them.
      groups: (n,) the number of the architecture of each row. An architecture that the
        search that is left out shares with others is in both parts.
      valid: share of the other searches' architectures for validation.

    Returns: a split for each name, in alphabetical order.
    Raises: `ValueError` for lengths that differ, fewer than two names, and too few rows.
    """
    names, groups = np.asarray(optimisers), np.asarray(groups)
    if names.shape != groups.shape or len(known := np.unique(names)) < 2:
        raise ValueError(
            f"wanted the names of two optimisers or more, one for each of "
            f"{len(groups)} rows; found {len(names)} names, {len(set(optimisers))} "
            "different"
        )
    for number, name in enumerate(known):
        rest = np.flatnonzero(names != name)
        one = jax.random.fold_in(key, number)
        train, held = split(one, groups[rest], (1 - valid, valid))
        test = np.flatnonzero(names == name)
        yield LeftOut(str(name), rest[train], rest[held], test)
