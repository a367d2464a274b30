"""Scores of untrained networks that a search knows before its first evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.zero_cost import score_columns
from jaxnas.benchmarks import named, table_files
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import few_labels
from jaxnas.spaces.base import Space


class KnownScores(NamedTuple):
    """Feature maps of scores, and the tables that they are from."""

    features: tuple[FeatureMap, ...] = ()
    digests: dict[str, str] = {}  # sha256 of the tables, by name


def open_scores(
    names: Sequence[str],
    tables: Sequence[str],
    dataset: str,
    space: Space,
    archs: np.ndarray,
) -> KnownScores:
    """Reads scores; their Savage scores are one feature map.

    Args:
      names: of the scores; nothing is opened for none.
      tables: names or files of the tables that have them.
      dataset: the dataset on which they are known.
      space: of the search.
      archs: (n, d) int32, all of which must have every score.

    Raises: `ValueError` for scores that the tables lack, and for a table of another
      space.
    """
    if not names:
        return KnownScores()
    opened = [named.open_table(table) for table in tables]
    if not opened:
        raise ValueError("--scores needs --scores-from, which is empty")
    first = opened[0]
    if first.space != space.name:
        raise ValueError(f"no scores of {space.name} in the --scores-from {first.name}")
    columns = score_columns.gather(first, dataset, opened)
    if unknown := [name for name in names if name not in columns]:
        raise ValueError(
            f"no scores {', '.join(unknown)} for {dataset} in {', '.join(tables)}: "
            f"choose from {', '.join(columns)}"
        )
    values = np.stack([columns[name].value for name in names], 1)
    scored = first.arch[~np.isnan(values).any(1)]
    missing = set(map(tuple, archs.tolist())) - set(map(tuple, scored.tolist()))
    if missing:
        raise ValueError(
            f"{len(missing)} architectures of the benchmark have no "
            f"{' or '.join(names)}: wanted scores of all {len(archs)}"
        )
    feature = few_labels.features_by_architecture(
        space, first.arch, few_labels.savage_scores(values)
    )
    digests = ", ".join(table_files.digest(table) for table in opened)
    return KnownScores((feature,), {"scores_sha256": digests})
