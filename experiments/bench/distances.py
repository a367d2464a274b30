"""Time of tree-Wasserstein distances between all pairs of cells, against peers.

jaxnas and scipy compute blocks of all pairs, POT and plain Python a sample of pairs one
by one, whose values are compared first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import peers, timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement, Timing
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import named
from jaxnas.kernels import feature_maps, gram
from jaxnas.kernels import op_trees as tw
from jaxnas.spaces.nasbench201 import SPACE

LABELS = len(SPACE.labels)


class Part(NamedTuple):
    """One part of the embeddings of n cells; equal embeddings are stored once."""

    value: jax.Array  # (f, u) the distinct embeddings
    column: jax.Array  # (n,) int32, the embedding of each cell


def compress_parts(embeddings: gram.Embeddings) -> tuple[Part, ...]:
    """Compresses each part by itself, as few cells differ in some of the parts."""
    column, parts = np.asarray(embeddings.column), []
    for part in embeddings.parts:
        value, inverse = np.unique(np.asarray(part), axis=1, return_inverse=True)
        inverse = inverse.reshape(-1)[column].astype(np.int32)
        parts.append(Part(jnp.asarray(value), jnp.asarray(inverse)))
    return tuple(parts)


@jax.jit
def distance_block(parts: tuple[Part, ...], chosen: jax.Array) -> jax.Array:
    """Distances (n, b) of n cells to `chosen` (b,), summed over the parts.

    They are computed between distinct embeddings, coordinate by coordinate in one buffer,
    as a sum over an axis takes several times as long on a CPU; then rows are copied.
    """

    def distinct(part: Part) -> jax.Array:
        value, other = part.value, part.value[:, part.column[chosen]]
        add = lambda i, d: d + jnp.abs(value[i][:, None] - other[i])  # noqa: E731
        zero = jnp.zeros((value.shape[1], other.shape[1]))
        return jax.lax.fori_loop(0, len(value), add, zero)

    return sum(distinct(part)[part.column] for part in parts)  # type: ignore


def distances(config: Config) -> list[Measurement]:
    """Times the sum of the three tree-Wasserstein distances, by pair.

    Args:
      config: the n-grams, the numbers of candidates and of pairs.

    Returns: rows in nanoseconds a pair; `ValueError` if a peer computes something else.
    """
    arch = np.asarray(named.open_table("analog").arch[: config.candidates])
    sample = np.random.default_rng(0).integers(len(arch), size=(config.pairs, 2))
    return [r for n in config.ngrams for r in _one_tree(config, n, arch, sample)]


def _one_tree(
    config: Config, n: int, arch: np.ndarray, sample: np.ndarray
) -> list[Measurement]:
    """Times the distances of all pairs in blocks, and of single pairs in loops.

    Args:
      config: the sizes of the blocks and the repeats.
      n: of the n-grams.
      arch: (num, 6) the cells.
      sample: (pairs, 2) rows of `arch`, for the loops.
    """
    parts = in_chunks(feature_maps.tree_wasserstein_features(SPACE, n), arch)
    embeddings = gram.compress_embeddings(parts)
    stored, column = compress_parts(embeddings), np.asarray(embeddings.column)
    distinct = np.concatenate(embeddings.parts).T.astype(np.float64)
    num, size = len(arch), min(config.block, len(arch))
    starts = [min(i, num - size) for i in range(0, num, size)]
    blocks = [np.arange(i, i + size, dtype=np.int32) for i in starts]

    def ours(blocks: list[np.ndarray], device: jax.Device) -> None:
        on_device = jax.device_put(stored, device)
        for chosen in jax.device_put(blocks, device):
            distance_block(on_device, chosen).block_until_ready()

    raw = np.concatenate(parts, 1).astype(np.float64)
    reduced, few = distinct[column], min(config.peer_cells, num)
    merged = "scipy cdist, coordinates merged"
    calls = {
        "jaxnas in float32": lambda: ours(blocks, jax.devices()[0]),
        "scipy cdist of the embeddings": lambda: peers.cityblock(raw, few, size),
        merged: lambda: peers.cityblock(reduced, few, size),
        "  and equal embeddings once": lambda: peers.cityblock_distinct(
            distinct, column, few, size
        ),
    }
    # Number of pairs of each call.
    pairs = {name: few * num for name in calls} | {"jaxnas in float32": num**2}
    loops = _by_pair(n, arch, sample)
    ours_of = [
        np.asarray(distance_block(stored, pair[:1]))[pair[1], 0] for pair in sample
    ]
    _require_equal(np.array(ours_of), loops)
    calls |= {name: lambda f=f: [f(i) for i in range(len(sample))]
              for name, f in loops.items()}  # fmt: skip
    pairs |= {name: len(sample) for name in loops}
    title = f"a pair of all {num:,} x {num:,} distances, TW-{n}G"
    with timing.one_core():
        rows = _measure(f"{title}, one core", calls, pairs, config.repeats)
    devices = jax.devices()
    if len(devices) > 1:
        with ThreadPoolExecutor(len(devices)) as pool:
            shares = [blocks[i :: len(devices)] for i in range(len(devices))]
            both = {
                f"jaxnas on {len(devices)} devices": lambda: list(
                    pool.map(ours, shares, devices)
                ),
                f"{merged} (one thread)": calls[merged],
            }
            pairs = dict(zip(both, (num**2, few * num), strict=True))
            rows += _measure(f"{title}, all cores", both, pairs, config.repeats)
    return rows


def _measure(
    title: str, calls: dict, pairs: dict[str, int], repeats: int
) -> list[Measurement]:
    """Times calls in turn, and scales each by its number of pairs to nanoseconds."""
    times: dict[str, Timing] = timing.in_turn(calls, repeats)
    scaled = {name: t.scaled(1e9 / pairs[name]) for name, t in times.items()}
    return timing.compare(title, "ns", scaled)


def _by_pair(n: int, arch: np.ndarray, sample: np.ndarray) -> dict:
    """Distances of one pair, as functions of its index in `sample` (pairs, 2)."""
    graphs = jax.tree.map(np.asarray, jax.vmap(SPACE.to_graph)(jnp.asarray(arch)))
    cells = {c: (graphs.adj[c].tolist(), graphs.ops[c].tolist())
             for c in np.unique(sample).tolist()}  # fmt: skip
    measured = {c: peers.measures(*cell, LABELS, n) for c, cell in cells.items()}
    tree = tw.op_tree(SPACE.labels, n)
    listed, pairs = peers.python_tree(tree), sample.tolist()
    measured_pairs = [(measured[a], measured[b]) for a, b in pairs]
    problems = [peers.transport_problems(*pair, tree) for pair in measured_pairs]

    def from_graphs(i: int) -> float:
        u, v = (peers.measures(*cells[c], LABELS, n) for c in pairs[i])
        return peers.python_distance(u, v, listed)

    return {
        "POT emd2, measures and costs ready": lambda i: peers.transport_distance(
            problems[i]
        ),
        "plain Python, measures ready": lambda i: peers.python_distance(
            *measured_pairs[i], listed
        ),
        "plain Python, from the graphs": from_graphs,
    }


def _require_equal(ours: np.ndarray, loops: dict) -> None:
    """Raises `ValueError` unless all loops give the distances `ours` (pairs,)."""
    for name, distance in loops.items():
        theirs = [distance(i) for i in range(len(ours))]
        worst = np.abs(ours - theirs).max()
        if not worst < 1e-4:
            raise ValueError(f"{name.strip()} and jaxnas differ by {worst:.2g}")
