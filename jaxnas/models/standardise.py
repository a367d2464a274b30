"""Features in standard units during training, and models that take them as they are.

    scale = feature_scale(data)
    model, progress = train(key, model, Training(standardised(data, scale), ...))
    model = fold(model, scale)  # takes features that are not standardised

The first layers of the set encoder are linear in the features, so that scale and shift
become part of their parameters, and a model remains one of the published form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxnas.models.meta_data import MetaData
from jaxnas.models.model import Model

# Of the mean deviation: features that hardly vary in training may vary elsewhere.
_LEAST = 0.1


class FeatureScale(NamedTuple):
    """Mean and deviation of each feature."""

    mean: np.ndarray  # (F,)
    std: np.ndarray  # (F,), positive


def feature_scale(data: MetaData) -> FeatureScale:
    """Computes mean and deviation of the features of the classes of all tasks.

    Args:
      data: for meta-training; classes of no task do not count.
    """
    blocks = {
        (int(first), int(count))
        for first, count in zip(data.first.ravel(), data.counts.ravel(), strict=True)
    }
    rows = [np.asarray(data.x[i : i + n], np.float64) for i, n in sorted(blocks)]
    x = np.concatenate(rows)
    std = x.std(0)
    return FeatureScale(x.mean(0), np.maximum(std, max(_LEAST * std.mean(), 1e-6)))


def standardised(data: MetaData, scale: FeatureScale) -> MetaData:
    """Returns data whose features are in units of `scale`."""
    x = (np.asarray(data.x) - scale.mean) / scale.std
    return data._replace(x=x.astype(np.float32))


def fold(model: Model, scale: FeatureScale) -> Model:
    """Makes a model of features from one of standardised features.

    Args:
      model: a generator or a predictor.
      scale: of the features that it was trained on.

    Returns: a model with equal outputs, to rounding.
    """

    params = dict(model.variables["params"])
    layers = params
    for name in ("set", "intra", "enc_0", "mab"):
        layers[name] = dict(layers[name])
        layers = layers[name]
    for name in ("fc_q", "fc_k", "fc_v"):
        kernel, bias = (np.float64(layers[name][n]) for n in ("kernel", "bias"))
        kernel = kernel / scale.std[:, None]
        layer = {"kernel": kernel, "bias": bias - scale.mean @ kernel}
        layers[name] = {n: array.astype(np.float32) for n, array in layer.items()}
    return Model(model.network, {**model.variables, "params": params})
