"""The chunks of a result folder: files of the runs of some seeds of a method.

`chunks/METHOD-FIRST-END.npz` has the arrays of seeds FIRST to END - 1, and
`METHOD-FIRST-END_2.npz` those of the same seeds where neither can replace the other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from jaxnas.io import run_folder
from jaxnas.io.run_folder import RunFolder

# Arrays of a chunk -> those that are wanted of it, or None if it has too little.
Adapt = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray] | None]
# (arrays of a saved chunk, of a new one) -> whether the new ones replace it.
Replaces = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], bool]
FOLDER = "chunks"
_SEEDS = r"-(\d+)-(\d+)(?:_\d+)?\.npz"
CHUNK = rf"(.+){_SEEDS}"
"""Pattern of the names of files; its first group is the method."""


def name_of(
    folder: RunFolder, method: str, part: dict[str, np.ndarray], replaces: Replaces
) -> str:
    """The piece that a new chunk is saved as.

    Args:
      folder: where the chunks are.
      method: its name.
      part: arrays of the new chunk, with its seeds.
      replaces: whether they replace those of a saved chunk of these seeds.

    Returns: the first name that is free, or of a file that is damaged or replaced.
    """
    seeds = part["seed"]
    name = first = f"{FOLDER}/{method}-{seeds[0]}-{seeds[-1] + 1}"
    for number in itertools.count(2):
        try:
            old = run_folder.load_piece(folder, name, {"method": method})
        except ValueError:
            return name
        if not np.array_equal(old.get("seed", ()), seeds) or replaces(old, part):
            return name
        name = f"{first}_{number}"
    raise AssertionError("there is always another name")


def read(
    kept: Path,
    folder: RunFolder,
    method: str,
    num_seeds: int,
    console: Console,
    adapt: Adapt = lambda part: part,
) -> list[dict[str, np.ndarray]]:
    """Reads saved results of seeds below `num_seeds`, without duplicates.

    Args:
      kept: the folder of the chunks.
      folder: the result folder.
      method: its name.
      num_seeds: seeds that are wanted.
      console: for warnings of files that cannot be used.
      adapt: cuts the arrays of a chunk to those wanted; None for too short ones.
    """
    parts, saved = [], np.arange(0)
    for path in sorted(kept.iterdir()):
        name = re.fullmatch(re.escape(method) + _SEEDS, path.name)
        if name is None or int(name[1]) >= num_seeds:
            continue
        seeds = np.arange(int(name[1]), int(name[2]))
        part = _read_chunk(path, folder, method, seeds, console)
        part = None if part is None else adapt(part)
        if part is not None:
            new = (seeds < num_seeds) & ~np.isin(seeds, saved)
            parts.append({name: array[new] for name, array in part.items()})
            saved = np.append(saved, seeds[new])
    return parts


def _read_chunk(
    path: Path, folder: RunFolder, method: str, seeds: np.ndarray, console: Console
) -> dict[str, np.ndarray] | None:
    """A chunk that was saved before; None, and a warning, if it cannot be used."""
    try:
        name = f"{FOLDER}/{path.stem}"
        part = run_folder.load_piece(folder, name, {"method": method})
        if not np.array_equal(part.get("seed", ()), seeds):
            raise ValueError(f"{path} does not hold seeds {seeds[0]} to {seeds[-1]}")
    except ValueError as error:
        line = f"warning: {error}: its seeds count as missing"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        return None
    return part
