"""Regression of components by gradient-boosted trees of LightGBM and XGBoost.

The libraries train on the host (extra `surrogates`); their models are packed and evaluated
by `trees`, so that a fitted regressor does not need them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.curves import heads, lightgbm_text, packing, trees, xgboost_json
from jaxnas.curves.forest import Forest
from jaxnas.curves.packing import Ensemble
from jaxnas.types import Array, check_sizes

# The release's hyper-parameters of LightGBM (Yan et al., 2021; their configuration files,
# rounded to ten decimals as there).
RELEASE = {
    "max_depth": 18,
    "num_leaves": 40,
    "min_child_weight": 0.582192788716,
    "lambda_l1": 0.0114897724,
    "lambda_l2": 134.5074355701,
    "learning_rate": 0.0218224976,
}
# The same model in XGBoost's terms, with its histogram and leaf-wise growth.
RELEASE_XGBOOST = {
    "max_depth": 18,
    "max_leaves": 40,
    "grow_policy": "lossguide",
    "tree_method": "hist",
    "min_child_weight": 0.582192788716,
    "reg_alpha": 0.0114897724,
    "reg_lambda": 134.5074355701,
    "learning_rate": 0.0218224976,
}


class Chain(NamedTuple):
    """Ensembles of trees for k components, each with the predictions of those before it.

    In the manner of scikit-learn's `RegressorChain`: ensemble j has j features more.
    """

    ensembles: tuple[Ensemble, ...]


class Heads(NamedTuple):
    """Independent ensembles of trees for k components."""

    ensemble: Ensemble  # arrays have a leading axis (k,), see `heads`


class FitTask(NamedTuple):
    """Training data of the regressors of m members."""

    features: np.ndarray  # (n, d)
    targets: list[np.ndarray]  # m arrays (n, k), the components of each member
    rows: np.ndarray  # (m, r), the rows of each member
    # m arrays (k,): the root mean square change of a curve per unit of a component.
    importance: list[np.ndarray]


# (keys (m,), task) -> one regressor for each of m members, fitted on its rows.
Regress = Callable[[Array, FitTask], tuple]
# One model: (seed, features (r, d), target (r,)) -> its trees.
_One = Callable[[int, np.ndarray, np.ndarray], Forest]


def lightgbm(
    num_rounds: int = 3000, *, chain: bool = True, **parameters: Any
) -> Regress:
    """Regression by LightGBM, one model for each component.

    Args:
      num_rounds: trees of each model.
      chain: whether each model takes the true components before its own as further
        features in training, and their predictions afterwards.
      **parameters: LightGBM's; default: `RELEASE`.

    Returns: a function that fits `Chain` or `Heads`.
    Raises: `ValueError` when fitted without LightGBM installed.
    """
    check_sizes(num_rounds=num_rounds)
    chosen = {"objective": "regression", "verbosity": -1, **(parameters or RELEASE)}

    def one(seed: int, x: np.ndarray, y: np.ndarray) -> Forest:
        library = _library("lightgbm")
        given = {**chosen, "seed": seed}
        booster = library.train(given, library.Dataset(x, y, params=given), num_rounds)
        return lightgbm_text.read(booster.model_to_string())

    return _each_component(one, chain)


def xgboost(
    num_rounds: int = 3000, *, chain: bool = True, **parameters: Any
) -> Regress:
    """Regression by XGBoost, one model for each component.

    Args:
      num_rounds: trees of each model. (The release trains 100, as it passes the number
        under a name that XGBoost does not know.)
      chain: as `lightgbm`.
      **parameters: XGBoost's; default: `RELEASE_XGBOOST`.

    Returns: a function that fits `Chain` or `Heads`.
    Raises: `ValueError` when fitted without XGBoost installed.
    """
    check_sizes(num_rounds=num_rounds)
    chosen = {"verbosity": 0, **(parameters or RELEASE_XGBOOST)}

    def one(seed: int, x: np.ndarray, y: np.ndarray) -> Forest:
        library = _library("xgboost")
        data = library.DMatrix(x, y)
        booster = library.train({**chosen, "seed": seed}, data, num_rounds)
        return xgboost_json.read(booster.save_raw("json"))

    return _each_component(one, chain)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"fitting this regressor needs {name}: pip install 'jaxnas[surrogates]'"
        ) from None


def _each_component(one: _One, chain: bool) -> Regress:
    """Fits one model after another, for each member.

    Args:
      one: fits one of them.
      chain: whether each takes the components before its own.
    """

    def fit(keys: Array, task: FitTask) -> tuple[Chain | Heads, ...]:
        features, targets, rows, _ = task
        members = []
        for key, target, mine in zip(keys, targets, rows, strict=True):
            x, z = np.asarray(features)[mine], np.asarray(target, float)[mine]
            seeds = np.asarray(jax.random.randint(key, z.shape[1:], 0, 2**31 - 1))
            models = [
                one(
                    int(seed), np.concatenate([x, z[:, :j]], 1) if chain else x, z[:, j]
                )
                for j, seed in enumerate(seeds)
            ]
            packed = Chain(tuple(map(packing.pack, models))) if chain else None
            members.append(packed or Heads(heads.pack(models)))
        return tuple(members)

    return fit


def predict(regressor: Chain | Heads, features: Array) -> Array:
    """The standardised components (n, k) for features (n, d)."""
    if isinstance(regressor, Chain):
        return trees.predict_chain(regressor.ensembles, features)
    return heads.predict(regressor.ensemble, features)
