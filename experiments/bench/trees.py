"""Time of a chain of regressors, as the surrogates of NAS-Bench-x11 have it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lightgbm
import numpy as np

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas.curves import lightgbm_text, packing, trees
from jaxnas.spaces.nasbench201 import SPACE

# The release's settings (its configuration of SVD-LGB), apart from the number of trees.
COMPONENTS = 5
QUERIES = 20  # cells that are asked for one by one in a timed call
SETTINGS = {
    **{"num_leaves": 40, "max_depth": 18, "learning_rate": 0.0218224976},
    **{"min_child_weight": 0.582192788716, "lambda_l1": 0.0114897724},
    **{"lambda_l2": 134.5074355701, "num_threads": 1, "verbosity": -1},
}


def chains(config: Config) -> list[Measurement]:
    """Times predicted components of all candidates at once, and of single ones.

    Raises: `ValueError` if jaxnas and LightGBM predict different values.
    """
    x, labels = cells(config.candidates)
    boosters = train(x, labels, config.trees)
    size = f"{COMPONENTS} x {config.trees:,} trees of 40 leaves"
    few = x[:: max(1, len(x) // QUERIES)]
    with timing.one_core():
        title = f"predictions of {len(x):,} cells by a chain of {size}"
        rows = _measure(title, "s", 1, boosters, [x], config.repeats)
        title = f"a prediction of one cell, of {len(few)} in turn, by the same chain"
        ones = [few[i : i + 1] for i in range(len(few))]
        return rows + _measure(
            title, "ms", 1e3 / len(few), boosters, ones, config.repeats
        )


def _measure(
    title: str,
    unit: str,
    factor: float,
    boosters: list[lightgbm.Booster],
    queries: list[np.ndarray],
    repeats: int,
) -> list[Measurement]:
    """Times the predictions of inputs (n, 6), one array after another."""

    def theirs() -> np.ndarray:
        return np.concatenate([predict(boosters, x) for x in queries])

    double = _ours(boosters, queries, np.float64)
    require_agreement(double(), theirs())
    calls = {
        "jaxnas in float32": _ours(boosters, queries, np.float32),
        "jaxnas in float64": double,
        "LightGBM, one thread": theirs,
    }
    times = timing.in_turn(calls, repeats)
    scaled = {name: t.scaled(factor) for name, t in times.items()}
    return timing.compare(title, unit, scaled)


def cells(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of NAS-Bench-201 and labels that no tree of 40 leaves fits.

    Returns: the operations (n, 6) of evenly spread cells, and random functions (n, 5) of
      pairs of them, standardised.
    """
    codes = np.linspace(0, SPACE.size - 1, num).astype(int)
    x = np.stack(np.unravel_index(codes, SPACE.choices), axis=1)
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(6, 6, 5, 5, COMPONENTS))
    labels = sum(tables[i, j, x[:, i], x[:, j]] for i in range(6) for j in range(i))
    labels += rng.normal(size=(num, COMPONENTS))
    return x.astype(np.float64), (labels - labels.mean(0)) / labels.std(0)


def train(x: np.ndarray, labels: np.ndarray, rounds: int) -> list[lightgbm.Booster]:
    """A chain of k boosters for labels (n, k): each has the labels before its own."""
    return [
        lightgbm.train(
            SETTINGS, lightgbm.Dataset(np.hstack([x, labels[:, :j]]), y), rounds
        )
        for j, y in enumerate(labels.T)
    ]


def predict(boosters: list[lightgbm.Booster], x: np.ndarray) -> np.ndarray:
    """Predictions (n, k) by LightGBM."""
    for booster in boosters:
        x = np.column_stack([x, booster.predict(x, num_threads=1)])
    return x[:, -len(boosters) :]


def _ours(
    boosters: list[lightgbm.Booster], queries: list[np.ndarray], dtype: type
) -> Callable[[], np.ndarray]:
    """The predictions of jaxnas, as a call without arguments.

    Args:
      boosters: a chain of k, which is read from LightGBM's text.
      queries: inputs (n, 6), one array after another.
      dtype: float32 or float64.
    """
    with jax.enable_x64(dtype is np.float64):
        texts = [booster.model_to_string() for booster in boosters]
        chain = [packing.pack(lightgbm_text.read(text), dtype) for text in texts]
        inputs = [jnp.asarray(x, dtype) for x in queries]

    def call() -> np.ndarray:
        with jax.enable_x64(dtype is np.float64):
            return np.concatenate([trees.predict_chain(chain, x) for x in inputs])

    return call


def require_agreement(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises `ValueError` unless predictions (n, k) in float64 agree."""
    apart = np.abs(ours - theirs).max()
    if not apart < 1e-9:
        raise ValueError(
            f"jaxnas and LightGBM predict values that differ by {apart:.3g}"
        )
