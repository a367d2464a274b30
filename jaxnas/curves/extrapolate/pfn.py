"""LC-PFN: extrapolation by a transformer that was trained on curves of a prior.

    model = pfn.load()
    extrapolator = pfn.lc_pfn(model, scale=100)

After Adriaensen et al. (2023): one forward pass approximates the posterior predictive
distribution under `pfn_prior`. `pfn_training` trains a model. Needs flax (extra
`surrogates`), and orbax (extra `training`) to save and load one.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate import bars
from jaxnas.curves.extrapolate.pfn_network import Transformer, TransformerConfig
from jaxnas.curves.extrapolate.pfn_prior import EPOCHS
from jaxnas.curves.extrapolate.types import Extrapolator, check_target, observed
from jaxnas.io import checkpoints, files, records
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes

SHIPPED = "lcpfn"
"""The model that is part of the library, a folder of `checkpoints/`."""
_FORMAT = 1  # version of the checkpoint


class Model(NamedTuple):
    """A transformer and the bars whose probabilities it predicts."""

    config: TransformerConfig
    params: Any  # of flax
    borders: Array  # (k + 1,)


@full_precision
def predict_logits(model: Model, curve: Array, count: Array, target: Array) -> Array:
    """Computes the logits of the bars for the value at one epoch.

    Args:
      model: the trained model.
      curve: (e,) values between 0 and 1; those that are not finite count as not observed.
      count: () int32, number of values from the first on that are observed.
      target: () epoch, from 1. Where it, or e, is above 100, epochs are numbered in
        smaller steps, within the prior's range.

    Returns: (k,) logits, see `bars`.
    """
    rate = EPOCHS / jnp.maximum(jnp.maximum(target, len(curve)), EPOCHS)
    epochs = jnp.append(jnp.arange(1, len(curve) + 1), target) * rate
    seen = jnp.append((jnp.arange(len(curve)) < count) & jnp.isfinite(curve), False)
    value = jnp.where(seen, jnp.append(curve, 0.5), 0.5)
    network = Transformer(model.config)
    logits: Any = network.apply(model.params, epochs.astype(value.dtype), value, seen)
    return logits[-1]


def lc_pfn(
    model: Model, target: int | None = None, *, scale: float = 1.0
) -> Extrapolator:
    """Predicts by a trained LC-PFN, from the curve alone.

    Args:
      model: the trained model; it predicts curves between 0 and 1.
      target: epoch that is predicted, from 1; default: the last one of the curve.
      scale: the value that no curve exceeds: 1 for fractions, 100 for percent.

    Returns: an extrapolator that ignores features and learns nothing from completed
      curves. Values that are not finite count as not observed.
    Raises: `ValueError` for a target below 1 and a scale that is not positive.
    """
    check_target(target, scale)

    def fit(*training: Any) -> Any:
        del training
        return model.params, model.borders

    def predict(
        params: Any, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del features
        trained = Model(model.config, *params)
        count = observed(curve)
        at = jnp.asarray(len(curve) if target is None else target)
        logits = predict_logits(trained, curve / scale, count, at)
        mean, std = bars.moments(logits, trained.borders)
        return (
            jnp.where(count > 0, scale * mean, jnp.nan),
            jnp.where(count > 0, scale * std, jnp.nan),
        )

    return Extrapolator(fit, predict, 1, 0, target)


def new_model(key: Array, config: TransformerConfig, borders: Array) -> Model:
    """Initialises a model with bars between `borders` (k + 1,), ascending."""
    tokens = jnp.ones(2), jnp.zeros(2), jnp.ones(2, bool)
    return Model(config, Transformer(config).init(key, *tokens), borders)


def save(path: str | os.PathLike, model: Model, manifest: dict[str, Any]) -> None:
    """Writes a model as a checkpoint; see `io.checkpoints.save`.

    Args:
      path: folder of the checkpoint, replaced if it exists.
      model: the model.
      manifest: metadata, such as the settings of the training. The version of the format
        and the sizes of the network are added as "format" and "network".
    """
    tree = {"params": model.params, "borders": model.borders}
    sizes = dataclasses.asdict(model.config)
    checkpoints.save(path, tree, manifest | {"format": _FORMAT, "network": sizes})


def load(path: str | os.PathLike | None = None) -> Model:
    """Reads a model that `save` wrote; parameters are restored in single precision.

    Args:
      path: folder of the checkpoint; None: of the model that is part of the library.

    Raises: `ValueError` if it is missing, damaged, of another version, or not that of an
      LC-PFN.
    """
    path = files.shipped_checkpoint(SHIPPED) if path is None else path
    manifest = checkpoints.manifest(path)
    sizes = manifest.get("network")
    if sizes is not None:
        version = manifest.get("format")
        records.require_format(path, version, _FORMAT, "train the model again")
    try:
        config = TransformerConfig(**sizes)  # pyright: ignore[reportCallIssue]
        check_sizes(**dataclasses.asdict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of an LC-PFN: {error}") from error
    borders = jnp.zeros(config.num_bars + 1)
    like = jax.eval_shape(
        lambda key: new_model(key, config, borders)[1:], jax.random.key(0)
    )
    tree = checkpoints.restore(path, {"params": like[0], "borders": like[1]})
    return Model(config, tree["params"], tree["borders"])
