"""How long do searches, distances, transport and k-DPPs take, and what memory?

    python -m experiments.bench
    python -m experiments.bench --sections search --repeats 9

Takes some minutes on two cores. Every peer runs in turn with ours, so that ratios
hold when the machine's speed drifts. Writes bench.csv and bench.json to --out. Needs the
packages of the extra `dev`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Literal

from rich.console import Console

from experiments import methods, settings, timing
from experiments.timing import Row
from jaxnas import checkpoints
from jaxnas.spaces.nasbench201 import SPACE

PACKAGES = {
    "jax": "jax",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "POT": "ot",
    "DPPy": "dppy",
    "threadpoolctl": "threadpoolctl",
    "ott-jax": "ott",
}


# Sections whose peer is PyTorch.
TORCH = {"proxies", "training"}


@dataclass(frozen=True)
class Config:
    """What to measure, at which sizes."""

    sections: tuple[
        Literal[
            "search", "distances", "transport", "dpp", "memory", "proxies", "training"
        ],
        ...,
    ] = (
        "search",
        "distances",
        "transport",
        "dpp",
    )
    """Which parts, in which order; memory is the main comparison's, by its peak; proxies
    and training need PyTorch, of the extra `torch`."""
    ngrams: tuple[int, ...] = (1, 2)
    """Orders of the operation n-grams of the tree-Wasserstein distance."""
    cells: int = SPACE.size
    """How many cells of NAS-Bench-201 are candidates, and have distances."""
    repeats: int = 5
    """Timed runs of everything, after a first one."""
    runs: int = 8
    """Runs of one search in a timed call."""
    evaluations: int = 150
    """Evaluations of one run."""
    init: int = 10
    """Random ones among them; a time is per evaluation after them."""
    at: tuple[int, ...] = (20, 80, 140)
    """Observations at which a step of the scikit-learn loop is timed."""
    block: int = 128
    """Cells in a block of distances."""
    peer_cells: int = 512
    """Cells whose distances to all others scipy computes; ours are those of all."""
    pairs: int = 500
    """Pairs of cells for loops that take one pair at a time."""
    items: int = 200
    """Items of a k-DPP."""
    subset: int = 5
    """Items in one of its draws."""
    draws: int = 1000
    """Draws from one kernel."""
    transport_pairs: int = 4096
    """Pairs of cells between which our transport solvers run; POT has --pairs of them."""
    ott_pairs: int = 64
    """Pairs for ott-jax, all at once; 0 leaves it out: it compiles for a minute."""
    networks: int = 24
    """Random cells that are scored, and trained."""
    depths: tuple[int, ...] = (1, 5)
    """Cells in each stage of their networks."""
    images: int = 32
    """Images that they are scored on."""
    steps: int = 8
    """Training steps of each of them."""
    memory_seeds: int = 2
    """Runs of each method in the measurement of memory."""
    memory_evaluations: int = 200
    """Evaluations of each of these runs."""
    memory_methods: tuple[str, ...] = ()
    """Methods of these runs; default: those of the main comparison."""
    out: str = "results/bench"
    """Folder for the results."""


def main(config: Config) -> list[Row]:
    """Measures, prints and writes.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _check(config)
    # They load libraries that read the environment: not before `settings.command`.
    from experiments import (
        bench_distances,
        bench_dpp,
        bench_search,
        bench_transport,
    )

    out = settings.folder(config.out, "bench.csv")
    machine, rows, console = timing.machine(tuple(PACKAGES)), [], Console()
    console.print(machine, highlight=False, soft_wrap=True)
    sections = {
        "search": bench_search.search,
        "distances": bench_distances.distances,
        "dpp": bench_dpp.kdpp,
        "transport": bench_transport.transport,
        "memory": memory,
    }
    if not TORCH.isdisjoint(config.sections):
        from experiments import bench_proxies, bench_training

        sections |= {
            "proxies": bench_proxies.proxies,
            "training": bench_training.steps,
        }
    for name in config.sections:
        with console.status(f"measuring: {name}"), timing.compiling():
            rows += sections[name](config)
    timing.show(console, rows)
    checkpoints.atomic_write(out / "bench.csv", timing.as_csv(rows).encode())
    # JSON has no NaN.
    plain = [{k: None if v != v else v for k, v in r._asdict().items()} for r in rows]
    described = {"machine": machine, "settings": asdict(config), "rows": plain}
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    checkpoints.atomic_write(out / "bench.json", text.encode())
    console.print(f"{out}: bench.csv, bench.json", highlight=False, soft_wrap=True)
    return rows


# A process between: a child's peak begins at that of the process which starts it.
_PEAK = """
import resource, subprocess, sys, time
wall = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.perf_counter() - wall
if done.returncode:
    sys.exit(done.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 2**20 if sys.platform == "darwin" else 2**10
print(used.ru_maxrss / unit, wall, used.ru_utime + used.ru_stime)
"""


def memory(config: Config) -> list[Row]:
    """The peak resident memory of the main comparison, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        job = [
            *(sys.executable, "-m", "experiments.tw_sequential", "--out", folder),
            *("--seeds", str(config.memory_seeds)),
            *("--evaluations", str(config.memory_evaluations)),
        ]
        if config.memory_methods:
            job += ["--methods", *config.memory_methods]
        mebibytes, wall, cpu = peak(job)
    runs = f"{config.memory_seeds} runs of {config.memory_evaluations} evaluations"
    group = f"the main comparison with {runs}, start and compilation included"
    return [
        _single(group, "peak memory", "MiB", mebibytes, math.nan),
        _single(f"{group}: time", "wall time", "s", wall, cpu),
    ]


def _single(group: str, what: str, unit: str, value: float, cpu: float) -> Row:
    nan = math.nan
    return Row(group, what, unit, nan, value, value, value, cpu, nan, nan)


def peak(job: Sequence[str]) -> tuple[float, float, float]:
    """Runs a command: its peak memory in MiB, wall seconds and processor seconds."""
    process = [sys.executable, "-c", _PEAK, *job]
    # The job uses all cores, whatever this process was told to use.
    ours = {k: v for k, v in os.environ.items() if k != "NPROC"}
    done = subprocess.run(process, capture_output=True, text=True, env=ours)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ValueError(f"the job whose memory is measured failed: {last}")
    mebibytes, wall, cpu = map(float, done.stdout.split())
    return mebibytes, wall, cpu


def _check(config: Config) -> None:
    """Raises `ValueError` for sizes that cannot be, and for peers that are missing."""
    names = ("cells", "repeats", "runs", "evaluations", "block", "peer_cells", "pairs")
    settings.positive(config, *names, "memory_seeds", "memory_evaluations", "draws")
    settings.positive(config, "transport_pairs", "networks", "images")
    settings.positive(config, "steps")
    if config.memory_methods:
        methods.check(config.memory_methods)
    if not 1 <= config.subset <= config.items:
        raise ValueError(
            f"--subset must be between 1 and --items = {config.items}, "
            f"not {config.subset}"
        )
    if not 2 <= config.init < config.evaluations < config.cells <= SPACE.size:
        raise ValueError(
            "wanted 2 <= --init < --evaluations < --cells <= "
            f"{SPACE.size}, not {config.init}, {config.evaluations}, {config.cells}"
        )
    if not config.at or not all(2 <= t <= config.evaluations for t in config.at):
        raise ValueError(
            f"--at must be between 2 and --evaluations = {config.evaluations}, "
            f"not {config.at}"
        )
    if not config.ngrams or min(config.ngrams) < 1:
        raise ValueError(f"--ngrams must be at least 1, not {config.ngrams}")
    if not config.sections:
        raise ValueError(
            "--sections needs one of search, distances, transport, dpp, memory, "
            "proxies, training"
        )
    missing = [name for name, module in PACKAGES.items() if not find_spec(module)]
    if not TORCH.isdisjoint(config.sections) and not find_spec("torch"):
        raise ValueError(
            f"torch not installed: --sections {' and '.join(sorted(TORCH))} need the "
            "extra torch"
        )
    if not config.depths or min(config.depths) < 1:
        raise ValueError(f"--depths must be at least 1, not {config.depths}")
    if missing:
        raise ValueError(
            f"{', '.join(missing)} not installed: wanted the packages of the extra dev"
        )


if __name__ == "__main__":
    settings.command(
        main,
        Config,
        interrupted="interrupted: nothing was written",
        cores=settings.use_one_core,
    )
