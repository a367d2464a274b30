"""Which rows a predictor is fitted on: bags of ensembles, folds of cross-validation."""

from __future__ import annotations

import jax
import numpy as np

from jaxnas.types import Array


def bags(key: Array, num: int, members: int, share: float) -> np.ndarray:
    """Rows for each member of an ensemble, without replacement.

    Args:
      key: random key.
      num: rows that there are.
      members: m; a single member gets all rows.
      share: of the rows that each gets.

    Returns: (m, r) int.
    """
    if members == 1:
        return np.arange(num)[None]
    size = max(1, round(share * num))
    draw = lambda key: jax.random.permutation(key, num)[:size]  # noqa: E731
    return np.asarray(jax.vmap(draw)(jax.random.split(key, members)))


def parts(key: Array, groups: np.ndarray, folds: int) -> np.ndarray:
    """The fold (n,) of each row; rows of equal `groups` (n, ...) are in one fold.

    Raises: `ValueError` for fewer groups than folds.
    """
    groups = np.asarray(groups).reshape(len(groups), -1)
    _, group = np.unique(groups, axis=0, return_inverse=True)
    num = int(group.max()) + 1
    if not 2 <= folds <= num:
        raise ValueError(
            f"folds must be 2 to {num}, the number of different architectures, not {folds}"
        )
    return np.asarray(jax.random.permutation(key, num) % folds)[group.reshape(-1)]
