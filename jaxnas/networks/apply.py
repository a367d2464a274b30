"""Networks as functions of parameters and images: one architecture, or several as lanes.

What is said of shapes here is for one architecture; lanes stand before everything.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks import cells, layers, nasbench201
from jaxnas.networks.nasbench201 import (
    TRAINING,
    CellFunction,
    NetworkConfig,
    Output,
    Params,
)
from jaxnas.types import Array


class Model(NamedTuple):
    """Architectures of a network size, ready to run."""

    network: NetworkConfig
    cell: CellFunction
    archs: Array  # (6,), or (a, 6) with lanes
    method: layers.Method = "patches"

    @property
    def lanes(self) -> tuple[int, ...]:
        """() or (a,)."""
        return self.archs.shape[:-1]


def single(
    network: NetworkConfig, arch: Array, method: layers.Method = "patches"
) -> Model:
    """One architecture (6,), to be mapped over with `lax.map`."""
    return Model(network, cells.sequential_cell(arch), arch, method)


def several(
    network: NetworkConfig, plan: cells.Plan, method: layers.Method = "patches"
) -> Model:
    """The architectures of a plan, as lanes."""
    return Model(network, cells.grouped_cells(plan), plan.archs, method)


def run(model: Model, params: Params, x: Array, mode=TRAINING, **options) -> Output:
    """`forward` for images (b, h, w, c), which all lanes see, or (a, b, h, w, c)."""
    x = jnp.broadcast_to(x, (*model.lanes, *x.shape[-4:]))
    mode = mode._replace(method=model.method)
    return nasbench201.forward(params, model.cell, x, mode=mode, **options)


def cross_entropy(logits: Array, y: Array, smoothing: float = 0.0) -> Array:
    """Mean over the images, () or (a,): logits (..., b, k), labels y (b,).

    Args:
      smoothing: share of every label that is spread over all classes.
    """
    logs = jax.nn.log_softmax(logits)
    y = jnp.broadcast_to(y, logits.shape[:-1])
    picked = jnp.take_along_axis(logs, y[..., None], -1)[..., 0]
    if smoothing:
        picked = (1 - smoothing) * picked + smoothing * jnp.mean(logs, -1)
    return -jnp.mean(picked, -1)


def with_lanes(model: Model, params: Params) -> Params:
    """The parameters with the model's lanes, so that each has a gradient of its own."""
    if not model.lanes or params.stem.weight.ndim == 3:
        return params
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*model.lanes, *leaf.shape)), params
    )
