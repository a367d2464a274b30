"""Panels of once-for-all's MobileNetV3 subnets: predicted accuracy against costs.

Latencies are functions that were fitted to the measurements of a device. The space cannot
be enumerated: runs are compared with the front of NSGA-II runs that are a hundred times as
long, and fronts are also judged by the accuracies in percent that a monotone map, fitted
to measured subnets, makes of predicted ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jax.tree_util import Partial

from experiments.pareto_fronts import panels, summary
from experiments.pareto_fronts.panels import Panel
from jaxnas.benchmarks import latency, named, ofa, several, table_files
from jaxnas.benchmarks.base import bind
from jaxnas.benchmarks.latency import FittedLatency
from jaxnas.benchmarks.several import Values
from jaxnas.io.run_folder import RunFolder
from jaxnas.pareto import Objective
from jaxnas.search import loop, multi_objective
from jaxnas.spaces import mobilenetv3, mobilenetv3_counts
from jaxnas.studies import seed_store
from jaxnas.types import Array

NAME, TABLE = "ofa-predicted", "ofa-latency"
"""The benchmark, and the table of the latencies to which functions are fitted."""
COUNTS: dict[str, Callable[[Array, int], Array]] = {
    "macs": mobilenetv3_counts.multiply_adds,
    "parameters": lambda arch, resolution: mobilenetv3_counts.parameters(arch),
}
"""Costs by formula."""
_RANDOM = 10_000  # random subnets, which figures show
# Long runs of NSGA-II: with 20,000 evaluations one alone has 0.97 to 0.99 of the
# hypervolume of the front of four.
_RUNS, POPULATION = 4, 100


def open_panels(
    costs: Sequence[str],
    bounds: Sequence[float] = (),
    *,
    resolution: int = 224,
    force: bool = False,
) -> dict[str, Panel]:
    """Opens a panel for each name in `costs`, whose front is that of random subnets.

    Args:
      costs: a name for each panel: macs, parameters, a device, or two of them, joined by
        "+"; devices stands for all whose latencies are predicted well enough.
      bounds: the worst feasible value of each cost, of all panels; default: none.
      resolution: pixels on each side of an image.
      force: whether latencies may be functions that rank held-out networks badly.

    Returns: the panels by name; `note` has the rank correlations of latencies with
      held-out measurements.
    Raises: `ValueError` for an unknown cost, for more than two costs in a panel, for a
      resolution without predictions, for a latency that is not predicted well enough,
      unless it is forced, and for bounds that no random subnet meets.
    """
    predictor = ofa.accuracy_predictor()
    accuracy = ofa.predicted_accuracy_benchmark(predictor, resolution=resolution)
    calibration = ofa.calibration(predictor, named.open_table("ofa"))
    judge = functools.partial(_judge, calibration)
    fits = _fits(costs, resolution, force)
    cost = functools.partial(_cost, fits, resolution)
    costs = [c for name in costs for c in (fits if name == "devices" else (name,))]
    shape = _RANDOM, mobilenetv3.LENGTH
    archs = np.random.default_rng(0).integers(0, 3, shape, np.int32)
    opened = {}
    for name in dict.fromkeys(costs):
        benchmark = several.with_objectives(
            accuracy, panels.costs_of(name, cost, bounds)
        )
        seen = panels.scores_of(benchmark, archs)
        none = f"none of {_RANDOM:,} random subnets"
        several.require_feasible(benchmark.objectives, seen, none)
        panel = panels.make_panel(benchmark, seen, judge(archs, seen), judge)
        opened[name] = panel._replace(note=_note(name, fits))
    return opened


def _fits(
    costs: Sequence[str], resolution: int, force: bool
) -> dict[str, FittedLatency]:
    """The functions of all devices that panels need; `ValueError` as `open_panels`."""
    table = named.open_table(TABLE)
    parts = {part for name in costs for part in name.split("+")} - set(COUNTS)
    fits, every = {}, "devices" in parts
    for device in table_files.devices(table, "latency") if every else ():
        fitted = latency.fit_latency(table, device, resolution=resolution)
        if force or fitted.spearman >= latency.LEAST_SPEARMAN:
            fits[device] = fitted
    for name in sorted(parts - set(fits) - ({"devices"} & set(costs))):
        try:
            fits[name] = latency.latency_function(
                table, name, resolution=resolution, force=force
            )
        except ValueError as error:
            raise ValueError(f"{error}; or one of {', '.join(COUNTS)}") from None
    return fits


def _cost(
    fits: Mapping[str, FittedLatency], resolution: int, name: str
) -> tuple[Objective, Values]:
    """A cost, and its function of an architecture."""
    if name in COUNTS:
        count = Partial(bind(_millions, (name, resolution)))
        return Objective(name, "millions", "minimise"), count
    return Objective("latency", "milliseconds", "minimise"), fits[name].predict


def _millions(setting: tuple[str, int], arch: Array) -> Array:
    """A count () of an architecture, in millions."""
    name, resolution = setting
    return COUNTS[name](arch, resolution) / 1e6


def _note(name: str, fits: Mapping[str, FittedLatency]) -> str:
    """The rank correlations of the latencies of a panel."""
    found = [f"{fits[part].spearman:.3f}" for part in name.split("+") if part in fits]
    return f"held-out Spearman {', '.join(found)}" if found else ""


def _judge(
    calibration: ofa.Calibration, arch: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Scores (..., m) with accuracies in percent, by the monotone map."""
    del arch
    percent = ofa.calibrated(calibration, scores[..., :1])
    return np.concatenate([percent, scores[..., 1:]], -1).astype(scores.dtype)


def with_references(
    folder: RunFolder, opened: Mapping[str, Panel], evaluations: int
) -> dict[str, Panel]:
    """Adds the front of long NSGA-II runs to the scores that runs are compared with.

    Args:
      folder: that keeps the scores of the long runs.
      opened: panels by name.
      evaluations: of each of the four long runs, in whole generations.

    Returns: the panels, with new reference points.
    Raises: as `seed_store.run_chunks`.
    """

    def simulate(label: str, seeds: np.ndarray) -> dict[str, np.ndarray]:
        bounded = opened[label.removeprefix(prefix)].benchmark
        sizes = {"population": POPULATION, "batch": POPULATION}
        objectives = tuple(o._replace(bound=None) for o in bounded.objectives)
        benchmark = dataclasses.replace(bounded, objectives=objectives)
        search = multi_objective.nsga2(benchmark.space, objectives, **sizes)
        keys = seed_store.seed_keys(0, seeds)
        trace = loop.simulate(keys, search, benchmark, generations)
        return {"scores": np.asarray(trace.objectives)}

    generations = evaluations // POPULATION
    prefix = "reference-on-"
    labels = [prefix + name for name in opened]
    each = {"chunk": _RUNS, "work": (generations * POPULATION, "evaluation")}
    runs = seed_store.run_chunks(folder, labels, _RUNS, simulate, **each)
    return {
        name: _with_front(panel, runs[prefix + name]["scores"])
        for name, panel in opened.items()
    }


def _with_front(panel: Panel, scores: np.ndarray) -> Panel:
    """The panel with the front of runs (r, steps, b, m) as well."""
    front = summary.true_front(scores.reshape(-1, scores.shape[-1]))
    seen = np.concatenate([panel.seen, front])
    judged = panel.judge(np.zeros(0), seen)
    made = panels.make_panel(panel.benchmark, seen, judged, panel.judge)
    return made._replace(note=panel.note)
