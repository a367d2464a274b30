"""Once-for-all subnets of MobileNetV3: measured accuracies and predicted ones.

    benchmark = ofa.predicted_accuracy_benchmark()
    trace = simulate(keys, search, benchmark, num_steps=200)

Accuracies of 2,162 subnets were measured, `subnet_table`. For all others there is the
published predictor of once-for-all (Cai et al., 2020), a network that ranks the measured
subnets with a Spearman correlation of 0.98, and whose output is no accuracy: it is called
predicted accuracy, and `calibration` relates it to measured ones.
"""

from __future__ import annotations

import dataclasses
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import sources
from jaxnas.benchmarks.base import Benchmark, Target, bind, continued_levels
from jaxnas.benchmarks.devices import mean_by
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.precision import full_precision
from jaxnas.spaces import base, mobilenetv3, mobilenetv3_formats
from jaxnas.spaces.base import Space, contains
from jaxnas.types import Array, Query, Result, asked

PREDICTED = Target("predicted accuracy", "1")
RESOLUTIONS = (160, 176, 192, 208, 224)
"""Resolutions that the predictor was trained for; its output at lower ones is arbitrary."""
_LAYERS = (0, 2, 4, 6)  # indices in the published Sequential; ReLUs are between them
_WIDTHS = (mobilenetv3_formats.ENCODING_SIZE, 400, 400, 400, 1)


class AccuracyPredictor(NamedTuple):
    """A multilayer perceptron with ReLUs, layer by layer."""

    weights: tuple[Array, ...]  # (outputs, inputs) float32
    biases: tuple[Array, ...]  # (outputs,) float32


def accuracy_predictor(path: str | os.PathLike | None = None) -> AccuracyPredictor:
    """Loads the published predictor, 128-400-400-400-1.

    Args:
      path: the reference file ofa_mbv3_acc_predictor.npz; default: see `sources`.

    Raises: `ValueError` if it is missing, damaged, or holds another network.
    """
    path = sources.reference_file("ofa_mbv3_acc_predictor.npz", path)
    names = [f"{i}.{what}" for i in _LAYERS for what in ("weight", "bias")]
    arrays = npz.read_npz(path, names)
    sizes = [
        s for i, o in zip(_WIDTHS, _WIDTHS[1:], strict=False) for s in ((o, i), (o,))
    ]
    for name, size in zip(names, sizes, strict=True):
        if arrays[name].shape != size:
            raise ValueError(f"{path}: wanted {name} {size}, not {arrays[name].shape}")
    values = [jnp.asarray(arrays[name], jnp.float32) for name in names]
    return AccuracyPredictor(tuple(values[::2]), tuple(values[1::2]))


@full_precision
def predicted_accuracy(
    predictor: AccuracyPredictor, arch: Array, resolution: Array | int | None = None
) -> Array:
    """Predicts how accurate a subnet is on ImageNet, as a number that ranks.

    Args:
      predictor: its parameters.
      arch: (d,) int32.
      resolution: as for `mobilenetv3_formats.ofa_encoding`.

    Returns: () float32, about 0.78 to 0.84.
    """
    x = mobilenetv3_formats.ofa_encoding(arch, resolution)
    *hidden, last = zip(predictor.weights, predictor.biases, strict=True)
    for weight, bias in hidden:
        x = jax.nn.relu(weight @ x + bias)
    return (last[0] @ x + last[1])[0]


def predicted_accuracy_benchmark(
    predictor: AccuracyPredictor | None = None, *, resolution: int | None = 224
) -> Benchmark:
    """Makes a benchmark of predicted accuracies of the whole space.

    Args:
      predictor: default: the published one.
      resolution: of all networks, one of `RESOLUTIONS`. None: architectures have it in
        their 46th position, where the others are not valid.

    Returns: a benchmark of one epoch, which an evaluation costs.
    Raises: `ValueError` for another resolution, and as `accuracy_predictor`.
    """
    if resolution is not None and resolution not in RESOLUTIONS:
        raise ValueError(
            "the accuracy predictor was trained for resolutions "
            f"{', '.join(map(str, RESOLUTIONS))}, not {resolution}"
        )
    predictor = accuracy_predictor() if predictor is None else predictor
    space = mobilenetv3.SPACE if resolution else PREDICTED_SPACE
    setting = (space, resolution)
    pixels = f"{resolution} pixels" if resolution else "any resolution"
    return Benchmark(
        space=space,
        evaluate=Partial(bind(_evaluate, setting), predictor),
        levels=continued_levels([1]),
        target=PREDICTED,
        cost_unit="epochs",
        truth=Partial(bind(_truth, setting), predictor),
        description=f"predicted accuracy of once-for-all subnets, {pixels}",
    )


def _has_predicted_resolution(arch: Array) -> Array:
    return jnp.isin(mobilenetv3.resolution(arch), jnp.array(RESOLUTIONS))


PREDICTED_SPACE = dataclasses.replace(
    mobilenetv3.SPACE_WITH_RESOLUTION,
    is_valid=_has_predicted_resolution,
    rule=f"a resolution of {', '.join(map(str, RESOLUTIONS))} pixels",
    size=mobilenetv3.NUM_ARCHITECTURES * len(RESOLUTIONS),
)
"""Architectures (46,) whose accuracy can be predicted."""


def _truth(
    setting: tuple[Space, int | None], predictor: AccuracyPredictor, arch: Array
) -> Array:
    space, resolution = setting
    value = predicted_accuracy(predictor, arch, resolution)
    return jnp.where(contains(space, arch), value, jnp.nan)


def _evaluate(
    setting: tuple[Space, int | None],
    predictor: AccuracyPredictor,
    key: Array,
    query: Query,
) -> Result:
    """Predicts the query's architectures; the key is not used."""
    del key
    score = jax.vmap(lambda arch: _truth(setting, predictor, arch))(query.arch)
    score = jnp.where(asked(query), score, jnp.nan)
    return Result(score, score[:, None], jnp.where(jnp.isnan(score), 0.0, 1.0))


def subnet_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Reads ImageNet accuracies of 2,162 subnets, at 224 pixels, measured by DyNAS-T.

    A subnet has the weights of the supernet and is not trained: the column
    `imagenet/valid/1` is of one evaluation, the mean of several for 153 subnets. The
    columns `flops/imagenet` and `params/imagenet` are in millions.

    Args:
      path: the reference file ofa_mbv3_dynast.npz; default: see `sources`.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    path = sources.reference_file("ofa_mbv3_dynast.npz", path)
    names = ("ks", "e", "d", "top1", "macs", "params")
    arrays, sha256 = npz.read_npz_and_digest(path, names)
    accuracy, macs, params = (arrays.pop(name) for name in names[3:])
    try:
        archs = mobilenetv3_formats.from_ofa(arrays)
    except ValueError as error:
        raise ValueError(f"{path} holds no subnets: {error}") from error
    archs = in_chunks(mobilenetv3.canonical, archs)
    keys, first, rows = np.unique(
        base.identify(mobilenetv3.SPACE, archs), return_index=True, return_inverse=True
    )
    columns = {
        "imagenet/valid/1": mean_by(rows.reshape(-1), accuracy),
        "flops/imagenet": macs[first] / 1e6,
        "params/imagenet": params[first] / 1e6,
    }
    manifest = {
        "source": f"DyNAS-T, {path.name}",
        "sha256": sha256,
        "part": True,
        "columns": dict.fromkeys(columns, "subnets with the weights of the supernet"),
    }
    archs, space = archs[first].astype(np.int8), mobilenetv3.SPACE.name
    return sources.validated(
        path, BenchmarkTable("ofa", space, archs, columns, manifest)
    )


class Calibration(NamedTuple):
    """A monotone map from predicted to measured accuracy, a step function of k steps."""

    predicted: np.ndarray  # (k,) ascending
    accuracy: np.ndarray  # (k,) percent, not descending


def calibration(predictor: AccuracyPredictor, table: BenchmarkTable) -> Calibration:
    """Fits the monotone map from predicted to measured accuracy with least squares.

    Args:
      predictor: its parameters.
      table: as from `subnet_table`.

    Returns: isotonic regression of the accuracies of the table (Barlow et al., 1972).
    """
    from scipy.optimize import isotonic_regression

    predict = Partial(predicted_accuracy, predictor)
    predicted = in_chunks(predict, table.arch.astype(np.int32))
    order = np.argsort(predicted)
    fitted = isotonic_regression(table.columns["imagenet/valid/1"][order])
    return Calibration(predicted[order], fitted.x)


def calibrated(calibration: Calibration, predicted: np.ndarray) -> np.ndarray:
    """Converts predicted accuracies (...) to percent by interpolation.

    Values outside the range of the measured subnets have the accuracy of the nearest.
    """
    return np.interp(predicted, calibration.predicted, calibration.accuracy)
