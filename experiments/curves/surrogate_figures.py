"""Figures of predicted learning curves, written as png files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnas.studies.drawing import Axes, Figure, MaxNLocator, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, save


def examples(
    path: str | Path,
    trial: Mapping[str, np.ndarray],
    noise: Mapping[str, np.ndarray],
    *,
    title: str,
    label: str,
) -> None:
    """Draws held-out curves, and the predictions of a surrogate.

    Figure 1 of Yan et al. (2021): the true curve, the predicted mean, and a noisy draw;
    and the band that has 90 % of the draws. Below each the same minus the predicted mean,
    as the noise of a good surrogate is thin beside the rise of a curve.

    Args:
      path: the png, written atomically.
      trial: with example/true and example/mean (k, E), ascending by the final value.
      noise: with draw (k, E) and band (2, k, E); empty for a surrogate without noise.
      title: above the figure.
      label: of the curves, with their unit.
    """
    true, mean = trial["example/true"], trial["example/mean"]
    columns = -(-len(true) // 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4 * columns, 7.5), dpi=120, layout="constrained")
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        axes = figure.subplots(
            4, columns, sharex=True, squeeze=False, height_ratios=[3, 1.2, 3, 1.2]
        )
        for i in range(len(true)):
            row, column = divmod(i, columns)
            of = {name: noise[name][..., i, :] for name in ("draw", "band") if noise}
            for part, centre in enumerate((0 * mean[i], mean[i])):
                axis = axes[2 * row + part, column]
                lines = {"true": true[i], "mean": mean[i], **of}
                _panel(axis, {name: x - centre for name, x in lines.items()})
                if column == 0:
                    axis.set_ylabel("difference" if part else label)
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles[::-1],
            labels[::-1],
            loc="outside lower center",
            ncols=len(labels),
            frameon=False,
        )
        figure.align_ylabels(axes[:, 0])
        save(figure, path)


def _panel(axis: Axes, lines: Mapping[str, np.ndarray]) -> None:
    """Draws the true curve and the mean (E,), with a draw (E,) and the band (2, E)."""
    x, blue = np.arange(1, len(lines["true"]) + 1), COLOURS[0]
    if "band" in lines:
        axis.fill_between(
            x, *lines["band"], color=blue, alpha=0.2, linewidth=0, label="90 % of draws"
        )
        axis.plot(
            x, lines["draw"], color=blue, linewidth=1.1, alpha=0.8, label="one draw"
        )
    axis.plot(x, lines["true"], color="black", linewidth=1.1, label="true curve")
    axis.plot(x, lines["mean"], color=COLOURS[1], linewidth=2, label="predicted mean")
    _limits(axis, np.concatenate([np.atleast_2d(line) for line in lines.values()]))
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _limits(axis: Axes, shown: np.ndarray) -> None:
    """Limits of y that leave out the steep first epochs, if they would flatten the rest."""
    late = shown[:, shown.shape[1] // 20 :]
    low, high = late.min(), late.max()
    room = 0.05 * max(high - low, 1e-3)
    axis.set_ylim(low - room, high + room)
    axis.set_xlim(1, shown.shape[1])


def by_epoch(
    path: str | Path,
    values: Mapping[str, np.ndarray],
    *,
    title: str,
    label: str,
) -> None:
    """Draws a metric of several surrogates by epoch.

    Args:
      path: the png, written atomically.
      values: (s, E) of each surrogate on s splits; the line is the mean, and the band
        one standard error to each side.
      title: above the figure.
      label: of the metric.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        axis = figure.subplots()
        for i, (name, value) in enumerate(values.items()):
            mean, error = value.mean(0), value.std(0) / np.sqrt(max(len(value) - 1, 1))
            x, colour = np.arange(1, value.shape[1] + 1), COLOURS[i]
            axis.plot(x, mean, linewidth=1.6, label=name, color=colour)
            axis.fill_between(
                x, mean - error, mean + error, alpha=0.2, lw=0, color=colour
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.set_xlim(1, x[-1])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper right", ncols=len(values), frameon=False)
        save(figure, path)


def final_values(
    path: str | Path,
    values: Mapping[str, Mapping[str, float]],
    *,
    label: str,
) -> None:
    """Draws a metric of many surrogates on several sets, as points.

    Args:
      path: the png, written atomically.
      values: by set, then by surrogate; surrogates are drawn from the top.
      label: of the metric.
    """
    names = list(dict.fromkeys(n for of in values.values() for n in of))
    with matplotlib.rc_context(STYLE):
        height = 1.4 + 0.27 * len(names)
        figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
        axis = figure.subplots()
        for i, (data, by_name) in enumerate(values.items()):
            place = [names.index(name) for name in by_name]
            colour = COLOURS[i % len(COLOURS)]
            axis.plot(list(by_name.values()), place, "o", color=colour, label=data)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=len(values), frameon=False)
        save(figure, path)
