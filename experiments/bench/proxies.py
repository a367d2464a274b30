"""Time of zero-cost scores: all cells in one compiled program, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.bench import timing, torch_network
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas.networks import apply, initialise
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.proxies import gradient, jacobian
from jaxnas.spaces.base import every
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array


def proxies(config: Config) -> list[Measurement]:
    """Times three scores of the same random cells, on one core.

    Args:
      config: the numbers of cells, images and repeats, and the depths of the networks.

    Returns: two rows, jaxnas and PyTorch, for each depth and score.
    """
    archs = np.random.default_rng(0).permutation(every(SPACE))[: config.networks]
    rows = []
    with timing.one_core():
        torch.set_num_threads(1)
        for cells in config.cells_per_stage:
            rows += _of_size(config, NetworkConfig(cells_per_stage=cells), archs)
    return rows


def _of_size(
    config: Config, network: NetworkConfig, archs: np.ndarray
) -> list[Measurement]:
    """Times the logits, SNIP and Jacobian covariance of networks of one size.

    Args:
      config: the numbers of images and repeats.
      network: the sizes.
      archs: (n, 6) cells.

    Returns: two rows for each score, in milliseconds a cell.
    """
    shape = (config.images, network.image_size, network.image_size, network.in_channels)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    y = np.arange(len(x)) % network.num_classes
    params = initialise.initialise(jax.random.key(0), network)

    def ours(score: Callable[..., Array]) -> Callable[[], object]:
        """All cells in one program, one after another."""

        @jax.jit
        def run(params: Params, archs: Array, x: Array, y: Array) -> Array:
            return jax.lax.map(
                lambda arch: score(apply.single(network, arch), params, x, y), archs
            )

        values = params, jnp.asarray(archs), jnp.asarray(x), jnp.asarray(y)
        return lambda: jax.block_until_ready(run(*values))

    images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(y)
    nets = [torch_network.network(network, arch) for arch in archs]
    scores = {
        "logits": (
            lambda m, p, x, y: apply.run(m, p, x).logits,
            lambda model: torch_network.forward(model, images),
        ),
        "snip": (
            gradient.snip,
            lambda model: torch_network.snip(model, images, labels),
        ),
        "jacob_cov": (
            lambda m, p, x, y: jacobian.jacob_cov(m, p, x),
            lambda model: torch_network.jacob_cov(model, images),
        ),
    }
    rows = []
    for name, (of_ours, of_torch) in scores.items():
        calls = {
            "jaxnas, all cells in one program": ours(of_ours),
            "PyTorch, eager": lambda f=of_torch: [f(net) for net in nets],
        }
        timed = timing.in_turn(calls, config.repeats)
        scaled = {what: t.scaled(1e3 / len(archs)) for what, t in timed.items()}
        pixels = f"{len(x)} images of {network.image_size} pixels"
        size = f"N={network.cells_per_stage}, {pixels}"
        rows += timing.compare(f"{name} of a cell, {size}, one core", "ms", scaled)
    return rows
