"""The candidate pool of a model-based search: architectures with their embeddings.

Indices. Five kinds of integers count architectures, or groups of them, and these words
are used for them everywhere:

* pool index, 0 to n - 1: an architecture of a `Pool`, in ascending order of identity
  (`Pool.arch`, `Pool.identity`; `index_of` finds it). Local to the pool.
* column, 0 to u - 1: a distinct embedding. `Pool.embeddings.column` (n,) maps pool
  indices to columns; architectures of one column have the same posterior.
* kind, 0 to k - 1: a distinct row of a distance matrix. `DistanceMatrix.kind` (u,) maps
  columns to kinds, for each part of the distance that is a matrix.
* table row: a measured architecture of a benchmark's table. It is found by identity and
  is unrelated to the pool index, as a pool may hold part of a table.
* rank: the position of a vector in the lexicographic order of all vectors of a space
  (`spaces.base.rank`). It exists for small spaces only, whatever the pool and table.

A position within a `Query`, a shortlist or a history is a slot, and is local to it.
"""

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
from jaxnas.predictors import prior_mean
from jaxnas.spaces import base
from jaxnas.spaces import identity as identities
from jaxnas.spaces.base import Space, every
from jaxnas.spaces.identity import Identity
from jaxnas.types import Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["identity", "arch", "embeddings", "prior", "mean"],
    meta_fields=["space", "same"],
)
@dataclass(frozen=True)
class Pool:
    """A candidate pool: n different architectures of a space with u distinct embeddings.

    Attributes:
      identity: (n, 2) uint32, ascending, of the architectures or of their classes.
      arch: (n, d) int32.
      embeddings: the distinct embeddings, and the column of each architecture.
      prior: of the hyperparameters of a Gaussian process over the pool.
      space: of the architectures.
      same: class function that `make_pool` was given; None: each counts for itself.
      mean: (u,) float32, prior mean of each column from scores on other tasks, in the
        units of `prior_mean.task_units`; None: 0, in units of standardised scores.
    """

    identity: Array
    arch: Array
    embeddings: gram.Embeddings
    prior: gp.HyperparameterPrior
    space: Space
    same: Callable[[Array], Array] | None
    mean: Array | None = None

    def __repr__(self) -> str:
        """The space and the shape of the architectures, without the arrays."""
        shape = getattr(self.arch, "shape", None)
        return f"Pool(space={self.space.name!r}, arch={shape})"


def make_pool(
    space: Space,
    features: Sequence[FeatureMap] = (),
    *,
    arch: np.ndarray | Array | None = None,
    same: Callable[[Array], Array] | None = None,
    distance_matrices: Sequence[Callable[[np.ndarray], gram.DistanceMatrix]] = (),
    scale: float = 1.0,
    prior_scores: FeatureMap | None = None,
) -> Pool:
    """Embeds architectures of `space`, on the host.

    Duplicates count once; of the vectors of one architecture the smallest in
    lexicographic order is kept, whatever their order.

    Args:
      space: of the architectures.
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance with a length-scale of its own.
      arch: (n, d) integers. Default: every architecture of the space.
      same: arch (d,) -> () int32 from 0, a class whose architectures count as one, such
        as `nasbench201_classes.function_class`. Only one of each class can be asked,
        the smallest vector: the best row of a table may be out of reach. Default: each
        architecture counts for itself.
      distance_matrices: functions architectures (n, d) -> `gram.DistanceMatrix`, for
        distances without an L1 embedding; see `kernels.distance_matrices`.
      scale: prior median of each length-scale, in units of the part's mean distance times
        the number of parts.
      prior_scores: function arch (d,) -> ((k,) array,) of scores on k other tasks, measured
        or predicted, higher is better; see `prior_mean`. They are the prior mean, and a
        part of the distance. Default: a prior mean of 0.

    Returns: the pool, in ascending order of identity.
    Raises: `ValueError` for architectures that are not choices of the space or not valid
      in it, for a space of more than 2^20 vectors without `arch`, for embeddings that
      `gram.compress_embeddings` refuses, and for scores that `prior_mean.task_units`
      refuses.
    """
    arch = every(space) if arch is None else _validated(space, np.asarray(arch))
    arch = arch[np.lexsort(arch.T[::-1])]
    keys = identities.to_uint64(in_chunks(_identity(space, same), arch))
    keys, first = np.unique(keys, return_index=True)
    arch = arch[first].astype(np.int32)
    parts = [part for f in features for part in in_chunks(f, arch)]
    matrices = [matrix_of(arch) for matrix_of in distance_matrices]
    if prior_scores is not None:
        parts.append(prior_mean.task_units(*in_chunks(prior_scores, arch)))
    embeddings = gram.compress_embeddings([*parts, *matrices])
    prior, mean = default_prior(embeddings, scale), None
    if prior_scores is not None:
        prior, mean = prior_mean.from_scores(parts[-1], embeddings, prior)
    identity = jnp.asarray(identities.from_uint64(keys))
    return Pool(identity, jnp.asarray(arch), embeddings, prior, space, same, mean)


def default_prior(
    embeddings: gram.Embeddings, scale: float = 1.0
) -> gp.HyperparameterPrior:
    """Builds the prior whose median length-scales follow the mean distances.

    Args:
      embeddings: of a pool, or of a random sample of a space.
      scale: median of each length-scale, in units of the part's mean distance times the
        number of parts.
    """
    medians = scale * len(embeddings.parts) * gram.mean_distances(embeddings)
    values = medians, 1.0, 0.01, 2.0
    return gp.HyperparameterPrior(*(jnp.asarray(value, float) for value in values))


def _identity(space: Space, same: Callable[[Array], Array] | None) -> Identity:
    """Identity of an architecture, or of its class where there are classes."""
    return space.identity if same is None else identities.from_integer(same)


def _validated(space: Space, arch: np.ndarray) -> np.ndarray:
    """The architectures (n, d); `ValueError` names the first that is not valid."""
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
        base.validate_arch(space, arch[np.argmin(valid)])
    return arch


def index_of(pool: Pool, arch: Array) -> Array:
    """Finds the pool index of an architecture, or of its class.

    Args:
      pool: in which to search.
      arch: (d,) int32.

    Returns: () int32; -1 if the pool does not hold the architecture.
    """
    identity = _identity(pool.space, pool.same)(arch)
    return identities.find(pool.identity, identity)
