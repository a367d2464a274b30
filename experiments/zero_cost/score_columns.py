"""Zero-cost scores by the names that results carry: stored, closed-form and combined.

Every driver of zero-cost scores starts here. `open_accuracies` opens the table of
accuracies, `gather` collects the scores of one dataset from this table and from files of
`zero_cost_score`, `default_scores` says which of them a report shows unless the user
names them, and `accuracy` is the column that scores are compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnas import ensembles
from jaxnas.benchmarks import named, sources, table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.spaces import nasbench201
from jaxnas.studies import cli

# Image size and classes of the datasets of NAS-Bench-201: the MACs of a network depend
# on them. Networks for other datasets are counted as for CIFAR-10.
IMAGES = {"cifar10": (32, 10), "cifar100": (32, 100), "ImageNet16-120": (16, 120)}
AZ = ("az_expressivity", "az_progressivity", "az_trainability")
# Scores that need neither images nor files.
COUNTS = ("macs", "live_macs")
# Epochs of the short training whose validation accuracy counts as a score.
SHORT = 12


class Score(NamedTuple):
    """One score of the n architectures of a table; higher is better."""

    value: np.ndarray  # (n,) float64; NaN where it was not measured, -inf is the worst
    seconds: np.ndarray  # (n,) float32, to compute it; NaN where that is not known


def open_accuracies(name: str | None) -> tuple[str, BenchmarkTable]:
    """Opens the table of accuracies.

    Args:
      name: a name of `named.NAMES` or a table file. Default: zerocost, which has scores
        and accuracies, where its files are installed, else the embedded table analog,
        which has accuracies on CIFAR-10 alone.

    Returns: the name that was chosen, and the table.
    Raises: `ValueError` for an unknown name and a damaged file.
    """
    if name is None:
        stored = sources.shared_folder() / "data" / "nb201_zerocost.npz"
        name = "zerocost" if stored.is_file() else "analog"
    return name, named.open_table(name)


def datasets(table: BenchmarkTable, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Validates names of datasets, or returns the default ones of a table.

    Args:
      table: of accuracies.
      names: datasets that the user asks for; default: those of `IMAGES` that have test
        accuracies in the table, or if there are none all that have.

    Raises: `ValueError` for datasets without test accuracies, and if there are none.
    """
    available = dict.fromkeys(
        dataset
        for dataset, split, _ in table_files.accuracies(table)
        if split == "test"
    )
    if not available:
        raise ValueError(f"table {table.name} has no test accuracies")
    if names:
        return cli.require_names(tuple(names), available, "dataset")
    return tuple(d for d in IMAGES if d in available) or tuple(available)


def gather(
    table: BenchmarkTable, dataset: str, score_tables: Sequence[BenchmarkTable] = ()
) -> dict[str, Score]:
    """Collects all scores for one dataset, stored ones and combinations of them.

    * what the columns `score/WHAT/DATASET` hold, by WHAT;
    * val12: validation accuracy after 12 epochs;
    * macs, live_macs: multiply-accumulate operations of a network of NAS-Bench-201, and
      of those of its convolutions that are on a path from input to output;
    * combined: 0.6 of hook_logdet and 0.4 of synflow, each scaled to 0 to 1;
    * logranks: the sum of log ranks of hook_logdet and live_macs;
    * aznas, aznas-hook: of the three scores of AZ-NAS and live_macs, and hook_logdet.

    Args:
      table: with n architectures; scores are in the order of its rows.
      dataset: the dataset of the table's columns.
      score_tables: files of zero_cost_score. Their scores WHAT on images OF are called
        WHAT@OF, for every dataset: they hardly depend on the images.

    Returns: scores by name.
    Raises: `ValueError` for files of another space, and for a score in two files.
    """
    scores = _stored(table, dataset)
    for other in score_tables:
        joined = _joined(table, other)
        if twice := scores.keys() & joined.keys():
            raise ValueError(f"{' and '.join(sorted(twice))} come from two files")
        scores |= joined
    tags = {name.partition("@")[1:] for name in scores}
    for tag in sorted(map("".join, tags)):
        scores |= _combinations(scores, tag)
    return scores


def _stored(table: BenchmarkTable, dataset: str) -> dict[str, Score]:
    """The scores that a table has of a dataset, val12 and the counts of MACs."""
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
        size, classes = IMAGES.get(dataset, IMAGES["cifar10"])
        network = NetworkConfig(image_size=size, num_classes=classes)
        for name, live in zip(COUNTS, (False, True), strict=True):
            macs = counting.macs(network, table.arch, live_only=live)
            scores[name] = Score(macs / 1e6, np.zeros(num, np.float32))
    return scores


def _joined(table: BenchmarkTable, other: BenchmarkTable) -> dict[str, Score]:
    """The scores of another table, in the order of the rows of this one."""
    if other.space != table.space:
        raise ValueError(
            f"{other.name} has scores of the space {other.space}: wanted {table.space}"
        )
    row_of = {tuple(arch): row for row, arch in enumerate(table.arch.tolist())}
    rows = np.array([row_of.get(tuple(arch), -1) for arch in other.arch.tolist()])
    shared = rows >= 0
    joined = {}
    for (what, of), value in table_files.scores(other).items():
        seconds = table_files.scoring_seconds(other, what, of)
        score = Score(
            np.full(len(row_of), np.nan), np.full(len(row_of), np.nan, np.float32)
        )
        for column, stored in zip(score, (value, seconds), strict=True):
            if stored is not None:
                column[rows[shared]] = stored[shared]
        joined[f"{what}@{of}"] = score
    return joined


def _combinations(scores: dict[str, Score], tag: str) -> dict[str, Score]:
    """Combinations of scores whose names end with `tag`, "" or "@IMAGES"."""
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
            # The scores of az come from one run, and each has the seconds of that run.
            runs = parts[-1:] if name == "aznas" else parts[-2:]
            seconds = np.sum([one.seconds for one in runs], 0, np.float32)
            value = _log_ranks([one.value for one in (*parts, scores["live_macs"])])
            made[name + tag] = Score(value, seconds)
    return made


def _log_ranks(values: list[np.ndarray]) -> np.ndarray:
    """The sum of log ranks among the architectures that have every score."""
    measured = ~np.isnan(values).any(0)
    total = ensembles.log_rank_sum([value[measured] for value in values])
    made = np.full(len(measured), np.nan)
    # Sums of log ranks are negative: a search that starts from 0 would find none.
    made[measured] = total - total.min() + 1
    return made


def default_scores(
    published: Sequence[str], available: Collection[str]
) -> tuple[str, ...]:
    """The scores of a report or search whose user names none.

    Args:
      published: the scores of the published comparison.
      available: names that all datasets have, as of `gather`.

    Returns: those of the user's own files where there are any, and live_macs; else the
      published ones available; else the counts of MACs.
    """
    from_files = tuple(name for name in available if "@" in name)
    if from_files:
        return from_files + tuple(name for name in ("live_macs",) if name in available)
    stored = tuple(name for name in published if name in available)
    return stored or tuple(name for name in COUNTS if name in available)


def measured(scores: Mapping[str, Score], names: Sequence[str]) -> np.ndarray:
    """(n,) bool: the architectures that have all the scores of these names."""
    return ~np.isnan([scores[name].value for name in names]).any(0)


def accuracy(
    table: BenchmarkTable, dataset: str, run: str | None = None
) -> tuple[str, np.ndarray]:
    """The column of test accuracies that scores are compared with.

    Args:
      table: with n architectures.
      dataset: one with test accuracies, as of `datasets`; the longest training counts.
      run: `mean` of the runs, or `one`, the run of each architecture that was drawn for
        the tables of the Free-Training NAS project. Default: one where there is such a
        column, else mean.

    Returns: the column's name, and its values (n,) float64 in percent.
    Raises: `ValueError` if the table has no such column.
    """
    if run not in (None, "mean", "one"):
        raise ValueError(f"--run must be mean or one, not {run!r}")
    trained = table_files.accuracies(table)
    epochs = max((e for d, s, e in trained if (d, s) == (dataset, "test")), default=200)
    one_run, mean = (f"{dataset}{end}/test/{epochs}" for end in ("-one-run", ""))
    if run is None:
        run = "one" if one_run in table.columns else "mean"
    name = one_run if run == "one" else mean
    if name not in table.columns:
        raise ValueError(f"table {table.name} has no column {name}")
    column = table.columns[name].astype(np.float64)
    return name, column if column.ndim == 1 else np.nanmean(column, 1)
