"""The trainings of a table with learning curves: in chunks that are kept, by devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.benchmarks import trained
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.devices import map_over_devices
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.studies import seed_store

Curves = Mapping[str, np.ndarray]  # `trained.CURVES` by name, (n, epochs)
# About how many parts the functions with several seeds are trained in.
PARTS = 10


class Job(NamedTuple):
    """Settings that the trainings of one table share."""

    folder: RunFolder
    network: NetworkConfig
    recipe: Recipe
    data: Data
    chunk: int  # networks between two saves
    clock: Callable[[], float]  # seconds, of the table


def train_all(
    job: Job, archs: np.ndarray, numbers: Sequence[int], known: Sequence[Curves]
) -> list[Curves]:
    """Trains all runs; each trains the first architectures of a list.

    The functions that all runs train come first, part by part with all seeds of a part
    together, so that what is finished at any time is of use.

    Args:
      job: what the trainings share.
      archs: (n, 6) architectures.
      numbers: how many of them each run trains.
      known: for each of the first runs, curves (m, epochs) of the first m architectures,
        which are not trained again.

    Returns: the curves of each run, (number, epochs).
    """
    shared = min(numbers)
    step = job.chunk * max(1, round(shared / job.chunk / PARTS))
    curves: list[Curves] = []
    for end in [*range(step, shared, step), shared or None, None]:
        curves = [
            _train(
                job, run, archs[:num][:end], known[run] if run < len(known) else None
            )
            for run, num in enumerate(numbers)
        ]
    return curves


def _train(job: Job, run: int, archs: np.ndarray, known: Curves | None) -> Curves:
    """The curves (n, epochs) of one run of architectures (n, 6).

    Args:
      job: what the trainings share.
      run: its number, which is part of the seed.
      archs: (n, 6) architectures.
      known: the curves (m, epochs) of the first m.
    """
    num_known = len(known["loss"]) if known else 0
    devices = jax.local_devices()
    data = [jax.device_put(job.data, device) for device in devices]
    key = seed_store.seed_keys(job.folder.identity["seed"], np.array([run]))[0]

    def train_group(group: np.ndarray, device: Any) -> Curves:
        placed = data[devices.index(device)]
        inputs = key, job.network, job.recipe, group, placed
        return runs.train(*inputs, device=device, clock=job.clock).curves

    def simulate(label: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        # Indices beyond the last come with a short chunk, as all are of one size.
        indices = np.minimum(indices, len(archs) - 1)
        inverse = np.arange(len(indices))
        if devices[0].platform == "cpu":
            indices, inverse = np.unique(indices, return_inverse=True)
        new = archs[indices[indices >= num_known]]
        curves = [train_on_devices(train_group, new)] if len(new) else []
        if known:
            old = indices[indices < num_known]
            curves.insert(0, {name: known[name][old] for name in trained.CURVES})
        return {n: np.concatenate([c[n] for c in curves])[inverse] for n in curves[0]}

    label = f"run-{run}"
    return seed_store.run_chunks(
        job.folder, [label], len(archs), simulate, chunk=job.chunk, unit="network"
    )[label]


def train_on_devices(
    train_group: Callable[[np.ndarray, Any], Curves], archs: np.ndarray
) -> dict[str, np.ndarray]:
    """Trains architectures on all devices: side by side, but on CPUs one by one.

    On a CPU the time of each architecture is thus its own.

    Args:
      train_group: (architectures (g, 6), device) -> their curves.
      archs: (a, 6), at least one.

    Returns: the curves (a, epochs) by name.
    """
    devices = jax.local_devices()
    alone = devices[0].platform == "cpu"
    groups = np.array_split(
        archs, len(archs) if alone else min(len(archs), len(devices))
    )
    curves = map_over_devices(
        lambda group, index: train_group(group, devices[index]), groups, len(devices)
    )
    return {n: np.concatenate([c[n] for c in curves]) for n in curves[0]}
