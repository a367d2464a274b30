"""Limits, scales and marks of the axes on which searches are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxnas.studies.drawing import Axes, NullFormatter


def mark_optimum(axis: Axes, optimum: float) -> None:
    """Draws a line at the lowest possible error, with its value."""
    axis.axhline(optimum, color="#888888", linewidth=1, zorder=1)
    axis.annotate(
        f"optimum {optimum:.2f}",
        (1, optimum),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        color="#666666",
    )


def log_axis(axis: Axes, label: str, low: float, high: float) -> None:
    """Makes x a log axis from low to high, with short numbers at its ticks."""
    axis.set_xlabel(label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda x, _: _short(x))
    axis.xaxis.set_minor_formatter(_twos_and_fives)
    axis.set_xlim(low, high if high > low else 2 * low)


def zoom(
    axis: Axes,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    optimum: float | None,
    share: float,
) -> None:
    """Sets the limits of y by what follows the first `share` of each curve.

    The large errors of the first evaluations would flatten all others. The lowest mean and
    the optimum stay visible.
    """
    means = [np.asarray(mean, float) for mean, _ in curves.values()]
    shown = np.concatenate([mean[int(share * len(mean)) :] for mean in means])
    if np.isnan(shown).all():
        return
    lowest = np.nanmin([*np.concatenate(means), np.inf if optimum is None else optimum])
    highest = np.nanmax(shown)
    room = max(highest - lowest, 1e-3)
    axis.set_ylim(lowest - 0.1 * room, highest + 0.05 * room)


def log_scale(axis: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Sets a log scale of four decades at most.

    Means fall towards zero as the last runs find the best architecture.
    """
    above = np.concatenate([np.asarray(mean, float) for mean, _ in curves.values()])
    above = above[above > 0]
    if not above.size:
        return
    axis.set_yscale("log", nonpositive="clip")
    lowest, highest = max(above.min() * 0.7, above.max() * 1e-4), above.max() * 1.3
    axis.set_ylim(lowest, highest)
    axis.yaxis.set_major_formatter("{x:g}")
    # Less than a decade has one power of ten as its label, or none.
    few = highest < 10 * lowest
    axis.yaxis.set_minor_formatter(_twos_and_fives if few else NullFormatter())


def _twos_and_fives(x: float, position: float) -> str:
    """Labels minor ticks 2 and 5 of a decade."""
    del position
    return _short(x) if f"{x:.0e}"[0] in "25" else ""


def _short(x: float) -> str:
    """A number of few letters, so that neighbouring labels stay apart."""
    return f"{x / 1000:g}k" if 10_000 <= x < 1_000_000 else f"{x:g}"
