"""Schedules of successive halving and Hyperband, on the host.

A bracket trains many architectures briefly and the best of them longer, rung by rung.

    levels = geometric_levels(200, 12, 3)          # 22, 66, 200
    print(as_table(hyperband_brackets(levels, 3)))

Epochs are rounded down to whole numbers here and nowhere else: searches train to exactly
these epochs, and benchmarks charge for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

from jaxnas.types import check_sizes

# Added before rounding, so that 3^5 = 242.99999 counts as 243.
_ROUNDING = 1e-6


class Rung(NamedTuple):
    """A part of a bracket: some architectures, and the epoch they are trained to."""

    size: int  # architectures
    epoch: int
    start: int  # epoch that they were trained to before; 0: untrained


Bracket = tuple[Rung, ...]


def geometric_levels(
    max_epoch: int, min_epoch: int = 1, eta: float = 3, *, last: int | None = None
) -> tuple[int, ...]:
    """Epochs of the rungs of Hyperband (Li et al., 2018): max_epoch / eta^i, rounded down.

    Args:
      max_epoch: R, the largest epoch.
      min_epoch: r, the smallest epoch of a rung, at least 1.
      eta: ratio of two levels, above 1.
      last: largest level, the last epoch of a benchmark that ends before `max_epoch`.
        Default: `max_epoch`.

    Returns: strictly ascending epochs; the last is `max_epoch` or `last`.
    Raises: `ValueError` for a rung below one epoch, an `eta` of 1 or less, and a
      `max_epoch` below `min_epoch`.
    """
    check_sizes(min_epoch=min_epoch, max_epoch=max_epoch)
    require_eta(eta)
    last = max_epoch if last is None else last
    check_sizes(last=last)
    if max_epoch < min_epoch:
        raise ValueError(
            f"max_epoch must be at least min_epoch = {min_epoch}, not {max_epoch}"
        )
    num = math.floor(math.log(max_epoch / min_epoch, eta) + _ROUNDING)
    whole = [max_epoch / eta**i for i in range(num, -1, -1)]
    levels = [min(math.floor(epoch + _ROUNDING), last) for epoch in whole]
    return tuple(sorted(set(levels)))


def hyperband_brackets(
    levels: Sequence[int], eta: float = 3, *, multiples: bool = False
) -> tuple[Bracket, ...]:
    """Brackets of one iteration of Hyperband (Li et al., 2018, Algorithm 1).

    With k levels, the bracket that begins at level k - 1 - s has
    n = ceil(k eta^s / (s + 1)) architectures, and its rung i has floor(n / eta^i). The
    bracket with the most rungs is the first.

    Args:
      levels: epochs of the rungs, as from `geometric_levels`; or lengths of separate
        trainings.
      eta: ratio of the sizes of two rungs, above 1.
      multiples: whether n = ceil(floor(k / (s + 1)) eta^s) instead, so that every rung is
        divided without remainder if `eta` is whole, as in the programs of BOHB
        (HpBandSter) and of DEHB.

    Raises: `ValueError` for levels that do not ascend from epoch 1, and an `eta` of 1 or
      less.
    """
    levels = require_levels(levels)
    require_eta(eta)
    num = len(levels)
    brackets = []
    for s in range(num - 1, -1, -1):
        size = math.ceil(num * eta**s / (s + 1) - _ROUNDING)
        if multiples:
            size = math.ceil(num // (s + 1) * eta**s - _ROUNDING)
        brackets.append(halving_bracket(size, levels[num - 1 - s :], eta))
    return tuple(brackets)


def halving_bracket(size: int, levels: Sequence[int], eta: float = 3) -> Bracket:
    """The bracket of successive halving (Jamieson & Talwalkar, 2016).

    Args:
      size: architectures of the first rung.
      levels: epochs of the rungs.
      eta: the best 1 / eta of a rung, rounded down, are in the next one.

    Returns: the rungs.
    Raises: `ValueError` for levels that do not ascend from epoch 1, an `eta` of 1 or
      less, and a size too small for an architecture to reach the last level.
    """
    levels = require_levels(levels)
    require_eta(eta)
    check_sizes(size=size)
    sizes = [math.floor(size / eta**i + _ROUNDING) for i in range(len(levels))]
    if not sizes[-1]:
        raise ValueError(
            f"size = {size} is too small for {len(levels)} rungs with eta = {eta}: none "
            f"of its architectures reaches epoch {levels[-1]}"
        )
    starts = (0, *levels[:-1])
    return tuple(Rung(*rung) for rung in zip(sizes, levels, starts, strict=True))


def restarting(bracket: Bracket) -> Bracket:
    """The bracket whose rungs train from epoch 0, for trainings that cannot continue."""
    return tuple(rung._replace(start=0) for rung in bracket)


def total_epochs(bracket: Bracket) -> int:
    """Total epochs of a bracket, in a benchmark whose trainings continue."""
    return sum(rung.size * (rung.epoch - rung.start) for rung in bracket)


def as_table(brackets: Sequence[Bracket]) -> str:
    """One line for each bracket: architectures @ epoch of each rung, and total epochs."""
    lines = []
    for number, bracket in enumerate(brackets):
        rungs = ", ".join(f"{rung.size} @ {rung.epoch}" for rung in bracket)
        lines.append(f"bracket {number}: {rungs}; {total_epochs(bracket)} epochs")
    return "\n".join(lines)


def require_eta(eta: float) -> None:
    """Raises `ValueError` unless eta is a finite number above 1."""
    if not isinstance(eta, Real) or not 1 < eta < math.inf:
        raise ValueError(f"eta must be a number above 1, not {eta!r}")


def require_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Returns levels as integers; `ValueError` unless they ascend from epoch 1."""
    levels = tuple(levels)
    check_sizes(**{f"level {i}": level for i, level in enumerate(levels)})
    ascend = all(a < b for a, b in zip(levels, levels[1:], strict=False))
    if not levels or not ascend:
        raise ValueError(f"levels must ascend from epoch 1, not {levels}")
    return tuple(int(level) for level in levels)
