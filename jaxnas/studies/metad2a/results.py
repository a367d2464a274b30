"""The files and the table of a proposal of cells.

result.json has the best cells with their predictions, the statistics of the generator's
samples and the seconds of each part; cells.csv has all cells; cell_1.png and on are
pictures of the best.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxnas
from jaxnas.io import files, records
from jaxnas.models.statistics import SampleStatistics
from jaxnas.spaces import nasbench201
from jaxnas.studies import terminal
from jaxnas.studies.images import cell_picture
from jaxnas.studies.metad2a.config import Config
from jaxnas.studies.metad2a.inputs import Dataset
from jaxnas.studies.metad2a.ranking import Ranked
from jaxnas.studies.progress import duration

FORMAT = 1  # of result.json
SHOWN_CLASSES = 20  # names of classes in a line


def summary(
    config: Config, dataset: Dataset, ranked: Ranked, statistics: SampleStatistics
) -> dict[str, Any]:
    """Collects the result, as JSON values.

    Args:
      config: settings, which it repeats.
      dataset: the user's images.
      ranked: all cells.
      statistics: of independent samples of the generator; NaN becomes null.
    """
    best = ranked.first.nonzero()[0][: config.top]
    return {
        "dataset": dataset.name,
        "classes": list(dataset.class_names),
        "features": dataset.features.kind.name,
        "images": len(dataset.features.x),
        "cells": [
            {
                "architecture": nasbench201.to_string(ranked.arch[i]),
                "predicted": _number(float(ranked.predicted[i]), 3),
                "spread": _number(float(ranked.spread[i]), 3),
            }
            for i in best
        ],
        "generated": len(ranked.arch),
        "functions": int(ranked.first.sum()),
        "statistics": {k: _number(v, 4) for k, v in statistics._asdict().items()},
        "settings": dataclasses.asdict(config),
        "versions": {"jaxnas": jaxnas.__version__},
    }


def _number(value: float, digits: int) -> float | None:
    """Rounds a number for JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, digits)


def write(out: Path, result: Mapping[str, Any], ranked: Ranked) -> None:
    """Writes cells.csv and result.json, each atomically.

    Args:
      out: the folder.
      result: of `summary`, with what was added to it.
      ranked: all cells.
    """
    columns = [nasbench201.to_string(arch) for arch in ranked.arch]
    rows = zip(columns, ranked.predicted, ranked.spread, strict=True)
    header = ["architecture", "predicted", "spread"]
    files.write_csv(out / "cells.csv", header, [list(row) for row in rows])
    records.write_record(out / "result.json", result, FORMAT)


def draw_cells(out: Path, result: Mapping[str, Any], count: int) -> None:
    """Draws the best cells, and removes the pictures of an earlier run.

    Args:
      out: the folder.
      result: of `summary`.
      count: pictures.
    """
    for path in out.glob("cell_*.png"):
        path.unlink()
    for number, cell in enumerate(result["cells"][:count], 1):
        title = f"Cell {number} for {result['dataset']}"
        if cell["predicted"] is not None:
            title += f": {cell['predicted']:.1f} % predicted"
        cell_picture.draw(out / f"cell_{number}.png", cell["architecture"], title=title)


def show(
    console: Console, result: Mapping[str, Any], seconds: Mapping[str, float]
) -> None:
    """Prints the best cells, the statistics and the times.

    Args:
      console: the output.
      result: of `summary`.
      seconds: of each part, by name.
    """
    names = result["classes"]
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN_CLASSES else ""
    lines = [
        f"{result['dataset']}: {result['images']} images, features "
        f"{result['features']}; classes: {', '.join(names[:SHOWN_CLASSES])}{more}",
        f"{result['generated']} different cells, {result['functions']} different functions",
    ]
    rows = [
        [cell["architecture"], *map(_text, (cell["predicted"], cell["spread"]))]
        for cell in result["cells"]
    ]
    statistics = (f"{k} {_text(v)}" for k, v in result["statistics"].items())
    times = (f"{name} {duration(value)}" for name, value in seconds.items())
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    terminal.show_rows(console, ["best cells", "predicted %", "spread"], rows)
    for line in (f"samples: {', '.join(statistics)}", f"times: {', '.join(times)}"):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _text(value: float | None) -> str:
    """A number for the table; a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"
