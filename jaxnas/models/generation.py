"""Generation of architectures for a dataset by a trained generator.

    generated = generate(model, key, features, 500)

Each graph is decoded from the posterior mean of a random subset of the images, as in the
published code, without masking, repair or temperature. `sample_graphs` returns the samples
before any selection, for `sample_statistics`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.models.features import ClassFeatures, embed_subsets
from jaxnas.models.generator import Generator
from jaxnas.models.graph_decoder import Uniforms
from jaxnas.models.graphs import Codec
from jaxnas.models.model import Model, check_model
from jaxnas.models.nasbench201 import CODEC
from jaxnas.types import Array, check_sizes, require_kind

BATCH = 256
"""Graphs that are decoded together."""


class Samples(NamedTuple):
    """Graphs drawn by a generator, invalid ones included."""

    types: np.ndarray  # (n, N) int32
    adj: np.ndarray  # (n, N, N) bool
    valid: np.ndarray  # (n,) bool
    arch: np.ndarray  # (n, d) int32, meaningless where invalid


class Generated(NamedTuple):
    """Distinct architectures, and the number of samples that were drawn for them."""

    arch: np.ndarray  # (K, d) int32, in the order in which they were drawn
    num_samples: int
    num_valid: int


@functools.cache
def _programs(network: Generator, codec: Codec) -> tuple[Callable, Callable]:
    """The compiled encoder and decoder of a generator, for many examples."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def encode(variables: Any, features: Array, mask: Array) -> Array:
        return network.bind(variables).encode(features, mask)[0]

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def decode(variables: Any, key: Array, z: Array) -> tuple[Array, ...]:
        num = network.config.num_vertices
        key_types, key_edges = jax.random.split(key)
        uniforms = Uniforms(
            jax.random.uniform(key_types, (num,), z.dtype),
            jax.random.uniform(key_edges, (num, num), z.dtype),
        )
        types, adj = network.bind(variables).sample(z, uniforms)
        return types, adj, codec.is_valid(types, adj), codec.architecture(types)

    return encode, decode


def sample_graphs(
    model: Model,
    key: Array,
    features: ClassFeatures,
    num: int,
    *,
    num_images: int = 20,
    codec: Codec = CODEC,
) -> Samples:
    """Draws independent graphs, each conditioned on a random subset of the images.

    Args:
      model: a generator.
      key: random key.
      features: of the dataset.
      num: n, number of graphs.
      num_images: images of each class that a graph is conditioned on.
      codec: of the search space.

    Raises: `ValueError` for features of another kind than the model's, for a model of
      another kind or space, and for sizes below 1.
    """
    network = check_model(model, Generator, codec)
    require_kind(features, network.config.features)
    check_sizes(num=num, num_images=num_images)
    encode, decode = _programs(network, codec)
    parts = []
    for i in range(-(-num // BATCH)):
        key_images, key_graphs = jax.random.split(jax.random.fold_in(key, i))
        params = {"params": model.variables["params"]}
        z = embed_subsets(encode, params, key_images, features, BATCH, num_images)
        graphs = decode(params, jax.random.split(key_graphs, BATCH), z)
        parts.append(jax.tree.map(np.asarray, graphs))
    return Samples(*(np.concatenate(x)[:num] for x in zip(*parts, strict=True)))


def generate(
    model: Model,
    key: Array,
    features: ClassFeatures,
    num: int,
    *,
    max_samples: int | None = None,
    num_images: int = 20,
    codec: Codec = CODEC,
) -> Generated:
    """Draws graphs until K distinct valid architectures have been drawn.

    Args:
      model: a generator.
      key: random key.
      features: of the dataset.
      num: K, number of architectures.
      max_samples: largest number of samples; default: 100 K, at least 10,000.
      num_images: images of each class that a graph is conditioned on.
      codec: of the search space.

    Returns: K different architectures.
    Raises: `ValueError` as `sample_graphs`, and if there are fewer than K among
      `max_samples` samples.
    """
    check_sizes(num=num)
    limit = max(100 * num, 10_000) if max_samples is None else max_samples
    distinct: dict[tuple[int, ...], None] = {}  # in the order of first occurrence
    total = valid = 0
    shared = {"num_images": num_images, "codec": codec}
    while len(distinct) < num:
        if total >= limit:
            raise ValueError(
                f"{len(distinct)} distinct valid architectures among {total} samples, "
                f"wanted {num}"
            )
        key_batch = jax.random.fold_in(key, total)
        samples = sample_graphs(model, key_batch, features, BATCH, **shared)
        arch = samples.arch[samples.valid]
        total, valid = total + BATCH, valid + len(arch)
        distinct.update(dict.fromkeys(as_tuples(arch)))
    return Generated(np.array(list(distinct)[:num], np.int32), total, valid)


def as_tuples(arch: np.ndarray) -> list[tuple[int, ...]]:
    """Converts architectures (n, d) to tuples."""
    return list(map(tuple, np.asarray(arch).tolist()))
