"""Sequential architecture search on a table: which method finds the best cell first?

    python -m experiments.tw_sequential --seeds 50
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100
        --split valid --epochs 12 --report-split test --out results/cifar100
    python -m experiments.tw_sequential --out results/kernels --methods gp-tw gp-tw2g
        gp-gw gp-ot gp-gwot gp-path gp-hamming gp-nasbot gp-otmann
    python -m experiments.tw_sequential --benchmark nb201 --methods gp-tw2g-plus
        --scores hook_logdet synflow snip live_macs --out results/warm

Writes results.npz, table.csv and curves.png to --out. Every run can be killed and
started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.common import methods
from experiments.zero_cost import score_columns
from jaxnas.benchmarks import sources, table_files
from jaxnas.kernels.feature_maps import Parts
from jaxnas.predictors import few_labels
from jaxnas.spaces.base import Space
from jaxnas.studies import cli
from jaxnas.studies.comparison import outcome, runs


@dataclass(frozen=True)
class Config(runs.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = methods.MAIN
    """Which methods, in which order; all that there are: methods.py."""
    scores: tuple[str, ...] = ()
    """Scores of untrained networks, for the dataset fed back, that Gaussian processes know
    beforehand: hook_logdet, synflow, snip, live_macs ..."""
    scores_from: tuple[str, ...] = ("zerocost",)
    """Tables that have them: zerocost, and after it files of zero_cost_score, whose scores
    WHAT on images OF are called WHAT@OF."""
    out: str = "results/tw_sequential"
    """Folder for the results."""

    def other_tables(self) -> dict[str, str]:
        """The sha256 of the tables of scores, where there are some."""
        tables = map(sources.open_table, self.scores_from if self.scores else ())
        digests = [table_files.digest(table) for table in tables]
        return {"scores_sha256": ", ".join(digests)} if digests else {}

    def parts(self, space: Space) -> list[Parts]:
        """The distance between the Savage scores of `scores`, where there are some."""
        if not self.scores:
            return []
        tables = [sources.open_table(name) for name in self.scores_from]
        if not tables:
            raise ValueError("--scores wants --scores-from, which is empty")
        if tables[0].space != space.name:
            raise ValueError(
                f"no scores of {space.name} in the --scores-from {tables[0].name}"
            )
        known = score_columns.gather(tables[0], self.dataset, tables)
        if unknown := [name for name in self.scores if name not in known]:
            raise ValueError(
                f"no scores {', '.join(unknown)} for {self.dataset} in "
                f"{', '.join(self.scores_from)}: wanted some of {', '.join(known)}"
            )
        values = np.stack([known[name].value for name in self.scores], 1)
        scored = tables[0].arch[~np.isnan(values).any(1)]
        wanted = sources.open_table(self.benchmark).arch
        missing = set(map(tuple, wanted.tolist())) - set(map(tuple, scored.tolist()))
        if missing:
            raise ValueError(
                f"{len(missing)} architectures of {self.benchmark} have no "
                f"{' or '.join(self.scores)}: wanted scores of all {len(wanted)}"
            )
        features = few_labels.savage_scores(values)
        return [few_labels.by_architecture(space, tables[0].arch, features)]


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), what was fed back in percent, and row, the rows
      of the table that were asked, by `METHOD/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    methods.check(config.methods)
    # Also where no method uses them: the folder would say that they were known.
    if config.scores:
        config.parts(runs.SPACES[sources.open_table(config.benchmark).space])
    done = runs.run(
        config,
        config.methods,
        lambda name, space, archs: methods.METHODS[name](space, archs, config),
        free=("methods",),
    )
    outcome.show(done, evaluations=config.evaluations, budget=config.budget)
    return done.arrays


if __name__ == "__main__":
    cli.command(main, Config)
