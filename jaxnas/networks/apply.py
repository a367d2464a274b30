"""Networks as functions of parameters and images: one architecture, or several as lanes.

A `Model` holds what is fixed of a network; everything that trains or scores networks
takes one, and so works for all strategies of `single_cells` and `cells`: `single` for use
under `lax.map` over architectures, `static` for one that is compiled into the program,
`several` for lanes. Shapes here are of one architecture; with lanes, all arrays have (a,)
first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks import cells, layers, nasbench201, single_cells
from jaxnas.networks.nasbench201 import (
    TRAINING,
    CellFunction,
    Mode,
    NetworkConfig,
    Output,
    Params,
)
from jaxnas.types import Array


class Model(NamedTuple):
    """One architecture, or several as lanes, of a network size."""

    network: NetworkConfig
    cell: CellFunction  # of these architectures
    archs: Array  # (6,), or (a, 6) with lanes
    method: layers.Method = "patches"

    @property
    def lanes(self) -> tuple[int, ...]:
        """The axis of architectures: () or (a,)."""
        return self.archs.shape[:-1]


def single(
    network: NetworkConfig, arch: Array, method: layers.Method = "patches"
) -> Model:
    """Makes the model of one architecture, to be mapped over with `lax.map`.

    Args:
      network: the sizes.
      arch: (6,) int32.
      method: how convolutions are computed.
    """
    return Model(network, single_cells.sequential_cell(arch), arch, method)


def static(
    network: NetworkConfig, arch: tuple[int, ...], method: layers.Method = "patches"
) -> Model:
    """Makes the model of one architecture that is compiled into the program.

    Args:
      network: the sizes.
      arch: the operations of the 6 edges.
      method: how convolutions are computed.
    """
    cell = single_cells.static_cell(arch)
    return Model(network, cell, jnp.array(arch, jnp.int32), method)


def several(
    network: NetworkConfig, plan: cells.GroupPlan, method: layers.Method = "patches"
) -> Model:
    """Makes the model of the architectures of a plan, as lanes.

    Args:
      network: the sizes.
      plan: of a architectures, from `cells.make_group_plan`.
      method: how convolutions with shared weights are computed.
    """
    return Model(network, cells.grouped_cells(plan), plan.archs, method)


def run(
    model: Model, params: Params, x: Array, mode: Mode = TRAINING, **options: Any
) -> Output:
    """Computes `nasbench201.forward` of a model.

    Args:
      model: the architectures.
      params: with or without the lanes of the model.
      x: (b, h, w, c), seen by all lanes, or (a, b, h, w, c).
      mode: how the layers are computed; its method is that of the model.
      **options: `tap`, `block_wrapper` and `block_inputs` of `forward`.
    """
    x = jnp.broadcast_to(x, (*model.lanes, *x.shape[-4:]))
    mode = mode._replace(method=model.method)
    return nasbench201.forward(params, model.cell, x, mode=mode, **options)


def cross_entropy(logits: Array, y: Array, smoothing: float = 0.0) -> Array:
    """Computes the mean cross-entropy over the images.

    Args:
      logits: (..., b, k).
      y: (b,) classes, or (b, k) their probabilities.
      smoothing: share of every label that is spread over all classes.

    Returns:
      (...,): () or (a,).
    """
    logs = jax.nn.log_softmax(logits)
    if y.ndim == 2:
        picked = jnp.sum(y * logs, -1)
    else:
        y = jnp.broadcast_to(y, logits.shape[:-1])
        picked = jnp.take_along_axis(logs, y[..., None], -1)[..., 0]
    if smoothing:
        picked = (1 - smoothing) * picked + smoothing * jnp.mean(logs, -1)
    return -jnp.mean(picked, -1)


def with_lanes(model: Model, params: Params) -> Params:
    """Broadcasts parameters over the model's lanes, so that each has its own gradient."""
    if not model.lanes or params.stem.weight.ndim == 3:
        return params
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*model.lanes, *leaf.shape)), params
    )
