"""Results of searches on zero-cost scores, beside published and expected ones.

The published results are those of the Free-Training NAS project, the expected ones come
from independent runs of its algorithms on the same columns, or are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.zero_cost import reference_search
from experiments.zero_cost.score_columns import Score
from jaxnas.benchmarks import sources
from jaxnas.io import files, records
from jaxnas.studies import terminal

# The names that the published tables have for the algorithms.
PUBLISHED = {"random": "random", "aging": "aging", "aging-warmup": "aging_warmup128"}
# Standard errors up to which a mean agrees with the expected one.
FAR = 3.0


class SearchResult(NamedTuple):
    """One search on one score and dataset.

    Accuracies are in percent, seconds are means of the runs.
    """

    dataset: str
    score: str
    algorithm: str
    runs: int
    accuracy: float  # of the best-scored cell that was visited, mean
    deviation: float  # of the runs, divided by their number
    expected: float  # NaN where it is not known, as are those below
    expected_deviation: float
    published: float
    published_deviation: float
    far: float  # standard errors from what is expected
    best: float  # share of the runs that found the best score of all
    charged: float  # seconds, as the reference counts
    charged_expected: float
    charged_published: float
    lookups: float  # scores that were looked up
    distinct: float  # different cells among them, mean
    seconds: float  # if each of these is scored once


def published() -> dict:
    """Published and expected results; {} where the reference file is not installed."""
    path = sources.shared_folder() / "oracles" / "zero_cost_reference_tables.json"
    return records.read_json(path) if path.is_file() else {}


def summarise(
    key: tuple[str, str, str],
    run: dict[str, np.ndarray],
    score: Score,
    accuracy: np.ndarray,
    references: dict,
) -> SearchResult:
    """Summarises the runs of one search.

    Args:
      key: dataset, name of the score, algorithm.
      run: the fields of `reference_search.ScoreRun`, runs along the leading axis.
      score: of all n architectures, which the runs searched by.
      accuracy: (n,) percent, to report for the best-scored architecture of each run.
      references: as from `published`; {} where no published result is comparable.
    """
    dataset, name, algorithm = key
    last = run["incumbent"][:, -1]
    reached = np.where(last < 0, np.nan, accuracy[last])
    mean, deviation = float(reached.mean()), float(reached.std())
    keys = dataset, name, PUBLISHED[algorithm]
    report = _find(references, "report_search_tables", *keys)
    # Independent runs of the published algorithm, on the same columns.
    other = _find(references, "expected_search_results_on_csv", *keys)
    expected = other.get("mean", math.nan), other.get("std", math.nan)
    charged, variance = other.get("time_mean", math.nan), 1 / other.get("runs", 1)
    if algorithm == "random":
        visits = run["row"].shape[1]
        expected = reference_search.expected_random(score.value, accuracy, visits)
        charged, variance = visits * float(score.seconds.mean(dtype=float)), 0.0
    # Accuracies have two decimals: runs that all end alike can differ in rounding.
    spread = max(deviation, expected[1], 1e-2)
    return SearchResult(
        *key,
        runs=len(reached),
        accuracy=mean,
        deviation=deviation,
        expected=expected[0],
        expected_deviation=expected[1],
        published=report.get("acc_mean", math.nan),
        published_deviation=report.get("acc_std", math.nan),
        far=(mean - expected[0]) / (spread * math.sqrt(1 / len(reached) + variance)),
        best=float((score.value[last] == np.nanmax(score.value)).mean()),
        charged=float(run["charged"].mean(dtype=float)),
        charged_expected=charged,
        charged_published=report.get("time_mean_s", math.nan),
        lookups=float(run["lookups"].mean()),
        distinct=float(run["distinct"].mean()),
        seconds=float(run["seconds"].mean(dtype=float)),
    )


def _find(tree: dict, *path: str) -> dict:
    """The part of nested dicts below these keys; {} where one is missing."""
    for name in path:
        tree = tree.get(name, {})
    return tree


def write_csv(path: str | Path, results: Sequence[SearchResult]) -> None:
    """Writes a line for each result, atomically; numbers have seven digits."""
    lines = [[f"{x:.7g}" if isinstance(x, float) else x for x in r] for r in results]
    files.write_csv(path, SearchResult._fields, lines)


def show(console: Console, results: Sequence[SearchResult]) -> None:
    """Prints, for each dataset, a table of accuracies and one of costs."""
    for dataset in dict.fromkeys(one.dataset for one in results):
        _show_dataset(console, dataset, [r for r in results if r.dataset == dataset])
    compared = [one for one in results if not math.isnan(one.far)]
    near = sum(abs(one.far) <= FAR for one in compared)
    line = f"{near} of {len(compared)} results within {FAR:g} standard errors"
    console.print(f"{line} of what is expected", highlight=False, soft_wrap=True)


def _show_dataset(
    console: Console, dataset: str, results: Sequence[SearchResult]
) -> None:
    accuracy, cost = terminal.plain(), terminal.plain()
    for table, names in (
        (accuracy, ("accuracy, %", "expected", "published", "off", "found")),
        (cost, ("charged", "expected", "published", "lookups", "cells", "seconds")),
    ):
        for column in ("score", "search"):
            table.add_column(column, no_wrap=True)
        for column in names:
            table.add_column(column, justify="right", no_wrap=True)
    for one in results:
        far = "" if math.isnan(one.far) else f"{one.far:+.1f}"
        accuracy.add_row(
            *(one.score, one.algorithm),
            _plus_minus(one.accuracy, one.deviation),
            _plus_minus(one.expected, one.expected_deviation),
            _plus_minus(one.published, one.published_deviation),
            f"[bold]{far}[/]" if abs(one.far) > FAR else far,
            f"{one.best:.0%}",
        )
        seconds = one.charged, one.charged_expected, one.charged_published
        counts = *seconds, one.lookups, one.distinct, one.seconds
        cost.add_row(one.score, one.algorithm, *map(_number, counts))
    for line, table in (
        (f"{dataset}: best-scored cell, mean±std of {results[0].runs} runs", accuracy),
        (f"{dataset}: seconds charged per lookup, and per distinct cell", cost),
    ):
        console.print(line, highlight=False, soft_wrap=True)
        terminal.show(console, table)


def _plus_minus(mean: float, deviation: float) -> str:
    return "" if math.isnan(mean) else f"{mean:.2f}±{deviation:.2f}"


def _number(x: float) -> str:
    return "" if math.isnan(x) else f"{x:,.0f}"
