"""Sequential architecture search on a table: which method finds the best cell first?

    python -m experiments.tw_sequential --seeds 50
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100
        --split valid --epochs 12 --report-split test --out results/cifar100
    python -m experiments.tw_sequential --out results/kernels --methods gp-tw gp-tw2g
        gp-gw gp-ot gp-gwot gp-path gp-hamming gp-nasbot gp-otmann
    python -m experiments.tw_sequential --benchmark nb201 --methods gp-tw2g-plus
        --scores hook_logdet synflow snip live-macs --out results/warm

Writes results.npz, table.csv and curves.png to --out. Every run can be killed and
started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments import compare, methods, score_columns, settings
from jaxnas.benchmarks import sources
from jaxnas.kernels.distances import Parts
from jaxnas.search import few_labels
from jaxnas.spaces.base import Space


@dataclass(frozen=True)
class Config(compare.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = methods.MAIN
    """Which methods, in which order; all that there are: methods.py."""
    scores: tuple[str, ...] = ()
    """Scores of untrained networks, for the dataset fed back, that Gaussian processes know
    beforehand: hook_logdet, synflow, snip, live-macs ..."""
    scores_from: str = "zerocost"
    """Table that has them: zerocost, or a file of zero_cost_score."""
    out: str = "results/tw_sequential"
    """Folder for the results."""

    def other_tables(self) -> dict[str, str]:
        """The sha256 of the table of scores, where there are some."""
        if not self.scores:
            return {}
        return {
            "scores_sha256": sources.open_table(self.scores_from).manifest["sha256"]
        }

    def parts(self, space: Space) -> list[Parts]:
        """The distance between the ranks of `scores`, where there are some."""
        if not self.scores:
            return []
        table = sources.open_table(self.scores_from)
        if table.space != space.name:
            raise ValueError(
                f"--scores-from {table.name} is of the space {table.space}: wanted one "
                f"of {space.name}"
            )
        known = score_columns.gather(table, self.dataset)
        if unknown := [name for name in self.scores if name not in known]:
            raise ValueError(
                f"no scores {', '.join(unknown)} for {self.dataset} in {table.name}: "
                f"wanted some of {', '.join(known)}"
            )
        values = np.stack([known[name].value for name in self.scores], 1)
        ranks = few_labels.ranked(values)
        return [few_labels.by_architecture(space, table.arch, ranks)]


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
