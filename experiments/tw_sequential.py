"""Sequential architecture search on a table: which method finds the best cell first?

    python -m experiments.tw_sequential --seeds 50
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100
        --split valid --epochs 12 --report-split test --out results/cifar100
    python -m experiments.tw_sequential --out results/kernels --methods gp-tw gp-tw2g
        gp-gw gp-ot gp-gwot gp-path gp-hamming gp-nasbot gp-otmann
    python -m experiments.tw_sequential --benchmark nb201 --methods gp-tw2g-plus
        --scores hook_logdet synflow snip live_macs --out results/warm
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100 --split valid
        --methods gp-tw2g-plus prior-order --out results/prior
        --prior cifar10-valid/valid/200 ImageNet16-120/valid/200

Writes results.npz, table.csv and curves.png to --out. Every run can be killed and
started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.zero_cost import known_scores
from jaxnas.studies import cli
from jaxnas.studies.comparison import (
    methods,
    opened,
    outcome,
    prior_scores,
    runs,
    settings,
)


@dataclass(frozen=True)
class Config(settings.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = methods.MAIN
    """Which methods: random, evolution, gp-tw, gp-tw2g, gp-tw2g-plus,
    gp-tw2g-plus-sampled, gp-tw2g-copies, bananas, gp-hamming, gp-path, gp-nasbot, gp-ot,
    gp-sinkhorn, gp-gw, gp-fgw, gp-gwot, gp-otmann; prior-order, the order of summed Savage
    scores of --prior."""
    scores: tuple[str, ...] = ()
    """Scores of untrained networks, for the dataset fed back, that Gaussian processes know
    beforehand: hook_logdet, synflow, snip, live_macs ..."""
    scores_from: tuple[str, ...] = ("zerocost",)
    """Tables that have them: zerocost, and after it files of zero_cost_score, whose scores
    WHAT on images OF are called WHAT@OF."""
    prior: tuple[str, ...] = ()
    """Accuracies on other datasets that Gaussian processes over a pool start from, columns
    such as cifar100/valid/200."""
    prior_from: str | None = None
    """Table that has them; default: the benchmark."""
    out: str = "results/tw_sequential"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), what was fed back in percent, and row, the rows
      of the table that were asked, by `METHOD/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    methods.validate_methods(config.methods)
    table = opened.open_table(config)
    space, archs = table.benchmark.space, np.asarray(table.benchmark.archs)
    # Also where no method uses them: the folder's settings name them.
    stored_scores = known_scores.open_scores(
        config.scores, config.scores_from, config.dataset, space, archs
    )
    prior = prior_scores.open_prior(
        config.prior,
        config.prior_from or config.benchmark,
        (config.dataset, config.report_dataset or config.dataset),
        space,
        archs,
    )
    terms = methods.Terms(
        evaluations=config.evaluations,
        init=config.init,
        copies=opened.count_copies(config),
        extra=stored_scores.features,
        prior=prior.feature,
    )

    folder = runs.open_folder(
        config,
        table,
        driver="tw_sequential",
        free=("methods",),
        digests=stored_scores.digests | prior.digests,
    )
    searches = {m: methods.METHODS[m](space, archs, terms) for m in config.methods}
    done = runs.run(config, table, folder, searches)
    outcome.show(done, evaluations=config.evaluations, budget=config.budget)
    return done.arrays


if __name__ == "__main__":
    cli.command(main, Config)
