"""Settings of surrogates: those of the release of Yan et al. (2021), and the default."""

from __future__ import annotations

from typing import Any

from jaxnas.curves import compress, regress_boosting, stacking
from jaxnas.curves.regress_boosting import Regress

_TREES = {
    "learning_rate": 0.05,
    "min_data_in_leaf": 10,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    # Trees this small keep threads waiting for each other.
    "num_threads": 1,
    "force_col_wise": True,
}
# LightGBM's parameters of the default's trees: small trees for few and noisy curves,
# larger ones for many.
SMALL_TREES = _TREES | {"num_leaves": 15}
LARGE_TREES = _TREES | {"num_leaves": 31, "feature_fraction": 0.5}


def release() -> dict[str, Any]:
    """Settings of the released surrogates: SVD, a chain of LightGBM models, one member."""
    return dict(
        compression=compress.svd(5),
        regressor=regress_boosting.lightgbm(3000),
        members=1,
    )


def default_regressor() -> Regress:
    """Small trees, perceptrons, and more and larger trees, stacked.

    The first suit few, noisy trainings, and are used alone unless the stack is
    significantly better; the second suit curves that are smooth in the features, such as
    predictions of another surrogate; the last suit many trainings.
    """
    from jaxnas.curves import regress_mlp  # networks alone need flax

    return stacking.stacked(
        regress_boosting.lightgbm(150, chain=False, **SMALL_TREES),
        regress_mlp.mlp(),
        regress_boosting.lightgbm(300, chain=False, **LARGE_TREES),
    )
