"""Timing of calls in turn on one core, and the table and csv file of the measurements."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxnas.io import files
from jaxnas.studies import cli, terminal


class Timing(NamedTuple):
    """Seconds of a call that was timed several times."""

    first: float  # of the first call, compilation included
    wall: np.ndarray  # (repeats,) wall time of the others
    cpu: np.ndarray  # (repeats,) processor time of all threads of the process

    def scaled(self, factor: float) -> Timing:
        """Returns the times of the calls after the first, in another unit."""
        return Timing(self.first, self.wall * factor, self.cpu * factor)


class Measurement(NamedTuple):
    """A line of the table, in `unit`; ratios are to the first line of its group."""

    group: str
    what: str
    unit: str
    first_s: float  # seconds of the first call, compilation included; NaN if unknown
    median: float  # wall time
    min: float
    max: float
    cpu: float  # median of processor time
    ratio: float  # median over rounds, to ours in the same round
    cpu_ratio: float  # the same of processor time


def mean(timings: Sequence[Timing]) -> Timing:
    """The mean of calls that were timed in the same rounds."""
    wall, cpu = ([t.wall for t in timings], [t.cpu for t in timings])
    return Timing(sum(t.first for t in timings), np.mean(wall, 0), np.mean(cpu, 0))


def plus(a: Timing, b: Timing, factor: float) -> Timing:
    """a + factor * b, for calls that were timed in the same rounds."""
    return Timing(a.first, a.wall + factor * b.wall, a.cpu + factor * b.cpu)


def once(call: Callable[[], object]) -> tuple[float, float]:
    """Times one call, which has to wait for its results.

    Returns: wall seconds and processor seconds.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int, consecutive: int = 1
) -> dict[str, Timing]:
    """Times every call once, and then all of them in turn, until each has `repeats`.

    A drift of the machine's speed thus changes all of them alike.

    Args:
      calls: by name.
      repeats: timed runs of each call after the first.
      consecutive: runs of a call before the next one's turn. A call much shorter than a
        millisecond, with 1, is mostly the time to refill the caches that the call
        before it used, so that it depends on the order of the calls.
    """
    first = {name: once(call)[0] for name, call in calls.items()}
    runs: dict[str, list] = {name: [] for name in calls}
    for begin in range(0, repeats, consecutive):
        for name, call in calls.items():
            end = min(begin + consecutive, repeats)
            runs[name] += [once(call) for _ in range(begin, end)]
    return {n: Timing(first[n], *np.array(runs[n]).T) for n in calls}


def compare(group: str, unit: str, timings: Mapping[str, Timing]) -> list[Measurement]:
    """Summarises timings of the same rounds; ratios are to the first of them.

    Args:
      group: title of the lines.
      unit: of the timings.
      timings: by the name of the line.
    """
    ours = next(iter(timings.values()))
    return [
        Measurement(
            group=group,
            what=what,
            unit=unit,
            first_s=t.first,
            median=float(np.median(t.wall)),
            min=float(np.min(t.wall)),
            max=float(np.max(t.wall)),
            cpu=float(np.median(t.cpu)),
            ratio=float(np.median(t.wall / ours.wall)),
            # A clock of processor time may stand still during a very short call.
            cpu_ratio=float(np.median(t.cpu / np.maximum(ours.cpu, 1e-12))),
        )
        for what, t in timings.items()
    ]


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keeps every thread of the process on one core, where the system can do that."""
    tasks = Path("/proc/self/task")
    if not hasattr(os, "sched_setaffinity") or not tasks.is_dir():
        yield
        return
    # Of the extra `dev`, which `config.validate` requires.
    import threadpoolctl

    allowed = os.sched_getaffinity(0)

    def keep(cores: set[int]) -> None:
        for task in tasks.iterdir():
            # A thread may end between the two lines.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cores)

    keep({max(allowed)})
    try:
        # Threads of a BLAS that wait for each other on one core would slow it down.
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        keep(allowed)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Empties and turns off the compilation caches, so that first calls compile."""
    was = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", was)


def machine(packages: Sequence[str]) -> str:
    """Describes the processor, its cores and load, and the versions of packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    used = ", ".join(f"{p} {version(p)}" for p in packages)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    device = jax.devices()[0].device_kind
    return (
        f"{name}, {cli.num_cores()} cores{load}; "
        f"Python {platform.python_version()}, {used}; jax runs on {device}"
    )


def show(console: Console, rows: Sequence[Measurement]) -> None:
    """Prints one table, in columns that stay the same for all its groups."""
    wall = "wall time: median (min to max) of the timed runs"
    console.print(f"\n{wall}; ratios to the first line of each group", highlight=False)
    for group, lines in itertools.groupby(rows, lambda row: row.group):
        table = terminal.plain(f"\n{group}")
        members = list(lines)
        heads = ("first call", members[0].unit, "(min to max)", "ratio", "cpu ratio")
        table.add_column("", min_width=50, no_wrap=True)
        for head, width in zip(heads, (10, 9, 22, 7, 9), strict=True):
            table.add_column(head, justify="right", min_width=width, no_wrap=True)
        for row in members:
            table.add_row(
                row.what,
                f"{row.first_s:.2f} s" if np.isfinite(row.first_s) else "",
                _short(row.median),
                f"({_short(row.min)} to {_short(row.max)})",
                *(_short(r) for r in (row.ratio, row.cpu_ratio)),
            )
        terminal.show(console, table)


def _short(value: float) -> str:
    """Three digits of a number; empty for NaN."""
    if not np.isfinite(value):
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def write_csv(path: Path, rows: Sequence[Measurement]) -> None:
    """Writes a line for each measurement; cells without a number are empty."""
    lines = [
        [*row[:3], *("" if x != x else f"{x:.6g}" for x in row[3:])] for row in rows
    ]
    files.write_csv(path, Measurement._fields, lines)
