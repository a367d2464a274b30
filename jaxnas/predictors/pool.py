"""The pool of architectures that a model-based search chooses from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.batching import in_chunks
from jaxnas.kernels import gram
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.spaces import base
from jaxnas.spaces import identity as identities
from jaxnas.spaces.base import Space, every
from jaxnas.spaces.identity import Identity
from jaxnas.types import Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["identity", "arch", "embeddings", "prior"],
    meta_fields=["space", "same"],
)
@dataclass(frozen=True)
class Pool:
    """What is searched: n different architectures of a space with u distinct embeddings.

    Indices: a pool index (n) counts the architectures here, `embedding.column` (u) the
    distinct embeddings, of which several architectures may have one. Both are local to
    the pool; a benchmark's table has rows of its own, found by identity.
    """

    identity: Array  # (n, 2) uint32, ascending, of the space or of its classes
    arch: Array  # (n, d) int32
    embeddings: gram.Embeddings
    prior: gp.HyperparameterPrior
    space: Space
    same: Callable[[Array], Array] | None  # as `make_pool` was given


def make_pool(
    space: Space,
    features: Sequence[FeatureMap] = (),
    *,
    arch: np.ndarray | Array | None = None,
    same: Callable[[Array], Array] | None = None,
    distance_matrices: Sequence[Callable[[np.ndarray], gram.DistanceMatrix]] = (),
    scale: float = 1.0,
) -> Pool:
    """Embeds architectures of `space`, on the host.

    An architecture that is given twice counts once, and the smallest of its vectors is
    kept, whatever their order.

    Args:
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance with a length-scale of its own.
      arch: (n, d). Default: every architecture of the space.
      same: arch (d,) -> () int32 from 0, a class whose architectures count as one, such
        as `nasbench201_classes.function_class`. Only one of each class can be asked,
        the smallest vector: the best row of a table may be out of reach. Default: each
        architecture counts for itself.
      distance_matrices: functions architectures (m, d) -> `gram.DistanceMatrix`, for
        distances without an L1 embedding; see `kernels.distance_matrices`.
      scale: prior median of each length-scale, in units of the part's mean distance times
        the number of parts.

    Raises: `ValueError` for architectures that are no choices of the space, or not valid
      in it, and where all of a space of more than 2^20 vectors are wanted.
    """
    arch = every(space) if arch is None else _choices(space, np.asarray(arch))
    arch = arch[np.lexsort(arch.T[::-1])]
    keys = identities.keys(in_chunks(_identity(space, same), arch))
    keys, first = np.unique(keys, return_index=True)
    arch = arch[first].astype(np.int32)
    parts = [part for f in features for part in in_chunks(f, arch)]
    matrices = [of_archs(arch) for of_archs in distance_matrices]
    embeddings = gram.compress_embeddings([*parts, *matrices])
    medians = scale * len(embeddings.parts) * gram.mean_distances(embeddings)
    values = medians, 1.0, 0.01, 2.0
    prior = gp.HyperparameterPrior(*(jnp.asarray(value, float) for value in values))
    known = jnp.asarray(identities.words(keys))
    return Pool(known, jnp.asarray(arch), embeddings, prior, space, same)


def _identity(space: Space, same: Callable[[Array], Array] | None) -> Identity:
    return space.identity if same is None else identities.from_code(same)


def _choices(space: Space, arch: np.ndarray) -> np.ndarray:
    num = len(space.choices)
    if arch.ndim != 2 or not len(arch) or arch.shape[1] != num:
        raise ValueError(f"arch must be (n, {num}) with n >= 1, not {arch.shape}")
    if not np.issubdtype(arch.dtype, np.integer):
        raise ValueError(f"arch must be integers, not {arch.dtype}")
    wrong = ((arch < 0) | (arch >= np.array(space.choices))).any(1)
    if wrong.any():
        base.as_choices(space, arch[np.argmax(wrong)])
    valid = np.asarray(in_chunks(space.is_valid, arch.astype(np.int32)))
    if not valid.all():
        base.check(space, arch[np.argmin(valid)])
    return arch


def index_of(pool: Pool, arch: Array) -> Array:
    """The pool index () int32 of an architecture (d,), or of its class.

    It is -1 where the pool has none: no other architecture is taken for it.
    """
    identity = _identity(pool.space, pool.same)(arch)
    return identities.search(pool.identity, identity)
