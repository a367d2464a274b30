"""Parallel architecture search on a table: what does a batch cost, and what buys it?

    python -m experiments.tw_batch --seeds 50
    python -m experiments.tw_batch --benchmark nb201 --dataset cifar100 --split valid
        --epochs 12 --batches 5 --out results/cifar100_batch

Every method is run with every batch size, for the same number of evaluations. Writes
results.npz, table.csv and curves.png to --out. Every run can be killed and started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxnas.studies import cli
from jaxnas.studies.comparison import methods, opened, outcome, runs, settings


@dataclass(frozen=True)
class Config(settings.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = methods.MAIN_BATCH
    """Which ways to choose a batch: random, evolution, top-ei, quality-only, kdpp,
    kdpp-no-quality, greedy-map, thompson, gp-bucb, believer, liar, penalisation,
    uniform."""
    batches: tuple[int, ...] = (1, 5, 10, 20)
    """Architectures in a batch."""
    evaluations: int = 300
    """Evaluations of each run."""
    out: str = "results/tw_batch"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), what was fed back in percent, and row, the rows
      of the table that were asked, by `METHOD-xBATCH/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    methods.validate_methods(config.methods, methods.BATCH_METHODS)
    sizes = config.batches
    if not sizes or min(sizes) < 1 or max(sizes) > config.evaluations:
        raise ValueError(
            f"--batches must be between 1 and --evaluations = {config.evaluations}, "
            f"not {' '.join(map(str, sizes)) or 'none'}"
        )
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"--batches names {' '.join(map(str, sizes))}: each once")
    kinds = {f"{m}-x{size}": (m, size) for m in config.methods for size in sizes}

    table = opened.open_table(config)
    space, archs = table.benchmark.space, np.asarray(table.benchmark.archs)
    terms = methods.Terms(
        evaluations=config.evaluations,
        init=config.init,
        copies=opened.count_copies(config),
    )

    free = ("methods", "batches")
    folder = runs.open_folder(config, table, driver="tw_batch", free=free)
    searches = {
        label: methods.BATCH_METHODS[method](space, archs, terms._replace(batch=size))
        for label, (method, size) in kinds.items()
    }
    done = runs.run(config, table, folder, searches, methods.BATCH_METHODS)
    sizes = {label: int(label.rpartition("-x")[2]) for label in done.summaries}
    limits = {"evaluations": config.evaluations, "budget": config.budget}
    outcome.show(done, **limits, batch=sizes)
    return done.arrays


if __name__ == "__main__":
    cli.command(main, Config)
