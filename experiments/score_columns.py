"""The scores that drivers compare, by the names that their results carry."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxnas import ensembles
from jaxnas.benchmarks import files
from jaxnas.benchmarks.files import Table
from jaxnas.spaces import nasbench201

# Image size and classes, on which the work of a network depends.
IMAGES = {"cifar10": (32, 10), "cifar100": (32, 100), "ImageNet16-120": (16, 120)}
# Epochs of the short training whose validation accuracy counts as a score.
SHORT = 12


class Score(NamedTuple):
    """What is said of the n architectures of a table; higher is better."""

    value: np.ndarray  # (n,) float64; NaN where it was not measured, -inf is the worst
    seconds: np.ndarray  # (n,) float32, of computing it; NaN where that is not known


def gather(table: Table, dataset: str) -> dict[str, Score]:
    """All scores of a table for one dataset, stored and made of stored ones.

    * what the columns `score/WHAT/DATASET` hold, by WHAT;
    * val12: validation accuracy after 12 epochs;
    * combined: 0.6 of hook_logdet and 0.4 of synflow, each scaled to 0 to 1;
    * logranks: the sum of log ranks of hook_logdet and of the live work;
    * macs, live-macs: the work of a network of NAS-Bench-201, and of its convolutions
      that are on a path from input to output.
    """
    num = len(table.arch)
    unknown = np.full(num, np.nan, np.float32)
    scores = {}
    for (what, of), value in files.scores(table).items():
        if of == dataset:
            seconds = files.scoring_seconds(table, what, dataset)
            scores[what] = Score(value, unknown if seconds is None else seconds)
    short = files.accuracies(table).get((dataset, "valid", SHORT))
    if short is not None and short.ndim == 1:
        seconds = files.seconds(table, dataset, SHORT)
        value = short.astype(np.float64)
        scores["val12"] = Score(value, unknown if seconds is None else seconds)
    if table.space == nasbench201.SPACE.name:
        image, classes = IMAGES.get(dataset, (32, 10))
        settings = {"image": image, "classes": classes}
        for name, live in (("macs", False), ("live-macs", True)):
            work = jax.vmap(
                lambda a, live=live: nasbench201.macs(a, live=live, **settings)
            )
            value = np.asarray(work(table.arch.astype(np.int32)), np.float64)
            scores[name] = Score(value, np.zeros(num, np.float32))
    return scores | _together(scores)


def _together(scores: dict[str, Score]) -> dict[str, Score]:
    made = {}
    hook, synflow = scores.get("hook_logdet"), scores.get("synflow")
    if hook and synflow and not np.isnan(hook.value + synflow.value).any():
        value = ensembles.convex_combination(hook.value, synflow.value)
        made["combined"] = Score(value, hook.seconds + synflow.seconds)
    if hook and "live-macs" in scores:
        value = ensembles.log_rank_sum([hook.value, scores["live-macs"].value])
        # Sums of log ranks are negative: a search that starts from 0 would find none.
        made["logranks"] = Score(value - value.min() + 1, hook.seconds)
    return made


def accuracy(table: Table, dataset: str, run: str) -> tuple[str, np.ndarray]:
    """The column to report, and its values (n,) float64 in percent.

    Args:
      run: `mean` of the runs after 200 epochs, or `one`, the run of each architecture
        that was drawn for the tables of the Free-Training NAS project.

    Raises: `ValueError` if the table has no such column.
    """
    if run not in ("mean", "one"):
        raise ValueError(f"--run must be mean or one, not {run!r}")
    name = f"{dataset}{'-one-run' if run == 'one' else ''}/test/200"
    if name not in table.columns:
        raise ValueError(f"table {table.name} has no column {name}")
    column = table.columns[name].astype(np.float64)
    return name, column if column.ndim == 1 else np.nanmean(column, 1)


def chosen(given: tuple[str, ...], there: dict, what: str) -> tuple[str, ...]:
    """`given`; `ValueError` if one of them is not among `there`."""
    unknown = [name for name in given if name not in there]
    if unknown or not given:
        raise ValueError(
            f"no {what} {', '.join(unknown) or 'given'}: wanted some of "
            f"{', '.join(there)}"
        )
    return given
