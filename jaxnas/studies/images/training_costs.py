"""The cost of training a cell, interpolated between two measurements.

The lightest and the heaviest cell are trained for an epoch; other cells are taken to cost
in proportion to their MACs between these two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks.training import training_benchmark
from jaxnas.networks import counting
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces import nasbench201
from jaxnas.types import Query

LIGHTEST = np.full(6, nasbench201.SKIP, np.int32)
HEAVIEST = np.full(6, nasbench201.CONV3, np.int32)
ALWAYS_AFFORDABLE = 0.25  # share of the cells, the lightest


class TrainingCosts(NamedTuple):
    """Measured seconds of an epoch, and how trainings are run."""

    lightest: float  # seconds of an epoch of the lightest cell
    heaviest: float  # seconds of an epoch of the heaviest cell
    batch: int  # architectures of a step of the search
    parallel: int  # trainings side by side, all of which take these seconds
    compiling: float  # seconds of the compilation of a training

    def of(self, network: NetworkConfig, archs: np.ndarray) -> np.ndarray:
        """Estimates the seconds (n,) of an epoch of cells (n, 6) from their MACs."""
        ends = np.stack([LIGHTEST, HEAVIEST])
        light, heavy = counting.macs(network, ends)
        share = (counting.macs(network, archs) - light) / (heavy - light)
        return self.lightest + share * max(self.heaviest - self.lightest, 0.0)


def measure(
    network: NetworkConfig,
    recipe: Recipe,
    data: Data,
    batch: int | None,
    workers: int,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingCosts:
    """Trains the lightest cell and the heaviest for an epoch each.

    Args:
      network: its size.
      recipe: of a training of the search.
      data: the images.
      batch: architectures of a step of the search; default: at least 4 and one for each
        worker on a CPU, 8 on an accelerator.
      workers: devices of a CPU that train at the same time.
      clock: of the seconds.
    """
    devices = jax.local_devices()[:workers]
    on_cpu = devices[0].platform == "cpu"
    batch = batch or (max(4, workers) if on_cpu else 8)
    parallel = min(workers, batch) if on_cpu else batch
    evaluate = training_benchmark(
        jax.random.key(0), network, recipe, data, devices=devices, clock=clock
    )
    walls, costs = [], []
    for arch in (LIGHTEST, LIGHTEST, HEAVIEST):  # the first run compiles, and warms up
        query, begun = padded_query([arch] * parallel, 1, parallel), clock()
        cost = np.asarray(evaluate(jax.random.key(0), query).cost, float)
        walls.append(clock() - begun)
        # On an accelerator costs are shares of a training side by side.
        costs.append(max(float(cost.mean() if on_cpu else cost.sum()), 1e-6))
    compiling = max(walls[0] - walls[1], 0.0)
    return TrainingCosts(costs[1], costs[2], batch, parallel, compiling)


def affordable(seconds: np.ndarray, available: float, epochs: float) -> np.ndarray:
    """Selects the cells whose final training fits the time.

    A cell that is better after equal numbers of epochs is worse with a third of them.

    Args:
      seconds: (n,) of an epoch of each cell.
      available: seconds of the final training.
      epochs: that it needs.

    Returns: (n,) bool; the lightest quarter of the cells is always selected.
    """
    lightest = np.quantile(seconds, ALWAYS_AFFORDABLE)
    return seconds <= max(available / epochs, lightest)


def padded_query(archs: list[np.ndarray], epochs: int, size: int) -> Query:
    """Builds a query of `size` slots; slots beyond the architectures are idle.

    Args:
      archs: at least one, (6,) each.
      epochs: to train each for, from scratch.
      size: of the query, at least the number of architectures.
    """
    idle = size - len(archs)
    start = np.array([0] * len(archs) + [epochs] * idle, np.int32)
    padded = np.stack(archs + [archs[-1]] * idle).astype(np.int32)
    return Query(*map(jnp.asarray, (padded, np.full(size, epochs, np.int32), start)))
