"""Accuracies on other datasets that a search starts from.

`open_prior` reads columns of a benchmark table, none of which is of the dataset that is
searched, as the feature map that `presets` take as `prior`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.benchmarks import columns, named, table_files
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import few_labels
from jaxnas.spaces import base
from jaxnas.spaces.base import Space

# Words that say which images of a dataset a name is of.
_PARTS = frozenset(
    "data dataset image images test train training val valid validation".split()
)


class PriorScores(NamedTuple):
    """The feature map of accuracies on other datasets, and the table that they are from."""

    feature: FeatureMap | None = None
    digests: dict[str, str] = {}  # sha256 of the table, by name


def open_prior(
    names: Sequence[str],
    table: str,
    searched: Sequence[str],
    space: Space,
    archs: np.ndarray,
) -> PriorScores:
    """Reads accuracies on other datasets.

    Args:
      names: DATASET/SPLIT/EPOCHS of columns, the mean of whose runs is read; nothing is
        opened for none.
      table: the name or file of the table that has them.
      searched: datasets of which no accuracy may be used, on any split or schedule.
      space: of the search.
      archs: (n, d) int32, all of which must have every accuracy.

    Raises: `ValueError` for names of another form, for columns of a dataset that is
      searched or that the table lacks, for a table of another space, and for
      architectures without accuracies.
    """
    if not names:
        return PriorScores()
    if len(set(names)) < len(names):
        raise ValueError("--prior names a column more than once")
    chosen = [_parse(name, searched) for name in names]
    opened = named.open_table(table)
    if opened.space != space.name:
        raise ValueError(
            f"--prior-from {table} is of the space {opened.space}, not {space.name}"
        )
    values = np.concatenate([columns.column(opened, **c) for c in chosen], 1)
    measured = base.identify(space, opened.arch[np.isfinite(values).all(1)])
    missing = ~np.isin(base.identify(space, archs), measured)
    if missing.any():
        raise ValueError(
            f"{missing.sum()} architectures of the benchmark have no accuracy in --prior: "
            f"wanted accuracies of all {len(archs)}"
        )
    feature = few_labels.features_by_architecture(space, opened.arch, values)
    return PriorScores(feature, {"prior_sha256": table_files.digest(opened)})


def _parse(name: str, searched: Sequence[str]) -> dict:
    """The keywords of `columns.column` for DATASET/SPLIT/EPOCHS, validated."""
    dataset, *rest = name.rsplit("/", 2)
    if len(rest) != 2 or not rest[1].isdecimal():
        raise ValueError(
            f"--prior must name columns as cifar100/valid/200, not {name!r}"
        )
    for other in searched:
        if same_images(dataset, other):
            raise ValueError(
                f"--prior {name} is of the dataset that is searched or reported, {other}: "
                "wanted other datasets"
            )
    return {
        "dataset": dataset,
        "split": rest[0],
        "epochs": int(rest[1]),
        "seed": "mean",
    }


def same_images(a: str, b: str) -> bool:
    """Whether two names are of variants of one dataset.

    Case and separators do not matter. A number of up to three digits is part of the name,
    as in CIFAR-10; a longer one counts images, as in mnist-5000.

    Args:
      a: such as cifar10-valid.
      b: such as cifar10 and cifar-10-batches-py.
    """
    return bool(_stems(a) & _stems(b))


def _stems(name: str) -> set[str]:
    """Short forms of a name, of which variants of a dataset share one.

    They are the words before the number together, with the last word alone, which others
    may precede; without a number all words together, or the first one.
    """
    words = []
    for part in re.findall(r"[^\W\d_]+|\d+", name.lower()):
        if not part.isdecimal():
            words += [part] if part not in _PARTS else []
        elif words and len(part) < 4:
            return {"".join(words) + part, words[-1] + part}
    return {"".join(words), words[0]} if words else {name.lower()}
