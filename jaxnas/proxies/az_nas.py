"""The components of AZ-NAS (Lee and Ham, 2024) that need a run of the network.

The fourth component, complexity, is a closed form (`jaxnas.networks.counting.macs`). The
three here come from one pass: a block wrapper (see `forward`) differentiates through
every block while the network runs, and returns the block's scores as its block output.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks.apply import Model, run
from jaxnas.networks.blocks import TRAINING, convolution
from jaxnas.networks.nasbench201 import Block, NetworkConfig, Params
from jaxnas.networks.taps import NO_TAP
from jaxnas.precision import full_precision
from jaxnas.proxies.base import map_matrices
from jaxnas.types import Array


class Components(NamedTuple):
    """Scores, () or (a,) each; -inf if a map does not vary at all."""

    expressivity: Array  # sum of the entropies of all maps
    progressivity: Array  # smallest increase of entropy from a map to the next
    trainability: Array  # mean over the blocks


def jacobian_probes(key: Array, network: NetworkConfig, batch: int) -> list[Array]:
    """Draws random signs of the shape of each block's output.

    Args:
      key: of the signs.
      network: the sizes.
      batch: number b of images.

    Returns:
      for stage 0, reduction 0, stage 1, ... +-1 of shape (n, b, h, w, k) for the n cells
      of a stage, (b, h, w, k) for a reduction: the `probes` of `components`.
    """
    probes = []
    for index, key_block in enumerate(
        jax.random.split(key, 2 * network.num_stages - 1)
    ):
        stage = (index + 1) // 2
        size, channels = network.image_size // 2**stage, network.widths[stage]
        shape = (batch, size, size, channels)
        if index % 2 == 0:
            shape = (network.cells_per_stage, *shape)
        probes.append(jax.random.rademacher(key_block, shape, dtype=float))
    return probes


@full_precision
def _entropy(x: Array) -> Array:
    """Computes the entropy of the spectrum of a map's channels (eq. 2 to 4).

    Args:
      x: (..., b, h, w, k).

    Returns:
      (...,); -inf for a constant map.
    """
    flat = x.reshape(*x.shape[:-4], -1, x.shape[-1])
    centred = flat - jnp.mean(flat, -2, keepdims=True)
    covariance = jnp.swapaxes(centred, -1, -2) @ centred / flat.shape[-2]
    # In float32 a rank-deficient map has eigenvalues a little below 0.
    values = jnp.maximum(map_matrices(jnp.linalg.eigvalsh, covariance), 0.0)
    total = jnp.sum(values, -1, keepdims=True)
    p = values / jnp.where(total > 0, total, 1.0)
    entropy = -jnp.sum(p * jnp.log(p + 1e-8), -1)
    return jnp.where(total[..., 0] > 0, entropy, -jnp.inf)


@full_precision
def _trainability(u: Array, v: Array) -> Array:
    """Scores the distance of a block's Jacobian from an isometry (eq. 8 to 10).

    The largest singular value is estimated from one vector-Jacobian product.

    Args:
      u: (..., b, h, w, c), the product, of the shape of the block's input.
      v: (..., b, h', w', k), the probe, of the shape of its output.

    Returns:
      (...,).
    """
    if u.shape[-2] != v.shape[-2]:
        # The image halves: 2 x 2 pixels of u become channels, in the order c, dy, dx.
        *lead, height, width, channels = u.shape
        u = u.reshape(*lead, height // 2, 2, width // 2, 2, channels)
        u = jnp.moveaxis(u, (-4, -2), (-2, -1)).reshape(*v.shape[:-1], -1)
    v = jnp.broadcast_to(v, (*u.shape[:-1], v.shape[-1]))
    left = u.reshape(*u.shape[:-4], -1, u.shape[-1])
    right = v.reshape(*v.shape[:-4], -1, v.shape[-1])
    mean = jnp.swapaxes(left, -1, -2) @ right / left.shape[-2]
    singular = map_matrices(lambda m: jnp.linalg.svd(m, compute_uv=False), mean)
    sigma = singular[..., 0]
    score = -sigma - 1 / (sigma + 1e-6) + 2
    if u.shape == v.shape:
        score = jnp.where(jnp.all(u == v, (-4, -3, -2, -1)), -jnp.inf, score)
    return score


def components(
    model: Model, params: Params, x: Array, probes: list[Array]
) -> Components:
    """Computes the three scores in one pass forward and, block by block, backward.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c), N(0, 1).
      probes: from `jacobian_probes`.
    """

    def block_wrapper(block: Block, x: Array, v: Array):
        y, pull, seen = jax.vjp(block, x, has_aux=True)
        (u,) = pull(jnp.broadcast_to(v, y.shape))
        return y, seen, (_entropy(y), _trainability(u, v))

    lanes = jnp.broadcast_to(x, (*model.lanes, *x.shape))
    mode = TRAINING._replace(method=model.method)
    stem, _ = convolution(params.stem, lanes, mode, NO_TAP, size=3, rectify=False)
    out = run(model, params, x, block_wrapper=block_wrapper, block_inputs=probes)
    entropies, trained = [_entropy(stem)], []
    for index, (entropy, train) in enumerate(out.block_outputs):
        entropies.extend(entropy if index % 2 == 0 else [entropy])
        trained.extend(train if index % 2 == 0 else [train])
    levels = jnp.stack(entropies)
    # Between two maps that do not vary the difference is undefined: -inf as well.
    steps = jnp.nan_to_num(jnp.diff(levels, axis=0), nan=-jnp.inf, neginf=-jnp.inf)
    return Components(
        jnp.sum(levels, 0), jnp.min(steps, 0), jnp.mean(jnp.stack(trained), 0)
    )
