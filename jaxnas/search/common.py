"""Building blocks that several searches share: queries, keys, capacities, new samples."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search.base import Search, Stage
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import FULL_TRAINING, Array, Query

# Samples of a new architecture before a repeat is accepted; the published random search
# of the tree-Wasserstein experiments (Nguyen et al., 2021) has the same five.
MAX_RESAMPLES = 5

# Steps that the first of the growing stages has room for, and the factor to each later one.
_STEPS, _GROWTH = 256, 4


class History(Protocol):
    """The fields of a state that hold the scores of evaluations, in order."""

    @property
    def score(self) -> Array:
        """Scores (t,), NaN where the evaluation failed; t is the capacity."""
        ...

    @property
    def count(self) -> Array:
        """Number () int32 of rows that hold an evaluation."""
        ...


def filled(history: History) -> Array:
    """Which rows (t,) bool of a history hold an evaluation."""
    return jnp.arange(len(history.score)) < history.count


def train_from_scratch(arch: Array, epoch: int | None = None) -> Query:
    """Query to train every row of `arch` (b, d) from epoch 0.

    Args:
      arch: (b, d) int32 architectures.
      epoch: to train to; None: the last epoch of the benchmark.
    """
    start = jnp.zeros(arch.shape[0], jnp.int32)
    epoch = FULL_TRAINING if epoch is None else epoch
    return Query(arch, start + epoch, start)


def trainings(query: Query, slots: Array, epoch: int) -> Query:
    """The query whose `slots` (b,) bool train from epoch 0 to `epoch`; others are idle."""
    until = jnp.where(slots, epoch, 0).astype(jnp.int32)
    return query._replace(epoch=until, start=jnp.zeros_like(until))


def idle_query(ask: Callable[[], Query]) -> Query:
    """A query of idle slots, of the shapes that `ask` returns; computes nothing."""
    shapes = jax.eval_shape(ask)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def require_rules(number: int, **rules: Callable) -> None:
    """Checks that rules of a search can be called, before it is compiled.

    Args:
      number: of positional arguments that a rule is called with.
      **rules: by the name of the argument that gave it.

    Raises: `ValueError` for a rule that does not take as many, such as a function that
      makes rules and was not called.
    """
    for name, rule in rules.items():
        try:
            inspect.signature(rule).bind(*range(number))
        except (TypeError, ValueError) as error:
            given = getattr(rule, "__qualname__", repr(rule))
            raise ValueError(
                f"{name} must be a function of {number} arguments, which {given} is not "
                f"({error}); a function that makes rules is called first: {given}()"
            ) from None


def require_space(search: Search) -> Space:
    """The space of a search; `ValueError` if it has none."""
    if search.space is None:
        raise ValueError("the search does not know its space: make it with space=...")
    return search.space


def query_shape(search: Search) -> tuple[int, int]:
    """Slots b of the queries of a search, and positions d of their architectures."""

    def arch(key: Array) -> Array:
        return search.ask(key, search.init(key)).arch

    batch, width = jax.eval_shape(arch, jax.eval_shape(lambda: jax.random.key(0))).shape
    return batch, width


def evaluation_key(key_run: Array) -> Array:
    """Key () of all evaluations of a run; it differs from the keys of the steps."""
    # Steps fold in their number, which is smaller.
    return jax.random.fold_in(key_run, np.uint32(2**32 - 1))


def require_capacity(capacity: int, batch: int, num_steps: int) -> None:
    """Raises `ValueError` if a run evaluates more than `capacity` architectures."""
    if num_steps * batch > capacity:
        raise ValueError(
            f"capacity must hold every evaluation: {num_steps} steps of {batch} are "
            f"{num_steps * batch}, more than {capacity}"
        )


def growing_stages(num_steps: int) -> tuple[Stage, ...]:
    """Stages with room for 256 steps, 1,024 and so on, without refreshes."""
    stages, end = [], _STEPS
    while not stages or stages[-1].end < num_steps:
        stages.append(Stage(end, end))
        end *= _GROWTH
    return tuple(stages)


def append_slots(count: Array, active: Array, size: int) -> Array:
    """Assigns the active slots of a query consecutive rows of a history.

    Args:
      count: () int32, rows that are filled.
      active: (b,) bool, slots of the query that are not idle.
      size: rows of the history.

    Returns: (b,) int32 rows; `size` for idle slots, which is out of bounds, so that
      `.at[rows].set(..., mode="drop")` skips them.
    """
    return jnp.where(active, count + jnp.cumsum(active) - 1, size)


def with_classes(space: Space, same: Callable[[Array], Array] | None) -> Space:
    """The space in which architectures of one class count as the same.

    Args:
      space: of the architectures.
      same: arch (d,) -> () int32 class from 0; None leaves the space as it is.

    Returns: the space with the class as identity, and of unknown size.
    """
    if same is None:
        return space
    return dataclasses.replace(space, identity=identity.from_integer(same), size=None)


def sample_new(key: Array, space: Space, num: int, known: Array, valid: Array) -> Array:
    """Samples architectures that differ from each other and from known ones.

    Each is the first new one of `MAX_RESAMPLES` uniform samples; where none of these is
    new (a small space, nearly exhausted), it is a repeat.

    Args:
      key: PRNG key.
      space: to sample from; two architectures of equal `identity` are the same.
      num: number of samples.
      known: (n, 2) identities of the known architectures.
      valid: (n,) bool, rows of `known` that count.

    Returns: (num, d) int32.
    """
    keys = jax.random.split(key, (num, MAX_RESAMPLES))
    archs = jax.vmap(jax.vmap(lambda key: sample(key, space)))(keys)
    return first_new(space, archs, known, valid)


def first_new(space: Space, archs: Array, known: Array, valid: Array) -> Array:
    """Chooses one of several proposals for each slot, so that no choice is a repeat.

    Args:
      space: two architectures of equal `identity` are the same.
      archs: (num, k, d), k proposals for each slot.
      known: (n, 2) identities of the known architectures.
      valid: (n,) bool, rows of `known` that count.

    Returns: (num, d) int32, the first proposal of each slot that is neither known nor
      chosen for an earlier slot; the first one where there is none.
    """
    num = len(archs)
    ids = jax.vmap(jax.vmap(space.identity))(archs)  # (num, k, 2)
    old = identity.member(ids, known, valid)

    def choose(chosen: Array, i: Array) -> tuple[Array, Array]:
        earlier = jnp.arange(num) < i
        taken = old[i] | identity.member(ids[i], chosen, earlier)
        first = jnp.argmin(taken)
        return chosen.at[i].set(ids[i, first]), archs[i, first]

    empty = jnp.zeros((num, 2), ids.dtype)
    return jax.lax.scan(choose, empty, jnp.arange(num))[1]
