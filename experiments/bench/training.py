"""Time of training steps: one compiled program for all cells, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import torch

from experiments.bench import timing, torch_network
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas.networks import runs
from jaxnas.networks import train as training
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe
from jaxnas.spaces.base import every
from jaxnas.spaces.nasbench201 import SPACE

# Channels, cells of a stage, pixels, images in a step, and the share of --networks.
SIZES = ((8, 1, 8, 64, 1.0), (8, 1, 16, 64, 1.0), (16, 5, 32, 256, 0.0))


def steps(config: Config) -> list[Measurement]:
    """Times training steps of the same random cells, on one core.

    Args:
      config: the number of cells `networks`, the `steps` and the `repeats`.

    Returns: for each of `SIZES` a row of jaxnas and one of PyTorch, in milliseconds a step.
    """
    archs = np.random.default_rng(0).permutation(every(SPACE))[: config.networks]
    rows = []
    with timing.one_core():
        torch.set_num_threads(1)
        for channels, cells, size, batch, share in SIZES:
            network = NetworkConfig(channels, cells, 10, size, 1 if size < 32 else 3)
            count = max(1, round(share * len(archs)))
            rows += _of_size(config, network, batch, archs[:count])
    return rows


def _of_size(
    config: Config, network: NetworkConfig, batch: int, archs: np.ndarray
) -> list[Measurement]:
    """Times one size of networks and images.

    Args:
      config: the numbers of steps and repeats; images of 32 pixels have one step.
      network: the sizes.
      batch: images in a step.
      archs: (n, 6) cells, which share one compiled program in jaxnas.

    Returns: a row of jaxnas and one of PyTorch, in milliseconds for a step of one cell.
    """
    recipe = Recipe(epochs=1, batch=batch)
    num = batch * (config.steps if network.image_size < 32 else 1)
    rng = np.random.default_rng(1)
    shape = num, network.image_size, network.image_size, network.in_channels
    x, y = rng.normal(size=shape).astype(np.float32), np.arange(num, dtype=np.int32)
    y %= network.num_classes
    pad_value = np.zeros(network.in_channels, np.float32)
    # A single image is evaluated, so that the time is that of the steps.
    data = jax.device_put(Data(x, y, x[:1], y[:1], x[:1], y[:1], pad_value))
    key, one = jax.random.key(0), archs[:1]
    settings = runs.training_settings(network, recipe, 1, "sequential")

    def program() -> Callable:
        state = training.initial_state(key, network, 1)
        return training.compile_epoch(settings, key, one, state, data)

    def ours() -> None:
        run = program()  # compiled in the first call, found again in the others
        for arch in archs:
            state = training.initial_state(key, network, 1)
            jax.block_until_ready(run(0, arch[None], state, data))

    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).split(batch)
    labels = torch.from_numpy(y.astype(np.int64)).split(batch)
    models = [torch_network.network(network, arch) for arch in archs]

    def theirs() -> None:
        for model in models:
            torch_network.train(model, images, labels)

    calls = {"jaxnas": ours, "PyTorch, eager": theirs}
    timed = timing.in_turn(calls, config.repeats)
    number = len(archs) * (num // batch)
    scaled = {what: t.scaled(1e3 / number) for what, t in timed.items()}
    size = f"C={network.stem_channels}, N={network.cells_per_stage}"
    size = f"{size}, {network.image_size} pixels"
    group = f"a training step of a cell, {size}, batch {batch}, one core"
    return timing.compare(group, "ms", scaled)
