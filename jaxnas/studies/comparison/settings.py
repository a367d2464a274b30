"""Settings that all comparisons of searches on a table have.

Drivers extend `Config` with fields of their own; it has no behaviour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxnas.studies import cli


@dataclass(frozen=True)
class Config:
    """The accuracies to search by and to report, and the length and number of runs."""

    benchmark: str = "analog"
    """analog, fashion, fashion-curves or fashion-surrogate (embedded), nb201, nb201-seeds,
    nb101, zerocost, jahs201, jahs201-seconds, or a file: a table, a surrogate, curves
    (.csv)."""
    dataset: str = "cifar10"
    """Dataset whose accuracy is fed back to the search."""
    split: str = "test"
    """Split whose accuracy is fed back."""
    epochs: int = 200
    """Length of the training schedule whose accuracy is fed back."""
    run: str = "mean"
    """Training run that is fed back: mean, random, or an index."""
    report_dataset: str | None = None
    """Dataset to report, always by the mean of its runs; default: as fed back."""
    report_split: str | None = None
    """Split to report; default: as fed back."""
    report_epochs: int | None = None
    """Schedule to report; default: as fed back."""
    seeds: int = 50
    """Independent runs of each method."""
    evaluations: int = 200
    """Evaluations of each run; more of them, or a larger budget, make the runs of a folder
    longer."""
    budget: float | None = None
    """Largest total cost of a run, in the table's seconds (epochs where it has none); runs
    end there or after --evaluations."""
    copies: bool | None = None
    """Whether Gaussian processes take cells that compute the same function for different
    ones; default: only in a table file, not in the tables that have a name."""
    init: int = 10
    """Random evaluations at the start of a run; gp-tw2g-plus has 5."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 10
    """Runs between two saves."""
    out: str = "results"
    """Folder for the results."""


def validate(config: Config) -> None:
    """Raises `ValueError` for settings that no table can fulfil."""
    cli.positive(config, "seeds", "evaluations", "init", "chunk")
    cli.at_most(config, seeds=1_000_000, evaluations=1_000_000)
    if config.init > config.evaluations:
        raise ValueError(
            f"--init must be at most --evaluations = {config.evaluations}, "
            f"not {config.init}"
        )
    if config.budget is not None and not 0 < config.budget < math.inf:
        raise ValueError(f"--budget must be above 0, not {config.budget}")
    cli.seed(config)


def table_columns(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns that are fed back and reported.

    Returns: two dictionaries of dataset, split, epochs and seed, as keywords of
      `columns.column`.
    """
    fed_back = {
        "dataset": config.dataset,
        "split": config.split,
        "epochs": config.epochs,
        "seed": int(config.run) if config.run.isdecimal() else config.run,
    }
    reported = {
        "dataset": _first(config.report_dataset, config.dataset),
        "split": _first(config.report_split, config.split),
        "epochs": _first(config.report_epochs, config.epochs),
        "seed": "mean",
    }
    return fed_back, reported


def _first(given: Any, default: Any) -> Any:
    return default if given is None else given
