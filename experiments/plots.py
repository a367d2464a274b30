"""All plotting. Files only: nothing opens a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from jaxnas import checkpoints

# Okabe and Ito's colours, which people of all kinds of colour vision tell apart, less
# the yellow; dashes tell what shares a colour.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
)
DASHES = ("-", "--", ":", "-.")
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}
# Mean and standard error, (t,) each.
Curve = tuple[np.ndarray, np.ndarray]


def search_curves(
    path: str | Path,
    reported: Mapping[str, Curve],
    regret: Mapping[str, Curve],
    *,
    title: str,
    reported_label: str,
    regret_label: str,
    optimum: float | None = None,
    batch: Mapping[str, int] | None = None,
) -> None:
    """Compares searches by their progress, one evaluation after another, as a png.

    Args:
      path: the png, written atomically.
      reported: for each method, percent error of what it would return, on the left.
      regret: for each method, how far its best score is from the best of all, on the
        right, on a log scale; a curve ends where no run has any regret left.
      title: of the whole. reported_label, regret_label: of the panels.
      optimum: percent error to mark on the left.
      batch: architectures in each step of every method: then the right is by steps.
    """
    with matplotlib.rc_context(STYLE):
        # 960 x 440 pixels at 120 dots per inch, about what a README shows.
        rows = _legend_rows(list(reported), 8)
        height = 3.9 + 0.25 * max(0, rows - 2)
        figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        looks = _looks(list(reported), batch)
        for name in reported:
            look = looks[name]
            _band(left, *reported[name], label=name, **look)
            mean, error = regret[name]
            size = batch[name] if batch else 1
            steps = slice(size - 1, None, size)
            mean, error = np.where(mean > 0, mean, np.nan)[steps], error[steps]
            _band(right, mean, error, **look)
        if optimum is not None:
            left.axhline(optimum, color="#888888", linewidth=1, zorder=1)
            left.annotate(
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
        _zoom(left, reported, optimum)
        _log_scale(right, regret)
        for axis, label in ((left, reported_label), (right, regret_label)):
            axis.set_title(label, fontsize=10, loc="left")
            axis.set_xlabel("evaluations")
            axis.set_xlim(0, max(len(mean) for mean, _ in reported.values()))
        if batch:
            right.set_xlabel("batches")
            right.set_xscale("log")
            right.xaxis.set_major_formatter("{x:g}")
            lengths = (len(reported[name][0]) / batch[name] for name in reported)
            right.set_xlim(1, max(2, *map(math.ceil, lengths)))
        figure.legend(
            loc="outside lower center",
            ncols=-(-len(reported) // rows),
            frameon=False,
            handlelength=1.6,
        )
        checkpoints.atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _looks(names: list[str], batch: Mapping[str, int] | None) -> dict[str, dict]:
    """A look for each; in batches a colour for each method, dashes for each size."""
    if batch is None:
        places = {name: divmod(i, len(COLOURS))[::-1] for i, name in enumerate(names)}
    else:
        kinds = {name: name.removesuffix(f"-x{batch[name]}") for name in names}
        methods, sizes = (
            list(dict.fromkeys(kinds.values())),
            sorted(set(batch.values())),
        )
        places = {n: (methods.index(kinds[n]), sizes.index(batch[n])) for n in names}
    return {
        name: {
            "color": COLOURS[colour % len(COLOURS)],
            "linestyle": DASHES[dash % len(DASHES)],
        }
        for name, (colour, dash) in places.items()
    }


def _band(axis, mean, error, *, label=None, **look) -> None:
    count = np.arange(1, len(mean) + 1)
    mean = np.asarray(mean, float)
    error = np.nan_to_num(np.asarray(error, float))
    axis.plot(count, mean, label=label, linewidth=1.6, **look)
    axis.fill_between(
        count, mean - error, mean + error, color=look["color"], alpha=0.2, linewidth=0
    )


def _zoom(axis, curves: Mapping[str, Curve], optimum: float | None) -> None:
    """Leaves out the first evaluations, whose errors would flatten all that follows."""
    means = [np.asarray(mean, float) for mean, _ in curves.values()]
    lowest = [np.nanmin(mean) for mean in means] + (
        [] if optimum is None else [optimum]
    )
    highest = max(np.nanmax(mean[len(mean) // 10 :]) for mean in means)
    room = max(highest - min(lowest), 1e-3)
    axis.set_ylim(min(lowest) - 0.1 * room, highest + 0.05 * room)


def _log_scale(axis, curves: Mapping[str, Curve]) -> None:
    # Four decades at most: the last runs to find the best cell take a mean to nothing.
    above = np.concatenate([np.asarray(mean, float) for mean, _ in curves.values()])
    above = above[above > 0]
    if not above.size:
        return
    axis.set_yscale("log", nonpositive="clip")
    lowest, highest = max(above.min() * 0.7, above.max() * 1e-4), above.max() * 1.3
    axis.set_ylim(lowest, highest)
    axis.yaxis.set_major_formatter("{x:g}")
    # Less than a decade has no power of ten to read, or a single one.
    few = highest < 10 * lowest
    axis.yaxis.set_minor_formatter(_twos_and_fives if few else NullFormatter())


def _legend_rows(names: list[str], width: float) -> int:
    """The fewest rows in which a legend of `width` inches has room, filled by columns."""
    for rows in range(1, len(names)):
        columns = [names[i : i + rows] for i in range(0, len(names), rows)]
        # Inches of a line and its margins, and of a letter.
        if sum(0.68 + 0.085 * max(map(len, c)) for c in columns) <= width:
            return rows
    return len(names)


def _twos_and_fives(x: float, place: int) -> str:
    del place
    return f"{x:g}" if f"{x:.0e}"[0] in "25" else ""


# Cells that failed to train would flatten all that is above them.
LEFT_OUT = 0.05
# Value, and the two ends of its interval.
Interval = tuple[float, float, float]


def correlations(
    path: str | Path, values: Mapping[str, Mapping[str, Interval]], *, label: str
) -> None:
    """Correlations and their intervals, as a png.

    Args:
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
        checkpoints.atomic_write(path, lambda file: figure.savefig(file, format="png"))


def score_scatter(
    path: str | Path,
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    label: str,
) -> None:
    """Accuracy over the rank of each score, a panel each, as a png.

    Args:
      scores: rank from 0, the worst, to 1, and accuracy in percent, (n,) each; the
        worst by accuracy are left out.
      title: of the whole.   label: of the accuracy.
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
        checkpoints.atomic_write(path, lambda file: figure.savefig(file, format="png"))


def pairs_matrix(
    path: str | Path, names: list[str], values: np.ndarray, *, title: str
) -> None:
    """A matrix (m, m) of correlations between all pairs of `names`, as a png."""
    num = len(names)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
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
        checkpoints.atomic_write(path, lambda file: figure.savefig(file, format="png"))


def recall_curves(
    path: str | Path,
    counts: np.ndarray,
    recalls: Mapping[str, np.ndarray],
    *,
    title: str,
    label: str,
) -> None:
    """How many of the best-scored (k,) are good, by how many are chosen, as a png."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
        axis = figure.subplots()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        looks = _looks(list(recalls), None)
        for name, values in recalls.items():
            axis.plot(counts, values, label=name, linewidth=1.6, **looks[name])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("best-scored cells")
        axis.set_ylabel(label)
        figure.legend(loc="outside right upper", frameon=False)
        checkpoints.atomic_write(path, lambda file: figure.savefig(file, format="png"))
