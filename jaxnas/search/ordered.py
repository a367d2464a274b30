"""A search that asks a given list of architectures, one after another.

For ranked or generated architectures, and for evaluating a fixed sample.
"""

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


class ListState(NamedTuple):
    """Which architectures of the list have been evaluated."""

    evaluated: Array  # (n,) bool


def in_order(
    space: Space,
    archs: np.ndarray | Array,
    *,
    batch: int = 1,
    epoch: int | None = None,
) -> Search:
    """Asks for a list of architectures in its order.

    An architecture whose slot stayed idle is asked again in the next step. The slots
    after the last architecture are idle. Results of architectures outside of the list
    change nothing.

    Args:
      space: of the architectures.
      archs: (n, d) integers, different and valid.
      batch: architectures per step.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for vectors that are not valid in the space or occur twice, for
      sizes below 1; and by `stages` for a run that is longer than the list.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    check_sizes(batch=batch, epoch=epoch)
    vectors = _validated(space, np.asarray(archs))
    num = len(vectors)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if num_steps > -(-num // batch):
            raise ValueError(
                f"the list has {num} architectures: not enough for {num_steps} steps of "
                f"{batch}"
            )
        return (Stage(UNLIMITED, UNLIMITED),)

    def init(key: Array) -> ListState:
        del key
        return ListState(jnp.zeros(num, bool))

    def ask(vectors: Array, key: Array, state: ListState) -> Query:
        del key
        position = jnp.flatnonzero(~state.evaluated, size=batch, fill_value=num)
        until = jnp.where(position < num, epoch, 0).astype(jnp.int32)
        arch = vectors[jnp.minimum(position, num - 1)]
        return Query(arch, until, jnp.zeros_like(until))

    def visit(ids: Array, state: ListState, query: Query) -> ListState:
        of_query = jax.vmap(space.identity)(query.arch)
        evaluated = identity.member(ids, of_query, asked(query))
        return ListState(state.evaluated | evaluated)

    def tell(ids: Array, state: ListState, query: Query, result: Result) -> ListState:
        del result
        return visit(ids, state, query)

    def accepts(ids: Array, arch: Array) -> Array:
        known = jnp.ones(len(ids), bool)
        return identity.member(space.identity(arch)[None], ids, known)[0]

    ids = jnp.asarray(identity.from_uint64(base.identify(space, vectors)))
    return Search(
        init,
        Partial(ask, jnp.asarray(vectors)),
        Partial(tell, ids),
        expect=Partial(visit, ids),
        accepts=Partial(accepts, ids),
        stages=stages,
        space=space,
    )


def _validated(space: Space, archs: np.ndarray) -> np.ndarray:
    """The list as int32 (n, d); `ValueError` if it is empty, invalid or has repeats."""
    if archs.ndim != 2 or not len(archs):
        raise ValueError(f"archs must be (n, d) with n >= 1, not {archs.shape}")
    archs = np.stack([base.as_choices(space, arch) for arch in archs])
    valid = np.asarray(in_chunks(space.is_valid, archs))
    if not valid.all():
        base.validate_arch(space, archs[np.argmin(valid)])
    keys, first = np.unique(base.identify(space, archs), return_index=True)
    if len(keys) < len(archs):
        repeat = np.setdiff1d(np.arange(len(archs)), first)[0]
        raise ValueError(f"archs holds {archs[repeat].tolist()} more than once")
    return archs
