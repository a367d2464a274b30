"""What a cell of NAS-Bench-201 computes, from architectures that are data.

Two ways, with the same results:

* `sequential_cell(arch)`: one architecture, a `lax.switch` on each edge, for use under
  `lax.map` over architectures. One compilation serves every cell, only what a cell has
  is computed, and one architecture is in flight: the fastest on a CPU.
* `grouped_cells(plan)`: a lane for each of many architectures. On every edge those that have
  the same operation are gathered, run as one large convolution, and sent back to their
  lanes. As little arithmetic, in few large steps: for a GPU. Memory grows with the
  lanes: 64 KiB for each node value, image and architecture at 16 channels and 32 pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.networks import layers
from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import (
    CellFunction,
    Cells,
    Mode,
    Tap,
    convolution,
    tap_values,
)
from jaxnas.spaces.nasbench201 import CONV1, CONV3, EDGES, POOL, SKIP
from jaxnas.types import Array


def _edge(conv: Conv, index: int) -> Conv:
    """The convolution of one edge; leaves begin with the lanes, then (6,)."""
    return Conv(
        conv.weight[..., index, :, :],
        None if conv.scale is None else conv.scale[..., index, :],
        None if conv.offset is None else conv.offset[..., index, :],
        None if conv.output_scale is None else conv.output_scale[..., index, :, :],
        None if conv.running is None else conv.running[..., index, :, :],
    )


def _readers(archs: Array, source: int) -> Array:
    """How many convolutions (...,) of archs (..., 6) read node `source`."""
    edges = np.array([e for e, (start, _) in enumerate(EDGES) if start == source])
    chosen = archs[..., edges]
    return jnp.sum((chosen == CONV1) | (chosen == CONV3), -1)


def _incoming(target: int) -> list[tuple[int, int]]:
    """The (edge, source node) pairs of a node."""
    return [(e, start) for e, (start, end) in enumerate(EDGES) if end == target]


# (the edge's weights, x, sum so far) -> (sum with this edge, what was tapped)
_Branch = Callable[[Cells, Array, Array], tuple[Array, Array]]


def _branches(mode: Mode, tap: Tap) -> list[_Branch]:
    """What each operation adds to a node, for one architecture."""

    def none(weights: Cells, x: Array, total: Array) -> tuple[Array, Array]:
        return total, tap_values(tap, ())

    def skip(weights: Cells, x: Array, total: Array) -> tuple[Array, Array]:
        return total + x, tap_values(tap, (), ("map", x, 1))

    def conv1(weights: Cells, x: Array, total: Array) -> tuple[Array, Array]:
        y, seen = checkpointed(weights.conv1, x, 1)
        return total + y, seen

    def conv3(weights: Cells, x: Array, total: Array) -> tuple[Array, Array]:
        y, seen = checkpointed(weights.conv3, x, 3)
        return total + y, seen

    def pool(weights: Cells, x: Array, total: Array) -> tuple[Array, Array]:
        y = layers.average_pool(x)
        return total + y, tap_values(tap, (), ("map", y, 2))

    # Only x and the weights are kept for a gradient: a switch would otherwise keep what
    # any of its branches needs, and patches are nine times the image.
    @functools.partial(jax.checkpoint, static_argnums=2)
    def checkpointed(conv: Conv, x: Array, size: int) -> tuple[Array, Array]:
        return convolution(conv, x, mode, tap, size=size)

    return [none, skip, conv1, conv3, pool]


def sequential_cell(arch: Array) -> CellFunction:
    """The cell of one architecture (6,) int32, for images without lanes.

    Under `vmap` a switch computes all of its branches: map over architectures with
    `lax.map`.
    """

    def cell(weights: Cells, x: Array, mode: Mode, tap: Tap) -> tuple[Array, Array]:
        branches = _branches(mode, tap)
        nodes, seen = [x], tap_values(tap, ())
        for target in (1, 2, 3):
            # A node that no convolution reads is not looked at.
            readers = _readers(arch, target - 1).astype(tap.zero.dtype)
            seen = seen + readers * lax.cond(
                readers > 0,
                lambda x: tap_values(tap, (), ("relu", x, 1)),
                lambda x: tap_values(tap, ()),
                nodes[-1],
            )
            total = jnp.zeros_like(x)
            for edge, source in _incoming(target):
                conv = Cells(_edge(weights.conv1, edge), _edge(weights.conv3, edge))
                total, more = lax.switch(
                    arch[edge], branches, conv, nodes[source], total
                )
                seen = seen + more
            nodes.append(total)
        return nodes[3], seen + tap_values(tap, (), ("map", nodes[3], 1))

    return cell


class Plan(NamedTuple):
    """Which of a architectures have which operation on which edge, as data.

    The sizes of the groups are static: the same program serves every plan of the same
    sizes.
    """

    archs: Array  # (a, 6) int32
    # For 1 x 1, 3 x 3 and pooling: (6, g) int32 lanes of each edge, padded with a.
    members: tuple[Array, Array, Array]
    # (6, a) int32: where a lane is in [zero, 1 x 1, 3 x 3, pooling]; 0: nowhere.
    slot: Array


_GROUPED = (CONV1, CONV3, POOL)


def group_sizes(chunks: np.ndarray) -> tuple[int, int, int]:
    """The group sizes that every one of the chunks (n, a, 6) fits in."""
    return tuple(int(np.sum(chunks == op, 1).max()) for op in _GROUPED)  # type: ignore


def make_plan(archs: np.ndarray, sizes: tuple[int, int, int] | None = None) -> Plan:
    """Sorts architectures (a, 6) by operation, on the host.

    Args:
      sizes: of the groups, from `group_sizes`; default: what these need.

    Raises: `ValueError` if a group does not fit its size.
    """
    archs = np.asarray(archs, np.int32)
    needed = group_sizes(archs[None])
    sizes = sizes or needed
    if any(n > s for n, s in zip(needed, sizes, strict=True)):
        raise ValueError(f"wanted groups of at most {sizes}, found {needed}")
    members = tuple(np.full((len(EDGES), size), len(archs), np.int32) for size in sizes)
    slot = np.zeros((len(EDGES), len(archs)), np.int32)
    for edge in range(len(EDGES)):
        first = 1
        for op, group, size in zip(_GROUPED, members, sizes, strict=True):
            lanes = np.flatnonzero(archs[:, edge] == op)
            group[edge, : len(lanes)] = lanes
            slot[edge, lanes] = first + np.arange(len(lanes))
            first += size
    return Plan(
        jnp.asarray(archs),
        tuple(jnp.asarray(group) for group in members),  # type: ignore[arg-type]
        jnp.asarray(slot),
    )


def _take(x: Array, lanes: Array) -> Array:
    """x[lanes], and zeros for padding, to which no gradient flows back."""
    return x.at[lanes].get(mode="fill", fill_value=0)


def _select(conv: Conv, lanes: Array) -> Conv:
    """The weights of some lanes, where they have lanes."""
    return Conv(
        *(
            leaf if leaf is None or leaf.ndim == axes else _take(leaf, lanes)
            for leaf, axes in zip(conv, (2, 1, 1, 2, 2), strict=True)
        )  # type: ignore[arg-type]
    )


def grouped_cells(plan: Plan) -> CellFunction:
    """The cells of a architectures, for images with lanes (a,)."""

    def edge_values(
        weights: Cells, edge: int, x: Array, mode: Mode, tap: Tap
    ) -> tuple[Array, Array]:
        run1, run3, pooled = (_take(x, group[edge]) for group in plan.members)
        conv1 = _select(_edge(weights.conv1, edge), plan.members[0][edge])
        conv3 = _select(_edge(weights.conv3, edge), plan.members[1][edge])
        y1, seen1 = convolution(conv1, run1, mode, tap, size=1)
        y3, seen3 = convolution(conv3, run3, mode, tap, size=3)
        y_pool = layers.average_pool(pooled)
        seen_pool = tap_values(tap, y_pool.shape[:1], ("map", y_pool, 2))
        seen_skip = tap_values(tap, x.shape[:1], ("map", x, 1))

        def collect(*groups: Array) -> Array:
            zero = jnp.zeros_like(groups[0][:1])
            return jnp.concatenate([zero, *groups])[plan.slot[edge]]

        def with_skip(others: Array, own: Array) -> Array:
            is_skip = plan.archs[:, edge] == SKIP
            return jnp.where(is_skip.reshape(-1, *[1] * (own.ndim - 1)), own, others)

        return (
            with_skip(collect(y1, y3, y_pool), x),
            with_skip(collect(seen1, seen3, seen_pool), seen_skip),
        )

    def cell(weights: Cells, x: Array, mode: Mode, tap: Tap) -> tuple[Array, Array]:
        lanes = x.shape[:1]
        nodes, seen = [x], tap_values(tap, lanes)
        for target in (1, 2, 3):
            read = tap_values(tap, lanes, ("relu", nodes[-1], 1))
            readers = _readers(plan.archs, target - 1).astype(read.dtype)
            seen = seen + readers.reshape(-1, *[1] * (read.ndim - 1)) * read
            total = jnp.zeros_like(x)
            for edge, source in _incoming(target):
                y, more = edge_values(weights, edge, nodes[source], mode, tap)
                total, seen = total + y, seen + more
            nodes.append(total)
        return nodes[3], seen + tap_values(tap, lanes, ("map", nodes[3], 1))

    return cell
