"""The compiled program that scores a chunk of architectures on every device."""

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
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies.catalogue import CATALOGUE
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.types import Array

Engine = Literal["sequential", "grouped"]


@dataclasses.dataclass(frozen=True)
class ScoringSettings:
    """What the scores depend on, besides the key and the images; and how to run.

    Attributes:
      network: the sizes.
      proxy: a name of the catalogue.
      scheme: of the parameters; default: the proxy's own.
      own_weights: draw parameters for each architecture by its rank. Otherwise all share
        one set, as common random numbers: each architecture still has weights of the
        right distribution, and differences between architectures have less noise.
      deduplicate: score one cell of each class that the proxy declares.
      engine: default: "sequential" on a CPU and "grouped" on an accelerator. The scores
        are the same to rounding, as they are for any number of lanes.
      lanes: architectures of each device in a chunk; default: `batch.LANES`.

    Raises: `ValueError` for unknown names and sizes.
    """

    network: NetworkConfig
    proxy: str
    scheme: str | None = None
    own_weights: bool = False
    deduplicate: bool = True
    engine: Engine | None = None
    lanes: int | None = None

    def __post_init__(self):
        for what, name, there in (
            ("proxy", self.proxy, CATALOGUE),
            ("scheme", self.scheme, (None, *SCHEMES)),
            ("engine", self.engine, (None, "sequential", "grouped")),
        ):
            if name not in there:
                names = ", ".join(str(n) for n in there if n)
                raise ValueError(f"no {what} {name!r}; there are {names}")
        if self.lanes is not None and self.lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {self.lanes}")


class _Static(NamedTuple):
    """What is static of a program; hashable."""

    settings: ScoringSettings  # without what only chooses and cuts up the architectures
    engine: Engine
    devices: tuple


class ChunkScorer:
    """Compiles at the first chunk that is not there, and runs chunks."""

    def __init__(self, key, settings, engine, devices, parts, x, y):
        settings = dataclasses.replace(settings, deduplicate=True, lanes=None)
        self._static = _Static(settings, engine, devices)
        self._parts = parts
        self._sizes = cells.group_sizes(parts.reshape(-1, *parts.shape[-2:]))
        dtype = jnp.zeros(()).dtype
        self._data = key, jnp.asarray(x, dtype), jnp.asarray(y)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        archs = self._parts[index]
        plans = [cells.make_plan(part, self._sizes) for part in archs]
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
    """Compiled apart from the first run, so that seconds are those of running."""
    return _scores.lower(static, *jax.tree.unflatten(tree, leaves)).compile()


@functools.partial(jax.jit, static_argnums=0)
def _scores(static: _Static, key: Array, x: Array, y: Array, plan: cells.Plan):
    """Scores (devices, lanes) or (devices, lanes, columns) of a stacked plan."""
    settings = static.settings
    proxy = CATALOGUE[settings.proxy]
    scheme = settings.scheme or proxy.scheme
    key_params, key_proxy = jax.random.split(key)

    def one_device(key_params, key_proxy, x, y, plan):
        plan = jax.tree.map(lambda leaf: leaf[0], plan)
        network = settings.network
        shared = initialise(key_params, network, scheme)

        def own(codes: Array):
            return own_parameters(key_params, network, codes, scheme)

        def single(arch: Array) -> Array:
            params = shared
            if settings.own_weights:
                code = spaces.rank(nb201.SPACE, arch)
                params = jax.tree.map(lambda leaf: leaf[0], own(code[None]))
            return proxy.score(key_proxy, apply.single(network, arch), params, x, y)

        if static.engine == "sequential":
            return lax.map(single, plan.archs)[None]
        codes = jax.vmap(functools.partial(spaces.rank, nb201.SPACE))(plan.archs)
        params = own(codes) if settings.own_weights else shared
        # An accelerator's own convolution is faster than patches.
        native = static.devices[0].platform != "cpu"
        model = apply.several(network, plan, "native" if native else "patches")
        return proxy.score(key_proxy, model, params, x, y)[None]

    if len(static.devices) == 1:
        return one_device(key_params, key_proxy, x, y, plan)
    alone, spread = PartitionSpec(), PartitionSpec("archs")
    return jax.shard_map(
        one_device,
        mesh=Mesh(static.devices, ("archs",)),
        in_specs=(alone, alone, alone, alone, spread),
        out_specs=spread,
        check_vma=False,
    )(key_params, key_proxy, x, y, plan)
