"""The scores that drivers compare, by the names that their results carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnas import ensembles
from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.spaces import nasbench201

# Image size and classes, on which the work of a network depends.
IMAGES = {"cifar10": (32, 10), "cifar100": (32, 100), "ImageNet16-120": (16, 120)}
AZ = ("az_expressivity", "az_progressivity", "az_trainability")
# Epochs of the short training whose validation accuracy counts as a score.
SHORT = 12


class Score(NamedTuple):
    """What is said of the n architectures of a table; higher is better."""

    value: np.ndarray  # (n,) float64; NaN where it was not measured, -inf is the worst
    seconds: np.ndarray  # (n,) float32, of computing it; NaN where that is not known


def gather(
    table: BenchmarkTable, dataset: str, own: Sequence[BenchmarkTable] = ()
) -> dict[str, Score]:
    """All scores of a table for one dataset, stored and made of stored ones.

    Of `own`, files of zero_cost_score, the scores WHAT on images OF are called WHAT@OF,
    whatever the dataset: they hardly depend on the images.

    * what the columns `score/WHAT/DATASET` hold, by WHAT;
    * val12: validation accuracy after 12 epochs;
    * combined: 0.6 of hook_logdet and 0.4 of synflow, each scaled to 0 to 1;
    * logranks: the sum of log ranks of hook_logdet and of the live work;
    * aznas, aznas-hook: of the three scores of az and the live work, and hook_logdet;
    * macs, live_macs: the work of a network of NAS-Bench-201, and of its convolutions
      that are on a path from input to output.
    """
    num = len(table.arch)
    unknown = np.full(num, np.nan, np.float32)
    scores = {}
    for (what, of), value in table_files.scores(table).items():
        if of == dataset:
            seconds = table_files.scoring_seconds(table, what, dataset)
            scores[what] = Score(value, unknown if seconds is None else seconds)
    short = table_files.accuracies(table).get((dataset, "valid", SHORT))
    if short is not None and short.ndim == 1:
        seconds = table_files.seconds(table, dataset, SHORT)
        value = short.astype(np.float64)
        scores["val12"] = Score(value, unknown if seconds is None else seconds)
    if table.space == nasbench201.SPACE.name:
        size, classes = IMAGES.get(dataset, (32, 10))
        network = NetworkConfig(image_size=size, num_classes=classes)
        for name, live in (("macs", False), ("live_macs", True)):
            work = counting.macs(network, table.arch, live_only=live)
            scores[name] = Score(work / 1e6, np.zeros(num, np.float32))
    for other in own:
        joined = _joined(table, other)
        if twice := scores.keys() & joined.keys():
            raise ValueError(f"{' and '.join(sorted(twice))} come from two files")
        scores |= joined
    tags = {name.partition("@")[1:] for name in scores}
    for tag in sorted(map("".join, tags)):
        scores |= _together(scores, tag)
    return scores


def _joined(table: BenchmarkTable, other: BenchmarkTable) -> dict[str, Score]:
    """The scores of another table, for the architectures of this one."""
    if other.space != table.space:
        raise ValueError(
            f"{other.name} has scores of the space {other.space}: wanted {table.space}"
        )
    place = {tuple(arch): row for row, arch in enumerate(table.arch.tolist())}
    found = [place.get(tuple(arch), -1) for arch in other.arch.tolist()]
    kept, rows = np.flatnonzero(np.array(found) >= 0), np.array(found)
    joined = {}
    for (what, of), value in table_files.scores(other).items():
        seconds = table_files.scoring_seconds(other, what, of)
        both = np.full(len(place), np.nan), np.full(len(place), np.nan, np.float32)
        for column, given in zip(both, (value, seconds), strict=True):
            if given is not None:
                column[rows[kept]] = given[kept]
        joined[f"{what}@{of}"] = Score(*both)
    return joined


def _together(scores: dict[str, Score], tag: str) -> dict[str, Score]:
    """Scores made of several whose names end with `tag`."""
    made = {}
    hook, synflow = scores.get("hook_logdet" + tag), scores.get("synflow" + tag)
    if hook and synflow and not np.isnan(hook.value + synflow.value).any():
        value = ensembles.convex_combination(hook.value, synflow.value)
        made["combined" + tag] = Score(value, hook.seconds + synflow.seconds)
    az = [scores[n + tag] for n in AZ if n + tag in scores]
    for name, parts in (
        ("logranks", [hook] if hook else []),
        ("aznas", az),
        ("aznas-hook", [*az, hook] if az and hook else []),
    ):
        if parts and "live_macs" in scores:
            # The scores of az come from one run, and say its seconds each.
            runs = parts[-1:] if name == "aznas" else parts[-2:]
            seconds = np.sum([one.seconds for one in runs], 0, np.float32)
            value = _log_ranks([one.value for one in (*parts, scores["live_macs"])])
            made[name + tag] = Score(value, seconds)
    return made


def _log_ranks(values: list[np.ndarray]) -> np.ndarray:
    """The sum of log ranks among those that have every score."""
    known = ~np.isnan(values).any(0)
    total = ensembles.log_rank_sum([value[known] for value in values])
    made = np.full(len(known), np.nan)
    # Sums of log ranks are negative: a search that starts from 0 would find none.
    made[known] = total - total.min() + 1
    return made


def matrix(scores: dict[str, Score], names: Sequence[str]) -> np.ndarray:
    """The scores (n, f) of these names, of all architectures.

    Raises: `ValueError` where some architectures have none.
    """
    values = np.stack([scores[name].value for name in names], 1)
    if missing := np.isnan(values).any(1).sum():
        raise ValueError(
            f"{missing} of {len(values)} architectures have no {' or '.join(names)}: "
            "wanted scores of all"
        )
    return values


def accuracy(table: BenchmarkTable, dataset: str, run: str) -> tuple[str, np.ndarray]:
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
