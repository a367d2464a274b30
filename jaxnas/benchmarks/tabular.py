"""A table as a benchmark: arrays on the device, and a pure lookup.

    table = sources.open_table("nb201")
    fed = dict(dataset="cifar100", split="valid", epochs=12, seed="mean")
    evaluate = evaluator(SPACE, tabular(SPACE, table, **fed))
    trace = simulate(keys, search, evaluate, num_steps=150)

Which number comes back is said by dataset, split, epochs and seed, and by nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks import files
from jaxnas.benchmarks.files import Table
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space, restricted
from jaxnas.types import Array, Query, Result, seed_of

# Architectures whose codes are computed side by side: bounds the memory for spaces
# whose code compares many relabellings.
_CHUNK = 8192


class Tabular(NamedTuple):
    """A benchmark of n architectures, s seeds and e stored epochs, as a pytree."""

    identity: Array  # (n, 2) uint32, of the space, ascending
    row: Array  # (n,) int32, the row of the table that has each of them
    score: (
        Array  # (n, s, e) percent, by row of the table; NaN for a seed that was not run
    )
    cost: Array  # (n,) of the whole training: seconds, or epochs if they are not known
    epochs: Array  # (e,) int32, ascending: when the score is known


def describe(
    table: Table, *, dataset: str, split: str, epochs: int, seed: str | int
) -> str:
    """One line for every result to print, as `nb201 cifar100/valid/12, seed mean`."""
    return f"{table.name} {dataset}/{split}/{epochs}, seed {seed}"


def column(
    table: Table, *, dataset: str, split: str, epochs: int, seed: str | int
) -> np.ndarray:
    """One accuracy column of a table, on the host.

    Args:
      dataset, split, epochs: name the column, `epochs` being its training schedule.
      seed: "mean" over the runs of each architecture, "random" for all of them, or the
        index of one.

    Returns: (n, s) float32 percent by row of the table; s is 1 unless `seed` is
      "random".
    Raises: `ValueError` that lists what there is, or counts the architectures for which
      the seed was not run.
    """
    there = files.accuracies(table)
    datasets = {d for d, _, _ in there}
    _choose(table.name, "dataset", dataset, datasets)
    splits = {s for d, s, _ in there if d == dataset}
    _choose(f"{table.name} {dataset}", "split", split, splits)
    schedules = {e for d, s, e in there if (d, s) == (dataset, split)}
    name = f"{table.name} {dataset}/{split}"
    _choose(name, "number of epochs", epochs, schedules)
    values = there[dataset, split, epochs]
    # A column without a seed axis may be a mean already: there is no seed to choose.
    num_seeds = values.shape[1] if values.ndim == 2 else 0
    seeds = ("mean", "random", *range(num_seeds)) if num_seeds else ("mean",)
    _choose(f"{name}/{epochs}", "seed", seed, seeds)
    if num_seeds == 0:
        return values[:, None]
    if seed == "mean":
        mean = np.nanmean(values, 1, np.float64, keepdims=True)
        return np.asarray(mean, np.float32)
    if seed == "random":
        return values
    one = values[:, [int(seed)]]
    if np.isnan(one).any():
        raise ValueError(
            f"{name}/{epochs} has no seed {seed} for {np.isnan(one).sum()} of "
            f"{len(one)} architectures: wanted 'mean' or 'random'"
        )
    return one


def _choose(owner: str, what: str, given, there: Iterable) -> None:
    there = list(there)
    # `True` is no seed or number of epochs, though it equals 1.
    if isinstance(given, bool) or given not in there:
        names = ", ".join(
            str(x) for x in sorted(there, key=lambda x: (str(type(x)), x))
        )
        raise ValueError(f"{owner} has no {what} {given!r}; it has {names}")


def tabular(
    space: Space,
    table: Table,
    *,
    dataset: str,
    split: str,
    epochs: int,
    seed: str | int,
) -> Tabular:
    """Puts one accuracy of a table on the device; arguments as for `column`.

    The table has every architecture of the space; see `space_of` for others. The cost
    is the table's seconds for this dataset and schedule, or else the epochs.

    Raises: `ValueError` for an unknown column or seed, a table of another space, and
      counts of the architectures that are missing, duplicated or invalid.
    """
    score = column(table, dataset=dataset, split=split, epochs=epochs, seed=seed)
    keys = table_identities(space, table)
    order = np.argsort(keys)
    time = files.seconds(table, dataset, epochs)
    cost = np.full(len(keys), epochs, np.float32) if time is None else time
    return Tabular(
        identity=jnp.asarray(identity.words(keys[order])),
        row=jnp.asarray(order, jnp.int32),
        score=jnp.asarray(score[:, :, None]),
        cost=jnp.asarray(cost),
        epochs=jnp.array([epochs], jnp.int32),
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
        files.check_rows(table, space, np.zeros(0, np.uint64))
    ids, valid = (np.asarray(x) for x in _identify(space, _padded(table.arch)))
    num = len(table.arch)
    keys = identity.keys(ids[:num])
    files.check_rows(table, space, keys)
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


def _draw(
    space: Space, key: Array, arch: Array, repetition: Array, there: Array
) -> Array:
    """The seed () of the table that stands for this repetition of a training."""
    for word in (*space.identity(arch), repetition):
        key = jax.random.fold_in(key, word)
    return jax.random.categorical(key, jnp.where(there, 0.0, -jnp.inf))


def lookup(space: Space, table: Tabular, key: Array, query: Query) -> Result:
    """What training the query's architectures gives, read off the table.

    The score is the one of the last stored epoch that the query reaches. It is NaN if
    nothing was asked (`epoch <= start`), if no stored epoch was reached, and if the
    table does not have the architecture. With several seeds `key` draws one for each
    architecture and repetition, uniformly among those that were run.

    Returns: score (b,), curve (b, e) over the stored epochs, NaN past the query's, and
      cost (b,), in proportion to the epochs trained; 0 if nothing was.
    """
    row = jax.vmap(functools.partial(_find, space, table))(query.arch)
    asked = (query.epoch > query.start) & (row >= 0)
    curves = table.score[row]  # (b, s, e)
    if table.score.shape[1] > 1:
        there = ~jnp.isnan(curves[:, :, -1])
        draw = jax.vmap(functools.partial(_draw, space, key))
        seed = draw(query.arch, seed_of(query), there)
        curve = jnp.take_along_axis(curves, seed[:, None, None], 1)[:, 0]
    else:
        del key
        curve = curves[:, 0]
    reached = table.epochs <= query.epoch[:, None]  # (b, e)
    curve = jnp.where(reached & asked[:, None], curve, jnp.nan)
    last = jnp.maximum(jnp.sum(reached, 1) - 1, 0)
    score = jnp.take_along_axis(curve, last[:, None], 1)[:, 0]
    end = table.epochs[-1]
    trained = jnp.clip(jnp.minimum(query.epoch, end) - query.start, 0)
    cost = jnp.where(asked, table.cost[row] * trained / end, 0.0)
    return Result(score, curve, cost)


@functools.cache
def _lookup_in(space: Space):
    # One function object for each space: a new one would be compiled anew.
    return functools.partial(lookup, space)


def evaluator(space: Space, table: Tabular) -> Partial:
    """`lookup` as (key, Query) -> Result; the table in it is data to `jit`."""
    return Partial(_lookup_in(space), table)
