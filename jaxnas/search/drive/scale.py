"""The scale of the scores that a search sees, where single precision would lose them.

The history, and the incumbent in it, are double precision on the host, but a search
computes in float32. Ordinary scores, such as accuracies, are unchanged. Scores whose
differences are small relative to their size (losses near 1e6, say), or that are very large
or small, are shifted by their median, divided by a power of two, or both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxnas.search.drive.history import Scale

UNSCALED = Scale(0.0, 1.0)
# Scores keep their scale while their median deviation from the median is at least 2^-16
# of the median (256 float32 steps) and between 2^-20 and 2^20.
_STEPS, _SIZE = 2.0**-16, 2.0**20
_ENOUGH = 3  # scores that differ from the median, below which no scale is chosen


def fitting_scale(scores: Sequence[float], now: Scale) -> Scale:
    """Chooses a scale on which single precision distinguishes scores.

    Args:
      scores: all scores so far, NaN for failed evaluations.
      now: the present scale.

    Returns: `now` while it fits, or while there are too few scores; else the first
      that fits of: unscaled, divided, shifted, shifted and divided.
    """
    finite = sorted(x for x in scores if math.isfinite(x))
    if len(finite) <= _ENOUGH:
        return now
    median = finite[(len(finite) - 1) // 2]
    deviations = sorted(abs(x - median) for x in finite if x != median)
    if len(deviations) < _ENOUGH:
        return now
    deviation = deviations[(len(deviations) - 1) // 2]

    def fits(scale: Scale) -> bool:
        centre = abs(median - scale.shift) / scale.size
        typical = deviation / scale.size
        return centre * _STEPS <= typical and 1 / _SIZE <= typical <= _SIZE

    size = math.ldexp(1.0, math.frexp(deviation)[1])
    for shift in (0.0, median):
        for scale in (Scale(shift, 1.0), Scale(shift, size)):
            if fits(now) or fits(scale):
                return now if fits(now) else scale
    return now
