"""Whole trainings: the loop over epochs, with checkpoints, of one architecture or many.

    trained = train(key, network, RECIPES["nb201"], archs, data, folder="run")
    trained.curves["valid"]  # (a, epochs) percent

Axes are named in `nasbench201`; the a architectures are lanes of one compiled epoch, which
`train` runs once per epoch from Python. A training is determined by `training_identity`
and the architectures: a checkpoint of the same identity continues with the same bits
unless another engine or `static` sums in another order.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.io import checkpoints, records
from jaxnas.io.cache import array_digest
from jaxnas.networks import cells, partial
from jaxnas.networks import train as training
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.networks.partial import PartialTraining
from jaxnas.networks.recipes import Recipe
from jaxnas.networks.train import Engine, EpochMetrics, TrainingSettings
from jaxnas.types import Array

Curves = dict[str, np.ndarray]
METRICS = EpochMetrics._fields  # of an epoch, besides its seconds


class Trained(NamedTuple):
    """Trained networks of a architectures."""

    params: Params  # with running statistics and lanes (a,)
    # (a, epochs) float32 each: loss, train, valid, test as in `EpochMetrics`, and seconds
    # of the epoch by the clock of the training. Architectures that are trained together
    # have equal shares of the seconds; evaluation counts, compilation does not.
    curves: Curves
    state: Any = None  # `train.State`, to resume from


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
    static: bool = False,
    sizes: tuple[int, int, int] | None = None,
    images: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
    device: Any = None,
    report: Callable[[int, Curves], object] | None = None,
    resume_from: PartialTraining | None = None,
    stop_epoch: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Trains architectures side by side for all epochs of a recipe.

    Args:
      key: of the initial weights, which all share, of the order and the augmentation.
      network: the sizes.
      recipe: schedule, optimiser and augmentation.
      archs: (a, 6) integers.
      data: normalised images, on the host or the device.
      folder: for a checkpoint after every `save_every` epochs; a training that was
        killed continues from it, with the same bits.
      save_every: epochs between checkpoints.
      engine: default: "sequential" on a CPU and "grouped" on an accelerator, where one
        architecture alone is "sequential" too.
      static: compile the one architecture into the program, which serves no other then,
        but is smaller and faster.
      sizes: of the grouped engine's groups, see `cells.make_group_plan`: one program
        serves all architectures that fit. Default: as large as these need.
      images: training images and classes of each epoch, counted from 0, in place of those
        of `data`, and as many: for data sets larger than one epoch.
      device: default: the first.
      report: called after each epoch with its number, from 0, and the curves so far.
      resume_from: a training to continue, instead of the one in `folder`.
      stop_epoch: the epoch of the recipe's schedule to stop after; default: the last.
      clock: seconds since a fixed moment. `time.process_time` measures the CPU seconds of
        this process, whatever else the machine does: for one training at a time on a CPU.

    Returns:
      the networks and their curves; NaN from the epoch in which one has diverged.

    Raises: `ValueError` for architectures and data that do not fit, and for a folder of
      another training, before anything is compiled.
    """
    archs = validate_training(network, recipe, archs, data)
    if isinstance(save_every, bool) or save_every < 1:
        raise ValueError(f"save_every must be at least 1, not {save_every!r}")
    device = jax.local_devices()[0] if device is None else device
    settings = training_settings(network, recipe, len(archs), engine, device.platform)
    settings = _compiled_in(settings, archs) if static else settings
    identity = {}
    if folder is not None:
        identity = training_identity(key, network, recipe, data)
        identity["archs"] = archs.tolist()
    first, state, curves = _begin(
        key, network, recipe, len(archs), folder, identity, resume_from
    )
    lanes = (
        cells.make_group_plan(archs, sizes) if settings.engine == "grouped" else archs
    )
    state, data, lanes = jax.device_put((state, data, lanes), device)
    program = training.compile_epoch(settings, key, lanes, state, data)
    last = recipe.epochs if stop_epoch is None else stop_epoch
    for number in range(first, last):
        if images is not None:
            x, y = jax.device_put(images(number), device)
            data = data._replace(x=x, y=y)
        start = clock()
        state, metrics = program(number, lanes, state, data)
        jax.block_until_ready((state, metrics))
        for name, values in zip(METRICS, metrics, strict=True):
            curves[name][:, number] = values
        curves["seconds"][:, number] = (clock() - start) / len(archs)
        done = number + 1
        if folder is not None and (done % save_every == 0 or done == last):
            stopped = PartialTraining(done, state, curves)
            partial.save(Path(folder), identity, stopped)
        if report is not None:
            report(number, curves)
    params = training.with_running_stats(state.params, state.running)
    return Trained(params, curves, state)


def _compiled_in(
    settings: training.TrainingSettings, archs: np.ndarray
) -> training.TrainingSettings:
    """Settings whose program has the one architecture of archs (1, 6) compiled in.

    Raises: `ValueError` for several architectures, and for the grouped engine.
    """
    if len(archs) > 1:
        raise ValueError(f"static needs one architecture, not {len(archs)}")
    if settings.engine != "sequential":
        raise ValueError(f'static needs engine="sequential", not {settings.engine!r}')
    return settings._replace(arch=tuple(archs[0].tolist()))


def _begin(
    key: Array,
    network: NetworkConfig,
    recipe: Recipe,
    lanes: int,
    folder: str | Path | None,
    identity: dict,
    resume_from: PartialTraining | None,
) -> PartialTraining:
    """Returns where a training starts: a given state, a checkpoint, or epoch 0."""
    if resume_from is not None:
        return resume_from
    shape = lanes, recipe.epochs
    curves = {k: np.full(shape, np.nan, np.float32) for k in (*METRICS, "seconds")}
    if folder is not None and checkpoints.exists(folder):
        like = jax.eval_shape(lambda: training.initial_state(key, network, lanes))
        epochs, existing = partial.read_manifest(Path(folder))
        records.require_identity(folder, existing, identity, partial.OTHER_TRAINING)
        return partial.restore(Path(folder), epochs, like, curves)
    return PartialTraining(0, training.initial_state(key, network, lanes), curves)


def training_settings(
    network: NetworkConfig,
    recipe: Recipe,
    lanes: int,
    engine: Engine | None = None,
    platform: str | None = None,
) -> TrainingSettings:
    """Chooses how to train on a platform.

    Args:
      network: the sizes.
      recipe: of the training.
      lanes: number of architectures side by side.
      engine: default: by the platform, see `train`.
      platform: such as "cpu"; default: the default backend.

    Raises: `ValueError` for an unknown engine.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    if engine is None:
        engine = "sequential" if on_cpu or lanes == 1 else "grouped"
    if engine not in ("sequential", "grouped"):
        raise ValueError(f"no engine {engine!r}; available are sequential, grouped")
    return TrainingSettings(network, recipe, engine, "patches" if on_cpu else "native")


def validate_training(
    network: NetworkConfig, recipe: Recipe, archs: np.ndarray, data: Data
) -> np.ndarray:
    """Checks that architectures and data fit a network and a recipe.

    Args:
      network: the sizes.
      recipe: whose crop and cutout must be smaller than the images.
      archs: (a, 6) integers, 0 to 4.
      data: finite images of the network's size, at least two for training.

    Returns:
      the architectures, (a, 6) int32.

    Raises: `ValueError` naming what does not fit.
    """
    archs = np.asarray(archs)
    if archs.ndim != 2 or archs.shape[1] != 6 or not len(archs):
        raise ValueError(f"wanted architectures (a, 6), found {archs.shape}")
    if not np.issubdtype(archs.dtype, np.integer):
        raise ValueError(f"architectures are integers, not {archs.dtype}")
    if archs.min() < 0 or archs.max() > 4:
        raise ValueError(f"operations are 0..4, found {archs.min()}..{archs.max()}")
    for part in ("", "_valid", "_test"):
        _validate_part(network, data, part)
    if np.shape(data.pad_value) != (network.in_channels,):
        raise ValueError(
            f"wanted pad_value ({network.in_channels},), found "
            f"{np.shape(data.pad_value)}"
        )
    if recipe.crop >= network.image_size or recipe.cutout > network.image_size:
        raise ValueError(
            f"crop {recipe.crop} and cutout {recipe.cutout} are too large for images of "
            f"{network.image_size} pixels"
        )
    return archs.astype(np.int32)


def _validate_part(network: NetworkConfig, data: Data, part: str) -> None:
    """Checks the images and classes of one part: "", "_valid" or "_test"."""
    x, y = getattr(data, f"x{part}"), getattr(data, f"y{part}")
    shape = network.image_size, network.image_size, network.in_channels
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


def training_identity(
    key: Array, network: NetworkConfig, recipe: Recipe, data: Data
) -> dict[str, Any]:
    """Describes everything that a training depends on but the architecture, as JSON.

    Returns:
      network and recipe by field, the key's integers, a digest of the data, and the
      default float type.
    """
    return {
        "network": dataclasses.asdict(network),
        "recipe": dataclasses.asdict(recipe),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "data": array_digest(*data),
        "float": str(jnp.zeros(()).dtype),
    }
