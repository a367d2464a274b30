"""What trainings of cells cost, from two that were timed, and which can be afforded."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks.training import training_benchmark
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.train import Data, Recipe
from jaxnas.spaces import nasbench201
from jaxnas.types import Query

LIGHTEST = np.full(6, nasbench201.SKIP, np.int32)
HEAVIEST = np.full(6, nasbench201.CONV3, np.int32)
SHARE = 0.25  # of the cells can always be afforded, the lightest


class Costs(NamedTuple):
    """Seconds of an epoch of one cell alone."""

    lightest: float
    heaviest: float
    batch: int  # architectures of a step of the search
    side: int  # trainings that take these seconds together
    compiling: float  # seconds

    def of(self, network: NetworkConfig, archs: np.ndarray) -> np.ndarray:
        """(n,) seconds of an epoch of each cell (n, 6), by its MACs."""
        ends = np.stack([LIGHTEST, HEAVIEST])
        light, heavy = counting.macs(network, ends)
        share = (counting.macs(network, archs) - light) / (heavy - light)
        return self.lightest + share * max(self.heaviest - self.lightest, 0.0)


def measured(
    network: NetworkConfig, recipe: Recipe, data: Data, batch: int | None, workers: int
) -> Costs:
    """Trains the lightest cell and the heaviest for an epoch each."""
    devices = jax.local_devices()[:workers]
    on_cpu = devices[0].platform == "cpu"
    batch = batch or (max(4, workers) if on_cpu else 8)
    side = min(workers, batch) if on_cpu else batch
    benchmark = training_benchmark(
        jax.random.key(0), network, recipe, data, devices=devices
    )
    walls, costs = [], []
    for arch in (LIGHTEST, LIGHTEST, HEAVIEST):  # the first run compiles, and warms up
        asked, begun = query([arch] * side, 1, side), time.monotonic()
        cost = np.asarray(benchmark(jax.random.key(0), asked).cost, float)
        walls.append(time.monotonic() - begun)
        # On an accelerator costs are shares of a training side by side.
        costs.append(max(float(cost.mean() if on_cpu else cost.sum()), 1e-6))
    compiling = max(walls[0] - walls[1], 0.0)
    return Costs(costs[1], costs[2], batch, side, compiling)


def affordable(seconds: np.ndarray, available: float, wanted: float) -> np.ndarray:
    """(n,) bool: which cells can be trained for `wanted` epochs in the time there is.

    A cell that is better after as many epochs is worse where it gets a third of them.

    Args:
      seconds: (n,) of an epoch.  available: seconds.
    """
    return seconds <= max(available / wanted, np.quantile(seconds, SHARE))


def query(archs: list[np.ndarray], epochs: int, size: int) -> Query:
    """Of `size` slots; those without an architecture ask nothing."""
    idle = size - len(archs)
    start = np.array([0] * len(archs) + [epochs] * idle, np.int32)
    padded = np.stack(archs + [archs[-1]] * idle).astype(np.int32)
    return Query(*map(jnp.asarray, (padded, np.full(size, epochs, np.int32), start)))
