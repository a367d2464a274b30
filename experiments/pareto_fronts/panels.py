"""Panels of a comparison: accuracy against one or more costs, or other accuracies.

Searches see the accuracy that is fed back and the costs; their fronts are also judged by
the accuracy that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas import pareto
from jaxnas.benchmarks import (
    columns,
    hardware,
    named,
    several,
    table_files,
    tabular,
)
from jaxnas.benchmarks.base import PERCENT, Benchmark
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.spaces import nasbench201
from jaxnas.types import Array

# Costs by formula, of the networks of NAS-Bench-201, in millions.
FORMULAS = {"parameters": counting.parameters, "macs": counting.macs}
# Other datasets, such as cifar10-noisy, have the costs of CIFAR-10.
CLASSES = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}


class Panel(NamedTuple):
    """A table with several objectives, and the scores by which fronts are judged."""

    benchmark: Benchmark
    seen: np.ndarray  # (n, m) scores of all architectures, as searches see them
    reported: np.ndarray  # (n, m) the same with the accuracy that is reported
    reference: np.ndarray  # (m,), of `seen`
    reference_reported: np.ndarray  # (m,), of `reported`


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
        raise ValueError(f"costs are those of nasbench201, not of {space.name}")
    accuracy = tabular.tabular_benchmark(space, table, **fed_back)
    if accuracy.target != PERCENT:
        raise ValueError(
            f"fronts are of accuracies in percent, not of {accuracy.target.name} in "
            f"{accuracy.target.unit}, as {table.name} has for {fed_back['dataset']}"
        )
    other = columns.column(table, **reported)[:, 0]
    return {
        name: _panel(name, table, accuracy, other, fed_back, bounds)
        for name in dict.fromkeys(costs)
    }


def _panel(
    name: str,
    table: BenchmarkTable,
    accuracy: Benchmark,
    reported: np.ndarray,
    fed_back: dict[str, Any],
    bounds: Sequence[float],
) -> Panel:
    """The panel of costs joined by "+"."""
    if name.count("+") > 1:
        raise ValueError(f"a panel has at most two costs, not {name}")
    parts = [_cost(part, table, fed_back) for part in name.split("+")]
    if bounds and len(bounds) != len(parts):
        raise ValueError(
            f"--bounds must have a value for each cost of {name}, not {len(bounds)} for "
            f"{len(parts)}"
        )
    if bounds:
        pairs = zip(parts, bounds, strict=True)
        parts = [(o._replace(bound=bound), column) for (o, column), bound in pairs]
    names = [objective.name for objective, _ in parts]
    if len(set(names)) < len(names):
        # Two latencies, say: the devices tell them apart.
        devices = name.split("+")
        parts = [
            (o._replace(name=f"{o.name} {d}"), column)
            for (o, column), d in zip(parts, devices, strict=True)
        ]
    if len({objective.name for objective, _ in parts}) < len(parts):
        raise ValueError(f"a cost of {name} is given twice")
    benchmark = several.with_objectives(accuracy, dict(parts))
    seen = several.objective_scores(benchmark)
    judged = np.concatenate([reported[:, None], seen[:, 1:]], 1).astype(seen.dtype)
    references = (np.asarray(_reference(scores)) for scores in (seen, judged))
    return Panel(benchmark, seen, judged, *references)


def _reference(scores: np.ndarray) -> np.ndarray:
    """Ideal + 1.1 (nadir - ideal) of the true front."""
    return np.asarray(_reference_point(scores))


_reference_point: Callable[..., Array] = jax.jit(pareto.reference_point)


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
