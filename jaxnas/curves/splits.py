"""Parts of learning curves: to fit and to test on, folds, and bags of an ensemble.

    train, test = split(key, identify(space, arch), (0.9, 0.1))

Curves of one group, such as trainings of an architecture with other seeds, are in one
part. A group is a number, or a row of numbers such as a canonical architecture. Groups are
put in order before they are drawn, so that a split depends on the key and on the set of
groups, and not on the order in which curves were read; every curve is in a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.types import Array


def split(
    key: Array,
    groups: np.ndarray,
    shares: Sequence[float],
    strata: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Splits curves into random parts of whole groups.

    Args:
      key: random key.
      groups: (n, ...) the group of each curve, such as `spaces.base.identify`.
      shares: of the groups in each part, positive, of sum 1.
      strata: (n,) text or numbers, such as the search that proposed each architecture:
        each stratum is split by itself. A group in several strata belongs to the first of
        them in sorted order. None: one stratum.

    Returns: the curves of each part, ascending; part boundaries are rounded down, so that
      90 % of 15,625 groups are 14,062.
    Raises: `ValueError` for other shares, strata of another length, and for a part
      without any group.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be positive and of sum 1, not {tuple(shares)}")
    group, num = _numbered(groups)
    strata = np.zeros(len(group), int) if strata is None else np.asarray(strata)
    if strata.shape != group.shape:
        raise ValueError(f"strata must be {group.shape}, not {strata.shape}")
    names, of_curve = np.unique(strata, return_inverse=True)
    stratum = np.full(num, len(names))
    np.minimum.at(stratum, group, of_curve)
    part = np.empty(num, int)
    for number in range(len(names)):
        members = np.flatnonzero(stratum == number)
        # One stratum has the key itself, so that it can be reproduced without strata.
        one = jax.random.fold_in(key, number) if number else key
        part[members] = _parts(one, len(members), shares)
    parts = tuple(np.flatnonzero(part[group] == i) for i in range(len(shares)))
    if any(not len(rows) for rows in parts):
        texts = ", ".join(f"{share:.4g}" for share in shares)
        raise ValueError(f"too few architectures ({num}) for parts of {texts}")
    return parts


def _parts(key: Array, num: int, shares: Sequence[float]) -> np.ndarray:
    """The part (num,) of each of `num` groups in a random order."""
    # The small number keeps 0.1 + 0.2 of 10 groups at 3.
    ends = np.floor(np.cumsum(shares[:-1]) * num + 1e-6).astype(int)
    position = np.empty(num, int)
    position[np.asarray(jax.random.permutation(key, num))] = np.arange(num)
    return np.searchsorted(ends, position, side="right")


def _numbered(groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers (n,) of groups (n, ...), from 0 in sorted order, and their count."""
    groups = np.asarray(groups)
    flat = groups.reshape(len(groups), -1)
    _, number = np.unique(flat, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return number, int(number.max(initial=-1)) + 1


def folds(key: Array, groups: np.ndarray, num: int) -> np.ndarray:
    """Assigns curves to folds of about equal numbers of groups.

    Args:
      key: random key.
      groups: (n, ...) the group of each curve.
      num: folds.

    Returns: (n,) int, from 0 to `num` - 1.
    Raises: `ValueError` for fewer groups than folds, and for a single fold.
    """
    group, size = _numbered(groups)
    if not 2 <= num <= size:
        raise ValueError(
            f"folds must be 2 to {size}, the number of different architectures, not {num}"
        )
    return np.asarray(jax.random.permutation(key, size) % num)[group]


def bags(key: Array, groups: np.ndarray, members: int, share: float) -> np.ndarray:
    """Draws the curves that each member of an ensemble is fitted on.

    Without replacement, and by groups: curves that are left out of a bag are of
    architectures that are not in it, so that they test its member. All bags have one
    size, for which one group may have to be divided.

    Args:
      key: random key.
      groups: (n, ...) the group of each curve.
      members: m; a single member gets all curves.
      share: of the curves that each gets.

    Returns: (m, r) int.
    """
    group, num = _numbered(groups)
    if members == 1:
        return np.arange(len(group))[None]
    size = max(1, round(share * len(group)))
    drawn = []
    for one in jax.random.split(key, members):
        key_group, key_curve = jax.random.split(one)
        order = np.asarray(jax.random.permutation(key_group, num))[group]
        # Curves of one group are next to each other, themselves in random order.
        mixed = np.asarray(jax.random.permutation(key_curve, len(group)))
        drawn.append(mixed[np.argsort(order[mixed], kind="stable")][:size])
    return np.stack(drawn)


class LeftOut(NamedTuple):
    """A split that leaves one optimiser out."""

    optimiser: str
    train: np.ndarray  # curves of all others, ascending
    valid: np.ndarray  # further curves of them
    test: np.ndarray  # every curve of the optimiser


def leave_one_optimiser_out(
    key: Array, optimisers: Sequence[str], groups: np.ndarray, valid: float = 0.1
) -> Iterator[LeftOut]:
    """Splits by the search that proposed each architecture, leaving each out once.

    This tests a surrogate on architectures of a search whose data it was not fitted to
    (Siems et al., 2020, section 4.3).

    Args:
      key: random key.
      optimisers: (n,) the name of the search that each curve is from, two or more of
        them.
      groups: (n, ...) the architecture of each curve. An architecture that the search
        that is left out shares with others is in both parts.
      valid: share of the other searches' architectures for validation.

    Returns: a split for each name, in alphabetical order.
    Raises: `ValueError` for lengths that differ, fewer than two names, and too few
      curves.
    """
    names, groups = np.asarray(optimisers), np.asarray(groups)
    distinct = np.unique(names)
    if len(names) != len(groups) or len(distinct) < 2:
        raise ValueError(
            f"wanted the names of two optimisers or more, one for each of "
            f"{len(groups)} curves; found {len(names)} names, {len(distinct)} different"
        )
    for number, name in enumerate(distinct):
        rest = np.flatnonzero(names != name)
        one = jax.random.fold_in(key, number)
        train, held = split(one, groups[rest], (1 - valid, valid))
        test = np.flatnonzero(names == name)
        yield LeftOut(str(name), rest[train], rest[held], test)
