"""Figures of fronts: a panel for each device, and hypervolume by evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.pareto_fronts.panels import Panel
from experiments.pareto_fronts.summary import LEVELS, Summary, true_front
from jaxnas import metrics, pareto
from jaxnas.studies.drawing import Axes, Figure, matplotlib
from jaxnas.studies.figures import STYLE, line_styles, save
from jaxnas.types import as_score

_PALE, _WIDTH, _HEIGHT = "#c8c8c8", 3.2, 2.6
_COLUMNS = 5  # panels side by side, at most


def draw_shares(
    path: Path,
    panels: Mapping[str, Panel],
    summaries: Mapping[str, Mapping[str, Summary]],
) -> None:
    """Draws the share of the hypervolume by evaluations, a panel for each device.

    Args:
      path: the png, written atomically.
      panels: by name.
      summaries: by panel, and by method within each. Curves are means over runs, bands
        one standard error to each side.

    Raises: `ValueError` if the figure cannot be written.
    """

    def draw(axis: Axes, panel: str) -> None:
        styles = line_styles(list(summaries[panel]))
        for method, s in summaries[panel].items():
            mean, error = metrics.mean_and_sem(s.share)
            error, x = np.nan_to_num(error), np.arange(1, len(mean) + 1)
            axis.plot(x, mean, label=method, linewidth=1.5, **styles[method])
            colour = styles[method]["color"]
            axis.fill_between(
                x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0
            )
        first = min(9, len(mean) - 1)
        start = [s.share[:, first].mean() for s in summaries[panel].values()]
        last = [s.share[:, -1].mean() for s in summaries[panel].values()]
        axis.set_ylim(max(0.0, min(start) - 0.02), max(1.0, *last))
        axis.set_title(_title(panel, panels), fontsize=9, loc="left")
        axis.set_xlabel("evaluations")

    title = "mean and standard error of the runs"
    _grid(path, list(summaries), draw, "share of the hypervolume", title)


def draw_fronts(
    path: Path,
    panels: Mapping[str, Panel],
    runs: Mapping[str, Mapping[str, np.ndarray]],
) -> bool:
    """Draws error against cost: architectures in grey, their front, and attained fronts.

    The error is 1, or 100 percent, minus the accuracy. Of each method, the
    front that half of the runs attain, and between those of a quarter and of three
    quarters a band. Panels of more than two objectives are left out; a file of earlier
    runs is removed if no panel is left.

    Args:
      path: the png, written atomically.
      panels: by name.
      runs: scores (seeds, t, 2) as the searches saw them, by panel and method.

    Returns: whether there is a panel to draw.
    Raises: `ValueError` if the figure cannot be written.
    """
    shown = [name for name, p in panels.items() if p.seen.shape[1] == 2]
    if not shown:
        path.unlink(missing_ok=True)
        return False

    def draw(axis: Axes, name: str) -> None:
        _draw_front(axis, panels[name], runs[name])
        axis.set_title(_title(name, panels), fontsize=9, loc="left")
        cost = panels[name].benchmark.objectives[1]
        axis.set_xlabel(f"{cost.name}, {cost.unit}")

    title = "median front of the runs, quartiles as band"
    first = panels[shown[0]].benchmark.target
    percent = first.unit == "percent"
    label = "error, percent" if percent else f"1 - {first.name}"
    _grid(path, shown, draw, label, title)
    return True


def _title(name: str, panels: Mapping[str, Panel]) -> str:
    """The name of a panel, with its note on a second line."""
    note = panels[name].note
    return f"{name}\n{note}" if note else name


def _draw_front(axis: Axes, panel: Panel, runs: Mapping[str, np.ndarray]) -> None:
    """Draws one panel of two objectives, of which the second is the x axis."""
    front = true_front(panel.seen)
    low, high = panel.reference, front.max(0)
    sign = as_score(panel.benchmark.objectives[1].target, 1.0)
    most = 100 if panel.benchmark.target.unit == "percent" else 1
    inside = (panel.seen > low).all(1)
    axis.scatter(
        sign * panel.seen[inside, 1], most - panel.seen[inside, 0], s=2, color=_PALE,
        zorder=1,
    )  # fmt: skip
    axis.plot(
        *_steps(sign * front[:, 1], most - front[:, 0]),
        color="#000000", linewidth=0.9, linestyle=":", label="reference", zorder=3,
    )  # fmt: skip
    grid = np.linspace(low[1], high[1], 200)
    styles = line_styles(list(runs))
    for method, scores in runs.items():
        # The cost is the threshold.
        surfaces = _surfaces(scores[..., ::-1], grid, np.array(LEVELS))
        worst, median, best = (
            most - np.where(np.isinf(surfaces), np.nan, surfaces)[::-1]
        )
        style = styles[method]
        axis.plot(sign * grid, median, label=method, linewidth=1.3, zorder=2, **style)
        axis.fill_between(
            sign * grid, best, worst, color=style["color"], alpha=0.15, linewidth=0
        )
    room = 0.04 * (high - low)
    axis.set_xlim(*sorted((sign * low[1], sign * (high[1] + room[1]))))
    axis.set_ylim(most - high[0] - room[0], most - low[0])


_surfaces: Callable[..., jax.Array] = jax.jit(pareto.attainment_surfaces)


def _steps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the region that a front attains, from its largest y downwards."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _grid(
    path: Path,
    names: list[str],
    draw: Callable[[Axes, str], None],
    label: str,
    title: str,
) -> None:
    """Draws a panel for each name, with one legend, and writes the figure."""
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    with matplotlib.rc_context(STYLE | {"font.size": 8}):
        size = (max(4.5, _WIDTH * columns), _HEIGHT * rows + 0.7)
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, names, strict=False):
            draw(axis, name)
        for axis in axes[len(names) :]:
            axis.remove()
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        figure.supylabel(label, fontsize=9)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=6, frameon=False)
        save(figure, path)
