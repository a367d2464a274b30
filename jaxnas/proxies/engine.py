"""The compiled program that scores a chunk of architectures on every device.

Axes: d devices, l lanes (architectures of one device in a chunk), 6 edges. A chunk is
(d, l, 6); it is sharded over devices with `shard_map`, and on each device the sequential
engine is a `lax.map` over the l architectures, the grouped engine one call of the proxy
with all of them as lanes (see `jaxnas.networks.cells`). All chunks have one shape and one
set of group sizes, so that there is one compilation.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxnas.networks import apply, cells
from jaxnas.networks.initialise import SCHEMES, initialise, own_parameters
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.proxies.catalogue import CATALOGUE
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.types import Array

Engine = Literal["sequential", "grouped"]


@dataclasses.dataclass(frozen=True)
class ScoringSettings:
    """Everything that scores depend on besides key and images, and how to compute them.

    Attributes:
      network: the sizes.
      proxy: a name of the catalogue.
      scheme: of the initial parameters; default: that of the proxy.
      own_weights: draw parameters for each architecture, by its rank. Otherwise all share
        one set, as common random numbers: each architecture still has weights of the
        right distribution, and differences between architectures have less noise.
      deduplicate: score one cell of each score-equivalence class of the proxy.
      engine: default: "sequential" on a CPU and "grouped" on an accelerator. The scores
        are the same to rounding, as they are for any number of lanes.
      lanes: architectures of each device in a chunk; default: `scoring.LANES`.

    Raises: `ValueError` for unknown names, and fewer than 1 lane.
    """

    network: NetworkConfig
    proxy: str
    scheme: str | None = None
    own_weights: bool = False
    deduplicate: bool = True
    engine: Engine | None = None
    lanes: int | None = None

    def __post_init__(self):
        for what, name, names in (
            ("proxy", self.proxy, CATALOGUE),
            ("scheme", self.scheme, (None, *SCHEMES)),
            ("engine", self.engine, (None, "sequential", "grouped")),
        ):
            if name not in names:
                available = ", ".join(str(n) for n in names if n)
                raise ValueError(f"no {what} {name!r}; available are {available}")
        if self.lanes is not None and self.lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {self.lanes}")


class _Static(NamedTuple):
    """The static part of a program; hashable."""

    settings: (
        ScoringSettings  # without fields that only select and divide architectures
    )
    engine: Engine
    devices: tuple


class ChunkScorer:
    """Scores chunks of architectures; compiles when the first one is scored.

    Args:
      key: of the parameters, and of what the proxy draws.
      settings: which proxy, on which networks.
      engine: how to compute cells.
      devices: d of them.
      chunks: (m, d, l, 6), all architectures.
      x: (b, h, w, c) images.
      y: (b,) labels.
    """

    def __init__(
        self,
        key: Array,
        settings: ScoringSettings,
        engine: Engine,
        devices: tuple,
        chunks: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
    ):
        settings = dataclasses.replace(settings, deduplicate=True, lanes=None)
        self._static = _Static(settings, engine, devices)
        self._chunks = chunks
        self._sizes = cells.group_sizes(chunks.reshape(-1, *chunks.shape[-2:]))
        dtype = jnp.zeros(()).dtype
        self._data = key, jnp.asarray(x, dtype), jnp.asarray(y)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        """Scores chunk `index`.

        Returns:
          archs (d l, 6), values (d l, columns) float64, and seconds (), the time of the
          run without compilation.
        """
        archs = self._chunks[index]
        plans = [cells.make_group_plan(part, self._sizes) for part in archs]
        plan = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plans)
        arguments = *self._data, plan
        leaves, tree = jax.tree.flatten(arguments)
        program = _compiled(self._static, tree, *map(jax.typeof, leaves))
        start = time.perf_counter()
        values = np.asarray(program(*arguments), np.float64)
        seconds = time.perf_counter() - start
        flat = archs.reshape(-1, 6)
        values = values.reshape(len(flat), -1)
        return {"archs": flat, "values": values, "seconds": np.array(seconds)}


@functools.lru_cache(maxsize=16)
def _compiled(static: _Static, tree: Any, *leaves: Any) -> Callable[..., Array]:
    """Compiles apart from the first run, so that seconds are those of running."""
    return _scores.lower(static, *jax.tree.unflatten(tree, leaves)).compile()


@functools.partial(jax.jit, static_argnums=0)
def _scores(static: _Static, key: Array, x: Array, y: Array, plan: cells.GroupPlan):
    """Scores a plan with leaves (d, ...), one plan for each device.

    Returns:
      (d, l) or (d, l, columns).
    """
    settings = static.settings
    proxy = CATALOGUE[settings.proxy]
    scheme = settings.scheme or proxy.scheme
    key_params, key_proxy = jax.random.split(key)

    def one_device(
        key_params: Array, key_proxy: Array, x: Array, y: Array, plan: cells.GroupPlan
    ) -> Array:
        plan = jax.tree.map(lambda leaf: leaf[0], plan)
        network = settings.network
        shared = initialise(key_params, network, scheme)

        def own_params(ranks: Array) -> Params:
            return own_parameters(key_params, network, ranks, scheme)

        def single(arch: Array) -> Array:
            params = shared
            if settings.own_weights:
                rank = spaces.rank(nb201.SPACE, arch)
                params = jax.tree.map(lambda leaf: leaf[0], own_params(rank[None]))
            return proxy.score(key_proxy, apply.single(network, arch), params, x, y)

        if static.engine == "sequential":
            return lax.map(single, plan.archs)[None]
        ranks = jax.vmap(functools.partial(spaces.rank, nb201.SPACE))(plan.archs)
        params = own_params(ranks) if settings.own_weights else shared
        # An accelerator's own convolution is faster than patches.
        native = static.devices[0].platform != "cpu"
        model = apply.several(network, plan, "native" if native else "patches")
        return proxy.score(key_proxy, model, params, x, y)[None]

    if len(static.devices) == 1:
        return one_device(key_params, key_proxy, x, y, plan)
    replicated, sharded = PartitionSpec(), PartitionSpec("archs")
    return jax.shard_map(
        one_device,
        mesh=Mesh(static.devices, ("archs",)),
        in_specs=(replicated, replicated, replicated, replicated, sharded),
        out_specs=sharded,
        check_vma=False,
    )(key_params, key_proxy, x, y, plan)
