"""Answers a query by training: what is asked, what is on disk, what is left to train.

`TrainingEvaluator` maps the slots of a query to trainings, reads what `training_store`
has of them, trains the rest with `networks.runs`, and assembles scores, curves and costs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.benchmarks import training_store
from jaxnas.benchmarks.training_store import Curves, Store, Training
from jaxnas.networks import runs
from jaxnas.networks.data import Data
from jaxnas.networks.devices import map_over_devices
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.partial import PartialTraining
from jaxnas.networks.recipes import Recipe
from jaxnas.types import Array, Query, Result, asked, seed_of

OPERATIONS = 5  # choices at each edge of a cell


class _Request(NamedTuple):
    """The training that a slot of a query asks for, and its part of the schedule."""

    training: Training
    start: int  # epochs done before, 0 to epoch - 1
    epoch: int  # epoch to stop after, at most that of the schedule


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingEvaluator:
    """An `evaluate: (key, Query) -> Result` that trains; see `training_benchmark`.

    Attributes:
      key: of all trainings.
      network: the network around the cells.
      recipe: of every training.
      placed: the data on each of `devices`.
      devices: several only of a CPU; each trains one architecture at a time.
      side_by_side: whether the architectures of a query are lanes of one program, as on
        accelerators.
      store: the trainings on disk; None if nothing is kept.
      report: called for each training that ends or is read from disk.
      clock: of the costs, as for `runs.train`.
    """

    key: Array
    network: NetworkConfig
    recipe: Recipe
    placed: tuple[Data, ...]
    devices: tuple[Any, ...]
    side_by_side: bool
    store: Store | None
    report: Callable[[np.ndarray, Curves], object] | None
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, key: Array, query: Query) -> Result:
        """Trains the architectures of a query; the key is not used.

        Raises: `ValueError` for a traced query, and for `start > 0` without a store.
        """
        del key
        requests = _requests(query, self.recipe.epochs, shared=self.store is not None)
        if self.store is None and any(r.start > 0 for r in requests.values()):
            raise ValueError(
                "a training cannot resume without a folder: start must be 0"
            )
        until: dict[Training, int] = {}
        for request in requests.values():
            training = request.training
            until[training] = max(request.epoch, until.get(training, 0))
        before = self._read(until)
        left = {t: end for t, end in until.items() if _done(before, t) < end}
        after = before | self._train(left, before, lanes=len(query.arch))
        return self._result(requests, before, after, len(query.arch))

    def _read(self, until: Mapping[Training, int]) -> dict[Training, PartialTraining]:
        """The state on disk of each training that has one."""
        if self.store is None:
            return {}
        read = {t: training_store.read(self.store, t, self._key(t)) for t in until}
        on_disk = {t: begun for t, begun in read.items() if begun is not None}
        for training, begun in on_disk.items():
            if begun.epochs >= until[training]:
                self._report(training, begun, until[training])
        return on_disk

    def _train(
        self,
        until: Mapping[Training, int],
        before: Mapping[Training, PartialTraining],
        lanes: int,
    ) -> dict[Training, PartialTraining]:
        """Trains each to its epoch.

        Args:
          until: epoch to stop after, by training.
          before: what has been trained already.
          lanes: architectures in the query, the number of lanes of an accelerator's
            program.
        """
        if not self.side_by_side:

            def alone(training: Training, index: int) -> PartialTraining:
                return self._train_group([training], before, until[training], index)[0]

            trained = map_over_devices(alone, list(until), len(self.devices))
            return dict(zip(until, trained, strict=True))
        groups: dict[tuple[int, int, int], list[Training]] = {}
        for training, end in until.items():
            group = training.seed, _done(before, training), end
            groups.setdefault(group, []).append(training)
        after: dict[Training, PartialTraining] = {}
        for (_, _, end), group in groups.items():
            trained = self._train_group(group, before, end, 0, lanes)
            after |= dict(zip(group, trained, strict=True))
        return after

    def _train_group(
        self,
        group: list[Training],
        before: Mapping[Training, PartialTraining],
        until: int,
        index: int,
        lanes: int | None = None,
    ) -> list[PartialTraining]:
        """Trains a group side by side, saves and reports each.

        Args:
          group: trainings of the same seed that have done the same number of epochs.
          before: what has been trained already.
          until: epoch to stop after.
          index: of the device.
          lanes: lanes of the program, at least the size of the group; None: that size.
        """
        # Every query has as many lanes, so that one program serves all: the last
        # architecture is repeated.
        padded = group + group[-1:] * ((lanes or len(group)) - len(group))
        result = runs.train(
            self._key(group[0]),
            self.network,
            self.recipe,
            np.array([training.arch for training in padded], np.int32),
            self.placed[index],
            sizes=None if lanes is None else (lanes, lanes, lanes),
            device=self.devices[index],
            resume_from=_joined([before[t] for t in padded if t in before]),
            stop_epoch=until,
            clock=self.clock,
        )
        resumable = self.store is not None and until < self.recipe.epochs
        whole = PartialTraining(
            until, result.state if resumable else None, result.curves
        )
        parts = [_lane(whole, lane) for lane in range(len(group))]
        for training, part in zip(group, parts, strict=True):
            if self.store is not None:
                training_store.save(self.store, training, self._key(training), part)
            self._report(training, part, until)
        return parts

    def _key(self, training: Training) -> Array:
        """Seed 0 has the key of the benchmark itself."""
        seed = training.seed
        return jax.random.fold_in(self.key, seed) if seed else self.key

    def _report(self, training: Training, begun: PartialTraining, until: int) -> None:
        if self.report is not None:
            curves = {name: values[0, :until] for name, values in begun.curves.items()}
            self.report(np.array(training.arch, np.int32), curves)

    def _result(
        self,
        requests: Mapping[int, _Request],
        before: Mapping[Training, PartialTraining],
        after: Mapping[Training, PartialTraining],
        num: int,
    ) -> Result:
        """Scores (num,), curves (num, epochs) and costs (num,), NaN and 0 elsewhere."""
        score, cost = np.full(num, np.nan, np.float32), np.zeros(num, np.float32)
        curve = np.full((num, self.recipe.epochs), np.nan, np.float32)
        for slot, (training, start, epoch) in requests.items():
            curves = after[training].curves
            curve[slot, :epoch] = curves["valid"][0, :epoch]
            score[slot] = curve[slot, epoch - 1]
            # More than the increment if epochs before `start` were trained again.
            first = min(start, _done(before, training))
            cost[slot] = curves["seconds"][0, first:epoch].sum()
        return Result(*map(jnp.asarray, (score, curve, cost)))


def _requests(query: Query, last: int, *, shared: bool) -> dict[int, _Request]:
    """The requests of the asked slots that hold a cell, by slot.

    Args:
      query: of any number of slots, not traced.
      last: the last epoch of the schedule, to which epochs are clipped.
      shared: whether equal trainings of several slots are one.
    """
    if any(isinstance(part, Tracer) for part in query):
        raise ValueError(
            "trainings run on the host and cannot be part of a compiled search: "
            "wanted drive.optimise in place of loop.run"
        )
    parts = query.arch, query.start, query.epoch, seed_of(query), asked(query)
    archs, start, epoch, seed, active = map(np.asarray, parts)
    start, epoch = np.minimum(start, last), np.minimum(epoch, last)
    active = active & ((archs >= 0) & (archs < OPERATIONS)).all(1)
    requests = {}
    for slot in map(int, np.flatnonzero(active)):
        arch = tuple(archs[slot].tolist())
        training = Training(arch, int(seed[slot]), 0 if shared else slot)
        requests[slot] = _Request(training, int(start[slot]), int(epoch[slot]))
    return requests


def _done(before: Mapping[Training, PartialTraining], training: Training) -> int:
    """Epochs that have been trained."""
    return before[training].epochs if training in before else 0


def _joined(parts: Sequence[PartialTraining]) -> PartialTraining | None:
    """Concatenates trainings at the same epoch; None if there are none."""
    if not parts:
        return None
    state = jax.tree.map(lambda *x: jnp.concatenate(x), *(p.state for p in parts))
    curves = {n: np.concatenate([p.curves[n] for p in parts]) for n in parts[0].curves}
    return PartialTraining(parts[0].epochs, state, curves)


def _lane(whole: PartialTraining, lane: int) -> PartialTraining:
    """The training of one lane, which keeps its axis of length 1."""

    def select(x: Any) -> Any:
        return x[lane : lane + 1]

    curves = {name: select(values) for name, values in whole.curves.items()}
    return PartialTraining(whole.epochs, jax.tree.map(select, whole.state), curves)
