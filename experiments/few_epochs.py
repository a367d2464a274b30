"""Searches that extrapolate learning curves after different numbers of epochs.

    python -m experiments.few_epochs --fews 10 20 40 --seeds 100
    python -m experiments.few_epochs --benchmark fashion-curves --dataset fashion-mnist
        --epochs 12 --run 0 --min-epoch 1 --init 10 --fews 2 3 4 --budget 302
        --out results/few_epochs_fashion

The ablation of Yan et al. (2021) over E_few, by `experiments.curve_search`, whose flags
these are: one folder few-N of --out for each number of epochs. Methods without an
extrapolator do not depend on it and run once. Writes few_epochs.csv and few_epochs.png,
the regret at the largest cost of --at, by default at --budget. The same command resumes
after an interruption.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments import curve_search
from experiments.common import curve_figures
from jaxnas.io import files
from jaxnas.studies import cli, figures
from jaxnas.studies.comparison import fidelity_methods as methods
from jaxnas.studies.drawing import Axes, Figure, matplotlib

HEADER = ("method", "few", "cost", "regret_mean", "regret_standard_error", "runs")


@dataclass(frozen=True)
class Config(curve_search.Config):
    """What to compare, on which curves."""

    fews: tuple[int, ...] = (10, 20, 40)
    """Numbers of epochs after which curves are extrapolated; --few is not used."""
    methods: tuple[str, ...] = (
        *("random", "random+last", "evolution", "evolution+last"),
        *("local", "local+last"),
    )
    """Which methods; curve_search has their names."""
    out: str = "results/few_epochs"
    """Folder for the results."""


class Regret(NamedTuple):
    """Regret of one method after a cost, in points, over runs."""

    method: str
    few: int
    cost: float
    mean: float
    error: float  # standard error of the mean
    runs: int


def main(config: Config) -> list[Regret]:
    """Runs the comparison for each number of epochs.

    Returns: the rows of few_epochs.csv.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    if not config.fews or len({*config.fews}) < len(config.fews):
        raise ValueError(f"--fews must be different numbers, not {config.fews}")
    if config.budget is None and not config.at:
        raise ValueError("wanted a --budget, or a cost --at which regrets are compared")
    if config.budget is not None and not 0 < config.budget < math.inf:
        raise ValueError(f"--budget must be above 0, not {config.budget}")
    config = dataclasses.replace(config, methods=methods.expand(config.methods))
    methods.validate_names(config.methods)
    if not config.at and config.budget is not None:
        # Where runs end before the budget, their last costs differ between the parts.
        config = dataclasses.replace(config, at=(config.budget,))
    parts = _parts(config)
    for part in parts:
        curve_search.prepare(part)  # raises for any part before the first one runs
    rows = [row for part in parts for row in _regrets(part)]
    out = Path(config.out)
    files.write_csv(out / "few_epochs.csv", HEADER, rows)
    draw(out / "few_epochs.png", rows, config.fews)
    return rows


def _parts(config: Config) -> list[curve_search.Config]:
    """The comparison of each number of epochs; plain methods are of the first alone."""
    given = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(curve_search.Config)
    }
    parts = []
    for number, few in enumerate(config.fews):
        names = tuple(m for m in config.methods if "+" in m or number == 0)
        own = {"few": few, "methods": names, "out": f"{config.out}/few-{few}"}
        parts += [curve_search.Config(**given | own)] if names else []
    return parts


def _regrets(config: curve_search.Config) -> list[Regret]:
    """Runs one comparison and reads the regret of its methods at its last cost."""
    curve_search.main(config)
    with open(Path(config.out) / "table_by_cost.csv", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["method"] in config.methods]
    last = max(config.at)
    return [
        Regret(
            row["method"],
            config.few,
            float(row["cost"]),
            float(row["regret_mean"]),
            float(row["regret_standard_error"]),
            int(row["runs"]),
        )
        for row in table
        if float(row["cost"]) == float(f"{last:.6g}")
    ]


def draw(path: Path, rows: Sequence[Regret], fews: Sequence[int]) -> None:
    """Draws regrets by the number of epochs, with two standard errors to each side.

    Args:
      path: the png, written atomically.
      rows: of all methods; one without an extrapolator is a level line.
      fews: numbers of epochs, the x axis.
    """
    names = list(dict.fromkeys(row.method for row in rows))
    styles = figures.line_styles(names, index=curve_figures.style_index(names))
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(5, 3.6), dpi=120, layout="constrained")
        axis = figure.subplots()
        for number, name in enumerate(names):
            own = {row.few: row for row in rows if row.method == name}
            # Beside each other, so that bars at one number of epochs can be told apart.
            shift = 0.015 * (number - len(names) / 2) * (max(fews) - min(fews) or 1)
            _line(axis, name, own, sorted(fews), styles[name], shift)
        axis.set_xlabel("epochs before the extrapolation")
        axis.set_ylabel(f"regret after a cost of {rows[0].cost:g}, points")
        axis.set_xticks(sorted(fews))
        axis.set_ylim(bottom=0)
        figure.legend(loc="outside right center", frameon=False, handlelength=2.2)
        figures.save(figure, path)


def _line(
    axis: Axes,
    name: str,
    own: Mapping[int, Regret],
    fews: Sequence[int],
    style: Mapping[str, Any],
    shift: float,
) -> None:
    """Draws one method, by the number of epochs or as a level line."""
    plain = "+" not in name
    x = list(fews) if plain else sorted(own)
    row = [next(iter(own.values())) if plain else own[few] for few in x]
    mean, error = [r.mean for r in row], [2 * r.error for r in row]
    shifted = [few + shift for few in x]
    options = {"capsize": 2, "linewidth": 1.6, "marker": "o", "markersize": 3}
    axis.errorbar(shifted, mean, error, label=name, **options, **style)


if __name__ == "__main__":
    cli.command(main, Config)
