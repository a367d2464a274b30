"""Converts an official benchmark file to a table file that every driver can read.

    python -m experiments.import_benchmark --source NAS-Bench-201-v1_1-096897.pth
        --out nb201.npz
    python -m experiments.tw_sequential --benchmark nb201.npz --dataset cifar100
        --split valid --epochs 12 --report-split test

Reads NAS-Bench-201 (.pth, v1_0 and v1_1), the folder NATS-tss-v1_0-3ffb9-simple, and
nasbench_only108.tfrecord and nasbench_full.tfrecord, without torch or TensorFlow and
without running code from them. All datasets, splits, seeds and epochs are kept.

The reader was tested on files of the same form, not on the official ones. It read 10 MB/s
on one busy core: eight minutes for the 4.7 GB of v1_1 and one minute for only108 at this
speed. Memory grew by 150 KB a cell of NAS-Bench-201, 2.5 GB for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.importers import official
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.studies import cli
from jaxnas.studies.progress import Counter, Progress

MIB = 2.0**20  # bytes


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
    with Progress(console) as shown:
        total = official.num_bytes(config.source) / MIB
        shown.begin("reading", Counter(total, "MiB"), then="converting")
        table = official.convert(
            config.source,
            config.out,
            name=config.name,
            partial=config.partial,
            progress=lambda num_bytes: shown.advance(num_bytes / MIB),
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


if __name__ == "__main__":
    lost = "interrupted: nothing was written"
    cli.command(main, Config, interrupted=lost, at_once=False)
