"""MetaD2A's network as a predictor of the records; a class is a set of one row.

The published network sees features of 20 images of each class, which are not published.
Here it sees the classifier row of each class, reduced to its principal components.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.task_table.records import Records
from jaxnas import models
from jaxnas.models import meta_evaluation, meta_training, nasbench201
from jaxnas.models.meta_data import MetaData, moments
from jaxnas.types import Array, FeatureKind

NAME = "metad2a-network"
_WIDTH = 128  # principal components
_HIDDEN = 64
_VALIDATION = 10  # one in so many training records stops the training
_RATE, _EPOCHS, _PATIENCE = 1e-3, 60, 12


def network(records: Records) -> Callable[[Array, Array], Array]:
    """Predictor by the network of Lee et al. (2021), see `predictors.Predictor`."""
    data = as_data(records, principal_components(records.embeddings, _WIDTH))
    kind = FeatureKind("lite0-classifier-rows", data.x.shape[1])
    config = models.ModelConfig(8, 7, hidden=_HIDDEN, features=kind)
    key_model, key_training, key_images = jax.random.split(jax.random.key(0), 3)

    def fit(rows: Array, seen: Array) -> Array:
        records_used = np.asarray(rows)[np.asarray(seen)]
        held_out = np.arange(len(records_used)) % _VALIDATION == 0
        train = take(data, records_used[~held_out])
        validation = take(data, records_used[held_out])
        model = models.init(models.Predictor(config), key_model)
        model = models.with_accuracy(model, *moments(train))
        training = meta_training.Training(
            train,
            validation,
            batch=32,
            num_images=1,
            draws=1,
            rate=_RATE,
            epochs=_EPOCHS,
            patience=_PATIENCE,
        )
        model, _ = meta_training.train(key_training, model, training)
        values = meta_evaluation.predict_tasks(
            model, key_images, data, draws=1, num_images=1
        )
        return jnp.asarray(values[:, 0])

    return fit


def as_data(records: Records, features: np.ndarray) -> MetaData:
    """The records as n tasks of one graph each.

    Args:
      records: all of them.
      features: (k, f), one row for each class.
    """
    classes = records.classes[records.task].astype(np.int32)
    arch = records.operations.reshape(-1, 6, 5).argmax(-1)[records.arch]
    types = np.asarray(jax.vmap(nasbench201.types_of)(arch))[:, None]
    present = np.ones((len(classes), 1), bool)
    counts = np.ones_like(classes)
    return MetaData(
        jnp.asarray(features),
        classes,
        counts,
        types,
        records.accuracy[:, None],
        present,
    )


def take(data: MetaData, tasks: np.ndarray) -> MetaData:
    """Some of the tasks, with all features."""
    return MetaData(data.x, *(np.asarray(array)[tasks] for array in data[1:]))


def principal_components(x: np.ndarray, num: int) -> np.ndarray:
    """Projects rows (k, f) on the directions of largest variance: (k, at most num).

    Scaled so that the mean square of an entry is 1.
    """
    centred = x - x.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    projected = (left * size)[:, :num]
    return (projected / np.sqrt(np.mean(projected**2))).astype(np.float32)
