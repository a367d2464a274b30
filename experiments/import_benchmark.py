"""Converts an official benchmark file to a table file that every driver can read.

    python -m experiments.import_benchmark --source NAS-Bench-201-v1_1-096897.pth
        --out nb201.npz
    python -m experiments.tw_sequential --benchmark nb201.npz --dataset cifar100
        --split valid --epochs 12 --report-split test

Reads NAS-Bench-201 (.pth, v1_0 and v1_1), the folder NATS-tss-v1_0-3ffb9-simple, and
nasbench_only108.tfrecord and nasbench_full.tfrecord, without torch or TensorFlow and
without running anything of theirs. All datasets, splits, seeds and epochs are kept.

The reader was tested on files of the same form, not on the official ones. It read 10 MB/s
on one busy core: eight minutes for the 4.7 GB of v1_1 and one minute for only108 at this
speed. Memory grew by 150 KB a cell of NAS-Bench-201, 2.5 GB for all of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import rich.progress
from rich.console import Console

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers import official
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.studies import cli, progress


@dataclass(frozen=True)
class Config:
    """What to convert."""

    source: str
    """The official file, or the folder of NATS-Bench; the format is detected."""
    out: str
    """The table file (.npz) to write; it appears when it is complete."""
    name: str | None = None
    """Name of the table in results; default: nb201, nats-tss or nb101."""
    partial: bool = False
    """Also convert a file that lacks architectures of its space."""


def main(config: Config) -> BenchmarkTable:
    """Converts one file.

    Returns: the table that was written.
    Raises: `ValueError` for a source that cannot be read, and if the table cannot be
      written.
    """
    console = Console()
    official.detect(config.source)
    with _Bar(console, official.num_bytes(config.source)) as bar:
        table = official.convert(
            config.source,
            config.out,
            name=config.name,
            partial=config.partial,
            progress=bar.advance,
        )
    counts = table.manifest["counts"]
    text = f"{config.out}: {table.name}, {counts['architectures']:,} architectures, "
    text += f"{counts['runs']:,} runs; checked: {table.manifest['checksum']}"
    console.print(text, highlight=False, soft_wrap=True)
    accuracies = [
        f"{dataset}/{split}/{epochs}"
        for dataset, split, epochs in table_files.accuracies(table)
    ]
    console.print(f"accuracies: {', '.join(accuracies)}", highlight=False)
    return table


class _Bar:
    """Progress of reading in bytes: a bar on a terminal, elsewhere lines."""

    def __init__(self, console: Console, total: int):
        self._console, self._total, self._done = console, total, 0
        self._start = time.monotonic()
        self._throttle = progress.Throttle(progress.SECONDS)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.DownloadColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("reading", total=total)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()

    def advance(self, num_bytes: int) -> None:
        """Adds bytes that were read."""
        self._done += num_bytes
        # The conversion after reading takes minutes too.
        end = self._done >= self._total
        self._bar.update(
            self._task,
            completed=min(self._done, self._total),
            description="converting" if end else "reading",
        )
        if self._throttle.due() and not self._console.is_terminal:
            self._throttle.restart()
            elapsed = time.monotonic() - self._start
            line = f"read {self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB"
            line += progress.time_left(elapsed, self._done, self._total)
            self._console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    lost = "interrupted: nothing was written"
    cli.command(main, Config, interrupted=lost, at_once=False)
