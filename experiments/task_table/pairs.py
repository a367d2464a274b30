"""MetaD2A's models of the published records, which see one image of each class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.common.meta_models import initial_model
from experiments.task_table import network
from experiments.task_table.records import Records, read_records
from jaxnas import models
from jaxnas.datasets import lite0
from jaxnas.io import checkpoints
from jaxnas.models import checkpoint, meta_training
from jaxnas.models.meta_training import Training
from jaxnas.models.model import Model
from jaxnas.models.standardise import feature_scale, fold, standardised
from jaxnas.types import FeatureKind

KIND = FeatureKind("lite0-taps-32px", lite0.WIDTH)
_RATE = 1e-3
_HIDDEN = {"generator": 56, "predictor": 64}
# The loss of a generator in validation has plateaus of many epochs. It falls a little after
# the 40th too, but generated cells become worse on images: by 0.3 to 1.4 points after 60.
_EPOCHS = {"generator": 40, "predictor": 60}
_PATIENCE = {"generator": 30, "predictor": 12}


class Trained(NamedTuple):
    """Models, the cells that the generator imitates, and images of a class that it sees."""

    generator: Model
    predictor: Model
    cells: np.ndarray  # (m, 6)
    images: int


def trained(folder: Path, copies: int) -> Trained:
    """Trains both models on the published training records, or reads them.

    Args:
      folder: where they are kept.
      copies: records of one cell that the generator imitates at most; 0: all.

    Raises: `ValueError` if a reference file is missing or damaged.
    """
    records = read_records()
    imitated = few_of_each(records.training, records.arch, copies)
    generator = _model(records, "generator", imitated, folder)
    predictor = _model(records, "predictor", records.training, folder)
    cells = records.operations.reshape(-1, 6, 5).argmax(-1)
    return Trained(generator, predictor, cells[records.arch[imitated]], images=1)


def few_of_each(rows: np.ndarray, arch: np.ndarray, copies: int) -> np.ndarray:
    """Keeps the first records of each cell.

    Args:
      rows: (m,) records.
      arch: (n,) the cell of each record.
      copies: records of a cell that are kept; 0: all.
    """
    order = np.argsort(arch[rows], kind="stable")
    sorted_cells = arch[rows][order]
    rank = np.arange(len(rows)) - np.searchsorted(sorted_cells, sorted_cells)
    return rows[np.sort(order[rank < copies])] if copies else rows


def _model(records: Records, name: str, rows: np.ndarray, folder: Path) -> Model:
    """A model of the training records `rows`, trained unless the folder has it."""
    if checkpoints.exists(folder / name):
        return checkpoint.load(folder / name).model
    data = network.as_data(records, records.images)
    parts = [network.take(data, part) for part in (rows, records.validation)]
    scale = feature_scale(parts[0])
    parts = [standardised(part, scale) for part in parts]
    sizes = models.ModelConfig(8, 7, hidden=_HIDDEN[name], features=KIND)
    built = models.Generator if name == "generator" else models.Predictor
    training = Training(
        *map(jax.device_put, parts),
        batch=32,
        num_images=1,
        draws=1,
        rate=_RATE,
        epochs=_EPOCHS[name],
        patience=_PATIENCE[name],
    )
    model = initial_model(built(sizes), 0, parts[0])
    model, state = meta_training.train(jax.random.key(0), model, training)
    model = fold(model, scale)
    origin = {"epoch": meta_training.best_epoch(state), "losses": state.curve}
    checkpoint.save(folder / name, model, origin=origin)
    return model
