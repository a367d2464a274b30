"""Regression of components by gradient-boosted trees of LightGBM and XGBoost.

The libraries train on the host (extra `surrogates`); their models are packed and evaluated
by `trees`, so that a fitted regressor does not need them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import lightgbm_text, packing, trees
from jaxnas.curves.packing import Ensemble
from jaxnas.types import Array

# The release's hyper-parameters of LightGBM (Yan et al., 2021; their configuration files).
RELEASE = {
    "max_depth": 18,
    "num_leaves": 40,
    "min_child_weight": 0.582192788716,
    "lambda_l1": 0.0114897724,
    "lambda_l2": 134.5074355701,
    "learning_rate": 0.0218224976,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trees:
    """Ensembles of trees for k components; a pytree.

    Attributes:
      ensembles: k of them.
      chain: whether ensemble j takes the predictions of the j before it as further
        features, in the manner of scikit-learn's `RegressorChain`.
    """

    ensembles: tuple[Ensemble, ...]
    chain: bool = field(metadata={"static": True})


# Regress = (keys (m,), features (n, d), targets: m arrays (n, k), rows (m, r)) -> one
# regressor for each of m members, fitted on its rows.
Regress = Callable[[Array, np.ndarray, list, np.ndarray], tuple]


def lightgbm(
    num_rounds: int = 3000, *, chain: bool = True, **parameters: float
) -> Regress:
    """Regression by LightGBM, one model for each component.

    Args:
      num_rounds: trees of each model.
      chain: whether each model takes the true values of the components before it as
        further features in training, and their predictions afterwards.
      **parameters: LightGBM's; default: those of the release.

    Returns: a function that fits `Trees`.
    Raises: `ValueError` when fitted without LightGBM installed.
    """
    chosen = {
        "objective": "regression",
        "verbosity": -1,
        **(parameters or RELEASE),
    }

    def one(key: Array, x: np.ndarray, y: np.ndarray) -> Ensemble:
        library = _library("lightgbm")
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        data = library.Dataset(x, y)
        booster = library.train({**chosen, "seed": seed}, data, num_rounds)
        return packing.pack(lightgbm_text.read(booster.model_to_string()))

    return _each_component(one, chain)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"fitting this regressor needs {name}: pip install 'jaxnas[surrogates]'"
        ) from None


def _each_component(one: Callable[..., Ensemble], chain: bool) -> Regress:
    """Fits one model after another, for each member.

    Args:
      one: (key, x (r, f), y (r,)) -> the packed model.
      chain: as `Trees.chain`.
    """

    def fit(keys: Array, features: np.ndarray, targets: list, rows: np.ndarray) -> tuple:
        members = []
        for key, target, mine in zip(keys, targets, rows, strict=True):
            x, z = np.asarray(features)[mine], np.asarray(target)[mine]
            found = [
                one(key_j, np.concatenate([x, z[:, :j]], 1) if chain else x, z[:, j])
                for j, key_j in enumerate(jax.random.split(key, z.shape[1]))
            ]
            members.append(Trees(tuple(found), chain))
        return tuple(members)

    return fit


def predict(regressor: Trees, features: Array) -> Array:
    """The standardised components (n, k) for features (n, d)."""
    if regressor.chain:
        return trees.predict_chain(regressor.ensembles, features)
    return jnp.stack([trees.predict(e, features) for e in regressor.ensembles], 1)
