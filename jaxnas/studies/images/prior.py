"""Accuracies of the cells on other images, measured or predicted, as a prior.

Cells that are good on one dataset are good on others, but the networks of another dataset
may be smaller, and so may be the cells that suit them. MACs order cells where those
accuracies are blind: the sum of the log ranks of both (AZ-NAS, Lee and Ham, 2024) is the
order in which few cells, or none but the first, are worth a training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import datasets, models
from jaxnas.io.cache import array_digest
from jaxnas.networks import counting
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies.comparison import prior_scores
from jaxnas.studies.images import cell_scores
from jaxnas.studies.images.cell_scores import ScoredCells
from jaxnas.studies.images.config import Config
from jaxnas.studies.images.tasks import ImageTask

FASHION, METAD2A = "fashion", "metad2a"
# The table of `FASHION`, which is part of the library and has every cell.
SURROGATE, COLUMN = "fashion-surrogate", "fashion-mnist/valid/12"
IMAGES, DRAWS = 40, 5  # of each class that MetaD2A sees at most, and its predictions


class Prior(NamedTuple):
    """Accuracies of cells on other images."""

    # (task, cells (n, 6)) -> (n, k); MetaD2A's depend on the images.
    accuracies: Callable[[ImageTask, np.ndarray], np.ndarray]
    sha256: str  # of the table or of the parameters that they are from


def open_prior(config: Config) -> Prior | None:
    """Opens the prior of `--prior`.

    Args:
      config: the settings.

    Returns: None without one.
    Raises: `ValueError` for names, tables and models that cannot be used, and for columns
      of the images that are searched.
    """
    names, table = config.prior, config.prior_from
    if not names:
        return None
    alone = [name for name in names if name in (FASHION, METAD2A)]
    if alone and (len(names) > 1 or table is not None):
        raise ValueError(f"--prior {alone[0]} takes no other columns and no table")
    if METAD2A in alone:
        return _metad2a(config)
    if FASHION in alone:
        names, table = (COLUMN,), SURROGATE
    if table is None:
        raise ValueError(
            f"--prior {' '.join(names)} is of a table: name the table by --prior-from, or "
            f"choose --prior {FASHION} or {METAD2A}"
        )
    assert config.data is not None
    archs = cell_scores.candidates()
    searched = [Path(config.data).stem]
    opened = prior_scores.open_prior(names, table, searched, SPACE, archs)
    assert opened.feature is not None
    lookup = jax.vmap(opened.feature)

    def stored(task: ImageTask, cells: np.ndarray) -> np.ndarray:
        del task
        return np.concatenate(jax.tree.leaves(lookup(jnp.asarray(cells))), 1)

    return Prior(stored, opened.digests["prior_sha256"])


def _metad2a(config: Config) -> Prior:
    """Accuracies that the predictor that ships expects for the images themselves.

    Raises: `ValueError` for images that it was trained on, by name.
    """
    try:  # other priors do without flax
        from jaxnas.studies.metad2a import inputs
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--prior {METAD2A} needs {error.name}: pip install 'jaxnas[models,features]'"
        ) from error
    opened = inputs.open_models(None, None)
    assert opened.predictor is not None and config.data is not None
    pool = inputs.learned_pool(opened.trained_on, Path(config.data).stem)
    if pool is not None:
        raise ValueError(
            f"the models of --prior {METAD2A} were trained on {pool}: wanted other --data"
        )
    predictor = opened.predictor
    extractor = datasets.extractor_of(predictor.network.config.features)

    def predicted(task: ImageTask, cells: np.ndarray) -> np.ndarray:
        images = inputs.few_of_each(task.train, IMAGES, config.seed)
        features = datasets.image_features(images.x, extractor)
        data = models.class_features(features, images.y)
        key = jax.random.key(config.seed)
        mean, _ = models.predict(predictor, key, data, cells, draws=DRAWS)
        return np.asarray(mean)[:, None]

    return Prior(predicted, array_digest(*jax.tree.leaves(predictor.variables)))


def prior_cells(prior: Prior, task: ImageTask, folder: Path) -> ScoredCells:
    """The candidates with prior accuracies and MACs, computed once for the folder.

    Args:
      prior: from `open_prior`.
      task: the images.
      folder: keeps scores.npz.
    """

    def scores() -> ScoredCells:
        archs = cell_scores.candidates()
        values = prior.accuracies(task, archs)
        scores = {f"prior {i + 1}": value for i, value in enumerate(values.T)}
        macs = counting.macs(task.network, archs, live_only=True) / 1e6
        return ScoredCells(archs, scores | {"live_macs": macs})

    return cell_scores.read_or_compute(folder, scores)
