"""Training as a benchmark: each query is answered by training its architectures.

    data = without_tests(train.x, train.y, valid.x, valid.y)
    evaluate = trainings(key, network, RECIPES["short"], data, folder="trainings")
    drive.optimise(key, search, drive.Together(evaluate), 10, "search")

The recipe's epochs are the schedule, and the query says where on it a training stops. A
stopped training resumes from its checkpoint. A schedule of another length is another
recipe. `jaxnas.benchmarks.training_benchmark` makes a `Benchmark` of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.benchmarks import training_store
from jaxnas.benchmarks.training_store import Curves, Store, Training, saved
from jaxnas.networks import runs
from jaxnas.networks import train as training
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.runs import PartialTraining
from jaxnas.networks.train import Data, Recipe
from jaxnas.types import Array, Evaluate, Query, Result, asked, seed_of

__all__ = ["Curves", "saved", "trainings", "without_tests"]

OPERATIONS = 5  # of a cell, by number


def without_tests(
    x: Any,
    y: Any,
    x_valid: Any,
    y_valid: Any,
    pad_value: Any = None,
) -> Data:
    """What a search may see: normalised images and classes for training and validation.

    In place of test images there is the first validation image; the accuracy on it means
    nothing.

    Args:
      pad_value: (colours,), what a black pixel has become; default: the mean.
    """
    pad_value = (
        np.zeros(np.shape(x)[-1:], np.float32) if pad_value is None else pad_value
    )
    return Data(x, y, x_valid, y_valid, x_valid[:1], y_valid[:1], pad_value)


def trainings(
    key: Array,
    network: NetworkConfig,
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

    A training to epoch 3 that is resumed to epoch 9 equals a training to epoch 9: bit by
    bit if the same architectures are trained side by side, as is always so on a CPU. It
    resumes from its checkpoint in `folder` (see `kept`). If the checkpoint is missing or
    damaged the training restarts from epoch 0, and the cost is that of every epoch that
    is trained again.

    Args:
      key: of all trainings: initial weights, order, augmentation. They differ by
        architecture, and by `Query.seed`, alone.
      recipe: its epochs are the schedule of every training.
      data: on the host; see `without_tests`.
      folder: where curves and checkpoints are kept. Epochs that are on disk are not
        trained again: the same query has the same scores and the same cost. Slots of a
        query that ask for the same training share it.
      devices: default: the first. Several of a CPU have trainings at the same time, and
        each compiles for itself; of accelerators the first is used.
      report: called with the architecture (6,) and the curves up to the query's epoch,
        for each training that ends or is read from disk, from any thread.

    Returns: (key, query) -> result, which runs on the host and cannot be traced; the key
      is not used. The score is the accuracy on the validation images after the query's
      epoch, in percent; the curve is (b, recipe.epochs); the cost is the seconds of the
      epochs after `start`. Epochs past the schedule mean its last one. A vector that is
      not a cell has a NaN score at cost 0. Without a folder, `start > 0` raises
      `ValueError`.
    Raises: `ValueError` for data that do not fit the network.
    """
    runs.validate_training(network, recipe, np.zeros((1, 6), np.int32), data)
    devices = tuple(devices or jax.local_devices()[:1])
    if devices[0].platform != "cpu":
        devices = devices[:1]
    placed = tuple(jax.device_put(data, device) for device in devices)
    store = None
    if folder is not None:
        # Schedules of other lengths have other files in the folder.
        record = runs.training_identity(
            key, network, dataclasses.replace(recipe, epochs=1), data
        )
        like = jax.eval_shape(lambda: training.initial_state(key, network, 1))
        store = Store(Path(folder), record, recipe.epochs, like)
    together = devices[0].platform != "cpu"
    return _Trainings(key, network, recipe, placed, devices, together, store, report)


class _Wanted(NamedTuple):
    """What a slot of a query asks for."""

    training: Training
    start: int
    epoch: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Trainings:
    """What `trainings` returns."""

    key: Array
    network: NetworkConfig
    recipe: Recipe
    placed: tuple[Data, ...]  # on each device
    devices: tuple[Any, ...]
    side_by_side: bool  # in one program, as on accelerators
    store: Store | None
    report: Callable[[np.ndarray, Curves], object] | None

    def __call__(self, key: Array, query: Query) -> Result:
        del key
        wanted = _wanted(query, self.recipe.epochs, shared=self.store is not None)
        if self.store is None and any(one.start > 0 for one in wanted.values()):
            raise ValueError(
                "a training cannot resume without a folder: start must be 0"
            )
        until: dict[Training, int] = {}
        for one in wanted.values():
            until[one.training] = max(one.epoch, until.get(one.training, 0))
        before = self._read(until)
        left = {one: end for one, end in until.items() if _done(before, one) < end}
        found = before | self._train(left, before, lanes=len(query.arch))
        return self._result(wanted, before, found, len(query.arch))

    def _read(self, until: Mapping[Training, int]) -> dict[Training, PartialTraining]:
        """The state on disk of each training."""
        if self.store is None:
            return {}
        read = {
            one: training_store.read(self.store, one, self._key(one)) for one in until
        }
        found = {one: begun for one, begun in read.items() if begun is not None}
        for one, begun in found.items():
            if begun.epochs >= until[one]:
                self._report(one, begun, until[one])
        return found

    def _train(
        self,
        until: Mapping[Training, int],
        before: Mapping[Training, PartialTraining],
        lanes: int,
    ) -> dict[Training, PartialTraining]:
        """Trains each to its epoch; a query has at most `lanes` of them."""
        if not self.side_by_side:

            def alone(one: Training, index: int) -> PartialTraining:
                return self._together([one], before, until[one], index)[0]

            done = runs.on_devices(alone, list(until), len(self.devices))
            return dict(zip(until, done, strict=True))
        groups: dict[tuple[int, int, int], list[Training]] = {}
        for one, end in until.items():
            groups.setdefault((one.seed, _done(before, one), end), []).append(one)
        found: dict[Training, PartialTraining] = {}
        for (_, _, end), group in groups.items():
            done = self._together(group, before, end, 0, lanes)
            found |= dict(zip(group, done, strict=True))
        return found

    def _together(
        self,
        group: list[Training],
        before: Mapping[Training, PartialTraining],
        until: int,
        index: int,
        lanes: int | None = None,
    ) -> list[PartialTraining]:
        """Trains side by side; all have the same repetition and the same first epoch."""
        # As many lanes as every query has: the last is repeated.
        padded = group + group[-1:] * ((lanes or len(group)) - len(group))
        found = runs.train(
            self._key(group[0]),
            self.network,
            self.recipe,
            np.array([one.arch for one in padded], np.int32),
            self.placed[index],
            sizes=None if lanes is None else (lanes, lanes, lanes),
            device=self.devices[index],
            before=_joined([before[one] for one in padded if one in before]),
            until=until,
        )
        going_on = self.store is not None and until < self.recipe.epochs
        state = found.state if going_on else None
        whole = PartialTraining(until, state, found.curves)
        parts = [_lane(whole, lane) for lane in range(len(group))]
        for one, part in zip(group, parts, strict=True):
            if self.store is not None:
                training_store.save(self.store, one, self._key(one), part)
            self._report(one, part, until)
        return parts

    def _key(self, one: Training) -> Array:
        return jax.random.fold_in(self.key, one.seed) if one.seed else self.key

    def _report(self, one: Training, begun: PartialTraining, until: int) -> None:
        if self.report is not None:
            curves = {name: values[0, :until] for name, values in begun.curves.items()}
            self.report(np.array(one.arch, np.int32), curves)

    def _result(
        self,
        wanted: Mapping[int, _Wanted],
        before: Mapping[Training, PartialTraining],
        found: Mapping[Training, PartialTraining],
        num: int,
    ) -> Result:
        score, cost = np.full(num, np.nan, np.float32), np.zeros(num, np.float32)
        curve = np.full((num, self.recipe.epochs), np.nan, np.float32)
        for slot, (one, start, epoch) in wanted.items():
            curves = found[one].curves
            curve[slot, :epoch] = curves["valid"][0, :epoch]
            score[slot] = curve[slot, epoch - 1]
            # More than the increment if epochs before `start` were trained again.
            first = min(start, _done(before, one))
            cost[slot] = curves["seconds"][0, first:epoch].sum()
        return Result(*map(jnp.asarray, (score, curve, cost)))


def _wanted(query: Query, last: int, *, shared: bool) -> dict[int, _Wanted]:
    """The slots that ask for a training of a cell, clipped to the schedule."""
    if any(isinstance(part, Tracer) for part in query):
        raise ValueError(
            "trainings run on the host and cannot be part of a compiled search: "
            "wanted drive.optimise in place of loop.run"
        )
    parts = query.arch, query.start, query.epoch, seed_of(query), asked(query)
    archs, start, epoch, seed, wanted = map(np.asarray, parts)
    start, epoch = np.minimum(start, last), np.minimum(epoch, last)
    wanted = wanted & ((archs >= 0) & (archs < OPERATIONS)).all(1)
    found = {}
    for slot in map(int, np.flatnonzero(wanted)):
        which = int(seed[slot]), 0 if shared else slot
        one = Training(tuple(archs[slot].tolist()), *which)
        found[slot] = _Wanted(one, int(start[slot]), int(epoch[slot]))
    return found


def _done(before: Mapping[Training, PartialTraining], one: Training) -> int:
    return before[one].epochs if one in before else 0


def _joined(parts: Sequence[PartialTraining]) -> PartialTraining | None:
    """Concatenates trainings at the same epoch; None if there are none."""
    if not parts:
        return None
    state = jax.tree.map(lambda *x: jnp.concatenate(x), *(p.state for p in parts))
    curves = {n: np.concatenate([p.curves[n] for p in parts]) for n in parts[0].curves}
    return PartialTraining(parts[0].epochs, state, curves)


def _lane(whole: PartialTraining, lane: int) -> PartialTraining:
    def one(x: Any) -> Any:
        return x[lane : lane + 1]

    curves = {name: one(values) for name, values in whole.curves.items()}
    return PartialTraining(whole.epochs, jax.tree.map(one, whole.state), curves)
