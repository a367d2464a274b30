"""A search that asks a given list of architectures, one after another."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.batching import in_chunks
from jaxnas.search.base import UNLIMITED, Search, Stage
from jaxnas.spaces import base, identity
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class Listed(NamedTuple):
    """Which architectures of the list have been evaluated."""

    told: Array  # (n,) bool


def in_order(
    space: Space,
    archs: np.ndarray | Array,
    *,
    batch: int = 1,
    epoch: int = FULL_TRAINING,
) -> Search:
    """Asks for `archs` (n, d) in their order, such as ranked or generated ones.

    An architecture whose slot stayed idle is asked again in the next step. The slots
    after the last architecture are idle.

    Raises: `ValueError` for vectors that are not valid in the space or occur twice, for
      sizes below 1; and by `stages` for a run that is longer than the list.
    """
    check_sizes(batch=batch, epoch=epoch)
    vectors = _checked(space, np.asarray(archs))
    num = len(vectors)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if num_steps > -(-num // batch):
            raise ValueError(
                f"the list has {num} architectures: not enough for {num_steps} steps of "
                f"{batch}"
            )
        return (Stage(UNLIMITED, UNLIMITED),)

    def init(key: Array) -> Listed:
        del key
        return Listed(jnp.zeros(num, bool))

    def ask(vectors: Array, key: Array, state: Listed) -> Query:
        del key
        place = jnp.flatnonzero(~state.told, size=batch, fill_value=num)
        until = jnp.where(place < num, epoch, 0).astype(jnp.int32)
        arch = vectors[jnp.minimum(place, num - 1)]
        return Query(arch, until, jnp.zeros_like(until))

    def visit(ids: Array, state: Listed, query: Query) -> Listed:
        of_query = jax.vmap(space.identity)(query.arch)
        return Listed(state.told | identity.member(ids, of_query, asked(query)))

    def tell(ids: Array, state: Listed, query: Query, result: Result) -> Listed:
        del result
        return visit(ids, state, query)

    ids = jnp.asarray(identity.from_uint64(base.identify(space, vectors)))
    return Search(
        init,
        Partial(ask, jnp.asarray(vectors)),
        Partial(tell, ids),
        expect=Partial(visit, ids),
        stages=stages,
        space=space,
    )


def _checked(space: Space, archs: np.ndarray) -> np.ndarray:
    """`archs` as int32 (n, d), each of them valid and once."""
    if archs.ndim != 2 or not len(archs):
        raise ValueError(f"archs must be (n, d) with n >= 1, not {archs.shape}")
    archs = np.stack([base.as_choices(space, arch) for arch in archs])
    valid = np.asarray(in_chunks(space.is_valid, archs))
    if not valid.all():
        base.validate_arch(space, archs[np.argmin(valid)])
    keys, first = np.unique(base.identify(space, archs), return_index=True)
    if len(keys) < len(archs):
        twice = np.setdiff1d(np.arange(len(archs)), first)[0]
        raise ValueError(f"archs holds {archs[twice].tolist()} more than once")
    return archs
