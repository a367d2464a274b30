"""Cells of NAS-Bench-201 as functions of images, for one architecture.

A cell has four nodes; each of its six edges applies one of five operations to the value
of its source node, and a node is the sum of its incoming edges. Axes are named in
`nasbench201`: n cells, 6 edges, images (b, h, w, c).

* `sequential_cell(arch)`: the architecture is data, and each edge a `lax.switch` over the
  operations. To be used under `lax.map` over architectures, not `vmap`: a vmapped switch
  computes every branch. One compilation serves all cells, only the chosen operations are
  computed, and one architecture is in memory: the fastest for many on a CPU.
* `static_cell(arch)`: the architecture is compiled into the program. Nothing is computed
  twice: on a CPU, a training step of 3 x 3 convolutions takes a quarter less time, and its
  compilation half.

Both compute the same values, each with what a `Tap` measured on the way; see `taps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.networks import layers
from jaxnas.networks.blocks import Mode, convolution
from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import CellFunction, StageConvs
from jaxnas.networks.taps import Tap, tap_values
from jaxnas.spaces.nasbench201 import CONV1, CONV3, EDGES
from jaxnas.types import Array


def edge_weights(conv: Conv, index: int) -> Conv:
    """Selects the convolution of one edge from leaves (..., 6, own axes)."""
    return Conv(
        conv.weight[..., index, :, :],
        None if conv.scale is None else conv.scale[..., index, :],
        None if conv.offset is None else conv.offset[..., index, :],
        None if conv.output_scale is None else conv.output_scale[..., index, :, :],
        None if conv.running is None else conv.running[..., index, :, :],
    )


def num_readers(archs: Array, source: int) -> Array:
    """Counts the convolutions (...,) of archs (..., 6) whose input is node `source`."""
    edges = np.array([e for e, (start, _) in enumerate(EDGES) if start == source])
    chosen = archs[..., edges]
    return jnp.sum((chosen == CONV1) | (chosen == CONV3), -1)


def incoming_edges(target: int) -> list[tuple[int, int]]:
    """Lists the (edge, source node) pairs of a node."""
    return [(e, start) for e, (start, end) in enumerate(EDGES) if end == target]


# (the edge's weights, x, sum so far) -> (sum with this edge, tapped)
_Branch = Callable[[StageConvs, Array, Array], tuple[Array, Array]]


def _branches(mode: Mode, tap: Tap, recompute: bool = True) -> list[_Branch]:
    """The operations as branches of a switch, in the order of their codes 0 to 4.

    Each adds its output to the sum of the target node; what it taps has no lanes.

    Args:
      mode: how to normalise.
      tap: what to measure.
      recompute: whether gradients compute convolutions again instead of keeping patches.
    """

    def convolve(conv: Conv, x: Array, size: int) -> tuple[Array, Array]:
        return convolution(conv, x, mode, tap, size=size)

    if recompute:
        # Only x and the weights are kept for a gradient: a switch would otherwise keep
        # what any of its branches needs, and patches are nine times the image.
        convolve = jax.checkpoint(convolve, static_argnums=2)

    def none(weights: StageConvs, x: Array, total: Array) -> tuple[Array, Array]:
        return total, tap_values(tap, ())

    def skip(weights: StageConvs, x: Array, total: Array) -> tuple[Array, Array]:
        return total + x, tap_values(tap, (), ("map", x, 1))

    def conv1(weights: StageConvs, x: Array, total: Array) -> tuple[Array, Array]:
        y, tapped = convolve(weights.conv1, x, 1)
        return total + y, tapped

    def conv3(weights: StageConvs, x: Array, total: Array) -> tuple[Array, Array]:
        y, tapped = convolve(weights.conv3, x, 3)
        return total + y, tapped

    def pool(weights: StageConvs, x: Array, total: Array) -> tuple[Array, Array]:
        y = layers.average_pool(x)
        return total + y, tap_values(tap, (), ("map", y, 2))

    return [none, skip, conv1, conv3, pool]


def sequential_cell(arch: Array) -> CellFunction:
    """Makes the cell of one architecture, for images without lanes.

    Map over architectures with `lax.map`; under `vmap` a switch computes all branches.

    Args:
      arch: (6,) int32, traced or not: the operation of each edge.

    Returns:
      (weights of one cell, x (b, h, w, c), mode, tap) -> y (b, h, w, c), tapped.
    """

    def apply_edge(edge: int, mode: Mode, tap: Tap, *operands: Any) -> Any:
        return lax.switch(arch[edge], _branches(mode, tap), *operands)

    return _cell(arch, apply_edge)


def static_cell(arch: tuple[int, ...]) -> CellFunction:
    """Makes the cell of an architecture that is compiled into the program.

    Args:
      arch: the operations of the 6 edges.

    Returns: as `sequential_cell`.
    """

    def apply_edge(edge: int, mode: Mode, tap: Tap, *operands: Any) -> Any:
        return _branches(mode, tap, recompute=False)[arch[edge]](*operands)

    return _cell(jnp.array(arch, jnp.int32), apply_edge)


def _cell(arch: Array, apply_edge: Callable) -> CellFunction:
    """The cell of one architecture (6,).

    Args:
      arch: the operation of each edge.
      apply_edge: (edge, mode, tap, weights of the edge, x, sum so far) -> sum, tapped.
    """

    def cell(
        weights: StageConvs, x: Array, mode: Mode, tap: Tap
    ) -> tuple[Array, Array]:
        nodes, tapped = [x], tap_values(tap, ())
        for target in (1, 2, 3):
            # The rectifier of a node counts once for each convolution that reads it.
            readers = num_readers(arch, target - 1).astype(tap.zero.dtype)
            tapped = tapped + readers * lax.cond(
                readers > 0,
                lambda x: tap_values(tap, (), ("relu", x, 1)),
                lambda x: tap_values(tap, ()),
                nodes[-1],
            )
            total = jnp.zeros_like(x)
            for edge, source in incoming_edges(target):
                conv = StageConvs(
                    edge_weights(weights.conv1, edge), edge_weights(weights.conv3, edge)
                )
                total, tapped_edge = apply_edge(
                    edge, mode, tap, conv, nodes[source], total
                )
                tapped = tapped + tapped_edge
            nodes.append(total)
        return nodes[3], tapped + tap_values(tap, (), ("map", nodes[3], 1))

    return cell
