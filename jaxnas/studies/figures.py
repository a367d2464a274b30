"""Figures that compare searches, and the style that all figures share.

Figures are written to files; nothing opens a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.io import files
from jaxnas.studies import axes
from jaxnas.studies.drawing import Axes, Figure, matplotlib, to_rgb

# The palette of Okabe and Ito, which is safe for colour-blind readers, without yellow.
# Dashes distinguish curves of the same colour.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"),
)
# The same, mixed with white, for further methods where dashes are sizes of batches.
LIGHT = tuple(
    (0.55 * red + 0.45, 0.55 * green + 0.45, 0.55 * blue + 0.45)
    for red, green, blue in map(to_rgb, COLOURS)
)
DASHES = ("-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)))
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    **{"axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6},
}
Curve = tuple[np.ndarray, np.ndarray]  # mean and standard error, (t,) each


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a png, atomically.

    Args:
      figure: within the `matplotlib.rc_context` that it was drawn in.
      path: the file; its folder must exist.

    Raises: `ValueError` that names the file and the cause if it cannot be written.
    """
    files.atomic_write(path, lambda file: figure.savefig(file, format="png"))


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
    budgets: np.ndarray | None = None,
    budget_label: str = "cost",
    index: Mapping[str, int] | None = None,
) -> None:
    """Draws the progress of searches, by evaluations or by cost, as a png.

    Curves are means over runs, bands one standard error to each side.

    Args:
      path: the png, written atomically.
      reported: for each method, percent error of its incumbent; the left panel.
      regret: for each method, the distance of its best score from the best of all; the
        right panel, on a log scale. A curve ends, in a dot, where no run has any regret
        left.
      title: above the figure.
      reported_label: above the left panel.
      regret_label: above the right panel.
      optimum: percent error to mark on the left.
      batch: architectures in each step of every method; the right is then by steps.
      budgets: (t,) positive and increasing, at which curves are given, as by
        `metrics.at_cost`: step functions on a log axis. Default: after 1, 2 ...
        evaluations.
      budget_label: the quantity of the budgets, with its unit.
      index: of the method of each curve, which selects its colour; default: the order.

    Raises: `ValueError` for budgets of another length than the curves, or not positive.
    """
    if budgets is not None:
        _require_budgets(budgets, reported, regret)
        budgets, reported, regret = _from_first_value(budgets, reported, regret)
    by_steps = batch if budgets is None else None
    with matplotlib.rc_context(STYLE):
        rows = _legend_rows(list(reported), 8)
        # 960 x 440 pixels at 120 dots per inch, about what a README shows.
        size = (8, 3.9 + 0.25 * max(0, rows - 2))
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        styles = line_styles(list(reported), batch, index)
        for name in reported:
            _band(left, budgets, *reported[name], label=name, **styles[name])
            step = by_steps[name] if by_steps else 1
            rest = _positive(regret[name], step)
            _band(right, budgets, *rest, **styles[name])
            _mark_end(right, budgets, rest[0], styles[name]["color"])
        if optimum is not None:
            axes.mark_optimum(left, optimum)
        # On a log axis the first evaluations take up more of the figure.
        axes.zoom(left, reported, optimum, 0.1 if budgets is None else 0.4)
        axes.log_scale(right, regret)
        left.set_title(reported_label, fontsize=10, loc="left")
        right.set_title(regret_label, fontsize=10, loc="left")
        lengths = {name: len(mean) for name, (mean, _) in reported.items()}
        if budgets is not None:
            for axis in (left, right):
                axes.log_axis(axis, budget_label, budgets[0], budgets[-1])
        else:
            _evaluation_axis(left, lengths)
            _evaluation_axis(right, lengths, by_steps)
        figure.legend(
            loc="outside lower center",
            ncols=-(-len(reported) // rows),
            frameon=False,
            handlelength=1.6,
        )
        save(figure, path)


def _positive(curve: Curve, step: int) -> Curve:
    """Every `step`-th value of a regret, NaN from where no run has any regret left."""
    mean, error = curve
    ends = slice(step - 1, None, step)
    return np.where(mean > 0, mean, np.nan)[ends], error[ends]


def _mark_end(
    axis: Axes, budgets: np.ndarray | None, mean: np.ndarray, colour: str
) -> None:
    """Draws a dot at the last value (t,) of a regret that falls to zero."""
    x = np.arange(1, len(mean) + 1) if budgets is None else budgets
    (known,) = np.nonzero(np.isfinite(mean))
    if len(known) and known[-1] < len(mean) - 1:
        axis.plot(x[known[-1]], mean[known[-1]], "o", color=colour, markersize=5)


def _evaluation_axis(
    axis: Axes, lengths: Mapping[str, int], batch: Mapping[str, int] | None = None
) -> None:
    """Labels an axis of evaluations, or of batches on a log scale."""
    if batch:
        steps = (math.ceil(length / batch[name]) for name, length in lengths.items())
        axes.log_axis(axis, "batches", 1, max(2, *steps))
    else:
        axis.set_xlabel("evaluations")
        axis.set_xlim(0, max(lengths.values()))


def _require_budgets(budgets: np.ndarray, *curves: Mapping[str, Curve]) -> None:
    """Raises `ValueError` unless budgets (t,) fit all curves."""
    lengths = {len(mean) for named in curves for mean, _ in named.values()}
    if lengths - {len(budgets)} or not budgets[0] > 0:
        raise ValueError(
            f"wanted a positive budget for each value of a curve, not {len(budgets)} "
            f"from {budgets[0]} for curves of {sorted(lengths)}"
        )


def _from_first_value(
    budgets: np.ndarray, *curves: Mapping[str, Curve]
) -> tuple[Any, ...]:
    """Leaves out the budgets below the first one at which a curve has a value."""
    means = np.array([mean for named in curves for mean, _ in named.values()], float)
    first = int(np.argmax(np.isfinite(means).any(0)))
    cut = ({n: (m[first:], e[first:]) for n, (m, e) in c.items()} for c in curves)
    return budgets[first:], *cut


def line_styles(
    names: list[str],
    batch: Mapping[str, int] | None = None,
    index: Mapping[str, int] | None = None,
) -> dict[str, dict]:
    """Chooses a colour and dashes for each curve, as keywords of matplotlib.

    Args:
      names: of the curves; a method METHOD in batches of k is called METHOD-xk.
      batch: the size of the batches of each; with it, methods differ by colour alone and
        sizes by dashes.
      index: of the method of each curve; default: methods are counted in order.

    Returns: `color` and `linestyle` by name.
    """
    if index is None:
        methods = {n: n.removesuffix(f"-x{batch[n]}") if batch else n for n in names}
        order = list(dict.fromkeys(methods.values()))
        index = {name: order.index(method) for name, method in methods.items()}
    sizes = sorted({*batch.values()}) if batch else []
    styles = {}
    for name in names:
        turn, colour = divmod(index[name], len(COLOURS))
        dash = sizes.index(batch[name]) if batch else turn
        palette = LIGHT if batch and turn % 2 else COLOURS
        styles[name] = {
            "color": palette[colour],
            "linestyle": DASHES[dash % len(DASHES)],
        }
    return styles


def _band(
    axis: Axes,
    budgets: np.ndarray | None,
    mean: np.ndarray,
    error: np.ndarray,
    *,
    label: str | None = None,
    **style: Any,
) -> None:
    """Draws mean and standard error (t,): a curve, or a step function of budgets."""
    mean = np.asarray(mean, float)
    error = np.nan_to_num(np.asarray(error, float))
    x, steps, step = np.arange(1, len(mean) + 1), "default", None
    if budgets is not None:
        x, steps, step = budgets, "steps-post", "post"
    axis.plot(x, mean, label=label, linewidth=1.6, drawstyle=steps, **style)
    band: dict[str, Any] = {"alpha": 0.2, "linewidth": 0, "step": step}
    band["color"] = style["color"]
    axis.fill_between(x, mean - error, mean + error, **band)


def _legend_rows(names: list[str], width: float) -> int:
    """Chooses the fewest rows for which a legend is at most `width` inches wide.

    A legend is filled by columns, each as wide as its longest name.
    """
    for rows in range(1, len(names)):
        columns = [names[i : i + rows] for i in range(0, len(names), rows)]
        # Widths of a line with its margins, and of a letter, in inches.
        if sum(0.68 + 0.085 * max(map(len, c)) for c in columns) <= width:
            return rows
    return len(names)
