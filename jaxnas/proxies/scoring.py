"""A proxy over many architectures: chunks, all devices, all processes, resumable.

    settings = ScoringSettings(NetworkConfig(image_size=32), "hook_logdet")
    scores = score_many(jax.random.key(0), settings, archs, x, y, folder="scores")

One program is compiled, whatever the number of architectures. Cells that the proxy
cannot tell apart (`Proxy.equivalence`) are scored once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnas.io import run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.networks import balanced_groups
from jaxnas.proxies.catalogue import CATALOGUE
from jaxnas.proxies.engine import ChunkScorer, ScoringSettings
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.types import Array

# Architectures of one device in a chunk. Of the sequential engine one is in memory at a
# time, and a chunk is what is saved at once. The grouped engine has all in memory: with
# 125 lanes and 128 images of 32 pixels a node takes 1 GiB, a forward pass about 10.
LANES = {("sequential", False): 64, ("sequential", True): 32}
LANES |= {("grouped", False): 125, ("grouped", True): 25}


class Scores(NamedTuple):
    """Scores of n architectures, on the host."""

    values: dict[str, np.ndarray]  # by name of the score, (n,) float64
    seconds: np.ndarray  # (n,) float64, what scoring took, shared out over a chunk


def score_names(proxy: str) -> tuple[str, ...]:
    """What the scores of a proxy are called."""
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
    """Scores architectures (n, 6) on one batch of images.

    Args:
      key: of the parameters, and of what the proxy draws.
      x, y: (b, size, size, colours) normalised images and (b,) labels.
      folder: where each chunk is saved as it is finished. A chunk that is there and was
        made with the same key, settings and images is not computed again.
      report: called with how many cells are done, and of how many, in this process;
        where it returns True no more are scored, and the rest are NaN.
      devices: default: all local ones. With `jax.distributed` every process calls this
        with the same arguments, takes its share of the chunks, and gets all scores;
        each has a folder of its own, or all have the same.

    Raises: `ValueError` for architectures of another space, for images and labels that do
      not fit, and for a folder that cannot be written, before anything is compiled.
    """
    archs, x, y = _checked(settings, archs, x, y)
    proxy = CATALOGUE[settings.proxy]
    devices = tuple(devices or jax.local_devices())
    engine = settings.engine or (
        "sequential" if devices[0].platform == "cpu" else "grouped"
    )
    lanes = settings.lanes or LANES[engine, proxy.backward]
    cells_once, inverse = _representatives(archs, settings)
    num, size = len(cells_once), lanes * len(devices)
    if proxy.batch is not None:
        x, y = x[: proxy.batch], y[: proxy.batch]
    # Every chunk is full, so that one program serves all: the last cell is repeated.
    padding = -num % size
    parts = np.pad(cells_once, ((0, padding), (0, 0)), mode="edge")
    parts = parts.reshape(-1, len(devices), lanes, 6)
    mine = range(jax.process_index(), len(parts), jax.process_count())
    store = None
    if folder is not None:  # shared by chunks of other settings: each has its identity
        store = RunFolder(Path(folder), _record(key, settings, x, y))
    run = ChunkScorer(key, settings, engine, devices, parts, x, y)

    width = len(score_names(settings.proxy))
    values, seconds = np.full((len(parts), size, width), np.nan), np.zeros(len(parts))
    for turn, index in enumerate(mine):
        first, last = index * size, min((index + 1) * size, num)
        name = f"{settings.proxy}-{first}-{last}"
        saved = None if store is None else _read(store, name, parts[index])
        if saved is None:
            saved = run(index)
            if store is not None:
                run_folder.save_piece(store, name, saved)
        values[index], seconds[index] = saved["values"], saved["seconds"]
        if report is not None:
            total = min(num, len(mine) * size)
            if report(min((turn + 1) * size, total), total) is True:
                break
    if jax.process_count() > 1:
        values, seconds = _gather(values), _gather(seconds)
    flat = values.reshape(-1, width)[inverse]
    if proxy.logarithm:
        flat = np.exp(flat)
    each = np.repeat(seconds / size, size)[inverse]
    columns = zip(score_names(settings.proxy), flat.T, strict=True)
    return Scores({name: column.copy() for name, column in columns}, each)


def _checked(settings: ScoringSettings, archs, x, y):
    archs, x, y = np.asarray(archs), np.asarray(x), np.asarray(y)
    size, colours = settings.network.image_size, settings.network.in_channels
    if archs.ndim != 2 or archs.shape[1] != 6 or not len(archs):
        raise ValueError(
            f"wanted architectures (n, 6) of {nb201.SPACE.name}, found {archs.shape}: "
            "jaxnas.networks says what is missing for other spaces"
        )
    if archs.min() < 0 or archs.max() > 4:
        raise ValueError(f"operations are 0..4, found {archs.min()}..{archs.max()}")
    if x.ndim != 4 or x.shape[1:] != (size, size, colours) or len(x) < 2:
        raise ValueError(
            f"wanted at least 2 images (b, {size}, {size}, {colours}), found {x.shape}"
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


def _representatives(archs: np.ndarray, settings: ScoringSettings):
    """Different cells (m, 6) to score, and for each architecture which, (n,).

    They are in the order of the balanced chunks, so that of neighbours about equally
    many have each operation.
    """
    codes = np.asarray(spaces.rank(nb201.SPACE, jnp.asarray(archs)))
    kind = CATALOGUE[settings.proxy].equivalence
    if settings.deduplicate and kind is not None:
        # The first cell of a class stands for it, whatever the others are.
        every = function_classes(keep_dead=kind == "present")
        _, first = np.unique(every, return_index=True)
        codes = first[every[codes]]
    order = np.asarray(
        spaces.rank(nb201.SPACE, jnp.asarray(balanced_groups.balanced().reshape(-1, 6)))
    )
    place = np.argsort(order)[codes]
    places, inverse = np.unique(place, return_inverse=True)
    return spaces.every(nb201.SPACE)[order[places]], inverse


def _record(
    key: Array, settings: ScoringSettings, x: np.ndarray, y: np.ndarray
) -> dict:
    """All that a score depends on but the architecture, as JSON."""
    told = dataclasses.asdict(settings)
    for free in ("engine", "lanes", "deduplicate"):
        del told[free]
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes())
    return told | {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "images": digest.hexdigest(),
        "float": str(jnp.zeros(()).dtype),
    }


def _read(store: RunFolder, name: str, archs: np.ndarray) -> dict | None:
    """A chunk that was saved; None if it must be computed, and written over."""
    try:
        saved = run_folder.load_piece(store, name)
    except ValueError:  # missing, damaged, or of other settings
        return None
    same = np.array_equal(saved.get("archs", ()), archs.reshape(-1, 6))
    return saved if same else None


def _gather(mine: np.ndarray) -> np.ndarray:
    """Puts together the chunks (m, ...) of all processes; each has every p-th chunk."""
    # As bytes: an array of JAX rounds float64 to float32, and synflow to infinity.
    raw = np.ascontiguousarray(mine).reshape(len(mine), -1).view(np.uint8)
    every = np.asarray(multihost_utils.process_allgather(raw))
    chunk = np.arange(len(mine))
    whole = every[chunk % jax.process_count(), chunk]
    return whole.view(mine.dtype).reshape(mine.shape)
