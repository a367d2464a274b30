"""Scores of many architectures by a proxy: in chunks, on all devices, resumable.

    settings = ScoringSettings(NetworkConfig(image_size=32), "hook_logdet")
    scores = score_many(jax.random.key(0), settings, archs, x, y, folder="scores")

One program (`engine`) is compiled, whatever the number of architectures: they are divided
into chunks of equal size, the last filled up. Each finished chunk is a file, so a run that
was killed continues; with `jax.distributed`, every process scores each p-th chunk. Cells
that the proxy cannot distinguish (`Proxy.equivalence`) are scored once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnas.io import run_folder
from jaxnas.io.cache import array_digest
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import balanced_groups
from jaxnas.proxies.catalogue import CATALOGUE
from jaxnas.proxies.engine import ChunkScorer, ScoringSettings
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.types import Array

# Architectures of one device in a chunk, by (engine, whether there is a backward pass).
# The sequential engine has one in memory at a time, and a chunk is only the unit of
# saving. The grouped engine has all in memory: with 125 lanes and 128 images of 32 pixels
# a node takes 1 GiB, a forward pass about 10.
LANES = {("sequential", False): 64, ("sequential", True): 32}
LANES |= {("grouped", False): 125, ("grouped", True): 25}


class Scores(NamedTuple):
    """Scores of n architectures, on the host."""

    values: dict[str, np.ndarray]  # by name of the score, (n,) float64
    seconds: np.ndarray  # (n,) float64, time of the chunk divided by its architectures


def score_names(proxy: str) -> tuple[str, ...]:
    """Names the scores of a proxy, one for each of its columns."""
    columns = CATALOGUE[proxy].columns
    return tuple(f"{proxy}_{column}" for column in columns) or (proxy,)


def score_many(
    key: Array,
    settings: ScoringSettings,
    archs: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    folder: str | Path | None = None,
    report: Callable[[int, int], object] | None = None,
    devices: Sequence[Any] | None = None,
) -> Scores:
    """Scores architectures on one batch of images.

    Args:
      key: of the parameters, and of what the proxy draws.
      settings: which proxy, on which networks, and how.
      archs: (n, 6) integers.
      x: (b, image_size, image_size, in_channels) normalised images.
      y: (b,) integer labels.
      folder: where each chunk is saved as it is finished, in a run folder for each proxy.
        A saved chunk is not computed again.
      report: called with the numbers of finished cells and of all cells of this process;
        if it returns True no more are scored, and the rest are NaN.
      devices: default: all local ones. With `jax.distributed` every process calls this
        with the same arguments, takes its share of the chunks, and gets all scores;
        processes may share a folder.

    Returns:
      the scores, in the order of `archs`.

    Raises: `ValueError` for architectures of another space, for images and labels that
      do not fit, and for a folder that cannot be written, or has scores of this proxy
      with another key, settings or images, before anything is compiled.
    """
    archs, x, y = _validate(settings, archs, x, y)
    proxy = CATALOGUE[settings.proxy]
    devices = tuple(devices or jax.local_devices())
    engine = settings.engine or (
        "sequential" if devices[0].platform == "cpu" else "grouped"
    )
    lanes = settings.lanes or LANES[engine, proxy.backward]
    scored, inverse = _representatives(archs, settings)
    num, size = len(scored), lanes * len(devices)
    if proxy.batch is not None:
        x, y = x[: proxy.batch], y[: proxy.batch]
    # Every chunk is full, so that one program serves all: the last cell is repeated.
    padding = -num % size
    chunks = np.pad(scored, ((0, padding), (0, 0)), mode="edge")
    chunks = chunks.reshape(-1, len(devices), lanes, 6)
    local = range(jax.process_index(), len(chunks), jax.process_count())
    store = None
    if folder is not None:
        path = Path(folder) / settings.proxy
        store = run_folder.open_or_create(path, _identity(key, settings, x, y))
    score_chunk = ChunkScorer(key, settings, engine, devices, chunks, x, y)

    width = len(score_names(settings.proxy))
    values, seconds = np.full((len(chunks), size, width), np.nan), np.zeros(len(chunks))
    for turn, index in enumerate(local):
        first, last = index * size, min((index + 1) * size, num)
        name = f"{first}-{last}"
        chunk = None if store is None else _read(store, name, chunks[index])
        if chunk is None:
            chunk = score_chunk(index)
            if store is not None:
                run_folder.save_piece(store, name, chunk)
        values[index], seconds[index] = chunk["values"], chunk["seconds"]
        if report is not None:
            total = min(num, len(local) * size)
            if report(min((turn + 1) * size, total), total) is True:
                break
    if jax.process_count() > 1:
        values, seconds = _gather(values), _gather(seconds)
    flat = values.reshape(-1, width)[inverse]
    if proxy.is_logarithm:
        flat = np.exp(flat)
    each = np.repeat(seconds / size, size)[inverse]
    columns = zip(score_names(settings.proxy), flat.T, strict=True)
    return Scores({name: column.copy() for name, column in columns}, each)


def _validate(
    settings: ScoringSettings, archs: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checks the arguments of `score_many`.

    Returns:
      archs (n, 6) int32, x, and y (b,) int32.

    Raises: `ValueError` naming what does not fit.
    """
    archs, x, y = np.asarray(archs), np.asarray(x), np.asarray(y)
    size, channels = settings.network.image_size, settings.network.in_channels
    if archs.ndim != 2 or archs.shape[1] != 6 or not len(archs):
        raise ValueError(
            f"wanted architectures (n, 6) of {nb201.SPACE.name}, found {archs.shape}: "
            "jaxnas.networks says what is missing for other spaces"
        )
    if archs.min() < 0 or archs.max() > 4:
        raise ValueError(f"operations are 0..4, found {archs.min()}..{archs.max()}")
    if x.ndim != 4 or x.shape[1:] != (size, size, channels) or len(x) < 2:
        raise ValueError(
            f"wanted at least 2 images (b, {size}, {size}, {channels}), found {x.shape}"
        )
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"wanted an integer label for each of {len(x)} images, "
            f"found {y.dtype} {y.shape}"
        )
    if y.min() < 0 or y.max() >= settings.network.num_classes:
        raise ValueError(
            f"labels must be 0..{settings.network.num_classes - 1}, "
            f"found {y.min()}..{y.max()}"
        )
    if not np.isfinite(x).all():
        raise ValueError("the images are not finite everywhere")
    return archs.astype(np.int32), x, y.astype(np.int32)


def _representatives(
    archs: np.ndarray, settings: ScoringSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Selects the cells to score: one of each score-equivalence class.

    They are in the order of the balanced chunks (`balanced_groups`), so that every chunk
    has each operation about equally often.

    Args:
      archs: (n, 6).
      settings: the proxy, and whether to deduplicate.

    Returns:
      cells (m, 6), and (n,) the index of the cell that stands for each architecture.
    """
    ranks = np.asarray(spaces.rank(nb201.SPACE, jnp.asarray(archs)))
    equivalence = CATALOGUE[settings.proxy].equivalence
    if settings.deduplicate and equivalence is not None:
        # The first cell of the whole space in a class stands for it, so that results do
        # not depend on which cells are scored together.
        classes = function_classes(keep_dead=equivalence == "present")
        _, first = np.unique(classes, return_index=True)
        ranks = first[classes[ranks]]
    order = np.asarray(
        spaces.rank(nb201.SPACE, jnp.asarray(balanced_groups.balanced().reshape(-1, 6)))
    )
    positions = np.argsort(order)[ranks]
    different, inverse = np.unique(positions, return_inverse=True)
    return spaces.every(nb201.SPACE)[order[different]], inverse


def _identity(
    key: Array, settings: ScoringSettings, x: np.ndarray, y: np.ndarray
) -> dict:
    """Describes everything that a score depends on but the architecture, as JSON."""
    described = dataclasses.asdict(settings)
    for free in ("engine", "lanes", "deduplicate"):
        del described[free]
    return described | {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "images": array_digest(x, y),
        "float": str(jnp.zeros(()).dtype),
    }


def _read(store: RunFolder, name: str, archs: np.ndarray) -> dict | None:
    """Reads a saved chunk; None if it is missing, damaged or of another identity."""
    try:
        chunk = run_folder.load_piece(store, name)
    except ValueError:
        return None
    same = np.array_equal(chunk.get("archs", ()), archs.reshape(-1, 6))
    return chunk if same else None


def _gather(local: np.ndarray) -> np.ndarray:
    """Collects the chunks (m, ...) of all p processes, each of which has every p-th."""
    # As bytes: an array of JAX rounds float64 to float32, and synflow to infinity.
    raw = np.ascontiguousarray(local).reshape(len(local), -1).view(np.uint8)
    of_process = np.asarray(multihost_utils.process_allgather(raw))
    chunk = np.arange(len(local))
    whole = of_process[chunk % jax.process_count(), chunk]
    return whole.view(local.dtype).reshape(local.shape)
