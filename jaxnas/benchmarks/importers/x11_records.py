"""The parts of a surrogate's pickle, checked: regressor chain, scaler, components, kernel.

`x11` reads the files; the records here come from `joblib_files.load`. Every function
raises `ValueError` that says what was wanted and what was found.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.curves import lightgbm_text, xgboost_json
from jaxnas.curves.forest import Forest
from jaxnas.io import joblib_files
from jaxnas.io.pickles import PickledObject
from jaxnas.io.streams import printable

# Module and name of each class, in the old and the new versions of its library.
CLASSES = joblib_files.records(
    ("sklearn.multioutput", "RegressorChain"),
    ("sklearn.preprocessing._data", "StandardScaler"),
    ("sklearn.preprocessing.data", "StandardScaler"),
    ("lightgbm.sklearn", "LGBMRegressor"),
    ("lightgbm.basic", "Booster"),
    ("xgboost.sklearn", "XGBRegressor"),
    ("xgboost.core", "Booster"),
    ("scipy.stats.kde", "gaussian_kde"),
    ("scipy.stats._kde", "gaussian_kde"),
)
_READERS: dict[type, Callable[[Any, str], Forest]] = {
    str: lightgbm_text.read,
    bytes: xgboost_json.read,
}
_LIBRARY = {str: "lgb", bytes: "xgb"}
MAX_COMPONENTS = 100
LARGEST = 1e9
"""Limit on parameters and predictions, so that curves are finite in float32."""
# Rows of V^T are orthonormal, and the kernel's covariance is that of its rows, to this.
_TOLERANCE = 1e-5


class Kernel(NamedTuple):
    """The Gaussian kernel density of the residuals of a compression."""

    rows: np.ndarray  # (n, e) residuals, reconstruction minus curve
    factor: float  # bandwidth h
    covariance: np.ndarray  # (e, e) of the rows, unbiased, times h^2


class ReleasedMember(NamedTuple):
    """One member of an ensemble: trees for k components of curves of e epochs."""

    chain: tuple[Forest, ...]  # k; forest j has d + j features
    mean: np.ndarray  # (k,) of the coefficients, before they were standardised
    scale: np.ndarray  # (k,) their standard deviation
    singular: np.ndarray  # (k,) singular values of the training curves, not centred
    right: np.ndarray  # (k, e) their right singular vectors
    kernel: Kernel | None
    library: str  # lgb or xgb
    digest: str  # SHA-256 of all of it but the kernel


def fields_of(value: Any, kind: str, what: str) -> dict[str, Any]:
    """The attributes of an object.

    Args:
      value: the object.
      kind: the name of the class that it must be of.
      what: what it is, for the message.

    Raises: `ValueError` for an object of another class, and for other values.
    """
    if not isinstance(value, PickledObject) or value.kind != kind:
        actual = value.kind if isinstance(value, PickledObject) else printable(value)
        raise ValueError(f"{what}: wanted a {kind}, found {actual}")
    return value.fields


def numbers(
    value: Any, shape: Sequence[int | None], what: str, *, dtype: type = np.float64
) -> np.ndarray:
    """An array of finite numbers.

    Args:
      value: from a file.
      shape: what its shape must be; None for any length.
      what: what it is, for messages.
      dtype: what the numbers become; integers must be integers.

    Returns: a copy, of `dtype`.
    Raises: `ValueError` for another shape or type, and for numbers that are not finite or
      not below `LARGEST`.
    """
    array = joblib_files.array_of(value)
    kinds = "iu" if dtype is np.int64 else "fiu"
    same = array.ndim == len(shape) and all(
        n is None or n == size for n, size in zip(shape, array.shape, strict=True)
    )
    if not same or array.dtype.kind not in kinds:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{what}: wanted numbers ({expected}), found {array.dtype} {array.shape}"
        )
    if not (np.abs(array) < LARGEST).all():  # of NaN as well
        raise ValueError(
            f"{what} has numbers that are not finite, or above {LARGEST:g}"
        )
    return array.astype(dtype)


def booster(value: Any, what: str) -> str | bytes:
    """The model inside a pickled booster.

    Args:
      value: a `Booster` of LightGBM or XGBoost.
      what: what it is, for messages.

    Returns: LightGBM's text, or XGBoost's bytes.
    Raises: `ValueError` for anything else, and for a booster that was not trained.
    """
    fields = fields_of(value, "Booster", what)
    handle = fields.get("handle", fields.get("_handle"))  # LightGBM 4
    if not isinstance(handle, str | bytes):
        raise ValueError(f"{what} has no trained model")
    return handle


def forest(handle: str | bytes, what: str) -> Forest:
    """The trees of a model.

    Args:
      handle: LightGBM's text, or XGBoost's bytes.
      what: begins the messages.

    Raises: `ValueError` for a model that is damaged or not supported, and for one that
      can predict numbers above `LARGEST`.
    """
    model = _READERS[type(handle)](handle, what)
    leaves = np.where(model.feature < 0, np.abs(model.value), 0)
    # Each tree adds its largest leaf at most.
    if abs(model.base) + np.maximum.reduceat(leaves, model.start[:-1]).sum() > LARGEST:
        raise ValueError(f"{what} can predict numbers above {LARGEST:g}")
    return model


def member(value: Any, members: dict[str, ReleasedMember]) -> ReleasedMember:
    """Checks the object of a surrogate file.

    Args:
      value: a list [regressor chain, scaler, s, V^T, k], with the kernel as the sixth.
      members: those read so far, by digest; the trees of an equal one are not parsed again.

    Raises: `ValueError` for another list, and for parts that do not fit together.
    """
    if type(value) is not list or len(value) not in (5, 6):
        actual = f"a list of {len(value)}" if type(value) is list else printable(value)
        raise ValueError(
            "wanted a list of 5 or 6: regressor chain, scaler, singular values, right "
            f"singular vectors, number of components, kernel; found {actual}"
        )
    handles = _handles(value[0])
    k = value[4]
    if type(k) is not int or k != len(handles):
        raise ValueError(
            f"the list says {printable(k)} components, and the chain has {len(handles)}"
        )
    mean, scale = _scaler(value[1], k)
    singular, right = _components(value[2], value[3], k)
    kernel = _kernel(value[5], right.shape[1]) if len(value) == 6 else None
    digest = _digest(handles, mean, scale, singular, right)
    same = members.get(digest)
    chain = same.chain if same else _chain(handles)
    library = _LIBRARY[type(handles[0])]
    return ReleasedMember(chain, mean, scale, singular, right, kernel, library, digest)


def _handles(value: Any) -> list[str | bytes]:
    """The models of a `RegressorChain`, k of them, of one library.

    Raises: `ValueError` for another order than the natural one, in which each regressor
      has the predictions of those before it, and for regressors that are not trained.
    """
    fields = fields_of(value, "RegressorChain", "the regressors")
    estimators = fields.get("estimators_")
    if type(estimators) is not list or not 0 < len(estimators) <= MAX_COMPONENTS:
        raise ValueError(
            "the regressor chain is not trained, or has too many regressors"
        )
    order = numbers(fields.get("order_"), (len(estimators),), "order_", dtype=np.int64)
    if not np.array_equal(order, np.arange(len(estimators))):
        raise ValueError(
            f"the regressor chain is in the order {order.tolist()}, not 0, 1, ..."
        )
    handles = []
    for j, estimator in enumerate(estimators):
        kind = getattr(estimator, "kind", None)
        if kind not in ("LGBMRegressor", "XGBRegressor"):
            raise ValueError(f"regressor {j}: wanted an LGBMRegressor or XGBRegressor")
        handles.append(booster(estimator.fields.get("_Booster"), f"regressor {j}"))
    if len(set(map(type, handles))) > 1:
        raise ValueError("the regressors are of LightGBM and of XGBoost")
    return handles


def _chain(handles: list[str | bytes]) -> tuple[Forest, ...]:
    """The trees of each of k models.

    Raises: `ValueError` unless model j has j features more than the first one: the
      predictions of those before it.
    """
    chain = tuple(forest(h, f"component {j}") for j, h in enumerate(handles))
    for j, model in enumerate(chain):
        if model.num_features != chain[0].num_features + j:
            raise ValueError(
                f"component {j} has {model.num_features} features, where "
                f"{chain[0].num_features + j} were wanted"
            )
    return chain


def _scaler(value: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale (k,) of a `StandardScaler` of k columns.

    Raises: `ValueError` if it does not do both, or a scale is not positive.
    """
    fields = fields_of(value, "StandardScaler", "the scaler")
    if fields.get("with_mean") is not True or fields.get("with_std") is not True:
        raise ValueError("the scaler does not both centre and scale")
    mean = numbers(fields.get("mean_"), (k,), "the scaler's mean")
    scale = numbers(fields.get("scale_"), (k,), "the scaler's scale")
    if not (scale > 0).all():
        raise ValueError("the scaler's scale is not positive")
    return mean, scale


def _components(s: Any, vt: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k components of a singular value decomposition.

    Args:
      s: the array of all singular values.
      vt: the array of all right singular vectors, in rows.
      k: how many are used.

    Returns: singular values (k,) and right singular vectors (k, e).
    Raises: `ValueError` unless the values are positive and descending, and the vectors
      orthonormal.
    """
    right = numbers(vt, (None, None), "the right singular vectors")
    singular = numbers(s, (len(right),), "the singular values")
    if not k <= min(right.shape):
        raise ValueError(f"{k} components, of {right.shape} right singular vectors")
    if (np.diff(singular) > 0).any() or not singular[k - 1] > 0:
        raise ValueError("the singular values are not positive and in descending order")
    right = right[:k]
    if not np.allclose(right @ right.T, np.eye(k), rtol=0, atol=_TOLERANCE):
        raise ValueError("the right singular vectors are not orthonormal")
    return singular[:k], right


def _kernel(value: Any, epochs: int) -> Kernel:
    """The kernel density of residuals.

    Args:
      value: a `gaussian_kde`.
      epochs: e, the length of the curves.

    Raises: `ValueError` for another length, and unless the covariance is that of the
      residuals times the bandwidth squared.
    """
    fields = fields_of(value, "gaussian_kde", "the noise kernel")
    rows = numbers(fields.get("dataset"), (epochs, None), "the kernel's dataset").T
    covariance = numbers(
        fields.get("covariance"), (epochs, epochs), "the kernel's covariance"
    )
    factor = fields.get("factor")
    if type(factor) is not float or not 0 < factor <= 10:
        raise ValueError(f"the kernel's bandwidth is {printable(factor)}")
    if len(rows) < 2:
        raise ValueError(f"the kernel has {len(rows)} residuals")
    with np.errstate(all="ignore"):
        expected = np.cov(rows, rowvar=False) * factor**2
        same = (
            np.abs(covariance - expected).max() <= _TOLERANCE * np.abs(expected).max()
        )
    if not same:
        raise ValueError("the kernel's covariance is not that of its residuals")
    return Kernel(rows, factor, covariance)


def _digest(handles: list[str | bytes], *arrays: np.ndarray) -> str:
    """The SHA-256 of models and arrays, with their sizes."""
    digest = hashlib.sha256()
    for part in [*handles, *(array.tobytes() for array in arrays)]:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(struct.pack("<q", len(raw)) + raw)
    return digest.hexdigest()
