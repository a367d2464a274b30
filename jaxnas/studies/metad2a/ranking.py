"""The order of generated cells by predicted accuracy."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxnas import models
from jaxnas.models.features import ClassFeatures
from jaxnas.models.model import Model
from jaxnas.models.nasbench201 import CODEC


class Ranked(NamedTuple):
    """Different cells, the highest predicted accuracy first."""

    arch: np.ndarray  # (n, 6)
    # (n,) accuracy in percent, and its standard deviation over subsets of the images and
    # members of an ensemble; NaN without a predictor.
    predicted: np.ndarray
    spread: np.ndarray
    first: np.ndarray  # (n,) bool, False for cells of the function of a better one


def rank(
    predictor: Model | None,
    key: jax.Array,
    features: ClassFeatures,
    arch: np.ndarray,
    draws: int,
) -> Ranked:
    """Sorts cells by predicted accuracy.

    Args:
      predictor: None: the cells keep their order.
      key: random key of the images.
      features: of the dataset for which accuracies are predicted.
      arch: (n, 6).
      draws: predictions of each cell, each for other images.
    """
    mean, std = np.full((2, len(arch)), np.nan)
    if predictor is not None:
        mean, std = models.predict(predictor, key, features, arch, draws=draws)
    order = np.argsort(-mean, kind="stable")
    _, index = np.unique(CODEC.functions(arch[order]), return_index=True)
    first = np.isin(np.arange(len(arch)), index)
    return Ranked(arch[order], mean[order], std[order], first)
