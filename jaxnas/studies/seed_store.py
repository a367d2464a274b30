"""Long runs: chunk after chunk of seeds, each saved, so that a run can be killed.

A result folder holds `settings.json`, what its runs were made with, and
`chunks/METHOD-FIRST-END.npz`, the arrays of seeds FIRST to END - 1; runs of other lengths
that cannot replace each other are beside it, as `METHOD-FIRST-END_2.npz`. A seed that is
there, in whatever chunk, is not computed again, and every file is written atomically; so a
run that is killed at any moment and started again ends with the same bits as one that was
not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxnas.io import files, run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.studies import chunk_files
from jaxnas.studies.chunk_files import Adapt, Replaces
from jaxnas.studies.cli import OUT, named
from jaxnas.studies.progress import Counter, Progress

# (method, seeds (k,) int) -> arrays with leading axis (k,). What comes back for a seed
# may depend on the method and the seed alone.
Simulate = Callable[[str, np.ndarray], Mapping[str, Any]]


def open_folder(path: str | Path, settings: Mapping[str, Any]) -> RunFolder:
    """Checks that results made with `settings` can be kept at `path`; writes nothing.

    Args:
      path: the folder, as given by `--out`; `run_chunks` makes it where it is missing.
      settings: all that the results depend on, as plain JSON values.

    Raises: `ValueError` if the folder belongs to other settings or to something else,
      or cannot be written.
    """
    return run_folder.open_folder(named(path), settings, OUT)


def _make(folder: RunFolder) -> Path:
    """Makes the folder, and in it the one for chunks, which is returned."""
    run_folder.create(folder)
    return files.make_folder(folder.path / chunk_files.FOLDER)


def cut_to(length: int) -> Adapt:
    """The `adapt` of runs that begin like longer ones, to a number of evaluations.

    Args:
      length: evaluations; arrays but `seed` have them on their second axis.

    Returns: cuts (k, t, ...) arrays to (k, length, ...); None where t is smaller.
    """

    def adapt(part: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        runs = {name: array for name, array in part.items() if name != "seed"}
        if any(array.ndim < 2 or array.shape[1] < length for array in runs.values()):
            return None
        return part | {name: array[:, :length] for name, array in runs.items()}

    return adapt


def seed_keys(base_seed: int, seeds: np.ndarray) -> jax.Array:
    """Makes the keys of runs, each of which depends on its own seed alone.

    Args:
      base_seed: of the comparison.
      seeds: (k,) integers.

    Returns: (k,) PRNG keys.
    """
    key = jax.random.key(base_seed)
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(np.asarray(seeds))


def run_chunks(
    folder: RunFolder,
    methods: Sequence[str],
    num_seeds: int,
    simulate: Simulate,
    *,
    chunk: int,
    unit: str = "seed",
    work: tuple[float, str] | None = None,
    adapt: Adapt = lambda part: part,
    replaces: Replaces = lambda old, new: False,
) -> dict[str, dict[str, np.ndarray]]:
    """Runs seeds 0 to num_seeds - 1 of each method, in chunks, and saves each chunk.

    Seeds that the folder has are read and not run again.

    Args:
      folder: where the chunks are kept.
      methods: their names, in the order of work; the files of a method begin with it.
      num_seeds: seeds of each method.
      simulate: runs a chunk. All of its calls for a method have the same number of seeds,
        so that it compiles once; the results of surplus seeds of the last are dropped.
      chunk: the largest number of seeds between two saves.
      unit: what a seed stands for, in the singular, as progress is to call it.
      work: the work of a seed and its unit, as (200, "evaluation"), in which progress
        gives the speed; default: in seeds.
      adapt: cuts the arrays of a saved chunk to those requested, or returns None for
        arrays that are too short: the chunk is then run again.
      replaces: whether new arrays hold all that those of a saved chunk of these seeds
        hold; otherwise both are kept.

    Returns: the arrays of each method by name, with all seeds on the leading axis.
    Raises: `ValueError` if the folder cannot be written, and `RuntimeError` that names
      the method and the seeds if `simulate` raises.
    """
    console = Console(stderr=True)
    kept, results = _make(folder), {}
    with Progress(console) as progress:
        for method in dict.fromkeys(methods):
            progress.begin(method, Counter(num_seeds, unit, work=work))
            parts = chunk_files.read(kept, folder, method, num_seeds, console, adapt)
            saved = np.concatenate([part["seed"] for part in parts] or [np.arange(0)])
            progress.advance(len(saved), computed=False)
            missing = np.setdiff1d(np.arange(num_seeds), saved)
            size = -(-len(missing) // max(1, -(-len(missing) // chunk)))
            for seeds in _pieces(missing, size):
                part = _compute(simulate, method, seeds[0] + np.arange(size))
                part = {name: array[: len(seeds)] for name, array in part.items()}
                part = {"seed": seeds} | part
                name = chunk_files.name_of(folder, method, part, replaces)
                run_folder.save_piece(folder, name, part, {"method": method})
                progress.advance(len(seeds))
                parts.append(part)
            results[method] = _in_order(parts)
    return results


def finished_methods(folder: RunFolder) -> list[str]:
    """Lists the methods of which a folder has chunks, in alphabetical order."""
    paths = (folder.path / chunk_files.FOLDER).glob("*")
    names = (re.fullmatch(chunk_files.CHUNK, path.name) for path in paths)
    return sorted({name[1] for name in names if name})


def other_results(
    folder: RunFolder,
    methods: Sequence[str],
    num_seeds: int,
    adapt: Adapt = lambda part: part,
    *,
    least: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Reads the results of other methods in a folder.

    Methods with fewer than `num_seeds` seeds are named on the terminal; those with fewer
    than `least` are left out.

    Args:
      folder: where the chunks are.
      methods: those that have just run.
      num_seeds: seeds of each of these; more are not read.
      adapt: as for `run_chunks`; shorter runs are not comparable, and do not count.
      least: seeds that a method must have; default: `num_seeds`.

    Returns: the arrays of each method by name, as `run_chunks` returns them.
    """
    least = num_seeds if least is None else least
    results, console = {}, Console(stderr=True)
    for method in finished_methods(folder):
        if method in methods:
            continue
        arrays = finished(folder, method, num_seeds, adapt)
        count = len(arrays["seed"]) if arrays else 0
        if count >= least:
            results[method] = arrays
        if count < num_seeds:
            line = (
                f"{method} {'has' if count >= least else 'is left out: it has'} {count} "
                f"of {num_seeds} runs of this length in {folder.path}; add it to --methods "
                "to run the rest"
            )
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return results


def finished(
    folder: RunFolder,
    method: str,
    num_seeds: int,
    adapt: Adapt = lambda part: part,
) -> dict[str, np.ndarray]:
    """Reads seeds 0 to k - 1 of a method, where k is the first seed without results.

    Runs and writes nothing, and may be called while another process runs seeds.

    Args:
      folder: where the chunks are.
      method: its name.
      num_seeds: the largest k.
      adapt: as for `run_chunks`; a chunk that is too short counts as missing.

    Returns: as `run_chunks` of the method; empty if seed 0 is not there.
    """
    kept = folder.path / chunk_files.FOLDER
    if not kept.is_dir():
        return {}
    console = Console(stderr=True)
    parts = chunk_files.read(kept, folder, method, num_seeds, console, adapt)
    if not parts:
        return {}
    results = _in_order(parts)
    consecutive = results["seed"] == np.arange(len(results["seed"]))
    count = len(consecutive) if consecutive.all() else int(np.argmin(consecutive))
    return {name: array[:count] for name, array in results.items()} if count else {}


def _in_order(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all parts, by seed."""
    order = np.argsort(np.concatenate([part["seed"] for part in parts]))
    names = parts[0]
    return {n: np.concatenate([part[n] for part in parts])[order] for n in names}


def _pieces(seeds: np.ndarray, size: int) -> list[np.ndarray]:
    """Seeds (k,) in order, cut at gaps and into parts of `size`."""
    runs = np.split(seeds, np.flatnonzero(np.diff(seeds) > 1) + 1)
    return [r[i : i + size] for r in runs for i in range(0, len(r), max(size, 1))]


def _compute(simulate: Simulate, method: str, seeds: np.ndarray) -> dict:
    """The arrays of one chunk, on the host."""
    try:
        part = {name: np.asarray(x) for name, x in simulate(method, seeds).items()}
        for name, array in part.items():
            if array.shape[:1] != seeds.shape or name == "seed":
                raise ValueError(f"{name} {array.shape} is not of {len(seeds)} seeds")
    except Exception as error:
        where = f"{method} failed at seeds {seeds[0]} to {seeds[-1]}"
        raise RuntimeError(f"{where}: {error}") from error
    return part
