"""Accuracies of trained networks on images that their training did not have.

    trained = runs.train(key, network, recipe, archs, data)
    accuracies(network, archs, trained.params, x, y)  # (a,) percent

Images are evaluated in blocks of one size, so that one program serves any number of them;
another number of classes or of architectures needs another program, as do other sizes of
groups on an accelerator. A few images cost as much as a whole block.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxnas.networks import apply, cells, runs
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.networks.recipes import Recipe
from jaxnas.networks.train import (
    EVALUATION_BLOCK,
    TRAINED,
    Engine,
    TrainingSettings,
    is_correct,
)
from jaxnas.types import Array


def accuracies(
    network: NetworkConfig,
    archs: np.ndarray,
    params: Params,
    x: np.ndarray,
    y: np.ndarray,
    *,
    engine: Engine | None = None,
    device: Any = None,
) -> np.ndarray:
    """Measures the accuracies of trained networks.

    Args:
      network: the sizes.
      archs: (a, 6) int32, in the order of the parameters.
      params: with running statistics and lanes (a,), from `runs.train`.
      x: (n, size, size, c) normalised images, at least one.
      y: (n,) their classes.
      engine: as for `runs.train`.
      device: of the parameters; default: the first.

    Returns:
      (a,) float32 percent; NaN for networks whose outputs are not finite.
    """
    device = jax.local_devices()[0] if device is None else device
    settings = runs.training_settings(
        network, Recipe(), len(archs), engine, device.platform
    )
    grouped = settings.engine == "grouped"
    lanes = jax.device_put(cells.make_group_plan(archs) if grouped else archs, device)
    hits = np.zeros(len(archs), np.float32)
    for first in range(0, len(x), EVALUATION_BLOCK):
        block = slice(first, first + EVALUATION_BLOCK)
        count = len(x[block])
        padded = np.resize(np.arange(first, first + count), EVALUATION_BLOCK)
        images = jax.device_put((x[padded], y[padded]), device)
        hits += np.asarray(_correct(settings, lanes, params, *images))[:, :count].sum(1)
    return 100 * hits / len(x)


@functools.partial(jax.jit, static_argnums=0)
def _correct(
    settings: TrainingSettings, archs: Any, params: Params, x: Array, y: Array
) -> Array:
    """Which of a block of images (b, ...) the networks classify right, (a, b)."""
    network, method = settings.network, settings.method
    if settings.engine == "grouped":
        model = apply.several(network, archs, method)
        return is_correct(apply.run(model, params, x, TRAINED).logits, y)

    def of_one(one: tuple[Array, Params]) -> Array:
        model = apply.single(network, one[0], method)
        return is_correct(apply.run(model, one[1], x, TRAINED).logits, y)

    return lax.map(of_one, (archs, params))
