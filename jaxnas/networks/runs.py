"""Whole trainings: the loop over epochs, with checkpoints, of one architecture or many.

trained = train(key, network, RECIPES["nb201"], archs, data, folder="run")
trained.curves["valid"]  # (a, epochs) percent
"""

from __future__ import annotations

import dataclasses
import hashlib
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.io import checkpoints, files
from jaxnas.networks import cells
from jaxnas.networks import train as training
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.networks.train import Data, Engine, EpochMetrics, Recipe, TrainingSettings
from jaxnas.types import Array

# What is measured of an epoch, besides its seconds.
METRICS = EpochMetrics._fields
Work = TypeVar("Work")
Done = TypeVar("Done")


class Trained(NamedTuple):
    """Of a architectures."""

    params: Params  # with running statistics and lanes (a,)
    # (a, epochs) float32 each: loss, train, valid, test; and seconds by the clock of the
    # training, in equal shares of those that were trained together, evaluation included,
    # compilation not.
    curves: dict[str, np.ndarray]
    state: Any = None  # `train.State`, to resume from


class PartialTraining(NamedTuple):
    """A training of `a` architectures up to an epoch of its schedule."""

    epochs: int
    state: Any  # leading axis (a,); donated by `train`; None if it cannot be resumed
    curves: dict[str, np.ndarray]  # (a, recipe.epochs), NaN past the epoch


def train(
    key: Array,
    network: NetworkConfig,
    recipe: Recipe,
    archs: np.ndarray,
    data: Data,
    *,
    folder: str | Path | None = None,
    save_every: int = 10,
    engine: Engine | None = None,
    sizes: tuple[int, int, int] | None = None,
    images: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
    device: Any = None,
    report: Callable[[int, dict[str, np.ndarray]], None] | None = None,
    before: PartialTraining | None = None,
    until: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Trains architectures (a, 6) side by side for all epochs of a recipe.

    Args:
      key: of the initial weights, which all share, of the order and the augmentation.
      data: normalised images, on the host or the device.
      folder: for a checkpoint after every `save_every` epochs; a training that was
        killed goes on from it, with the same bits.
      engine: default: "sequential" on a CPU and "grouped" on an accelerator, where one
        architecture alone is "sequential" too.
      sizes: of the grouped engine's groups, see `cells.plan`: one program serves all
        architectures that fit. Default: what these need.
      images: training images and classes of each epoch, counted from 0, in place of those
        of `data`, and as many; for more of them than one epoch takes.
      device: default: the first.
      report: called after each epoch with its number, from 0, and the curves so far.
      before: a state to resume from, instead of the one in `folder`.
      until: the epoch of the recipe's schedule to stop after; default: the last.
      clock: seconds since some moment. `time.process_time` measures the CPU seconds of
        this process, whatever else the machine does: for one training at a time on a CPU.

    Returns: the networks and their curves; NaN from where one has diverged.
    Raises: `ValueError` for architectures and data that do not fit, and for a folder of
      another training, before anything is compiled.
    """
    archs = validate_training(network, recipe, archs, data)
    if isinstance(save_every, bool) or save_every < 1:
        raise ValueError(f"save_every must be at least 1, not {save_every!r}")
    device = jax.local_devices()[0] if device is None else device
    record = {}
    if folder is not None:
        record = training_identity(key, network, recipe, data) | {
            "archs": archs.tolist()
        }
    settings = training_settings(network, recipe, len(archs), engine)
    state = jax.eval_shape(lambda: training.initial_state(key, network, len(archs)))
    curves = {
        k: np.full((len(archs), recipe.epochs), np.nan, np.float32)
        for k in (*METRICS, "seconds")
    }
    first = 0
    if before is not None:
        first, state, curves = before
    elif folder is not None and checkpoints.exists(folder):
        first, state, curves = _resume(Path(folder), record, state, curves)
    else:
        state = training.initial_state(key, network, len(archs))
    wanted = cells.make_plan(archs, sizes) if settings.engine == "grouped" else archs
    state, data, wanted = jax.device_put((state, data, wanted), device)
    program = training.compile_epoch(settings, key, wanted, state, data)
    last = recipe.epochs if until is None else until
    for number in range(first, last):
        if images is not None:
            x, y = jax.device_put(images(number), device)
            data = data._replace(x=x, y=y)
        begun = clock()
        state, measured = program(number, wanted, state, data)
        jax.block_until_ready((state, measured))
        for name, values in zip(METRICS, measured, strict=True):
            curves[name][:, number] = values
        curves["seconds"][:, number] = (clock() - begun) / len(archs)
        done = number + 1
        if folder is not None and (done % save_every == 0 or done == last):
            _save(Path(folder), record, state, curves, done)
        if report is not None:
            report(number, curves)
    params = training.with_running_stats(state.params, state.running)
    return Trained(params, curves, state)


def training_settings(
    network: NetworkConfig, recipe: Recipe, lanes: int, engine: Engine | None = None
) -> TrainingSettings:
    """What is compiled for so many architectures here."""
    on_cpu = jax.default_backend() == "cpu"
    if engine is None:
        engine = "sequential" if on_cpu or lanes == 1 else "grouped"
    if engine not in ("sequential", "grouped"):
        raise ValueError(f"no engine {engine!r}; there are sequential, grouped")
    return TrainingSettings(network, recipe, engine, "patches" if on_cpu else "native")


def validate_training(
    network: NetworkConfig, recipe: Recipe, archs: np.ndarray, data: Data
) -> np.ndarray:
    """The architectures (a, 6) int32, or `ValueError` for what cannot be trained."""
    archs = np.asarray(archs)
    if archs.ndim != 2 or archs.shape[1] != 6 or not len(archs):
        raise ValueError(f"wanted architectures (a, 6), found {archs.shape}")
    if not np.issubdtype(archs.dtype, np.integer):
        raise ValueError(f"architectures are integers, not {archs.dtype}")
    if archs.min() < 0 or archs.max() > 4:
        raise ValueError(f"operations are 0..4, found {archs.min()}..{archs.max()}")
    shape = network.image_size, network.image_size, network.in_channels
    for part in ("", "_valid", "_test"):
        x, y = getattr(data, f"x{part}"), getattr(data, f"y{part}")
        least = 2 if not part else 1
        if x.ndim != 4 or x.shape[1:] != shape or len(x) < least:
            raise ValueError(
                f"wanted x{part} as at least {least} images {shape}, found {x.shape}"
            )
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"wanted y{part} as {len(x)} integers, found {y.dtype} {y.shape}"
            )
        low, high = int(np.min(y)), int(np.max(y))
        if low < 0 or high >= network.num_classes:
            raise ValueError(
                f"y{part} must be 0..{network.num_classes - 1}, found {low}..{high}"
            )
        if not np.isfinite(x).all():
            raise ValueError(f"x{part} is not finite everywhere")
    if np.shape(data.pad_value) != (network.in_channels,):
        raise ValueError(
            f"wanted pad_value ({network.in_channels},), found {np.shape(data.pad_value)}"
        )
    if recipe.crop >= network.image_size or recipe.cutout > network.image_size:
        raise ValueError(
            f"crop {recipe.crop} and cutout {recipe.cutout} are too large for images of "
            f"{network.image_size} pixels"
        )
    return archs.astype(np.int32)


def training_identity(
    key: Array, network: NetworkConfig, recipe: Recipe, data: Data
) -> dict[str, Any]:
    """All that a training depends on but the architecture, as JSON."""
    digest = hashlib.sha256()
    for part in data:
        digest.update(np.ascontiguousarray(part).tobytes())
    return {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(recipe),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "data": digest.hexdigest(),
        "float": str(jnp.zeros(()).dtype),
    }


def on_devices(
    work: Callable[[Work, int], Done], groups: Sequence[Work], devices: int
) -> list[Done]:
    """What `work` returns for each group of architectures and the number of a device.

    Every device has one group at a time; what fails ends the rest.
    """
    free: queue.Queue[int] = queue.Queue()
    for index in range(devices):
        free.put(index)

    def one(group: Work) -> Done:
        index = free.get()
        try:
            return work(group, index)
        finally:
            free.put(index)

    pool = ThreadPoolExecutor(devices)
    try:
        return list(pool.map(one, groups))
    finally:
        pool.shutdown(cancel_futures=True)


def _save(folder: Path, record: dict, state, curves, done: int) -> None:
    files.make_folder(folder.parent)
    checkpoints.save(
        folder, {"state": state, "curves": curves}, record | {"epochs": done}
    )


def _resume(folder: Path, record: dict, state, curves):
    """What `_save` wrote, and how many epochs that was."""
    found = checkpoints.manifest(folder)
    done = found.pop("epochs", None)
    for name, wanted in record.items():
        if found.get(name) != wanted:
            raise ValueError(
                f"{folder} has a training with another {name}: wanted another folder, or "
                f"{name} {str(found.get(name))[:80]} instead of {str(wanted)[:80]}"
            )
    both = checkpoints.restore(folder, {"state": state, "curves": curves})
    curves = {name: np.array(values) for name, values in both["curves"].items()}
    return int(done or 0), both["state"], curves
