"""How well the effect of a class on accuracies is predicted for classes never seen.

The effects are coefficients of class indicators in a ridge regression of the records on
operations, their pairs, and classes. They are predicted from an embedding of the class, by
kernel ridge regression on the other nine tenths of the classes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.task_table.evaluation import pearson
from jaxnas import ranks
from jaxnas.benchmarks import sources
from jaxnas.io import npz
from jaxnas.types import Array

FOLDS = 10
_IMAGES = 40  # of each class of Tiny ImageNet
_SCALE = 0.6  # of the kernel, in units of 1 - cosine
_PENALTIES = 10.0 ** np.arange(-3, 2.1, 0.5)


class ClassEffects(NamedTuple):
    """Cross-validated correlation of predicted effects."""

    embedding: str
    classes: int
    correlation: float  # mean over the partitions
    partitions: float  # standard deviation over the partitions
    error: float  # bootstrap by class


def class_effects(embeddings: np.ndarray, num: int, samples: int) -> list[ClassEffects]:
    """Predicts effects from classifier rows, and from images of Tiny ImageNet.

    Args:
      embeddings: (k, 1280) classifier rows; row = class.
      num: partitions into ten folds.
      samples: of the bootstrap.

    Raises: `ValueError` if a reference file is missing or damaged.
    """
    path = sources.reference_file("imagenet_labels.npz")
    effect = npz.read_npz(path, ["nb201_class_effect"])["nb201_class_effect"]
    known = np.flatnonzero(np.isfinite(effect))
    path = sources.reference_file("tiny_imagenet_features.npz")
    tiny = npz.read_npz(path, ["taps", "label"])
    shared = np.isin(tiny["label"] - 1, known)
    taps = tiny["taps"][shared, :_IMAGES].astype(np.float32).mean(1)
    inputs = {
        "classifier rows": (embeddings[known], effect[known]),
        f"mean of {_IMAGES} images": (taps, effect[tiny["label"][shared] - 1]),
    }
    return [_evaluate(name, x, y, num, samples) for name, (x, y) in inputs.items()]


def cross_validated(gram: Array, y: np.ndarray, seed: int) -> np.ndarray:
    """Predictions (k,) of each class from the classes of the other folds.

    Args:
      gram: (k, k) kernel between classes.
      y: (k,) effects.
      seed: of the partition into ten folds.
    """
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    predicted = np.empty(len(y))
    for number in range(FOLDS):
        train = jnp.asarray(np.flatnonzero(fold != number))
        values = np.asarray(kernel_ridge(gram, train, jnp.asarray(y)[train]))
        predicted[fold == number] = values[fold == number]
    return predicted


@jax.jit
def kernel_ridge(gram: Array, train: Array, y: Array) -> Array:
    """Kernel ridge regression, its penalty by leave-one-out error.

    Args:
      gram: (k, k) kernel between all points.
      train: (m,) rows of the labelled points.
      y: (m,) labels.

    Returns: (k,) predictions.
    """
    mean = y.mean()
    size, vectors = jnp.linalg.eigh(gram[train[:, None], train])
    projected = vectors.T @ (y - mean)

    def error(penalty: Array) -> Array:
        shrink = 1 / (size + penalty)
        inverse = (vectors**2) @ shrink  # diagonal
        return jnp.mean((vectors @ (shrink * projected) / inverse) ** 2)

    penalties = jnp.asarray(_PENALTIES, gram.dtype)
    penalty = penalties[jnp.argmin(jax.lax.map(error, penalties))]
    return mean + gram[:, train] @ (vectors @ (projected / (size + penalty)))


def cosine_kernel(x: np.ndarray) -> Array:
    """Kernel (k, k) of the angles between standardised embeddings (k, f)."""
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return jnp.exp((jnp.asarray(x @ x.T, jnp.float32) - 1) / _SCALE)


def _evaluate(
    name: str, x: np.ndarray, y: np.ndarray, num: int, samples: int
) -> ClassEffects:
    gram = cosine_kernel(x)
    predictions = [cross_validated(gram, y, seed) for seed in range(num)]
    weights = np.asarray(ranks.bootstrap_weights(jax.random.key(0), samples, len(y)))
    resampled = [pearson(p, y, weights) for p in predictions]
    each = [pearson(p, y, np.ones((1, len(y))))[0] for p in predictions]
    spread = float(np.std(each, ddof=1)) if num > 1 else np.nan
    error = float(np.mean(resampled, 0).std(ddof=1))
    return ClassEffects(name, len(y), float(np.mean(each)), spread, error)
