"""Surrogates that the report compares, by name.

`default` is that of `fit_surrogate` without further arguments, `release` the procedure of
the published surrogates (Yan et al., 2021) with their features. All others are named
COMPRESSION-REGRESSOR; with the noise models they are the combinations of section 3.1 of
the paper, each with the settings of its own function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jaxnas.curves import compress, noise, presets, regress_boosting, stacking, vae
from jaxnas.curves.regress_boosting import RELEASE as PARAMETERS
from jaxnas.curves.regress_boosting import RELEASE_XGBOOST, Regress
from jaxnas.curves.regress_mlp import mlp

DEFAULT, RELEASE = "default", "release"
BOTH = (DEFAULT, RELEASE)
NUM_COMPONENTS = 5  # of the release and of the combinations
NOISES: Mapping[str, Callable[[], noise.FitNoise]] = {
    "kde": noise.kernel_density,
    "std": noise.per_epoch_std,
    "window": noise.window_std,
}
"""Noise models by name, that of the default first."""


# Each takes the rounds of boosting or steps of training of a short run, or None. Short
# runs have one thread, so that they do not wait for each other.
def _vae(rounds: int | None) -> compress.Compress:
    return vae.vae() if rounds is None else vae.vae(epochs=1, min_steps=rounds)


def _lightgbm(rounds: int | None) -> Regress:
    if rounds is None:
        return regress_boosting.lightgbm()
    parameters: dict[str, Any] = PARAMETERS | {"num_threads": 1}
    return regress_boosting.lightgbm(rounds, **parameters)


def _xgboost(rounds: int | None) -> Regress:
    if rounds is None:
        return regress_boosting.xgboost()
    parameters: dict[str, Any] = RELEASE_XGBOOST | {"nthread": 1}
    return regress_boosting.xgboost(rounds, **parameters)


def _mlp(rounds: int | None) -> Regress:
    return mlp() if rounds is None else mlp(epochs=1, min_steps=rounds)


COMPRESSIONS: Mapping[str, Callable[[int | None], compress.Compress]] = {
    "svd": lambda rounds: compress.svd(NUM_COMPONENTS),
    "vae": _vae,
}
REGRESSORS: Mapping[str, Callable[[int | None], Regress]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "mlp": _mlp,
}


def names() -> list[str]:
    """All combinations of compression and regressor."""
    return list(map("-".join, itertools.product(COMPRESSIONS, REGRESSORS)))


def settings(name: str, rounds: int | None = None) -> dict[str, Any]:
    """Arguments of `fit_surrogate`, without the noise.

    Args:
      name: of a surrogate.
      rounds: of boosting, or steps of training, for a run of seconds; None: as many as
        the surrogate has.

    Raises: `ValueError` for an unknown name.
    """
    if name == DEFAULT:
        return {} if rounds is None else _short_default(rounds)
    if name == RELEASE:
        short = {} if rounds is None else {"regressor": _lightgbm(rounds)}
        return presets.release() | short
    if name not in names():
        wanted = ", ".join([*BOTH, *names()])
        raise ValueError(f"unknown surrogate {name!r}: wanted one of {wanted}")
    compression, regressor = name.split("-")
    return {
        "compression": COMPRESSIONS[compression](rounds),
        "regressor": REGRESSORS[regressor](rounds),
        "members": 1,
    }


def _short_default(rounds: int) -> dict[str, Any]:
    """The kinds of parts of the default, each of few rounds, for two members."""
    parameters = presets.SMALL_TREES | {"num_threads": 1}
    trees = regress_boosting.lightgbm(rounds, chain=False, **parameters)
    return {"regressor": stacking.stacked(trees, _mlp(rounds)), "members": 2}


def own_features(name: str) -> bool:
    """Whether a surrogate takes our encoding, and not that of the release."""
    return name != RELEASE


def has_noise(name: str) -> bool:
    """Whether the noise models are fitted to a surrogate's held-out residuals.

    The released noise is that of the compression alone, so that its fit takes no folds.
    """
    return name != RELEASE


def can_fit(name: str, epochs: int) -> bool:
    """Whether a surrogate can be fitted to curves of so many epochs.

    A singular value decomposition has as many components as epochs at most.
    """
    plain = name == RELEASE or name.startswith("svd-")
    return epochs >= NUM_COMPONENTS or not plain
