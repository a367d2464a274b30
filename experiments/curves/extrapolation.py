"""Extrapolators of the report, its sets of complete curves, and the metrics.

A trial fits an extrapolator to complete curves of some architectures and predicts the last
values of others from the beginning of their curves.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.curves import sets
from experiments.curves.sets import read_arrays
from jaxnas.batching import in_chunks
from jaxnas.curves import accuracy, extrapolate
from jaxnas.curves.extrapolate import Extrapolator, equal_weights, families
from jaxnas.spaces import encodings

METRICS = ("spearman", "log_likelihood", "mse", "cover50", "cover90", "seconds")
NUM_TRAINING = 100
SHARES = (0.05, 0.1, 0.2, 0.5)
LAST = "last value"
DEFAULT = "kernel ridge, arch"


class CurveData(NamedTuple):
    """Complete curves of n trainings."""

    curves: np.ndarray  # (n, E), more is better
    features: np.ndarray  # (n, f) of the architectures
    groups: np.ndarray  # (n,) rows of one number are one architecture
    scale: float  # no curve exceeds it
    training: np.ndarray | None = None  # (n, E) training accuracies or minus losses


class Method(NamedTuple):
    """An extrapolator as a function of the epochs that it reads, and its inputs."""

    make: Callable[[int, float], Extrapolator]  # of epochs and scale
    features: bool = False
    training: bool = False  # whether it reads training curves
    slow: bool = False  # whether fewer splits are enough


# It reads curves of any length: compiled once.
_CURVE_GP = extrapolate.curve_gp()
METHODS: dict[str, Method] = {
    LAST: Method(lambda epochs, scale: extrapolate.last_value()),
    "training sum": Method(
        lambda epochs, scale: extrapolate.training_sum(epochs), training=True
    ),
    "kernel ridge": Method(lambda epochs, scale: extrapolate.kernel_ridge(epochs)),
    DEFAULT: Method(lambda epochs, scale: extrapolate.kernel_ridge(epochs), True),
    "averaged gp": Method(lambda epochs, scale: extrapolate.averaged_gp(epochs)),
    "averaged gp, arch": Method(
        lambda epochs, scale: extrapolate.averaged_gp(epochs), True
    ),
    "curve gp": Method(lambda epochs, scale: _CURVE_GP),
    "curve gp, arch": Method(lambda epochs, scale: _CURVE_GP, True),
    "lc-svr": Method(lambda epochs, scale: extrapolate.lc_svr(epochs), slow=True),
    "lc-svr, arch": Method(
        lambda epochs, scale: extrapolate.lc_svr(epochs), True, slow=True
    ),
    "released lc-svr": Method(
        lambda epochs, scale: extrapolate.released_lc_svr(max(epochs, 3), 100),
        slow=True,
    ),
    "wpm": Method(lambda epochs, scale: extrapolate.wpm(scale=scale), slow=True),
    "wpm, equal weights": Method(
        lambda epochs, scale: extrapolate.wpm(
            scale=scale, families=families.REFERENCE, weigh=equal_weights
        ),
        slow=True,
    ),
    "lc-pfn": Method(lambda epochs, scale: _lc_pfn(scale), slow=True),
}


@functools.cache
def _lc_pfn(scale: float) -> Extrapolator:
    """The LC-PFN that is part of the library, compiled once for curves of any cut."""
    return extrapolate.lc_pfn(extrapolate.pfn.load(), scale=scale)


def nb201() -> CurveData:
    """200 cells of NAS-Bench-201, CIFAR-10 validation in percent, means over seeds."""
    names = ("uid", "val_acc", "train_acc")
    arrays = read_arrays("nb201_curves_cifar10valid_200archs.npz", *names)
    cells = read_arrays("nb201_accuracy.npz", "ops")["ops"][arrays["uid"]]
    features = in_chunks(encodings.nb201_one_hot, cells.astype(np.int32))
    curves, training = (arrays[name].astype(float) for name in names[1:])
    return CurveData(curves, features, np.arange(len(curves)), 100.0, training)


def metaqnn() -> CurveData:
    """1,000 convolutional networks on CIFAR-10 (Baker et al., 2018), percent."""
    found = sets.convolutional()
    return CurveData(found.curves, found.features.own, found.groups, 100.0)


def recurrent() -> CurveData:
    """341 trainings of NAS-Bench-NLP, 100 minus the validation loss in nats."""
    found = sets.recurrent(False)
    arrays = read_arrays("nasbench_nlp_wikitext2_345.npz", "val_loss", "train_loss")
    complete = np.isfinite(arrays["val_loss"]).all(1)
    training = -arrays["train_loss"][complete].astype(float)
    return CurveData(found.curves, found.features.own, found.groups, 100.0, training)


def resnets() -> CurveData:
    """486 deep residual networks on CIFAR-10 (Baker et al., 2018), percent.

    Features are the logarithms of the parameters and of the learning rate.
    """
    start = "deep_resnets_cifar10__"
    names = [start + name for name in ("curve", "num_params", "lr")]
    curve, params, rate = read_arrays("curves_baker.npz", *names).values()
    features = np.stack([np.log(params), np.log(rate)], 1)
    return CurveData(100 * curve.astype(float), features, np.arange(len(curve)), 100.0)


SETS: dict[str, Callable[[], CurveData]] = {
    "nb201": nb201,
    "metaqnn": metaqnn,
    "nlp": recurrent,
    "resnets": resnets,
}


def split(seed: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, NUM_TRAINING of them, and rows of other architectures.

    The number of the latter is the same for every seed, so that programs are compiled
    once: the minimum, reached when the boundary divides the largest architecture.
    """
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))[index]
    rows = np.lexsort((np.arange(len(groups)), order))
    last = order[rows[NUM_TRAINING - 1]]
    others = rows[order[rows] > last]
    return rows[:NUM_TRAINING], others[: len(groups) - NUM_TRAINING - sizes.max() + 1]


def trial(data: CurveData, method: Method, share: float, seed: int) -> np.ndarray:
    """The METRICS of a method at a share of the epochs, on the split of a seed.

    Returns: (m,); NaN if the method reads more epochs than are observed, or training
      curves that the set lacks.
    """
    curves = data.training if method.training else data.curves
    num = data.curves.shape[1]
    epochs = max(1, round(share * num))
    extrapolator = _made(method, epochs, data.scale)
    if curves is None or epochs < extrapolator.min_epochs:
        return np.full(len(METRICS), np.nan)
    known, new = split(seed, data.groups)
    given = np.where(np.arange(num) < epochs, curves[new], np.nan)
    training = curves[known], data.curves[known, -1]
    both = (data.features[known], data.features[new]) if method.features else None
    start = time.process_time()
    mean, std = extrapolate.apply(extrapolator, training, given, both)
    seconds = (time.process_time() - start) * 1000 / len(new)
    return np.append(scores(data.curves[new, -1], mean, std), seconds)


@functools.cache
def _made(method: Method, epochs: int, scale: float) -> Extrapolator:
    """One object for every split, so that it is compiled once."""
    return method.make(epochs, scale)


def scores(true: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """All METRICS but the seconds, of normal predictions (n,) of values (n,)."""
    density = stats.norm.logpdf(true, mean, std).mean()
    z = np.abs(true - mean) / std
    cover = [np.mean(z < stats.norm.ppf(0.5 + level / 2)) for level in (0.5, 0.9)]
    error = accuracy.mean_squared_error(true, mean)
    return np.array([accuracy.spearman(true, mean), density, error, *cover])
