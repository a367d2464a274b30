"""Training as a benchmark: what a search asks is trained, and answered by accuracy.

    data = without_tests(train.x, train.y, valid.x, valid.y)
    evaluate = trainings(key, network, RECIPES["short"], data, folder="trainings")
    drive.optimise(key, search, space, drive.Together(evaluate), 10, "search")

The query says how many epochs, so a search may ask for longer trainings too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
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
    runs.check(network, recipe, np.zeros((1, 6), np.int32), data)
    devices = tuple(devices or jax.local_devices()[:1])
    if devices[0].platform != "cpu":
        devices = devices[:1]
    placed = tuple(jax.device_put(data, device) for device in devices)
    record: dict[str, Any] = {}
    if folder is not None:
        # The recipe's epochs are those of each query.
        one = dataclasses.replace(recipe, epochs=1)
        record = json.loads(json.dumps(runs.described(key, network, one, data)))
    return _Trainings(key, network, recipe, placed, devices, folder, record, report)


@dataclasses.dataclass(frozen=True, eq=False)
class _Trainings:
    """What `trainings` returns."""

    key: Array
    network: Network
    recipe: Recipe
    placed: tuple[Data, ...]  # on each device
    devices: tuple[Any, ...]
    folder: str | Path | None
    record: dict[str, Any]
    report: Callable[[np.ndarray, Curves], object] | None

    def __call__(self, key: Array, query: Query) -> Result:
        del key
        archs, epochs, begun = (np.asarray(part) for part in query)
        epochs = np.where(epochs == FULL_TRAINING, self.recipe.epochs, epochs)
        wanted = begun < np.asarray(query.epoch)
        if np.any(wanted & (begun > 0)):
            raise ValueError("a training cannot go on from an epoch: start must be 0")
        known: dict[int, Curves] = {}
        for slot in map(int, np.flatnonzero(wanted)):
            before = _read(self.folder, self.record, archs[slot], int(epochs[slot]))
            if before is not None:
                known[slot] = before
                if self.report is not None:
                    self.report(archs[slot], before)
        for length in np.unique(epochs[wanted]):
            slots = map(int, np.flatnonzero(wanted & (epochs == length)))
            if missing := [slot for slot in slots if slot not in known]:
                found = self._several(archs[missing], int(length), len(archs))
                known |= dict(zip(missing, found, strict=True))
        return _result(known, len(archs), int(epochs[wanted].max(initial=1)))

    def _several(self, archs: np.ndarray, epochs: int, lanes: int) -> list[Curves]:
        """The curves of architectures (n, 6), of at most `lanes` that a query has."""
        if self.devices[0].platform == "cpu":

            def alone(arch: np.ndarray, index: int) -> Curves:
                return self._finished(arch, self._train(arch[None], epochs, index)[0])

            return runs.on_devices(alone, list(archs), len(self.devices))
        # As many lanes as every query has: the last is repeated.
        padded = np.pad(archs, ((0, lanes - len(archs)), (0, 0)), mode="edge")
        sizes = lanes, lanes, lanes
        found = self._train(padded, epochs, 0, sizes)[: len(archs)]
        return [self._finished(*one) for one in zip(archs, found, strict=True)]

    def _train(
        self,
        archs: np.ndarray,
        epochs: int,
        index: int,
        sizes: tuple[int, int, int] | None = None,
    ) -> list[Curves]:
        """The curves of each of the architectures, trained on one device."""
        recipe = dataclasses.replace(self.recipe, epochs=epochs)
        arguments = self.key, self.network, recipe, archs, self.placed[index]
        device = self.devices[index]
        curves = runs.train(*arguments, sizes=sizes, device=device).curves
        return [{n: v[lane] for n, v in curves.items()} for lane in range(len(archs))]

    def _finished(self, arch: np.ndarray, curves: Curves) -> Curves:
        if self.folder is not None:
            path = _path(Path(self.folder), arch, len(curves["valid"]))
            checkpoints.make_folder(path.parent)
            checkpoints.save_arrays(path, curves | {"arch": arch}, self.record)
        if self.report is not None:
            self.report(arch, curves)
        return curves


def _result(known: dict[int, Curves], num: int, longest: int) -> Result:
    score, cost = np.full(num, np.nan, np.float32), np.zeros(num, np.float32)
    curve = np.full((num, longest), np.nan, np.float32)
    for slot, curves in known.items():
        score[slot], cost[slot] = curves["valid"][-1], curves["seconds"].sum()
        curve[slot, : len(curves["valid"])] = curves["valid"]
    return Result(*map(jnp.asarray, (score, curve, cost)))


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
