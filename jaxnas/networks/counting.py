"""Sizes of NAS-Bench-201 networks in closed form, on the host: parameters and MACs.

Architectures are (..., 6) integers, results (...,). A convolution is *live* if it is on a
path from the cell's input to its output; the others are in the network of the benchmark,
and change nothing. MACs are multiply-accumulates of one image, the number that the
benchmark's files call FLOPs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.spaces.nasbench201 import CONV1, CONV3, live_edges


def live(archs: np.ndarray) -> np.ndarray:
    """Tells which edges are on a path from the cell's input to its output.

    Args:
      archs: (..., 6) integers.

    Returns:
      (..., 6) bool.
    """
    archs = np.asarray(archs)
    flat = jax.vmap(live_edges)(jnp.asarray(archs.reshape(-1, 6)))
    return np.asarray(flat).reshape(archs.shape)


def convolutions(archs: np.ndarray, *, live_only: bool = False) -> np.ndarray:
    """Counts the 1 x 1 and the 3 x 3 convolutions of a cell.

    Args:
      archs: (..., 6) integers.
      live_only: whether to leave out those that change nothing.

    Returns:
      (..., 2) int64.
    """
    archs = np.asarray(archs)
    counted = live(archs) if live_only else np.ones(archs.shape, bool)
    return np.stack([((archs == op) & counted).sum(-1) for op in (CONV1, CONV3)], -1)


def parameters(
    network: NetworkConfig, archs: np.ndarray, *, live_only: bool = False
) -> np.ndarray:
    """Counts parameters, those of batch norms and the bias included.

    Args:
      network: the sizes.
      archs: (..., 6) integers.
      live_only: whether to leave out convolutions that change nothing.

    Returns:
      (...,) int64.
    """
    ones, threes = np.moveaxis(convolutions(archs, live_only=live_only), -1, 0)
    widths = network.widths
    last, total = widths[-1], 9 * network.in_channels * widths[0] + 2 * widths[0]
    for c in widths[:-1]:
        # Two 3 x 3 convolutions with norm, c -> 2c -> 2c, and the shortcut's 1 x 1.
        total += 18 * c * c + 36 * c * c + 8 * c + 2 * c * c
    total += 2 * last + last * network.num_classes + network.num_classes
    one = sum(c * c + 2 * c for c in widths)
    three = sum(9 * c * c + 2 * c for c in widths)
    return total + network.cells_per_stage * (one * ones + three * threes)


def macs(
    network: NetworkConfig, archs: np.ndarray, *, live_only: bool = False
) -> np.ndarray:
    """Counts the multiply-accumulates of one image, as the benchmark counts FLOPs.

    Convolutions and the classifier count, its bias included; norms, pooling and sums do
    not.

    Args:
      network: its image size matters as well as its widths.
      archs: (..., 6) integers.
      live_only: as for `parameters`.

    Returns:
      (...,) int64 multiply-accumulates.
    """
    ones, threes = np.moveaxis(convolutions(archs, live_only=live_only), -1, 0)
    widths, pixels = network.widths, network.image_size**2
    total = 9 * network.in_channels * widths[0] * pixels
    square = 0
    for stage, c in enumerate(widths):
        area = pixels // 4**stage
        square += network.cells_per_stage * area * c * c
        if stage:
            before = c // 2
            total += area * (9 * before * c + 9 * c * c + before * c)
    total += (widths[-1] + 1) * network.num_classes
    return total + square * (ones + 9 * threes)
