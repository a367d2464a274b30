"""A table as a benchmark: arrays on the device, and a pure lookup.

    table = sources.open_table("nb201")
    fed = dict(dataset="cifar100", split="valid", epochs=12, seed="mean")
    made = benchmark(SPACE, table, **fed, truth=dict(split="test", epochs=200))
    trace = simulate(keys, search, made.evaluate, num_steps=150)

Dataset, split, epochs and seed select the numbers, and nothing else does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks import columns, table_files
from jaxnas.benchmarks.base import Benchmark, Target, as_score
from jaxnas.benchmarks.columns import Columns, column, describe
from jaxnas.benchmarks.table_files import Table
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.restriction import restricted
from jaxnas.types import Array, Query, Result, asked, seed_of

__all__ = [
    "Tabular",
    "benchmark",
    "column",
    "describe",
    "evaluator",
    "lookup",
    "rows",
    "space_of",
    "table_identities",
    "tabular",
]

# Architectures whose identities are computed side by side: bounds the memory for spaces
# whose identity compares many relabellings.
_CHUNK = 8192


class Tabular(NamedTuple):
    """A benchmark of n architectures, s seeds and e levels, as a pytree."""

    identity: Array  # (n, 2) uint32, of the space, ascending
    row: Array  # (n,) int32, the row of the table that has each of them
    # (n, s, e) scores, by row of the table; NaN for a seed that was not run
    score: Array
    # (n or 1, s or 1, e), cost of a training from scratch to each level
    cost: Array
    epochs: Array  # (e,) int32, ascending: when the score is known
    continues: Array  # (e,) bool: whether a level continues the previous one


def benchmark(
    space: Space,
    table: Table,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int,
    curves: bool = False,
    truth: Mapping[str, Any] | None = None,
) -> Benchmark:
    """A table as a benchmark.

    Args:
      space: the space of the table. The benchmark's is restricted to the table's part of
        it where the manifest says that it has a part.
      dataset, split, seed: as for `column`.
      epochs: a training schedule, or several in ascending order, which are levels of
        separate trainings.
      curves: whether the stored epochs of the schedule are levels, each of which
        continues the previous one. The table must have been read with its curves:
        `open_table(name, curves=None)`.
      truth: what differs in the column of true scores, as `dict(split="test")`. Default:
        the last level, mean over the seeds.

    Raises: `ValueError` as `tabular` does, and for a truth of another target.
    """
    which: dict[str, Any] = dict(dataset=dataset, split=split, epochs=epochs, seed=seed)
    target = table_files.target(table, dataset)
    chosen = (columns.curve if curves else columns.ends)(table, **which)
    data = _placed(space, table, chosen, target)
    true = as_score(target, columns.truth(table, chosen, which, truth))
    return Benchmark(
        space=space_of(table, space),
        evaluate=evaluator(space, data),
        levels=chosen.levels,
        target=target,
        cost_unit=chosen.cost_unit,
        truth=Partial(_truth_in(space), data, jnp.asarray(true)),
        optimum=jnp.asarray(np.nanmax(true)),
        archs=np.asarray(table.arch, np.int32),
        description=describe(table, **which),
    )


def tabular(
    space: Space,
    table: Table,
    *,
    dataset: str,
    split: str,
    epochs: int,
    seed: str | int,
) -> Tabular:
    """Puts one column of a table on the device; arguments as for `column`.

    The cost is the table's seconds for this dataset and schedule, or else the epochs.

    Raises: `ValueError` for an unknown column or seed, a table of another space, and
      counts of the architectures that are missing, duplicated or invalid; a table with
      `"part": true` in its manifest may lack any.
    """
    which: dict[str, Any] = dict(dataset=dataset, split=split, epochs=epochs, seed=seed)
    chosen = columns.ends(table, **which)
    return _placed(space, table, chosen, table_files.target(table, dataset))


def _placed(space: Space, table: Table, chosen: Columns, target: Target) -> Tabular:
    keys = table_identities(space, table)
    order = np.argsort(keys)
    return Tabular(
        identity=jnp.asarray(identity.words(keys[order])),
        row=jnp.asarray(order, jnp.int32),
        score=jnp.asarray(as_score(target, chosen.value)),
        cost=jnp.asarray(chosen.cost),
        epochs=jnp.array([level.epoch for level in chosen.levels], jnp.int32),
        continues=jnp.array([level.continues for level in chosen.levels]),
    )


def space_of(table: Table, space: Space) -> Space:
    """The space, or the part of it that the table says it has."""
    fits = table.arch.shape[1] == len(space.choices)
    part = table.manifest.get("part") is True and fits
    return restricted(space, table.arch) if part else space


def table_identities(space: Space, table: Table) -> np.ndarray:
    """The identities (n,) uint64 of the rows; `ValueError` if any is wrong."""
    if table.space != space.name or table.arch.shape[1] != len(space.choices):
        # The space's identity would not fit the rows; the error is found without it.
        table_files.check_rows(table, space, np.zeros(0, np.uint64))
    ids, valid = (np.asarray(x) for x in _identify(space, _padded(table.arch)))
    num = len(table.arch)
    keys = identity.keys(ids[:num])
    table_files.check_rows(table, space, keys)
    invalid = ~valid[:num]
    if invalid.any():
        row = int(np.argmax(invalid))
        raise ValueError(
            f"table {table.name}: {invalid.sum()} of {num} rows are no valid "
            f"architecture of {space.name}; the first is row {row}"
        )
    return keys


def _padded(archs: np.ndarray) -> np.ndarray:
    """Repeats the last row up to whole chunks, so that one shape is compiled."""
    num = len(archs)
    size = -(-num // _CHUNK) * _CHUNK if num > _CHUNK else num
    return np.pad(archs, ((0, size - num), (0, 0)), mode="edge")


@functools.partial(jax.jit, static_argnums=0)
def _identify(space: Space, archs: Array) -> tuple[Array, Array]:
    def one(arch: Array) -> tuple[Array, Array]:
        arch = arch.astype(jnp.int32)
        return space.identity(arch), space.is_valid(arch)

    return jax.lax.map(one, archs, batch_size=_CHUNK)


def _find(space: Space, table: Tabular, arch: Array) -> Array:
    """The row () int32 of an architecture (d,), -1 if the table does not have it."""
    inside = jnp.all((arch >= 0) & (arch < jnp.asarray(space.choices)))
    at = identity.search(table.identity, space.identity(arch))
    known = inside & space.is_valid(arch) & (at >= 0)
    return jnp.where(known, table.row[at], -1)


@functools.partial(jax.jit, static_argnums=0)
def rows(space: Space, table: Tabular, archs: Array) -> Array:
    """Row numbers (...,) int32 of architectures (..., d); -1 where there is none.

    With them a driver reads any other column of the same table.
    """
    flat = archs.reshape(-1, archs.shape[-1])
    find = functools.partial(_find, space, table)
    if len(flat) <= _CHUNK:
        found = jax.vmap(find)(flat)
    else:
        found = jax.lax.map(find, flat, batch_size=_CHUNK)
    return found.reshape(archs.shape[:-1])


def _repetition(
    space: Space, key: Array, arch: Array, repetition: Array, run: Array
) -> Array:
    """The seed () of the table for this repetition of a training.

    The seeds that were run, (s,), are in an order that is random for each architecture,
    so that repetitions are different runs as long as there are more.
    """
    for word in space.identity(arch):
        key = jax.random.fold_in(key, word)
    order = jnp.argsort(jnp.where(run, jax.random.uniform(key, run.shape), 2.0))
    return order[repetition % jnp.maximum(run.sum(), 1)]


def lookup(space: Space, table: Tabular, key: Array, query: Query) -> Result:
    """Looks up the result of training the query's architectures.

    The score is that of the last level that the query reaches. It is NaN, at cost 0, for
    idle slots, if no level is reached, and if the table lacks the architecture. With
    several seeds, `key` draws one for each architecture and repetition, uniformly among
    those that were run.

    Returns: score (b,), curve (b, e) over the levels, NaN past the query's epoch, and
      cost (b,) of the increment from `start`: the increments of a training add up to its
      cost. Epochs before the first level are charged when that is reached; between
      levels that continue, costs are interpolated.
    """
    row = jax.vmap(functools.partial(_find, space, table))(query.arch)
    runs = table.score[row]  # (b, s, e)
    seed = jnp.zeros_like(row)
    if table.score.shape[1] > 1:
        was_run = ~jnp.isnan(runs).all(-1)
        draw = jax.vmap(functools.partial(_repetition, space, key))
        seed = draw(query.arch, seed_of(query), was_run)
    curve = jnp.take_along_axis(runs, seed[:, None, None], 1)[:, 0]
    reached = table.epochs <= query.epoch[:, None]  # (b, e)
    known = asked(query) & (row >= 0) & ~jnp.isnan(curve).all(-1)
    curve = jnp.where(reached & known[:, None], curve, jnp.nan)
    last = jnp.maximum(jnp.sum(reached, 1) - 1, 0)
    score = jnp.take_along_axis(curve, last[:, None], 1)[:, 0]
    rows, seeds = table.cost.shape[:2]
    spent = table.cost[row if rows > 1 else 0 * row, seed if seeds > 1 else 0 * seed]
    cost = jax.vmap(functools.partial(_increment, table))(
        spent, query.start, query.epoch
    )
    return Result(score, curve, jnp.where(known, cost, 0.0))


def _increment(table: Tabular, spent: Array, start: Array, epoch: Array) -> Array:
    """The cost () of training from `start` to `epoch`, given that of each level (e,)."""
    num = len(table.epochs)
    begun = jax.lax.cummax(jnp.where(table.continues, 0, jnp.arange(num)))

    def up_to(at: Array) -> tuple[Array, Array]:
        """The cost up to epoch `at`, and the first level of the training it is in."""
        level = jnp.sum(table.epochs <= at) - 1
        here, after = jnp.maximum(level, 0), jnp.minimum(level + 1, num - 1)
        gap = jnp.maximum(table.epochs[after] - table.epochs[here], 1)
        share = jnp.where(table.continues[after], (at - table.epochs[here]) / gap, 0)
        share = jnp.clip(share, 0, 1).astype(spent.dtype)
        cost = spent[here] + share * (spent[after] - spent[here])
        # Epochs before the first level belong to no training: nothing is charged yet.
        return cost, jnp.where(level < 0, -1, begun[here])

    (before, from_before), (whole, from_whole) = up_to(start), up_to(epoch)
    return whole - jnp.where(from_before == from_whole, before, 0)


def _truth(space: Space, table: Tabular, true: Array, arch: Array) -> Array:
    row = _find(space, table, arch)
    return jnp.where(row >= 0, true[row], jnp.nan)


@functools.cache
def _truth_in(space: Space):
    return functools.partial(_truth, space)


@functools.cache
def _lookup_in(space: Space):
    # One function object for each space: a new one would be compiled anew.
    return functools.partial(lookup, space)


def evaluator(space: Space, table: Tabular) -> Partial:
    """`lookup` as (key, Query) -> Result; the table in it is data to `jit`."""
    return Partial(_lookup_in(space), table)
