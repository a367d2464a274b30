"""Cells of NAS-Bench-201 as functions of images, for many architectures as lanes.

`grouped_cells(plan)` computes what `single_cells` compute, for a architectures at once: on
every edge the lanes that have the same operation are gathered, computed as one large
batched convolution, and scattered back. The arithmetic is that of the chosen operations,
in few large steps: for a GPU. Memory grows with the lanes: 64 KiB for each node, image and
architecture at 16 channels and 32 x 32 pixels.

Axes are named in `nasbench201`: a architectures (lanes), n cells, 6 edges, images
(a, b, h, w, c).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.networks import layers
from jaxnas.networks.blocks import Mode, convolution
from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import CellFunction, StageConvs
from jaxnas.networks.single_cells import edge_weights, incoming_edges, num_readers
from jaxnas.networks.taps import Tap, tap_values
from jaxnas.spaces.nasbench201 import CONV1, CONV3, EDGES, POOL, SKIP
from jaxnas.types import Array


class GroupPlan(NamedTuple):
    """A grouping of `a` architectures by operation, for each edge, as arrays.

    A pytree of integers: with equal group sizes, plans of different architectures are
    arguments of one compiled program.
    """

    archs: Array  # (a, 6) int32
    # For 1 x 1, 3 x 3 and pooling: (6, g) int32, the lanes in the group of each edge. g is
    # the group's size; free places hold a, an index past the last lane.
    members: tuple[Array, Array, Array]
    # (6, a) int32: where a lane's result is in the concatenation [one zero, 1 x 1 group,
    # 3 x 3 group, pooling group]; 0, the zero, for lanes without such an operation.
    slot: Array


_GROUPED = (CONV1, CONV3, POOL)


def group_sizes(chunks: np.ndarray) -> tuple[int, int, int]:
    """Sizes of the three groups that suffice for each chunk.

    Args:
      chunks: (m, a, 6), m sets of architectures.

    Returns:
      the largest number of 1 x 1, 3 x 3 and pooling operations on any edge of any chunk.
    """
    return tuple(int(np.sum(chunks == op, 1).max()) for op in _GROUPED)  # type: ignore


def make_group_plan(
    archs: np.ndarray, sizes: tuple[int, int, int] | None = None
) -> GroupPlan:
    """Groups architectures by operation, on the host.

    Args:
      archs: (a, 6) integers.
      sizes: of the groups, from `group_sizes`; default: as large as these need.

    Returns:
      the plan, for `grouped_cells`.

    Raises: `ValueError` if an edge has more of an operation than its group has places.
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
    return GroupPlan(
        jnp.asarray(archs),
        tuple(jnp.asarray(group) for group in members),  # type: ignore[arg-type]
        jnp.asarray(slot),
    )


def _take(x: Array, lanes: Array) -> Array:
    """Gathers x[lanes]; zeros, without a gradient, for indices past the last lane."""
    return x.at[lanes].get(mode="fill", fill_value=0)


def _select(conv: Conv, lanes: Array) -> Conv:
    """Gathers the weights of lanes; leaves without lanes are shared, and returned."""
    return Conv(
        *(
            leaf if leaf is None or leaf.ndim == axes else _take(leaf, lanes)
            for leaf, axes in zip(conv, (2, 1, 1, 2, 2), strict=True)
        )  # type: ignore[arg-type]
    )


def _edge_outputs(
    plan: GroupPlan, weights: StageConvs, edge: int, x: Array, mode: Mode, tap: Tap
) -> tuple[Array, Array]:
    """Computes one edge of every lane: y (a, b, h, w, c) and tapped (a, ...).

    The three groups are computed, concatenated behind a zero, and each lane picks its
    slot; skip connections take x itself.
    """
    x1, x3, x_pool = (_take(x, group[edge]) for group in plan.members)
    conv1 = _select(edge_weights(weights.conv1, edge), plan.members[0][edge])
    conv3 = _select(edge_weights(weights.conv3, edge), plan.members[1][edge])
    y1, tapped1 = convolution(conv1, x1, mode, tap, size=1)
    y3, tapped3 = convolution(conv3, x3, mode, tap, size=3)
    y_pool = layers.average_pool(x_pool)
    tapped_pool = tap_values(tap, y_pool.shape[:1], ("map", y_pool, 2))
    tapped_skip = tap_values(tap, x.shape[:1], ("map", x, 1))

    def scatter(*groups: Array) -> Array:
        zero = jnp.zeros_like(groups[0][:1])
        return jnp.concatenate([zero, *groups])[plan.slot[edge]]

    def with_skip(others: Array, skipped: Array) -> Array:
        is_skip = plan.archs[:, edge] == SKIP
        is_skip = is_skip.reshape(-1, *[1] * (skipped.ndim - 1))
        return jnp.where(is_skip, skipped, others)

    return (
        with_skip(scatter(y1, y3, y_pool), x),
        with_skip(scatter(tapped1, tapped3, tapped_pool), tapped_skip),
    )


def grouped_cells(plan: GroupPlan) -> CellFunction:
    """Makes the cells of the architectures of a plan, for images with lanes.

    Args:
      plan: from `make_group_plan`; it may be traced.

    Returns:
      (weights of one cell, with or without lanes, x (a, b, h, w, c), mode, tap)
      -> y (a, b, h, w, c), tapped (a, ...).
    """

    def cell(
        weights: StageConvs, x: Array, mode: Mode, tap: Tap
    ) -> tuple[Array, Array]:
        lanes = x.shape[:1]
        nodes, tapped = [x], tap_values(tap, lanes)
        for target in (1, 2, 3):
            # The rectifier of a node counts once for each convolution that reads it.
            relu = tap_values(tap, lanes, ("relu", nodes[-1], 1))
            readers = num_readers(plan.archs, target - 1).astype(relu.dtype)
            tapped = tapped + readers.reshape(-1, *[1] * (relu.ndim - 1)) * relu
            total = jnp.zeros_like(x)
            for edge, source in incoming_edges(target):
                y, tapped_edge = _edge_outputs(
                    plan, weights, edge, nodes[source], mode, tap
                )
                total, tapped = total + y, tapped + tapped_edge
            nodes.append(total)
        return nodes[3], tapped + tap_values(tap, lanes, ("map", nodes[3], 1))

    return cell
