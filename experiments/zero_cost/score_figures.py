"""Figures of scores of untrained networks, written as png files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnas.studies.drawing import Figure, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, line_styles, save

# Share of the worst cells, which failed to train and would flatten the others.
LEFT_OUT = 0.05
# A value, and the two ends of its interval.
Interval = tuple[float, float, float]


def correlations(
    path: str | Path, values: Mapping[str, Mapping[str, Interval]], *, label: str
) -> None:
    """Draws correlations and their intervals.

    Args:
      path: the png, written atomically.
      values: by dataset, then by score; all have the same scores, drawn from the top.
      label: of the axis.
    """
    names = list(next(iter(values.values())))
    with matplotlib.rc_context(STYLE):
        height = 1.2 + 0.3 * len(names)
        figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
        axis = figure.subplots()
        for i, (dataset, by_score) in enumerate(values.items()):
            middle, low, high = np.array([by_score[name] for name in names], float).T
            axis.errorbar(
                middle,
                np.arange(len(names)) + 0.2 * (i - (len(values) - 1) / 2),
                # A few resamples may all lie on one side of the value itself.
                xerr=np.maximum((middle - low, high - middle), 0),
                fmt="o",
                markersize=4,
                color=COLOURS[i % len(COLOURS)],
                label=dataset,
            )
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=len(values), frameon=False)
        save(figure, path)


def score_scatter(
    path: str | Path,
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    label: str,
) -> None:
    """Draws accuracy over the rank of each score, in a panel each.

    Args:
      path: the png, written atomically.
      scores: rank from 0, the worst, to 1, and accuracy in percent, (n,) each; the
        worst by accuracy are left out.
      title: above the figure.
      label: of the accuracy.
    """
    columns = min(4, len(scores))
    rows = -(-len(scores) // columns)
    with matplotlib.rc_context(STYLE):
        size = (1 + 2.2 * columns, 0.8 + 2.1 * rows)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axis, (name, (rank, accuracy)) in zip(
            panels.flat, scores.items(), strict=False
        ):
            shown = accuracy >= np.quantile(accuracy, LEFT_OUT)
            look = {"gridsize": (40, 16), "bins": "log", "mincnt": 1, "zorder": 2}
            axis.hexbin(rank[shown], accuracy[shown], cmap="viridis", **look)
            axis.set_title(name, fontsize=10, loc="left")
            axis.set_xticks([0, 0.5, 1])
            axis.xaxis.set_major_formatter("{x:g}")
        for axis in panels.flat[len(scores) :]:
            axis.set_visible(False)
        figure.supxlabel("rank of the score, best on the right", fontsize=10)
        figure.supylabel(label, fontsize=10)
        save(figure, path)


def pairs_matrix(
    path: str | Path, names: list[str], values: np.ndarray, *, title: str
) -> None:
    """Draws a matrix (m, m) of correlations between all pairs of `names`."""
    num = len(names)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = (2.2 + 0.55 * num, 1.9 + 0.5 * num)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        axis = figure.subplots()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        figure.colorbar(image, shrink=0.8)
        axis.set_xticks(range(num), names, rotation=45, ha="right")
        axis.set_yticks(range(num), names)
        for (i, j), value in np.ndenumerate(values):
            dark = "white" if abs(value) > 0.6 else "black"
            text = f"{value:.2f}".replace("0.", ".", 1)
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color=dark)
        save(figure, path)


def recall_curves(
    path: str | Path,
    counts: np.ndarray,
    recalls: Mapping[str, np.ndarray],
    *,
    title: str,
    label: str,
) -> None:
    """Draws the share of good cells that are among the best-scored.

    Args:
      path: the png, written atomically.
      counts: (k,) numbers of best-scored cells.
      recalls: (k,) shares, by score.
      title: above the figure.
      label: of the shares.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
        axis = figure.subplots()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        look = line_styles(list(recalls))
        for name, values in recalls.items():
            axis.plot(counts, values, label=name, linewidth=1.6, **look[name])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("best-scored cells")
        axis.set_ylabel(label)
        figure.legend(loc="outside right upper", frameon=False)
        save(figure, path)
