"""Figures of searches, and how all figures look. Files only: nothing opens a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from jaxnas.io import files

# Okabe and Ito's colours, which people of all kinds of colour vision tell apart, less
# the yellow; dashes tell what shares a colour.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
)
DASHES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
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
    budgets: np.ndarray | None = None,
    budget_label: str = "cost",
) -> None:
    """Compares searches by their progress, evaluation by evaluation or by cost, as a png.

    Args:
      path: the png, written atomically.
      reported: for each method, percent error of what it would return, on the left.
      regret: for each method, how far its best score is from the best of all, on the
        right, on a log scale; a curve ends where no run has any regret left.
      title: of the whole. reported_label, regret_label: of the panels.
      optimum: percent error to mark on the left.
      batch: architectures in each step of every method: then the right is by steps.
      budgets: (t,) positive and increasing, at which curves are given, as by
        `metrics.at_cost`: steps on a log axis. Default: after 1, 2 ... evaluations.
      budget_label: what the budgets are, with their unit.

    Raises: `ValueError` for budgets of another length than the curves, or not positive.
    """
    if budgets is not None:
        _check_budgets(budgets, reported, regret)
    by_steps = batch if budgets is None else None
    with matplotlib.rc_context(STYLE):
        rows = _legend_rows(list(reported), 8)
        # 960 x 440 pixels at 120 dots per inch, about what a README shows.
        size = (8, 3.9 + 0.25 * max(0, rows - 2))
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        look = looks(list(reported), batch)
        for name in reported:
            _band(left, budgets, *reported[name], label=name, **look[name])
            mean, error = regret[name]
            size = by_steps[name] if by_steps else 1
            ends = slice(size - 1, None, size)
            mean, error = np.where(mean > 0, mean, np.nan)[ends], error[ends]
            _band(right, budgets, mean, error, **look[name])
        if optimum is not None:
            _mark_optimum(left, optimum)
        # On a log axis the first evaluations take up more of the figure.
        _zoom(left, reported, optimum, 0.1 if budgets is None else 0.4)
        _log_scale(right, regret)
        lengths = {name: len(mean) for name, (mean, _) in reported.items()}
        for axis, label in ((left, reported_label), (right, regret_label)):
            axis.set_title(label, fontsize=10, loc="left")
            if budgets is not None:
                _log_axis(axis, budget_label, budgets[0], budgets[-1])
            elif by_steps and axis is right:
                steps = (math.ceil(lengths[n] / by_steps[n]) for n in lengths)
                _log_axis(axis, "batches", 1, max(2, *steps))
            else:
                axis.set_xlabel("evaluations")
                axis.set_xlim(0, max(lengths.values()))
        figure.legend(
            loc="outside lower center",
            ncols=-(-len(reported) // rows),
            frameon=False,
            handlelength=1.6,
        )
        files.atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _check_budgets(budgets: np.ndarray, *curves: Mapping[str, Curve]) -> None:
    lengths = {len(mean) for named in curves for mean, _ in named.values()}
    if lengths - {len(budgets)} or not budgets[0] > 0:
        raise ValueError(
            f"wanted positive budgets as many as the curves have values, not "
            f"{len(budgets)} from {budgets[0]} for curves of {sorted(lengths)}"
        )


def _mark_optimum(axis, optimum: float) -> None:
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


def _log_axis(axis, label: str, low: float, high: float) -> None:
    axis.set_xlabel(label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(low, high if high > low else 2 * low)


def looks(names: list[str], batch: Mapping[str, int] | None = None) -> dict[str, dict]:
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


def _band(axis, budgets, mean, error, *, label=None, **look) -> None:
    """A curve by evaluations, or a step function by budgets."""
    mean = np.asarray(mean, float)
    error = np.nan_to_num(np.asarray(error, float))
    place, steps, step = np.arange(1, len(mean) + 1), "default", None
    if budgets is not None:
        place, steps, step = budgets, "steps-post", "post"
    axis.plot(place, mean, label=label, linewidth=1.6, drawstyle=steps, **look)
    look = {"color": look["color"], "alpha": 0.2, "linewidth": 0, "step": step}
    axis.fill_between(place, mean - error, mean + error, **look)


def _zoom(
    axis, curves: Mapping[str, Curve], optimum: float | None, share: float
) -> None:
    """Leaves out the errors of the first `share`, which would flatten all that follows."""
    means = [np.asarray(mean, float) for mean, _ in curves.values()]
    shown = np.concatenate([mean[int(share * len(mean)) :] for mean in means])
    if np.isnan(shown).all():  # there is nothing to see
        return
    lowest = np.nanmin([*np.concatenate(means), np.inf if optimum is None else optimum])
    highest = np.nanmax(shown)
    room = max(highest - lowest, 1e-3)
    axis.set_ylim(lowest - 0.1 * room, highest + 0.05 * room)


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
