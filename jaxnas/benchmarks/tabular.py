"""A table as a benchmark: arrays on the device, and a pure lookup.

    table = named.open_table("nb201")
    column = dict(dataset="cifar100", split="valid", epochs=12, seed="mean")
    benchmark = tabular_benchmark(SPACE, table, **column, truth=dict(split="test"))
    trace = simulate(keys, search, benchmark, num_steps=150)

Dataset, split, epochs and seed select the numbers (see `columns`), and nothing else does.
`lookup` finds the row of an architecture by binary search of its identity, so that it can
be traced inside a search.
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
from jaxnas.benchmarks.base import Benchmark, Target, as_score, bind
from jaxnas.benchmarks.columns import LevelValues
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space, contains
from jaxnas.spaces.restriction import restricted
from jaxnas.types import Array, Query, Result, asked, seed_of

# Architectures whose identities are computed side by side: bounds the memory for spaces
# whose identity compares many relabellings.
_CHUNK = 8192


class LookupTable(NamedTuple):
    """A table of n architectures, s seeds and e levels on the device, as a pytree."""

    identity: Array  # (n, 2) uint32, of the space, ascending
    row: Array  # (n,) int32, the row of the table that has each of them
    # (n, s, e) scores, by row of the table; NaN for a seed that was not run
    score: Array
    # (n or 1, s or 1, e), cost of a training from scratch to each level
    cost: Array
    epochs: Array  # (e,) int32, ascending: when the score is known
    continues: Array  # (e,) bool: whether a level continues the previous one


def tabular_benchmark(
    space: Space,
    table: BenchmarkTable,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int,
    curves: bool = False,
    truth: Mapping[str, Any] | None = None,
) -> Benchmark:
    """Makes a benchmark of a table.

    Costs are the table's seconds for the dataset and schedule, or else epochs.

    Args:
      space: the space of the table. The benchmark's is restricted to the architectures of
        the table where its manifest says that they are a part of the space.
      table: the numbers; all of them that are selected go to the default device.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: a training schedule, or several in ascending order, which are levels of
        separate trainings.
      seed: "mean" over the runs of each architecture; "random" for one of them, drawn at
        each evaluation; or the index of one.
      curves: whether the stored epochs of the schedule are levels, each of which
        continues the previous one. The table must have been read with its curves:
        `open_table(name, curves=None)`.
      truth: what differs in the column of true scores, as `dict(split="test")`. Default:
        the last level, mean over the seeds.

    Raises: `ValueError` for an unknown column or seed; for a table of another space,
      with counts of the architectures that are missing, duplicated or invalid (one with
      `"part": true` in its manifest may lack any); and for a truth of another target.
    """
    selection: dict[str, Any] = dict(
        dataset=dataset, split=split, epochs=epochs, seed=seed
    )
    target = table_files.target(table, dataset)
    select = columns.learning_curves if curves else columns.final_values
    values = select(table, **selection)
    on_device = _to_device(space, table, values, target)
    true = as_score(target, columns.true_values(table, values, selection, truth))
    return Benchmark(
        space=table_space(table, space),
        evaluate=Partial(bind(lookup, space), on_device),
        levels=values.levels,
        target=target,
        cost_unit=values.cost_unit,
        truth=Partial(bind(_truth, space), on_device, jnp.asarray(true)),
        optimum=jnp.asarray(np.nanmax(true)),
        archs=np.asarray(table.arch, np.int32),
        description=columns.describe(table, **selection),
    )


def _to_device(
    space: Space, table: BenchmarkTable, values: LevelValues, target: Target
) -> LookupTable:
    keys = table_identities(space, table)
    order = np.argsort(keys)
    return LookupTable(
        identity=jnp.asarray(identity.from_uint64(keys[order])),
        row=jnp.asarray(order, jnp.int32),
        score=jnp.asarray(as_score(target, values.value)),
        cost=jnp.asarray(values.cost),
        epochs=jnp.array([level.epoch for level in values.levels], jnp.int32),
        continues=jnp.array([level.continues for level in values.levels]),
    )


def table_space(table: BenchmarkTable, space: Space) -> Space:
    """The space, restricted to the table's architectures if they are a part of it.

    Args:
      table: one whose manifest may say `"part": true`.
      space: the whole space of the table.
    """
    fits = table.arch.shape[1] == len(space.choices)
    part = table.manifest.get("part") is True and fits
    return restricted(space, table.arch) if part else space


def table_identities(space: Space, table: BenchmarkTable) -> np.ndarray:
    """Computes the identities of a table's rows and validates the rows.

    Returns: (n,) uint64 keys, see `identity.to_uint64`.
    Raises: `ValueError` for another space, for choices outside of it, and for
      architectures that are invalid, duplicated or missing.
    """
    if table.space != space.name or table.arch.shape[1] != len(space.choices):
        # Raises the error before an identity that is not defined for these rows.
        table_files.validate_rows(table, space, np.zeros(0, np.uint64))
    num = len(table.arch)
    words, valid = (np.asarray(x) for x in _identify(space, _padded(table.arch)))
    keys = identity.to_uint64(words[:num])
    table_files.validate_rows(table, space, keys)
    invalid = ~valid[:num]
    if invalid.any():
        row = int(np.argmax(invalid))
        raise ValueError(
            f"table {table.name}: {invalid.sum()} of {num} rows are not valid "
            f"architectures of {space.name}; the first is row {row}"
        )
    return keys


def _padded(archs: np.ndarray) -> np.ndarray:
    """Repeats the last row up to whole chunks, so that one shape is compiled."""
    num = len(archs)
    size = -(-num // _CHUNK) * _CHUNK if num > _CHUNK else num
    return np.pad(archs, ((0, size - num), (0, 0)), mode="edge")


@functools.partial(jax.jit, static_argnums=0)
def _identify(space: Space, archs: Array) -> tuple[Array, Array]:
    """Identities (n, 2) uint32 and validity (n,) of vectors (n, d)."""

    def one(arch: Array) -> tuple[Array, Array]:
        return space.identity(arch), space.is_valid(arch)

    return jax.lax.map(one, archs.astype(jnp.int32), batch_size=_CHUNK)


def find_row(space: Space, table: LookupTable, arch: Array) -> Array:
    """Finds the row () int32 of an architecture (d,), -1 if the table lacks it."""
    index = identity.find(table.identity, space.identity(arch))
    in_table = contains(space, arch) & (index >= 0)
    return jnp.where(in_table, table.row[index], -1)


def table_rows(benchmark: Benchmark, archs: Array | np.ndarray) -> Array:
    """Finds architectures in the table of a benchmark, to read other columns of it.

    Args:
      benchmark: made by `tabular_benchmark`.
      archs: (..., d) architectures.

    Returns: (...) int32 rows of the table; -1 for an architecture that it lacks.
    """
    return _find_rows(benchmark.space, lookup_table(benchmark), jnp.asarray(archs))


def lookup_table(benchmark: Benchmark) -> LookupTable:
    """The table of a benchmark, also within one of several objectives."""
    part = benchmark.evaluate
    while not isinstance(part, LookupTable):
        part = part.args[0]
    return part


def least_cost(benchmark: Benchmark) -> Array:
    """The smallest cost () of a complete training, in a benchmark of a table."""
    return jnp.nanmin(lookup_table(benchmark).cost[..., -1])


@functools.partial(jax.jit, static_argnums=0)
def _find_rows(space: Space, table: LookupTable, archs: Array) -> Array:
    flat = archs.reshape(-1, archs.shape[-1])
    find = functools.partial(find_row, space, table)
    if len(flat) <= _CHUNK:
        rows = jax.vmap(find)(flat)
    else:
        rows = jax.lax.map(find, flat, batch_size=_CHUNK)
    return rows.reshape(archs.shape[:-1])


def lookup(space: Space, table: LookupTable, key: Array, query: Query) -> Result:
    """Looks up the result of training the query's architectures.

    The score is that of the last level that the query reaches. It is NaN, at cost 0, for
    idle slots, if no level is reached, and if the table lacks the architecture. With
    several seeds, `key` draws one for each architecture and repetition, uniformly among
    those that were run.

    Args:
      space: the space of the table.
      table: the numbers on the device.
      key: draws the seeds; equal keys give the same seed to the same architecture.
      query: b slots.

    Returns: score (b,), curve (b, e) over the levels, NaN past the query's epoch, and
      cost (b,) of the increment from `start`: the increments of a training add up to its
      cost. Epochs before the first level are charged when that is reached; between
      levels that continue, costs are interpolated.
    """
    row = jax.vmap(functools.partial(find_row, space, table))(query.arch)
    runs = table.score[row]  # (b, s, e)
    seed = jnp.zeros_like(row)
    if table.score.shape[1] > 1:
        was_run = ~jnp.isnan(runs).all(-1)
        draw = jax.vmap(functools.partial(_draw_seed, space, key))
        seed = draw(query.arch, seed_of(query), was_run)
    curve = jnp.take_along_axis(runs, seed[:, None, None], 1)[:, 0]
    reached = table.epochs <= query.epoch[:, None]  # (b, e)
    measured = asked(query) & (row >= 0) & ~jnp.isnan(curve).all(-1)
    curve = jnp.where(reached & measured[:, None], curve, jnp.nan)
    last = jnp.maximum(jnp.sum(reached, 1) - 1, 0)
    score = jnp.take_along_axis(curve, last[:, None], 1)[:, 0]
    rows, seeds = table.cost.shape[:2]
    spent = table.cost[row if rows > 1 else 0 * row, seed if seeds > 1 else 0 * seed]
    cost = jax.vmap(functools.partial(_increment, table))(
        spent, query.start, query.epoch
    )
    return Result(score, curve, jnp.where(measured, cost, 0.0))


def _draw_seed(
    space: Space, key: Array, arch: Array, repetition: Array, run: Array
) -> Array:
    """The seed () of the table for a repetition () of a training.

    The seeds that were `run` (s,) are put in an order that is random for each
    architecture, so that repetitions are different runs as long as there are more.
    """
    for word in space.identity(arch):
        key = jax.random.fold_in(key, word)
    order = jnp.argsort(jnp.where(run, jax.random.uniform(key, run.shape), 2.0))
    return order[repetition % jnp.maximum(run.sum(), 1)]


def _increment(table: LookupTable, spent: Array, start: Array, epoch: Array) -> Array:
    """The cost () of training from `start` to `epoch`, given that of each level (e,)."""
    num = len(table.epochs)
    # The first level of the training that each level belongs to.
    first = jax.lax.cummax(jnp.where(table.continues, 0, jnp.arange(num)))

    def up_to(at: Array) -> tuple[Array, Array]:
        """The cost up to epoch `at`, and the first level of the training it is in."""
        level = jnp.sum(table.epochs <= at) - 1
        current, after = jnp.maximum(level, 0), jnp.minimum(level + 1, num - 1)
        gap = jnp.maximum(table.epochs[after] - table.epochs[current], 1)
        share = jnp.where(table.continues[after], (at - table.epochs[current]) / gap, 0)
        share = jnp.clip(share, 0, 1).astype(spent.dtype)
        cost = spent[current] + share * (spent[after] - spent[current])
        # Epochs before the first level belong to no training: nothing is charged yet.
        return cost, jnp.where(level < 0, -1, first[current])

    (before, training_before), (whole, training) = up_to(start), up_to(epoch)
    return whole - jnp.where(training_before == training, before, 0)


def _truth(space: Space, table: LookupTable, true: Array, arch: Array) -> Array:
    row = find_row(space, table, arch)
    return jnp.where(row >= 0, true[row], jnp.nan)
