"""Splits of learning curves into training, validation and test parts.

A split depends on the architectures and a seed alone: not on the order in which files were
read, nor on Python's hashes, and no curve is left out. Curves of one architecture (runs
with several seeds, or the same cell found twice) are always in the same part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Indices of curves, ascending; each curve is in one part. A checkpoint stores it."""

    train: np.ndarray  # int64
    valid: np.ndarray  # int64
    test: np.ndarray  # int64


def split(
    arch: np.ndarray,
    *,
    seed: int,
    fractions: tuple[float, float] = (0.8, 0.1),
    stratum: np.ndarray | None = None,
) -> Split:
    """Splits curves by their architectures.

    In each stratum the distinct architectures are sorted, shuffled, and cut.

    Args:
      arch: (n, d) integers, in canonical form, so that equal architectures are equal rows.
      seed: of the order.
      fractions: of the architectures in the training and in the validation part, rounded
        down; the test part has the rest.
      stratum: (n,) text or integers, such as the optimiser that found each architecture:
        each stratum is split by itself. An architecture of several strata belongs to
        the first of them in sorted order. Default: one stratum.

    Raises: `ValueError` for shapes that do not fit, or fractions that are not of a whole.
    """
    arch, stratum = _validated(arch, fractions, stratum)
    distinct, of_curve = np.unique(arch, axis=0, return_inverse=True)
    of_curve = of_curve.reshape(-1)
    names, of_stratum = np.unique(stratum, return_inverse=True)
    first = np.full(len(distinct), len(names))
    np.minimum.at(first, of_curve, of_stratum)
    part = np.zeros(len(distinct), np.int64)
    random = np.random.default_rng(seed)
    for number in range(len(names)):
        (mine,) = np.nonzero(first == number)
        # To whole numbers where rounding put the product just below one.
        cuts = np.floor(np.cumsum(fractions) * len(mine) + 1e-9).astype(int)
        shuffled = random.permutation(mine)
        for place, indices in enumerate(np.split(shuffled, cuts)):
            part[indices] = place
    return Split(*(np.flatnonzero(part[of_curve] == place) for place in range(3)))


def folds(arch: np.ndarray, num: int, *, seed: int) -> np.ndarray:
    """Assigns curves to folds of about equal numbers of architectures.

    Args:
      arch: (n, d) integers, as for `split`.
      num: how many folds, at most as many as there are architectures.
      seed: of the order.

    Returns: (n,) int64, the fold of each curve.
    Raises: `ValueError` for a number of folds that does not fit.
    """
    arch, _ = _validated(arch, (1.0, 0.0), None)
    distinct, of_curve = np.unique(arch, axis=0, return_inverse=True)
    if not 2 <= num <= len(distinct):
        raise ValueError(
            f"folds of {len(distinct)} architectures are 2 to {len(distinct)}, not {num}"
        )
    fold = np.random.default_rng(seed).permutation(np.arange(len(distinct)) % num)
    return fold[of_curve.reshape(-1)]


def validate(found: Split, num: int) -> Split:
    """Returns a split that was stored, if it is one of `num` curves.

    Raises: `ValueError` unless each curve is in one part.
    """
    parts = [np.asarray(part) for part in found]
    whole = all(p.ndim == 1 and np.issubdtype(p.dtype, np.integer) for p in parts)
    if not whole or not np.array_equal(np.sort(np.concatenate(parts)), np.arange(num)):
        raise ValueError(f"not a split of {num} curves: each must be in one part")
    return Split(*(part.astype(np.int64) for part in parts))


def _validated(
    arch: np.ndarray, fractions: tuple[float, float], stratum: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The arguments of `split` as arrays; `ValueError` if they do not fit."""
    arch = np.asarray(arch)
    if arch.ndim != 2 or not len(arch) or not np.issubdtype(arch.dtype, np.integer):
        raise ValueError(
            f"arch must be integers (n, d), n > 0, not {arch.dtype} {arch.shape}"
        )
    if len(fractions) != 2 or min(fractions) < 0 or not 0 < sum(fractions) <= 1:
        raise ValueError(
            f"fractions must be two numbers of a sum in (0, 1], not {fractions}"
        )
    stratum = np.zeros(len(arch), int) if stratum is None else np.asarray(stratum)
    if stratum.shape != (len(arch),):
        raise ValueError(f"stratum must be ({len(arch)},), not {stratum.shape}")
    return arch, stratum
