"""Sequential architecture search on a table: which method finds the best cell first?

    python -m experiments.tw_sequential --seeds 50
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100
        --split valid --epochs 12 --report-split test --out results/cifar100
    python -m experiments.tw_sequential --out results/kernels --methods gp-tw gp-tw2g
        gp-gw gp-ot gp-gwot gp-path gp-hamming gp-nasbot gp-otmann

Writes results.npz, table.csv and curves.png to --out. Every run can be killed and
started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments import compare, methods, settings


@dataclass(frozen=True)
class Config(compare.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = methods.MAIN
    """Which methods, in which order; all that there are: methods.py."""
    out: str = "results/tw_sequential"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), what was fed back in percent, and row, the rows
      of the table that were asked, by `METHOD/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    methods.check(config.methods)
    done = compare.run(
        config,
        config.methods,
        lambda name, space, archs: methods.METHODS[name](space, archs, config),
        free=("methods",),
    )
    compare.show(config, done)
    return done.arrays


if __name__ == "__main__":
    settings.command(main, Config)
