"""The figure of accuracy against the quantities that are bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.search.drive import Evaluation
from jaxnas.studies.drawing import Axes, Figure, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, save
from jaxnas.studies.images.bounds import ACCURACY, Bound


def draw(
    path: Path,
    trained: Sequence[Evaluation],
    front: Sequence[Mapping[str, Any]],
    bounds: Sequence[Bound],
    *,
    title: str,
) -> None:
    """Draws a panel for each bounded quantity and writes the png, atomically.

    Args:
      path: the png.
      trained: cells with the quantities and their accuracy as metrics.
      front: those that no other dominates, as `bounds.front` returns them.
      bounds: at least one.
      title: above the figure.
    """
    with matplotlib.rc_context(STYLE):
        size = (4.6 * len(bounds), 3.7)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        axes = figure.subplots(1, len(bounds), squeeze=False)[0]
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axis, bound in zip(axes, bounds, strict=True):
            _panel(axis, trained, front, bound)
        save(figure, path)


def _panel(
    axis: Axes,
    trained: Sequence[Evaluation],
    front: Sequence[Mapping[str, Any]],
    bound: Bound,
) -> None:
    """Draws the trained cells pale, the front, and the bound."""
    name = bound.objective.name
    all_x, all_y = (
        np.array([e.metrics[n] for e in trained]) for n in (name, ACCURACY.name)
    )
    x, y = (np.array([cell[n] for cell in front]) for n in (name, ACCURACY.name))
    order = np.lexsort((y, x))
    axis.plot(all_x, all_y, "o", color="#bbbbbb", markersize=4, label="trained cell")
    axis.step(
        x[order], y[order], "o-", where="post", color=COLOURS[0], markersize=5,
        label="front",
    )  # fmt: skip
    axis.axvline(bound.limit, color=COLOURS[1], linestyle="--", label="bound")
    axis.set_xlim(0, 1.08 * bound.limit)
    axis.set_ylim(min(all_y) - 1, max(all_y) + 1)
    axis.set_xlabel(f"{name}, {bound.objective.unit}")
    axis.set_ylabel("validation accuracy, %")
    axis.legend(loc="best", fontsize=9, frameon=True, framealpha=0.9)
