"""The figure of a search on images: the search, its trainings, the final training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnas.studies.drawing import Axes, Figure, MaxNLocator, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, save

LEFT_OUT = 0.1  # share of the worst accuracies, which would flatten the others


def draw_trainings(
    path: str | Path,
    searched: np.ndarray,
    finalists: Sequence[np.ndarray],
    trained: np.ndarray,
    test: tuple[float, float, float],
    *,
    title: str,
) -> None:
    """Draws three panels and writes the png, atomically; accuracies are in percent.

    On the left the accuracies in the order of the search with the incumbent, in the middle
    the learning curves, on the right the final training with its test.

    Args:
      path: the png.
      searched: (n, epochs) validation accuracy of the cells in the order of the search.
      finalists: (epochs,) validation accuracy of each finalist, the best first.
      trained: (epochs,) training accuracy of the final network.
      test: its test accuracy, and the two ends of the confidence interval.
      title: above the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.7), dpi=120, layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        _search(left, searched)
        _learning(middle, searched, finalists)
        _final(right, trained, test)
        save(figure, path)


def _search(axis: Axes, searched: np.ndarray) -> None:
    """The last accuracy of each training (n, epochs), and the incumbent's."""
    number, last = np.arange(1, len(searched) + 1), searched[:, -1]
    axis.plot(number, last, "o", color=COLOURS[6], markersize=4, label="trained cell")
    best = np.fmax.accumulate(last)
    axis.step(number, best, where="post", color=COLOURS[0], label="best so far")
    _limits(axis, last)
    _label(axis, "the search", "cells", "validation accuracy, %")
    axis.legend(loc="best", fontsize=9, frameon=True, framealpha=0.9)


def _learning(
    axis: Axes, searched: np.ndarray, finalists: Sequence[np.ndarray]
) -> None:
    """Learning curves of the search (n, epochs) and of the finalists."""
    for curve in searched:
        axis.plot(_epochs(curve), curve, color="#bbbbbb", linewidth=0.8, zorder=1)
    axis.plot([], [], color="#bbbbbb", label="searched cells")
    for i, curve in enumerate(finalists):
        label = None if i else "finalists"
        axis.plot(_epochs(curve), curve, color=COLOURS[1], linewidth=1.4, label=label)
    if searched.shape[1] == 1:  # a curve of one epoch is a point
        axis.plot(np.ones(len(searched)), searched[:, 0], ".", color="#bbbbbb")
    ends = [*searched[:, -1], *(x for curve in finalists for x in curve)]
    starts = searched[:, 0]
    _limits(axis, np.concatenate([ends, starts]))
    _label(axis, "their trainings", "epochs", "validation accuracy, %")
    axis.legend(loc="best", fontsize=9, frameon=True, framealpha=0.9)


def _final(axis: Axes, trained: np.ndarray, test: tuple[float, float, float]) -> None:
    """The training accuracy (epochs,) and the test accuracy with its interval."""
    accuracy, low, high = test
    axis.plot(
        _epochs(trained),
        trained,
        "o-" if len(trained) < 10 else "-",
        color=COLOURS[0],
        markersize=4,
        linewidth=1.6,
        label="training images",
    )
    axis.axhspan(low, high, color=COLOURS[1], alpha=0.2, linewidth=0)
    label = f"test images: {accuracy:.1f}\n(95 %: {low:.1f} to {high:.1f})"
    axis.axhline(accuracy, color=COLOURS[1], linewidth=1.6, label=label)
    _limits(axis, np.array([*trained, low, high]))
    _label(axis, "the final training", "epochs", "accuracy, %")
    axis.legend(loc="best", fontsize=9, frameon=True, framealpha=0.9)


def _epochs(curve: np.ndarray) -> np.ndarray:
    """The numbers of the epochs (e,) of a curve (e,), from 1."""
    return np.arange(1, len(curve) + 1)


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    """Labels a panel whose x axis counts from 1; it is at least one unit wide."""
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.5), max(high, 1.5))


def _limits(axis: Axes, values: np.ndarray) -> None:
    """Sets the limits of the accuracies without the worst; NaN does not count."""
    finite = values[np.isfinite(values)]
    if len(finite):
        low, high = np.quantile(finite, LEFT_OUT), finite.max()
        room = max(high - low, 1.0)
        # The space below is for a legend.
        axis.set_ylim(max(low - 0.45 * room, -3.0), min(high + 0.1 * room, 103.0))
