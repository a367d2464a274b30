"""How well do scores of untrained networks rank the trained ones?

    python -m experiments.zero_cost_report --scores-from results/zero_cost_score/scores.npz
    python -m experiments.zero_cost_report --run one --scores all
    python -m experiments.zero_cost_report --scores-from results/cifar10/scores.npz
        --scores hook_logdet hook_logdet@cifar10 aznas-hook@cifar10

The first compares your own scores, files of zero_cost_score, with the accuracies of the
embedded table (or of --benchmark, a table file with accuracies of your own); the others
need the stored scores of NAS-Bench-201, which JAXNAS_SHARED has.

For every score and dataset: Spearman's and Kendall's correlation with the test accuracy
after the longest training, with 95 % bootstrap intervals; the best-scored cell; how many
of the 64 best-scored are among the best 5 % by accuracy; correlations between all pairs
of scores. Writes scores.csv, pairs.csv, the figures as png, and all of it as one page,
report.html, to --out.

Takes 2 minutes for 8 scores and 3 datasets on two busy cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.common import html_report
from experiments.zero_cost import score_columns, score_figures
from experiments.zero_cost.comparison import (
    GOOD,
    TOP,
    Comparison,
    ScoreSummary,
    compare,
)
from experiments.zero_cost.score_columns import Score
from jaxnas.benchmarks import named
from jaxnas.io import files
from jaxnas.studies import cli

ALL = "all"
PUBLISHED = (
    *("val12", "hook_logdet", "synflow", "snip", "combined"),
    *("macs", "live_macs", "logranks"),
)


@dataclass(frozen=True)
class Config:
    """Which scores, against which accuracies."""

    benchmark: str | None = None
    """Table of accuracies: zerocost, analog, or a table file, which may hold scores too.
    Default: zerocost where JAXNAS_SHARED has it, else analog, which is embedded."""
    scores_from: tuple[str, ...] = ()
    """Files of zero_cost_score; their scores WHAT on images OF are called WHAT@OF."""
    datasets: tuple[str, ...] = ()
    """Datasets of the accuracies; default: cifar10, cifar100 and ImageNet16-120, as far as
    the table has them."""
    scores: tuple[str, ...] = ()
    """Which scores (score_columns.py explains the names), or all that every dataset has.
    Default: those of --scores-from, else the published ones available."""
    run: str = "mean"
    """Accuracy: mean of the runs, or one, of one run as in the published tables."""
    resamples: int = 200
    """Bootstrap samples."""
    base_seed: int = 0
    """Seed of the bootstrap samples."""
    out: str = "results/zero_cost_report"
    """Folder for the report."""


class Inputs(NamedTuple):
    """Opened and validated inputs of the comparison."""

    benchmark: str
    names: tuple[str, ...]  # of the scores
    scores: dict[str, dict[str, Score]]  # by dataset, then by name
    accuracy: dict[str, tuple[str, np.ndarray]]  # by dataset: the column and its values
    counts: np.ndarray  # (k,) numbers of best-scored cells of the recall curves


def main(config: Config) -> list[ScoreSummary]:
    """Writes the report.

    Returns: a summary for each dataset and score.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "resamples")
    cli.at_most(config, resamples=10_000)
    cli.seed(config)
    inputs = _open(config)
    out = cli.folder(config.out, "zero_cost_report")
    samples = {"resamples": config.resamples, "seed": config.base_seed}
    done = {}
    with Console(stderr=True).status("") as status:
        for dataset, scores in inputs.scores.items():
            status.update(f"{dataset}: correlations of {len(scores)} scores")
            truth = inputs.accuracy[dataset]
            done[dataset] = compare(dataset, scores, truth, inputs.counts, **samples)
    summaries = [s for of in done.values() for s in of.summaries.values()]
    _write_csv(out, inputs.names, done)
    figures = _draw(out, inputs, done)
    intro = _intro(config, inputs.benchmark, done)
    title = "Scores of untrained networks"
    page = out / "report.html"
    html_report.write(page, title, intro, {"": _table(summaries)}, out, figures)
    _print(summaries, page)
    return summaries


def _open(config: Config) -> Inputs:
    """Opens the tables and chooses datasets and scores."""
    benchmark, table = score_columns.open_accuracies(config.benchmark)
    score_tables = [named.open_table(path) for path in config.scores_from]
    datasets = score_columns.datasets(table, config.datasets)
    every = {d: score_columns.gather(table, d, score_tables) for d in datasets}
    common = [n for n in every[datasets[0]] if all(n in s for s in every.values())]
    if config.scores == (ALL,):
        names = tuple(common)
    else:
        names = config.scores or score_columns.default_scores(PUBLISHED, common)
    cli.require_names(names, common, "score")
    accuracy = {d: score_columns.accuracy(table, d, config.run) for d in datasets}
    scores = {d: {name: every[d][name] for name in names} for d in datasets}
    for dataset, name in ((d, n) for d in datasets for n in names):
        if (num := (~np.isnan(scores[dataset][name].value)).sum()) < 2:
            raise ValueError(
                f"{num} cells have the score {name} on {dataset}: wanted 2 at least"
            )
    counts = np.unique(np.geomspace(1, len(table.arch) / 4, 40).astype(int))
    return Inputs(benchmark, names, scores, accuracy, counts)


def _write_csv(out: Path, names: Sequence[str], done: Mapping[str, Comparison]) -> None:
    """Writes scores.csv and pairs.csv."""
    header = ["dataset", "score", "cells"]
    for what in ("spearman", "kendall"):
        header += [what, f"{what}_low", f"{what}_high"]
    header += [*ScoreSummary._fields[5:]]
    summaries = [s for of in done.values() for s in of.summaries.values()]
    lines = [[*s[:3], *s.spearman, *s.kendall, *s[5:]] for s in summaries]
    files.write_csv(out / "scores.csv", header, map(_rounded, lines))
    pairs = [
        [dataset, names[i], names[j], value]
        for dataset, of in done.items()
        for (i, j), value in np.ndenumerate(of.pairs)
        if i < j
    ]
    header = ["dataset", "first", "second", "spearman"]
    files.write_csv(out / "pairs.csv", header, map(_rounded, pairs))


def _rounded(line: Sequence[object]) -> list[object]:
    return [f"{x:.6g}" if isinstance(x, float) else x for x in line]


def _draw(out: Path, inputs: Inputs, done: Mapping[str, Comparison]) -> dict[str, str]:
    """Writes all figures; returns the caption of each file, in the page's order."""
    figures = {}
    for what in ("spearman", "kendall"):
        values = {
            dataset: {n: getattr(of.summaries[n], what) for n in inputs.names}
            for dataset, of in done.items()
        }
        path = out / f"{what}.png"
        figures[path.name] = f"{what.capitalize()}'s correlation, 95 % intervals"
        score_figures.correlations(path, values, label=figures[path.name])
    for dataset, comparison in done.items():
        figures |= _draw_dataset(out, dataset, inputs, comparison)
    return figures


def _draw_dataset(
    out: Path, dataset: str, inputs: Inputs, comparison: Comparison
) -> dict[str, str]:
    """Writes the three figures of one dataset; returns their captions by file."""
    kinds = ("scatter", "recall", "pairs")
    scatter, recall, pairs = (f"{kind}-{dataset}.png" for kind in kinds)
    captions = {
        scatter: f"{dataset}: accuracy by rank of each score, without the worst "
        f"{score_figures.LEFT_OUT:.0%} by accuracy",
        recall: f"{dataset}: share among the best {GOOD:.0%} by accuracy",
        pairs: f"{dataset}: Spearman's correlation between scores",
    }
    score_figures.score_scatter(
        out / scatter,
        comparison.points,
        title=captions[scatter],
        label=f"{comparison.accuracy}, percent",
    )
    score_figures.recall_curves(
        out / recall,
        inputs.counts,
        comparison.recalls,
        title=captions[recall],
        label="share",
    )
    score_figures.pairs_matrix(
        out / pairs, list(inputs.names), comparison.pairs, title=captions[pairs]
    )
    return captions


def _intro(config: Config, benchmark: str, done: Mapping[str, Comparison]) -> str:
    columns = ", ".join(of.accuracy for of in done.values())
    return (
        f"{benchmark}, accuracy: {columns}. Intervals: {config.resamples} bootstrap "
        f"samples of the cells. Good: how many of the {TOP} best-scored cells are among "
        f"the best {GOOD:.0%}."
    )


def _table(summaries: Iterable[ScoreSummary]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the page's table."""
    header = [
        *("dataset", "score", "cells", "Spearman", "Kendall", "good"),
        *("best-scored: accuracy", "its rank", "seconds for all"),
    ]
    lines = [
        [
            *(s.dataset, s.score, f"{s.cells:,}"),
            *(f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in (s.spearman, s.kendall)),
            *(str(s.good), f"{s.best_accuracy:.2f}", str(s.best_rank)),
            "" if np.isnan(s.seconds) else f"{s.seconds:,.0f}",
        ]
        for s in summaries
    ]
    return header, lines


def _print(summaries: Iterable[ScoreSummary], page: Path) -> None:
    console = Console()
    for s in summaries:
        text = f"{s.dataset} {s.score}: Spearman {s.spearman[0]:.3f}, "
        text += f"Kendall {s.kendall[0]:.3f}, {s.good} of {min(TOP, s.cells)} good"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(f"{page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    lost = "interrupted: the same command starts over"
    cli.command(main, Config, interrupted=lost)
