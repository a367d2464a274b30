"""The numbers of a training run of NAS-Bench-201, checked while they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jaxnas.io.streams import printable


def read_series(
    table: Any, steps: Sequence, what: str, sparse: bool = False
) -> list[float]:
    """Reads one number for each step of a table.

    Args:
      table: numbers by step.
      steps: keys of the table, in order.
      what: "accuracy", "loss" or "time", which sets the range.
      sparse: whether steps may be missing, which gives NaN.

    Raises: `ValueError` for a missing step and for a number out of range.
    """
    if type(table) is not dict:
        raise ValueError(f"wanted the {what} by epoch, found {type(table).__name__}")
    values = [table.get(step, math.nan if sparse else None) for step in steps]
    if not {*map(type, values)} <= {float, int}:
        raise ValueError(
            f"a run has an epoch without {what}, or one that is not a number"
        )
    if what != "loss":
        numbers = [x for x in values if x == x]
        if len(numbers) < len(values) and not sparse:
            raise ValueError(f"a run has a {what} that is not a number")
        low, high = min(numbers, default=0), max(numbers, default=0)
        if low < 0 or high > (100 if what == "accuracy" else 1e9):
            raise ValueError(f"a run has the {what} {low if low < 0 else high}")
    return values


def mean_latency(times: Any) -> float:
    """The mean of the measured seconds of a batch, NaN if there are none."""
    if times is None or times == []:
        return math.nan
    if type(times) is not list or not {*map(type, times)} <= {float, int}:
        raise ValueError(f"a run has the latency {printable(times)}")
    mean = sum(times) / len(times)
    return mean if 0 < mean < 1e9 else math.nan


def read_millions(number: Any, what: str) -> float:
    """Millions of FLOPs or parameters; `ValueError` if out of range."""
    if type(number) not in (float, int) or not 0 <= number < 1e9:
        raise ValueError(f"a run has {printable(number)} million {what}")
    return float(number)
