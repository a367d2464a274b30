"""LC-PFN: a transformer that was trained on a prior of curves predicts real ones.

    model = pfn.load("results/lcpfn")
    extrapolator = pfn.lc_pfn(model, scale=100)

After Adriaensen et al. (2023). One forward pass approximates the posterior of `pfn_prior`.
A model is trained by `pfn_training`. Needs flax (extra `surrogates`), and orbax (extra
`training`) to load a model.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate import bars
from jaxnas.curves.extrapolate.pfn_network import NetworkConfig, Transformer
from jaxnas.curves.extrapolate.pfn_prior import EPOCHS
from jaxnas.curves.extrapolate.types import Extrapolator, observed
from jaxnas.io import checkpoints
from jaxnas.types import Array, check_sizes


class Model(NamedTuple):
    """A transformer and the bars that its outputs are probabilities of."""

    config: NetworkConfig
    params: Any
    borders: Array  # (k + 1,)


def predict_logits(model: Model, curve: Array, count: Array, target: Array) -> Array:
    """Logits (k,) of the value at an epoch, from the first `count` () values.

    Args:
      model: trained.
      curve: (e,) values between 0 and 1. Of more than 100 epochs, the epochs are numbered
        so that the last is 100.
      count: () int32, observed values.
      target: () epoch, from 1.
    """
    rate = min(1.0, EPOCHS / len(curve))
    epochs = jnp.append(jnp.arange(1, len(curve) + 1), target) * rate
    seen = jnp.append(jnp.arange(len(curve)) < count, False)
    value = jnp.where(seen, jnp.append(curve, 0.5), 0.5)
    seen = seen & jnp.isfinite(value)
    value = jnp.where(seen, value, 0.5)
    network = Transformer(model.config)
    found: Any = network.apply(model.params, epochs.astype(value.dtype), value, seen)
    return found[-1]


def lc_pfn(
    model: Model, target: int | None = None, *, scale: float = 1.0
) -> Extrapolator:
    """Predicts by a trained LC-PFN, from the curve alone.

    Args:
      model: trained.
      target: epoch that is predicted, from 1; default: the last one of the curve.
      scale: the value that no curve exceeds: 1 for fractions, 100 for percent.

    Returns: an extrapolator that ignores features and learns nothing from completed
      curves. Values that are not finite count as not observed.
    Raises: `ValueError` for a target below 1 and a scale that is not positive.
    """
    if target is not None:
        check_sizes(target=target)
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")

    def fit(*training: Any) -> Any:
        del training
        return model.params, model.borders

    def predict(
        params: Any, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del features
        now = Model(model.config, *params)
        count = observed(curve)
        at = jnp.asarray(len(curve) if target is None else target)
        logits = predict_logits(now, curve / scale, count, at)
        found = jnp.stack(bars.moments(logits, now.borders))
        found = jnp.where(count > 0, scale * found, jnp.nan)
        return found[0], found[1]

    return Extrapolator(fit, predict, 1, 0, target)


def new_model(key: Array, config: NetworkConfig, borders: Array) -> Model:
    """A model that is not trained yet, with bars between `borders` (k + 1,)."""
    tokens = jnp.ones(2), jnp.zeros(2), jnp.ones(2, bool)
    return Model(config, Transformer(config).init(key, *tokens), borders)


def save(path: str | os.PathLike, model: Model, manifest: dict[str, Any]) -> None:
    """Writes a model as a checkpoint, with its sizes; see `io.checkpoints.save`."""
    tree = {"params": model.params, "borders": model.borders}
    sizes = {"network": dataclasses.asdict(model.config)}
    checkpoints.save(path, tree, manifest | sizes)


def load(path: str | os.PathLike) -> Model:
    """Reads a model that `save` wrote.

    Raises: `ValueError` if it is missing, damaged, or of another kind.
    """
    sizes = checkpoints.manifest(path).get("network")
    try:
        config = NetworkConfig(**sizes)  # pyright: ignore[reportCallIssue]
        check_sizes(**dataclasses.asdict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of an LC-PFN: {error}") from error
    borders = jnp.zeros(config.num_bars + 1)
    like = jax.eval_shape(
        lambda key: new_model(key, config, borders)[1:], jax.random.key(0)
    )
    found = checkpoints.restore(path, {"params": like[0], "borders": like[1]})
    return Model(config, found["params"], found["borders"])
