"""How well do scores of untrained networks rank the trained ones?

    python -m experiments.zero_cost_report
    python -m experiments.zero_cost_report --run one --scores all
    python -m experiments.zero_cost_report --scores-from results/cifar10/scores.npz
        --scores hook_logdet hook_logdet@cifar10 aznas-hook@cifar10

For every score and dataset: Spearman's and Kendall's correlation with the accuracy after
200 epochs, with 95 % bootstrap intervals; the best-scored cell; how many of the 64 best
are among the best 5 % by accuracy; correlations between all pairs of scores. Writes
scores.csv, pairs.csv, the figures as png, and all of it as one page, report.html, to --out.

Takes 2 minutes for 8 scores and 3 datasets on two busy cores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from experiments.zero_cost import html, score_columns, score_figures
from experiments.zero_cost.score_figures import Interval
from jaxnas import ranks
from jaxnas.benchmarks import named
from jaxnas.io import files
from jaxnas.studies import cli

ALL = "all"
# Of the best-scored, and the share of all that is good: as published.
TOP, GOOD = 64, 0.05
SHARES = (0.025, 0.975)


@dataclass(frozen=True)
class Config:
    """Which scores, against which accuracies."""

    benchmark: str = "zerocost"
    """zerocost, or a table file with scores and accuracies."""
    scores_from: tuple[str, ...] = ()
    """Files of zero_cost_score; their scores WHAT on images OF are called WHAT@OF."""
    datasets: tuple[str, ...] = ("cifar10", "cifar100", "ImageNet16-120")
    """Datasets of the scores and accuracies."""
    scores: tuple[str, ...] = (
        *("val12", "hook_logdet", "synflow", "snip", "combined"),
        *("macs", "live_macs", "logranks"),
    )
    """Which scores, or all that every dataset has: score_columns.py."""
    run: str = "mean"
    """Accuracy: mean of the runs, or one, of one run as in the published tables."""
    resamples: int = 200
    """Bootstrap samples."""
    base_seed: int = 0
    """They are drawn from this seed."""
    out: str = "results/zero_cost_report"
    """Folder for the report."""


class Row(NamedTuple):
    """What one score says of one dataset."""

    dataset: str
    score: str
    cells: int  # that have this score
    spearman: Interval
    kendall: Interval
    good: int  # of the 64 best-scored, how many are among the best 5 %
    best_row: int  # of the table: the best-scored cell
    best_accuracy: float  # in percent
    best_rank: int  # of this accuracy, 1 is the best
    seconds: float  # to score all cells; NaN where that is not known


class Compared(NamedTuple):
    """The scores of one dataset."""

    rows: dict[str, Row]
    pairs: np.ndarray  # (m, m) Spearman's correlation between scores
    points: dict[str, tuple[np.ndarray, np.ndarray]]  # rank 0 to 1, and accuracy
    recalls: dict[str, np.ndarray]  # (k,) share of good cells among the best-scored
    accuracy: str  # the column


def main(config: Config) -> list[Row]:
    """Writes the report.

    Returns: a row for each dataset and score.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "resamples")
    cli.seed(config)
    score_columns.chosen(config.datasets, score_columns.IMAGES, "dataset")
    table = named.open_table(config.benchmark)
    own = [named.open_table(path) for path in config.scores_from]
    there = {d: score_columns.gather(table, d, own) for d in config.datasets}
    common = [
        n for n in there[config.datasets[0]] if all(n in s for s in there.values())
    ]
    names = tuple(common) if config.scores == (ALL,) else config.scores
    score_columns.chosen(names, dict.fromkeys(common), "score")
    accuracy = {
        d: score_columns.accuracy(table, d, config.run) for d in config.datasets
    }
    for dataset, name in ((d, n) for d in config.datasets for n in names):
        if (known := (~np.isnan(there[dataset][name].value)).sum()) < 2:
            raise ValueError(
                f"{known} cells have the score {name} on {dataset}: wanted 2 at least"
            )
    out = cli.folder(config.out, "scores.csv")

    counts = np.unique(np.geomspace(1, len(table.arch) / 4, 40).astype(int))
    done = {}
    with Console(stderr=True).status("") as status:
        for dataset in config.datasets:
            status.update(f"{dataset}: correlations of {len(names)} scores")
            scores = {name: there[dataset][name] for name in names}
            done[dataset] = compare(dataset, scores, accuracy[dataset], counts, config)
    _write(out, config, names, counts, done)
    return [row for of in done.values() for row in of.rows.values()]


def compare(
    dataset: str,
    scores: Mapping[str, score_columns.Score],
    accuracy: tuple[str, np.ndarray],
    counts: np.ndarray,
    config: Config,
) -> Compared:
    """Compares the scores of one dataset with its accuracy, and with each other.

    Args:
      accuracy: the column's name, and its values (n,).
      counts: (k,) how many of the best-scored to look at.
    """
    column, truth = accuracy
    key = jax.random.key(config.base_seed)
    found = Compared({}, np.ones((len(scores),) * 2), {}, {}, column)
    for name, score in scores.items():
        # NaN is no score at all; -inf is one.
        known = np.flatnonzero(~np.isnan(score.value))
        order, true = (ranks.ordinal(x[known]) for x in (score.value, truth))
        weights = ranks.bootstrap_weights(key, config.resamples, len(known))
        by_accuracy, (best,) = ranks.average_ranks(-true), ranks.top(order, 1)
        good, top = max(1, round(GOOD * len(known))), min(TOP, len(known))
        few = [min(int(c), len(known)) for c in counts]
        found.rows[name] = Row(
            dataset,
            name,
            cells=len(known),
            spearman=_interval(ranks.spearman, order, true, weights),
            kendall=_interval(ranks.kendall, order, true, weights),
            good=round(top * ranks.recall(order, true, top, good)),
            best_row=int(known[best]),
            best_accuracy=float(truth[known[best]]),
            best_rank=int(np.floor(by_accuracy[best])),
            seconds=float(score.seconds[known].sum(dtype=float)),
        )
        rank = np.asarray(ranks.average_ranks(order)) / len(known)
        found.points[name] = rank, truth[known]
        found.recalls[name] = np.array(
            [ranks.recall(order, true, c, good) for c in few]
        )
    values = [score.value for score in scores.values()]
    for i, first in enumerate(values):
        for j, second in enumerate(values[:i]):
            both = ~np.isnan(first) & ~np.isnan(second)
            x, y = (ranks.ordinal(v[both]) for v in (first, second))
            found.pairs[i, j] = found.pairs[j, i] = float(ranks.spearman(x, y))
    return found


def _interval(
    correlation, x: np.ndarray, y: np.ndarray, weights: jax.Array
) -> Interval:
    low, high = np.quantile(np.asarray(correlation(x, y, weights)), SHARES)
    return float(correlation(x, y)), float(low), float(high)


def _write(
    out: Path,
    config: Config,
    names: Sequence[str],
    counts: np.ndarray,
    done: Mapping[str, Compared],
) -> None:
    header = ["dataset", "score", "cells"]
    for what in ("spearman", "kendall"):
        header += [what, f"{what}_low", f"{what}_high"]
    header += [*Row._fields[5:]]
    rows = [row for of in done.values() for row in of.rows.values()]
    lines = [[*r[:3], *r.spearman, *r.kendall, *r[5:]] for r in rows]
    _csv(out / "scores.csv", header, lines)
    _csv(
        out / "pairs.csv",
        ["dataset", "first", "second", "spearman"],
        [
            [dataset, names[i], names[j], value]
            for dataset, of in done.items()
            for (i, j), value in np.ndenumerate(of.pairs)
            if i < j
        ],
    )
    share = f"share among the best {GOOD:.0%} by accuracy"
    figures = {}
    for what in ("spearman", "kendall"):
        values = {
            dataset: {name: getattr(of.rows[name], what) for name in names}
            for dataset, of in done.items()
        }
        figures[f"{what}.png"] = f"{what.capitalize()}'s correlation, 95 % intervals"
        score_figures.correlations(
            out / f"{what}.png", values, label=figures[f"{what}.png"]
        )
    for dataset, of in done.items():
        told = f"{of.accuracy}, percent"
        scatter, pairs, recall = (
            f"{kind}-{dataset}.png" for kind in ("scatter", "pairs", "recall")
        )
        figures[scatter] = f"{dataset}: accuracy by rank of each score"
        figures[scatter] += (
            f", without the worst {score_figures.LEFT_OUT:.0%} by accuracy"
        )
        score_figures.score_scatter(
            out / scatter, of.points, title=figures[scatter], label=told
        )
        figures[recall] = f"{dataset}: {share}"
        score_figures.recall_curves(
            out / recall, counts, of.recalls, title=figures[recall], label="share"
        )
        figures[pairs] = f"{dataset}: Spearman's correlation between scores"
        score_figures.pairs_matrix(
            out / pairs, list(names), of.pairs, title=figures[pairs]
        )
    title = "Scores of untrained networks"
    intro = f"{config.benchmark}, accuracy: "
    intro += ", ".join(of.accuracy for of in done.values())
    intro += (
        f". Intervals: {config.resamples} bootstrap samples of the cells. Good: how "
    )
    intro += f"many of the {TOP} best-scored cells are among the best {GOOD:.0%}."
    html.write(out / "report.html", title, intro, _table(rows), out, figures)
    console = Console()
    for row in rows:
        text = f"{row.dataset} {row.score}: Spearman {row.spearman[0]:.3f}, "
        text += f"Kendall {row.kendall[0]:.3f}, {row.good} of "
        text += f"{min(TOP, row.cells)} good"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(f"{out / 'report.html'}", highlight=False, soft_wrap=True)


def _table(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the page's table."""
    header = [
        *("dataset", "score", "cells", "Spearman", "Kendall", "good"),
        *("best-scored: accuracy", "its rank", "seconds for all"),
    ]
    lines = [
        [
            *(r.dataset, r.score, f"{r.cells:,}"),
            *(f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in (r.spearman, r.kendall)),
            *(str(r.good), f"{r.best_accuracy:.2f}", str(r.best_rank)),
            "" if np.isnan(r.seconds) else f"{r.seconds:,.0f}",
        ]
        for r in rows
    ]
    return header, lines


def _csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for line in lines:
        writer.writerow([f"{x:.6g}" if isinstance(x, float) else x for x in line])
    files.atomic_write(path, text.getvalue().encode())


if __name__ == "__main__":
    lost = "interrupted: the same command begins anew"
    cli.command(main, Config, interrupted=lost)
