"""Latencies of once-for-all networks as functions of architecture and resolution.

    table = named.open_table("ofa-latency")
    fitted = fit_latency(table, "titan_xp_64")
    milliseconds = fitted.predict(arch)

The functions are fitted to 5,000 measured networks of 25 resolutions. How well they rank
networks that they were not fitted to is part of them, and has to be said beside every use:
with batches of one image most of the variation is noise, and the functions are refused as
objectives (`latency_function`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas import ranks
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.base import bind
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.predictors.few_labels import RidgeModel, fit_ridge, predict_ridge
from jaxnas.spaces import mobilenetv3, mobilenetv3_counts, mobilenetv3_formats
from jaxnas.types import Array

LEAST_SPEARMAN = 0.9
"""Rank correlation below which a fitted function is no objective."""
_FOLDS = 5
_RESOLUTION_BITS = len(mobilenetv3_formats.ENCODED_RESOLUTIONS)


class FittedLatency(NamedTuple):
    """The latency on one device as a function, and how well it ranks."""

    predict: Partial  # arch (d,) -> () float32, milliseconds of a batch
    device: str
    spearman: float  # of predictions of held-out networks with their latencies

    @property
    def description(self) -> str:
        """One line for every result to print."""
        ranking = f"held-out Spearman {self.spearman:.3f}"
        return f"fitted latency on {self.device}, {ranking}"


def latency_features(arch: Array, resolution: Array | int | None = None) -> Array:
    """Features in which latency is nearly linear.

    Indicators of the kernels and expansions of active layers, alone and times resolution
    and its square; the multiply-adds of each layer; and powers of the resolution.

    Args:
      arch: (d,) int32.
      resolution: as for `mobilenetv3_counts.multiply_adds`.

    Returns: (383,) float32.
    """
    if resolution is None:
        resolution = mobilenetv3.resolution(arch)
    size = jnp.asarray(resolution, jnp.float32) / 224
    bits = mobilenetv3_formats.ofa_encoding(arch)[:-_RESOLUTION_BITS]
    counts = mobilenetv3_counts.layer_multiply_adds(arch, resolution) / 1e6
    powers = jnp.stack([size, size**2, size**3])
    return jnp.concatenate([bits, bits * size, bits * size**2, counts, powers])


def fit_latency(
    table: BenchmarkTable, device: str, *, resolution: int | None = None
) -> FittedLatency:
    """Fits the latency on a device by ridge regression.

    Args:
      table: as from `devices.ofa_latency_table`.
      device: one of the table, such as `titan_xp_64`.
      resolution: of the networks that the function is for. Default: that of
        architectures (46,), and 224 for architectures (45,).

    Returns: the function, fitted to all networks, and the rank correlation of predictions
      by five-fold cross-validation.
    Raises: `ValueError` for a device that the table lacks.
    """
    latency = table_files.device_column(table, "latency", device)
    feature = in_chunks(latency_features, table.arch.astype(np.int32))
    fold = np.random.default_rng(0).permutation(len(latency)) % _FOLDS
    predicted = np.zeros(len(latency))
    for held_out in range(_FOLDS):
        use = fold != held_out
        model = _fit(feature[use], latency[use])
        predicted[~use] = predict_ridge(model, feature[~use])
    spearman = ranks.spearman(ranks.ordinal(predicted), ranks.ordinal(latency))
    predict = Partial(bind(_predict, resolution), _fit(feature, latency))
    return FittedLatency(predict, device, float(spearman))


def latency_function(
    table: BenchmarkTable,
    device: str,
    *,
    resolution: int | None = None,
    force: bool = False,
) -> FittedLatency:
    """Fits a latency that a search may minimise.

    Args:
      table: as for `fit_latency`.
      device: as for `fit_latency`.
      resolution: as for `fit_latency`.
      force: whether to return a function that does not rank well.

    Raises: `ValueError` as `fit_latency`, and for a function whose rank correlation with
      held-out latencies is below `LEAST_SPEARMAN`.
    """
    fitted = fit_latency(table, device, resolution=resolution)
    if fitted.spearman < LEAST_SPEARMAN and not force:
        raise ValueError(
            f"{fitted.description}: an objective needs {LEAST_SPEARMAN} or more, unless "
            "it is forced"
        )
    return fitted


_fit = jax.jit(fit_ridge)


def _predict(resolution: int | None, model: RidgeModel, arch: Array) -> Array:
    return predict_ridge(model, latency_features(arch, resolution))
