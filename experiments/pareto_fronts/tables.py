"""Panels of tables of NAS-Bench-201: accuracy against costs, or other accuracies."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pareto_fronts import panels
from experiments.pareto_fronts.panels import Panel
from jaxnas.benchmarks import (
    columns,
    hardware,
    named,
    several,
    table_files,
    tabular,
)
from jaxnas.benchmarks.base import PERCENT, Benchmark
from jaxnas.benchmarks.several import Values
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.spaces import nasbench201

# Costs by formula, of the networks of NAS-Bench-201, in millions.
FORMULAS = {"parameters": counting.parameters, "macs": counting.macs}
# Other datasets, such as cifar10-noisy, have the costs of CIFAR-10.
CLASSES = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}


def open_panels(
    benchmark: str,
    fed_back: dict[str, Any],
    reported: dict[str, Any],
    costs: Sequence[str],
    bounds: Sequence[float] = (),
) -> dict[str, Panel]:
    """Opens a panel for each name in `costs`.

    Args:
      benchmark: name of a table, or a file, of NAS-Bench-201.
      fed_back: dataset, split, epochs and seed of the accuracy that searches see.
      reported: the same of the accuracy by which fronts are also judged.
      costs: a name for each panel: of a formula, of a device or column of hardware, of
        another dataset of the table, whose accuracy is maximised too, or several of them,
        joined by "+".
      bounds: the worst feasible value of each cost, of all panels; default: none.

    Returns: the panels by name.
    Raises: `ValueError` for another space, an unknown cost, a cost that was not measured
      for all cells, more than two costs in a panel, a target other than accuracy in
      percent, and for bounds that nothing meets.
    """
    table = named.open_table(benchmark)
    space = named.library_space(table)
    if space.name != nasbench201.SPACE.name:
        raise ValueError(
            f"wanted a table of nasbench201, or the benchmark ofa-predicted, not a table "
            f"of {space.name}"
        )
    accuracy = tabular.tabular_benchmark(space, table, **fed_back)
    if accuracy.target != PERCENT:
        raise ValueError(
            f"fronts are of accuracies in percent, not of {accuracy.target.name} in "
            f"{accuracy.target.unit}, as {table.name} has for {fed_back['dataset']}"
        )
    other = columns.column(table, **reported)[:, 0]
    cost = functools.partial(_cost, table=table, fed_back=fed_back)
    part = named.part_of_space(table)
    note = f"front of {part}" if part else ""
    return {
        name: _panel(accuracy, panels.costs_of(name, cost, bounds), other, note)
        for name in dict.fromkeys(costs)
    }


def _panel(
    accuracy: Benchmark,
    costs: dict[Objective, Values],
    reported: np.ndarray,
    note: str,
) -> Panel:
    """The panel of costs by row of the table."""
    benchmark = several.with_objectives(accuracy, costs)
    seen = several.objective_scores(benchmark)
    judged = np.concatenate([reported[:, None], seen[:, 1:]], 1).astype(seen.dtype)

    def judge(arch: np.ndarray, scores: np.ndarray) -> np.ndarray:
        del scores
        rows = tabular.table_rows(benchmark, arch.astype(np.int32))
        return judged[np.asarray(rows)]

    return panels.make_panel(benchmark, seen, judged, judge)._replace(note=note)


def _cost(
    name: str, table: BenchmarkTable, fed_back: dict[str, Any]
) -> tuple[Objective, np.ndarray]:
    """A cost, or another accuracy, and its values (n,) by row of the table."""
    datasets = {dataset for dataset, _, _ in table_files.accuracies(table)}
    datasets = sorted(datasets - {fed_back["dataset"]})
    if name in datasets:
        which: dict[str, Any] = fed_back | {"dataset": name}
        values = columns.column(table, **which)[:, 0]
        return Objective(f"{name} accuracy", "percent", "maximise"), values
    base = fed_back["dataset"] if fed_back["dataset"] in CLASSES else "cifar10"
    if name in FORMULAS:
        size = 16 if base == "ImageNet16-120" else 32
        network = NetworkConfig(num_classes=CLASSES[base], image_size=size)
        values = FORMULAS[name](network, table.arch) / 1e6
        return Objective(name, "millions", "minimise"), values
    try:
        objective, values = hardware.hardware_column(name, base)
    except ValueError as error:
        others = ", ".join((*FORMULAS, *datasets))
        raise ValueError(f"{error}; or one of {others}") from None
    return objective, values[_official_rows(table)]


def _official_rows(table: BenchmarkTable) -> np.ndarray:
    """The index (n,) in the order of NAS-Bench-201 of each row of a table."""
    official = named.open_table("nb201").arch.astype(np.int64)
    place = 5 ** np.arange(official.shape[1])
    position = np.empty(5 ** official.shape[1], np.int64)
    position[official @ place] = np.arange(len(official))
    return position[table.arch.astype(np.int64) @ place]
