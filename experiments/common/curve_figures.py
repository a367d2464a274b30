"""Figures of learning curves, and the lines of searches that read them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnas.studies.comparison import fidelity_methods as methods
from jaxnas.studies.drawing import Figure, MaxNLocator, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, save


def table_signal(
    path: str | Path,
    curves: np.ndarray,
    between: np.ndarray,
    final: np.ndarray,
    *,
    label: str,
) -> None:
    """Draws the spread of architectures by epoch, and how well epochs rank them.

    Args:
      path: the png, written atomically.
      curves: (n, e) percent.
      between: (e,) Spearman of an epoch with the same epoch of another run.
      final: (e,) Spearman of an epoch with the last epoch of another run.
      label: of the accuracies.
    """
    epochs = np.arange(1, curves.shape[1] + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        for low, high, alpha in ((0, 100, 0.15), (10, 90, 0.2), (25, 75, 0.25)):
            band = np.percentile(curves, (low, high), 0)
            name = "all" if low == 0 else f"{low} to {high} %"
            look = dict(color=COLOURS[0], alpha=alpha, linewidth=0)
            left.fill_between(epochs, *band, label=name, **look)
        left.plot(epochs, np.median(curves, 0), color=COLOURS[0], label="median")
        left.set_ylabel(label)
        left.legend(loc="lower right", frameon=False)
        right.plot(epochs, between, "o-", color=COLOURS[1], label="same epoch")
        right.plot(epochs, final, "s--", color=COLOURS[2], label="last epoch")
        right.set_ylabel("Spearman with another run")
        right.set_ylim(min(0, between.min(), final.min()), 1)
        right.legend(loc="lower right", frameon=False)
        for axis in (left, right):
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        save(figure, path)


def style_index(labels: Sequence[str]) -> dict[str, int]:
    """The index of the line of each method, as `figures.line_styles` takes it.

    A search and its forms with extrapolators share a colour and differ in their dashes,
    and so do the multi-fidelity searches up to `dehb`, and those after it. Searches of
    other packages have the first lines that are left.

    Args:
      labels: names of methods and of searches of other packages.
    """
    num = len(COLOURS)
    suffixes = ("", *(f"+{c}" for c in methods.EXTRAPOLATORS))
    families = [[plain + suffix for suffix in suffixes] for plain in methods.PLAIN]
    halving = list(methods.HALVING)
    end = halving.index("dehb") + 1
    families += [halving[:end], halving[end:]]
    index = {
        name: colour + num * dash
        for colour, family in enumerate(families)
        for dash, name in enumerate(family)
        if name in labels
    }
    left = (i for i in itertools.count() if i not in {*index.values()})
    return {name: index[name] if name in index else next(left) for name in labels}
