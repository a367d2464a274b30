"""Training as a benchmark: what a search asks is trained, and answered by accuracy.

    data = without_tests(train.x, train.y, valid.x, valid.y)
    evaluate = trainings(key, network, RECIPES["short"], data, folder="trainings")
    drive.optimise(key, search, space, drive.Together(evaluate), 10, "search")

The query says how many epochs, so a search may ask for longer trainings too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import checkpoints
from jaxnas.networks import runs
from jaxnas.networks.nasbench201 import Network
from jaxnas.networks.train import Data, Recipe
from jaxnas.types import FULL_TRAINING, Array, Evaluate, Query, Result

Curves = dict[str, np.ndarray]


def without_tests(
    x: Any,
    y: Any,
    x_valid: Any,
    y_valid: Any,
    black: Any = None,
) -> Data:
    """What a search may see: normalised images and classes for training and validation.

    In place of test images there is the first validation image; the accuracy on it means
    nothing.

    Args:
      black: (colours,), what a black pixel has become; default: the mean.
    """
    black = np.zeros(np.shape(x)[-1:], np.float32) if black is None else black
    return Data(x, y, x_valid, y_valid, x_valid[:1], y_valid[:1], black)


def trainings(
    key: Array,
    network: Network,
    recipe: Recipe,
    data: Data,
    *,
    folder: str | Path | None = None,
    devices: Sequence[Any] | None = None,
    report: Callable[[np.ndarray, Curves], object] | None = None,
) -> Evaluate:
    """An evaluate function that trains the architectures of a query.

    On a CPU they are trained one after another, on an accelerator side by side. One
    program is compiled, on an accelerator for each number of architectures in a query.

    Args:
      key: of all trainings: initial weights, order, augmentation. They differ by
        architecture alone.
      recipe: of which the query replaces the epochs, unless it asks for full training.
      data: on the host; see `without_tests`.
      folder: keeps the curves of every finished training, which is not done again.
      devices: default: the first. Several of a CPU have trainings at the same time, and
        each compiles for itself; of accelerators the first is used.
      report: called with the architecture (6,) and the curves (epochs,) of each training
        as it is finished, from any thread, and as it is read.

    Returns: (key, query) -> result; the key is not used. The score is the accuracy on
      the validation images after the last epoch, in percent, the cost is in seconds.
    Raises: `ValueError` for data that do not fit the network.
    """
    probe = np.zeros((1, 6), np.int32)
    runs.check(network, recipe, probe, data)
    devices = tuple(devices or jax.local_devices()[:1])
    alone = devices[0].platform == "cpu"
    placed = [jax.device_put(data, d) for d in (devices if alone else devices[:1])]
    record = _record(key, network, recipe, data) if folder is not None else {}

    def train(archs: np.ndarray, epochs: int, index: int) -> list[Curves]:
        """The curves of each of the architectures, trained on one device."""
        curves = runs.train(
            key,
            network,
            dataclasses.replace(recipe, epochs=epochs),
            archs,
            placed[index],
            sizes=None if alone else (len(archs), len(archs), len(archs)),
            device=devices[index],
        ).curves
        return [
            {n: values[i] for n, values in curves.items()} for i in range(len(archs))
        ]

    def finished(arch: np.ndarray, curves: Curves) -> Curves:
        if folder is not None:
            path = _path(Path(folder), arch, len(curves["valid"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.save_arrays(path, curves | {"arch": arch}, record)
        if report is not None:
            report(arch, curves)
        return curves

    def several(archs: np.ndarray, epochs: int, lanes: int) -> list[Curves]:
        if not alone:
            # As many lanes as every query has: the last is repeated.
            padded = np.pad(archs, ((0, lanes - len(archs)), (0, 0)), mode="edge")
            found = train(padded, epochs, 0)[: len(archs)]
            return [finished(*one) for one in zip(archs, found, strict=True)]
        free: queue.Queue[int] = queue.Queue()
        for index in range(len(devices)):
            free.put(index)

        def one(arch: np.ndarray) -> Curves:
            index = free.get()
            try:
                return finished(arch, train(arch[None], epochs, index)[0])
            finally:
                free.put(index)

        pool = ThreadPoolExecutor(len(devices))
        try:
            return list(pool.map(one, archs))
        finally:
            pool.shutdown(cancel_futures=True)

    def evaluate(key: Array, query: Query) -> Result:
        del key
        archs, epochs, begun = (np.asarray(part) for part in query)
        epochs = np.where(epochs == FULL_TRAINING, recipe.epochs, epochs)
        wanted = begun < np.asarray(query.epoch)
        if np.any(wanted & (begun > 0)):
            raise ValueError("a training cannot go on from an epoch: start must be 0")
        known: dict[int, Curves] = {}
        for slot in np.flatnonzero(wanted):
            before = _read(folder, record, archs[slot], int(epochs[slot]))
            if before is not None:
                known[int(slot)] = before
                if report is not None:
                    report(archs[slot], before)
        for length in np.unique(epochs[wanted]):
            slots = [
                int(s)
                for s in np.flatnonzero(wanted & (epochs == length))
                if int(s) not in known
            ]
            if slots:
                found = several(archs[slots], int(length), len(archs))
                known |= dict(zip(slots, found, strict=True))
        return _result(known, len(archs), int(epochs[wanted].max(initial=1)))

    return evaluate


def _result(known: dict[int, Curves], num: int, longest: int) -> Result:
    score, cost = np.full(num, np.nan, np.float32), np.zeros(num, np.float32)
    curve = np.full((num, longest), np.nan, np.float32)
    for slot, curves in known.items():
        score[slot], cost[slot] = curves["valid"][-1], curves["seconds"].sum()
        curve[slot, : len(curves["valid"])] = curves["valid"]
    return Result(*map(jnp.asarray, (score, curve, cost)))


def _record(key: Array, network: Network, recipe: Recipe, data: Data) -> dict[str, Any]:
    """All that the curves depend on but architecture and epochs, as JSON."""
    digest = hashlib.sha256()
    for part in data:
        digest.update(np.ascontiguousarray(part).tobytes())
    told = {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(dataclasses.replace(recipe, epochs=1)),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "data": digest.hexdigest(),
    }
    return json.loads(json.dumps(told))


def saved(folder: str | Path, arch: np.ndarray, epochs: int) -> Curves:
    """The curves (epochs,) of a finished training that `trainings` kept.

    Raises: `ValueError` if they are missing or damaged.
    """
    return checkpoints.load_arrays(_path(Path(folder), np.asarray(arch), epochs))[0]


def _path(folder: Path, arch: np.ndarray, epochs: int) -> Path:
    return folder / f"{''.join(map(str, arch.tolist()))}-{epochs}.npz"


def _read(
    folder: str | Path | None, record: dict[str, Any], arch: np.ndarray, epochs: int
) -> Curves | None:
    """The curves of a finished training; None if there are none that can be used."""
    if folder is None:
        return None
    path = _path(Path(folder), arch, epochs)
    if not path.exists():
        return None
    try:
        kept, found = checkpoints.load_arrays(path)
    except ValueError:
        return None  # Damaged: it is done again and written over.
    if found != record:
        raise ValueError(f"{path} is of other trainings: give another folder")
    return {name: kept[name] for name in (*runs.MEASURED, "seconds")}
