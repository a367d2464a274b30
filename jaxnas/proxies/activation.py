"""Proxies from one forward pass: activation patterns and statistics of feature maps.

They read values inside the network by a `Tap` (see `jaxnas.networks.taps`), whose
measurements are summed over all layers. Arguments and axes are those of `base`: a model
of one architecture, or of a as lanes, parameters, and images x (b, h, w, c).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks.apply import Model, run
from jaxnas.networks.blocks import Mode
from jaxnas.networks.nasbench201 import Params
from jaxnas.networks.taps import Tap
from jaxnas.precision import full_precision
from jaxnas.proxies.base import map_matrices
from jaxnas.types import Array

# Most images of `swap`: it keeps an array of all 2^b patterns over them.
_MAX_SWAP_IMAGES = 16


def agreements(
    model: Model, params: Params, x: Array, *, multiplicity: int = 2
) -> Array:
    """Counts, for each pair of images, the rectifiers that are both on or both off.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c).
      multiplicity: how often a rectifier of a block is counted, that of the head being
        counted once. 2 is what the programs of Mellor et al. (2021) do on these
        networks, whose hooks meet the block and the rectifier in it.

    Returns:
      (b, b) or (a, b, b), exact integers as floats.
    """
    batch = x.shape[-4]

    @full_precision
    def measure(event: str, value: Array) -> Array | None:
        if event not in ("relu", "last relu"):
            return None
        units = value.reshape(*value.shape[:-4], batch, -1)
        # c c^T + (1 - c)(1 - c)^T of codes c is (units + s s^T) / 2 of signs s.
        signs = jnp.where(units > 0, 1.0, -1.0)
        same = (units.shape[-1] + signs @ jnp.swapaxes(signs, -1, -2)) / 2
        return same * multiplicity if event == "relu" else same

    return run(model, params, x, tap=Tap(jnp.zeros((batch, batch)), measure)).tapped


def hook_logdet(
    model: Model, params: Params, x: Array, *, multiplicity: int = 2
) -> Array:
    """Computes ln |det| of the agreements (Mellor et al., 2021, eq. 2).

    Args:
      model: the architectures.
      params: their weights, with or without lanes.
      x: (b, h, w, c) images.
      multiplicity: as for `agreements`.

    Returns:
      () or (a,); -inf for a singular matrix.
    """
    same = agreements(model, params, x, multiplicity=multiplicity)
    return map_matrices(lambda matrix: jnp.linalg.slogdet(matrix)[1], same)


def swap(model: Model, params: Params, x: Array) -> Array:
    """Counts the distinct patterns of units over the images (Peng et al., 2024, def. 3.2).

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c), b at most 16.

    Returns:
      () or (a,).

    Raises: `ValueError` for more images.
    """
    batch = x.shape[-4]
    if batch > _MAX_SWAP_IMAGES:
        raise ValueError(f"swap takes at most {_MAX_SWAP_IMAGES} images, not {batch}")
    size = 2**batch

    def occurring(on: Array) -> Array:
        """(b, units) bool -> (2^b,): 1 for each pattern that occurs."""
        pattern = jnp.tensordot(1 << np.arange(batch), on.astype(jnp.int32), 1)
        return jnp.zeros(size, jnp.int32).at[pattern].set(1)

    def measure(event: str, value: Array) -> Array | None:
        if event not in ("relu", "last relu"):
            return None
        on = (value > 0).reshape(*value.shape[:-4], batch, -1)
        return jax.vmap(occurring)(on) if model.lanes else occurring(on)

    tap = Tap(jnp.zeros(size, jnp.int32), measure)
    patterns = run(model, params, x, tap=tap).tapped
    return jnp.sum(patterns > 0, -1).astype(x.dtype)


def zen(model: Model, params: Params, x: Array, noise: Array) -> Array:
    """Computes the Zen score (Lin et al., 2021, alg. 1).

    The log of the change of the last maps under a small change of the images, with the
    effect of the batch norms undone. As in the authors' program the variances are the
    running ones after x and then x + 0.01 noise, from 1 with momentum 0.1.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c), N(0, 1).
      noise: (b, h, w, c), N(0, 1).

    Returns:
      () or (a,); -inf if the maps do not change.
    """
    both = jnp.concatenate([x, x + 0.01 * noise], -4)

    def measure(event: str, value: Array) -> Array | None:
        if event != "variance":
            return None
        running = 0.81 + 0.09 * value[..., 0, :] + 0.1 * value[..., 1, :]
        return jnp.log(jnp.mean(running, -1)) / 2

    tap = Tap(jnp.zeros(()), measure)
    out = run(model, params, both, Mode(groups=2), tap=tap)
    first, second = jnp.split(out.last_map, 2, -4)
    moved = jnp.mean(jnp.sum(jnp.abs(first - second), (-3, -2, -1)), -1)
    return jnp.log(moved) + out.tapped


def meco(model: Model, params: Params, x: Array) -> Array:
    """Sums the smallest eigenvalues of the maps' channel correlations (Jiang et al., 2023).

    Maps count once for each module of the benchmark's own program that returns them, as
    the authors' hooks do. Only the first image is used.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c).

    Returns:
      () or (a,).
    """

    @full_precision
    def measure(event: str, value: Array) -> Array | None:
        if event != "map":
            return None
        one = value[..., 0, :, :, :]
        flat = one.reshape(*one.shape[:-3], -1, one.shape[-1])
        centred = flat - jnp.mean(flat, -2, keepdims=True)
        covariance = jnp.swapaxes(centred, -1, -2) @ centred
        std = jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))
        # A constant channel correlates with none, not even with itself.
        inverse = jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1.0), 0.0)
        correlation = covariance * inverse[..., :, None] * inverse[..., None, :]
        return map_matrices(jnp.linalg.eigvalsh, correlation)[..., 0]

    tap = Tap(jnp.zeros(()), measure)
    return run(model, params, x[..., :1, :, :, :], tap=tap).tapped
