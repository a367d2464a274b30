"""How well are accuracies predicted over tasks and cells, on the records of MetaD2A?

    python -m experiments.predictor_report
    python -m experiments.predictor_report --schemes inner --out results/inner
    python -m experiments.predictor_report --schemes folds --predictors mixture ridge-pairs

4,630 published accuracies of cells of NAS-Bench-201 on ImageNet tasks of 20 classes; the
files are those of the reference data, which JAXNAS_SHARED names. Schemes: `published`, the
400 validation records; `folds`, five folds by task, on each of --partitions partitions;
`inner`, such folds of the other 4,230 records, on which hyperparameters were chosen. The
network of MetaD2A is trained for the first alone.

Prints Pearson's and Spearman's correlations and the share of pairs of records of one task
that are in the right order, with bootstrap errors by task, differences from the control,
and correlations of predicted effects of unseen classes. docs/task_accuracies.md explains
the predictors and the two parts of the records. Writes predictions.csv, differences.csv
and classes.csv to --out, where the predictions of each division are kept: the same command
resumes after an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.task_table import class_effects, evaluation
from experiments.task_table.evaluation import METRICS
from experiments.task_table.predictors import CONTROL, PREDICTORS, PUBLISHED_ONLY, Fit
from experiments.task_table.records import Records, read_records
from jaxnas.io import files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.studies import cli, terminal
from jaxnas.studies.progress import Counter, Progress

SCHEMES = ("published", "folds", "inner")
_FOLDS = 5
_INNER_SEED = 100  # of the partitions on which hyperparameters were chosen


class Division(NamedTuple):
    """Records that are predicted, in folds, each from all other records of `among`."""

    name: str
    among: np.ndarray  # (m,) records
    fold: np.ndarray  # (m,) number of the fold; -1: always for training


@dataclass(frozen=True)
class Config:
    """Which predictors on which divisions of the records."""

    schemes: tuple[str, ...] = ("published", "folds")
    """Divisions: published, folds, inner."""
    predictors: tuple[str, ...] = tuple(PREDICTORS)
    """Predictors, by their names in the table; docs/task_accuracies.md explains them."""
    partitions: int = 5
    """Partitions of the tasks into folds; partition i is drawn from seed i."""
    samples: int = 200
    """Bootstrap samples."""
    out: str = "results/predictor_report"
    """Folder for the tables and the predictions."""


def main(config: Config) -> dict[str, list[list]]:
    """Fits all predictors and prints the tables.

    Returns: the rows of the tables by name.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "partitions", "samples")
    cli.at_most(config, partitions=1000, samples=10_000)
    cli.require_names(config.schemes, SCHEMES, "scheme")
    cli.require_names(config.predictors, PREDICTORS, "predictor")
    records = read_records()
    digest = array_digest(records.accuracy, records.operations, records.table)
    identity = {"driver": "predictor_report", "data": digest}
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    predictions, differences = [], []
    with Progress(Console(stderr=True)) as progress:
        for scheme in config.schemes:
            parts = divisions(records, scheme, config.partitions)
            predicted = {
                name: _predict(records, name, parts, folder, progress)
                for name in config.predictors
                if scheme == "published" or name not in PUBLISHED_ONLY
            }
            for part, chosen in parts_of(records).items():
                new = compare(records, parts, predicted, config.samples, chosen)
                predictions += [[scheme, part, *row] for row in new[0]]
                differences += [[scheme, part, *row] for row in new[1]]
    effects = class_effects.class_effects(records.embeddings, 10, config.samples)
    tables = {
        "predictions": predictions,
        "differences": differences,
        "classes": [list(row) for row in effects],
    }
    for name, rows in tables.items():
        cells = [[_text(value) for value in row] for row in rows]
        files.write_csv(folder.path / f"{name}.csv", _HEADERS[name], cells)
        terminal.show_rows(Console(), _HEADERS[name], cells, name)
    return tables


_WITH_ERRORS = [name for metric in METRICS for name in (metric, "error")]
_HEADERS = {
    "predictions": ["scheme", "records", "predictor", *_WITH_ERRORS],
    "differences": ["scheme", "records", f"minus {CONTROL}", *_WITH_ERRORS],
    "classes": list(class_effects.ClassEffects._fields),
}


def parts_of(records: Records) -> dict[str, np.ndarray]:
    """Records (n,) bool that metrics are computed of, by name.

    Accuracies of the second procedure are so much lower that correlations over all records
    measure above all whether a predictor tells the procedures apart.
    """
    return {"all": np.ones(len(records.second), bool), "first part": ~records.second}


def divisions(records: Records, scheme: str, partitions: int) -> list[Division]:
    """Lists the divisions of a scheme.

    Args:
      records: that are divided.
      scheme: one of `SCHEMES`.
      partitions: number of partitions into folds.
    """
    everything = np.arange(len(records.accuracy))
    if scheme == "published":
        held_out = np.isin(everything, records.validation)
        return [Division(scheme, everything, np.where(held_out, 0, -1))]
    among = everything if scheme == "folds" else np.sort(records.training)
    first = 0 if scheme == "folds" else _INNER_SEED
    return [
        Division(
            f"{scheme}-{seed}",
            among,
            evaluation.task_folds(records.task[among], _FOLDS, seed),
        )
        for seed in range(first, first + partitions)
    ]


def _predict(
    records: Records,
    name: str,
    parts: list[Division],
    folder: run_folder.RunFolder,
    progress: Progress,
) -> list[np.ndarray]:
    """Out-of-fold predictions (m,) of a predictor for each division; NaN in fold -1."""
    progress.begin(name, Counter(len(parts), "division"))
    results, fit = [], None
    for division in parts:
        piece = f"{division.name}/{name}"
        labels = {"predictor": name}
        try:
            values = run_folder.load_piece(folder, piece, labels)["predicted"]
        except ValueError:
            # Covariances are computed once, and only if a piece is missing.
            fit = fit or PREDICTORS[name](records)
            values = out_of_fold(fit, division)
            run_folder.save_piece(folder, piece, {"predicted": values}, labels)
        results.append(values)
        progress.advance(1)
    return results


def out_of_fold(fit: Fit, division: Division) -> np.ndarray:
    """Predicts each fold from the other records of a division.

    Training rows are padded to the same number, so that all folds are one program.

    Args:
      fit: function of training rows, see `predictors`.
      division: whose records are predicted.

    Returns: (m,) predictions; NaN for records that are always for training.
    """
    among, fold = division.among, division.fold
    numbers = range(fold.max() + 1)
    capacity = max((fold != number).sum() for number in numbers)
    predicted = np.full(len(among), np.nan, np.float32)
    for number in numbers:
        train = among[fold != number]
        rows = np.resize(train, capacity)
        seen = np.arange(capacity) < len(train)
        values = np.asarray(fit(jnp.asarray(rows), jnp.asarray(seen)))
        predicted[fold == number] = values[among[fold == number]]
    return predicted


def compare(
    records: Records,
    parts: list[Division],
    predicted: Mapping[str, list[np.ndarray]],
    samples: int,
    chosen: np.ndarray,
) -> tuple[list[list], list[list]]:
    """Metrics of each predictor, and differences from the control, with their errors.

    Both are means over the divisions, and so are those of a bootstrap sample of tasks.

    Args:
      records: that were predicted.
      parts: divisions of a scheme.
      predicted: predictions (m,) for each division, by predictor.
      samples: of the bootstrap.
      chosen: (n,) bool, the records that count.
    """
    used = (parts[0].fold >= 0) & chosen[parts[0].among]
    rows = parts[0].among[used]
    accuracy, task = records.accuracy[rows], records.task[rows]
    weights = evaluation.bootstrap_by_task(task, samples, seed=0)
    # The first row of weights is the sample itself.
    weights = np.concatenate([np.ones((1, len(rows))), weights])
    values = {
        name: np.mean(
            [evaluation.metrics(p[used], accuracy, task, weights) for p in each],
            0,
        )
        for name, each in predicted.items()
    }
    metrics = [[name, *_with_errors(value)] for name, value in values.items()]
    if CONTROL not in values:
        return metrics, []
    differences = [
        [name, *_with_errors(value - values[CONTROL])]
        for name, value in values.items()
        if name != CONTROL
    ]
    return metrics, differences


def _with_errors(values: np.ndarray) -> list[float]:
    """Each metric of (1 + samples, 3) with its bootstrap error."""
    errors = np.nanstd(values[1:], 0, ddof=1)
    return np.stack([values[0], errors], 1).reshape(-1).tolist()


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.command(main, Config, cores=cli.use_one_core)
