"""Bounds on the cost of a network: its latency on this machine, or its MACs.

Cells beyond a bound are neither searched nor trained. MACs are exact; latencies are those
of compiled programs (`networks.latency`), which take seconds to compile, so that the
latencies of a whole pool are predicted from those of a few cells, and a cell is measured
before it is trained.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jaxnas.networks import counting, latency
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.search import drive
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import CONV1, CONV3, POOL, SKIP
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.types import Array, Evaluate, Query, Result

MEASURED = 8  # cells whose latencies predict those of the others
ACCURACY = Objective("validation accuracy", "percent")


class Bound(NamedTuple):
    """A quantity of networks, and the largest value that is feasible."""

    objective: Objective  # with the limit as its bound
    value: Callable[[NetworkConfig, np.ndarray], float]  # of a cell (6,)
    estimate: Callable[[NetworkConfig, np.ndarray], np.ndarray]  # (n,) of cells (n, 6)
    check: Callable[[NetworkConfig, np.ndarray], float]  # measured anew

    @property
    def limit(self) -> float:
        """The largest feasible value."""
        assert self.objective.bound is not None
        return self.objective.bound


def make_bounds(
    milliseconds: float | None, million_macs: float | None, budget: TimeBudget
) -> tuple[Bound, ...]:
    """Makes the bounds that the settings ask for.

    Args:
      milliseconds: the largest latency of one image on one thread; None: any.
      million_macs: the largest number of multiply-accumulates of an image; None: any.
      budget: keeps measured latencies, and has the clock that measures them.
    """
    bounds = []
    if million_macs is not None:  # first, as only latencies take time
        objective = Objective("MACs", "millions", "minimise", bound=million_macs)

        def of_one(network: NetworkConfig, arch: np.ndarray) -> float:
            return float(_macs(network, arch))

        bounds.append(Bound(objective, of_one, _macs, of_one))
    if milliseconds is not None:
        objective = Objective("latency", "ms", "minimise", bound=milliseconds)
        value, check = latency_meters(budget)
        estimate = functools.partial(predict_latency, value)
        bounds.append(Bound(objective, value, estimate, check))
    return tuple(bounds)


def _macs(network: NetworkConfig, archs: np.ndarray) -> np.ndarray:
    """Millions of MACs (n,), without operations that change nothing."""
    return counting.macs(network, archs, live_only=True) / 1e6


def latency_meters(
    budget: TimeBudget,
) -> tuple[Callable[..., float], Callable[..., float]]:
    """Makes the functions that measure latencies for a folder.

    Args:
      budget: keeps the latencies of cells, and those of the reference cells.

    Returns: `Bound.value`, which measures each network once, and `Bound.check`, which
      measures it anew.
    """

    @functools.cache
    def reference(network: NetworkConfig) -> latency.Reference:
        measured = latency.measure_reference(network, budget.clock)
        name = f"reference latency, {_size(network)}"
        kept = budget.once(name, lambda: measured.milliseconds)
        return measured._replace(milliseconds=kept)

    def check(network: NetworkConfig, arch: np.ndarray) -> float:
        run = latency.compile_cell(network, arch)
        return latency.milliseconds(run, reference(network), budget.clock)

    def measure(network: NetworkConfig, arch: np.ndarray) -> float:
        cell = nasbench201.to_string(np.asarray(arch))
        name = f"latency of {cell}, {_size(network)}"
        return budget.once(name, lambda: check(network, arch))

    return measure, check


def _size(network: NetworkConfig) -> str:
    """Names the sizes in which the networks of a folder differ."""
    return f"{network.stem_channels} channels, N={network.cells_per_stage}"


def predict_latency(
    measure: Callable[[NetworkConfig, np.ndarray], float],
    network: NetworkConfig,
    archs: np.ndarray,
) -> np.ndarray:
    """Predicts latencies by a sum over operations, fitted to measured cells.

    Each operation that is on a path from the input to the output has a time of its own,
    at least 0 (non-negative least squares). Cells are measured from the lightest to the
    heaviest by MACs, at equal distances in their order.

    Args:
      measure: network, cell (6,) -> milliseconds.
      network: the sizes.
      archs: (n, 6) cells.

    Returns: (n,) milliseconds.
    """
    order = np.argsort(counting.macs(network, archs, live_only=True), kind="stable")
    rows = np.unique(np.linspace(0, len(archs) - 1, MEASURED).astype(int))
    chosen = archs[order[rows]]
    values = np.array([measure(network, arch) for arch in chosen])
    times, _ = nnls(_operations(chosen), values)
    return _operations(archs) @ times


def _operations(archs: np.ndarray) -> np.ndarray:
    """Counts (n, 5): 1, and the live edges of each operation that computes something."""
    live = counting.live(archs)
    counts = [((archs == op) & live).sum(1) for op in (SKIP, CONV1, CONV3, POOL)]
    return np.stack([np.ones(len(archs)), *counts], 1)


def feasible(
    bounds: Sequence[Bound], network: NetworkConfig, archs: np.ndarray
) -> np.ndarray:
    """Selects the cells whose estimated values are within all bounds.

    Args:
      bounds: any number.
      network: the sizes.
      archs: (n, 6) cells.

    Returns: (n,) bool.
    Raises: `ValueError` if there is none, with the closest to the bound that leaves none.
    """
    selected = np.ones(len(archs), bool)
    for bound in bounds:
        rows = np.flatnonzero(selected)
        values = bound.estimate(network, archs[rows])
        selected[rows] = values <= bound.limit
        if not selected.any():
            raise ValueError(_beyond(bound, network, archs[rows[np.argmin(values)]]))
    return selected


def first_within(
    bounds: Sequence[Bound], network: NetworkConfig, archs: np.ndarray
) -> np.ndarray:
    """Finds the first cell that is within all bounds by measured values.

    Args:
      bounds: any number.
      network: the sizes.
      archs: (n, 6) cells, at least one.

    Returns: the cell (6,).
    Raises: `ValueError` if there is none, with the cell that is closest to the bound it
      exceeds, as a share of that bound.
    """
    beyond = []
    for arch in archs:
        if (bound := _exceeded(bounds, network, arch)) is None:
            return arch
        beyond.append((bound.value(network, arch) / bound.limit, bound, arch))
    _, bound, closest = min(beyond, key=lambda cell: cell[0])
    raise ValueError(_beyond(bound, network, closest))


def _beyond(bound: Bound, network: NetworkConfig, arch: np.ndarray) -> str:
    """The error of a bound that no cell is within, with a cell that comes close."""
    name, unit = bound.objective.name, bound.objective.unit
    return (
        f"no cell is within --{name.lower()} {bound.limit:g}: "
        f"{nasbench201.to_string(arch)} has {bound.value(network, arch):.4g} {unit}; "
        "fewer --channels or a smaller --size make networks smaller"
    )


def is_within(
    bounds: Sequence[Bound], network: NetworkConfig, arch: np.ndarray
) -> bool:
    """Returns whether a network is within all bounds, by measured values.

    Args:
      bounds: any number.
      network: the sizes.
      arch: (6,) its cell.
    """
    return _exceeded(bounds, network, arch) is None


def _exceeded(
    bounds: Sequence[Bound], network: NetworkConfig, arch: np.ndarray
) -> Bound | None:
    """The first bound that a network exceeds by its measured value, or None."""
    exceeded = (b for b in bounds if b.value(network, arch) > b.limit)
    return next(exceeded, None)


def within(
    evaluate: Evaluate, bounds: Sequence[Bound], network: NetworkConfig
) -> Evaluate:
    """Makes cells beyond a bound fail, without a training.

    Args:
      evaluate: trains cells on the host.
      bounds: by measured values.
      network: the sizes.
    """
    if not bounds:
        return evaluate

    def measured(key: Array, query: Query) -> Result:
        cells = np.asarray(query.arch)
        allowed = jnp.array([is_within(bounds, network, cell) for cell in cells])
        start = jnp.where(allowed, query.start, query.epoch)  # else idle
        result = evaluate(key, query._replace(start=start))
        return result._replace(score=jnp.where(allowed, result.score, jnp.nan))

    return measured


def with_values(
    history: Sequence[Evaluation], bounds: Sequence[Bound], network: NetworkConfig
) -> list[Evaluation]:
    """Adds the bounded quantities to the metrics of trained cells.

    Args:
      history: the evaluations of a search, of which failed ones are left out.
      bounds: the quantities.
      network: the sizes.
    """
    trained = []
    for new in history:
        if math.isnan(new.score):
            continue
        cell = nasbench201.from_string(new.arch)
        values = {b.objective.name: b.value(network, cell) for b in bounds}
        metrics = values | {ACCURACY.name: new.score}
        trained.append(new._replace(metrics=metrics))
    return trained


def front(
    trained: Sequence[Evaluation], bounds: Sequence[Bound]
) -> list[dict[str, float | str]]:
    """The trained cells that no other dominates in accuracy and the bounded quantities.

    Args:
      trained: from `with_values`.
      bounds: at least one.

    Returns: for result.json, the lowest accuracy first.
    """
    objectives = [ACCURACY, *(bound.objective for bound in bounds)]
    best = drive.front(trained, objectives)
    rounded = [{name: round(v, 4) for name, v in e.metrics.items()} for e in best]
    return [
        {"architecture": e.arch, **values}
        for e, values in zip(best, rounded, strict=True)
    ]
