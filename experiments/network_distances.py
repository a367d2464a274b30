"""Which distance between MobileNetV3 networks helps a Gaussian process?

    python -m experiments.network_distances
    python -m experiments.network_distances --distances hamming ordinal-parts --sets 4

From the labels of random networks the process predicts all others: the measured subnets of
once-for-all (`measured`), and 2,000 random networks with predicted accuracies (`random`).
Spearman's correlation, mean over the sets of labels; docs/mobilenetv3.md has the table. It
needs the reference files (JAXNAS_SHARED), takes two minutes, and writes table.csv to --out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from rich.console import Console

from jaxnas import ranks
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import accuracy_predictor, named, ofa
from jaxnas.io import files
from jaxnas.kernels import hamming_features, op_trees, ordinal_features
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import few_labels, index_of, make_pool
from jaxnas.predictors.pool import Pool
from jaxnas.spaces import features, mobilenetv3
from jaxnas.spaces.mobilenetv3 import LABELS, PARTS, SPACE
from jaxnas.studies import cli
from jaxnas.types import Array


def _operation_features(n: int) -> FeatureMap:
    """Tree-Wasserstein embedding of the n-grams; degrees in a chain say nothing."""
    return lambda arch: op_trees.embed(mobilenetv3.to_graph(arch), LABELS, n)[:1]


def _canonical(arch: Array) -> tuple[Array]:
    """Hamming distance of canonical forms: inactive layers are as those of choice 0."""
    form = mobilenetv3.canonical(arch)
    return (features.one_hot(SPACE.choices, form) / 2,)


_ORDINAL_PARTS = ordinal_features(SPACE, PARTS)
DISTANCES: dict[str, list[FeatureMap]] = {
    "canonical": [_canonical],
    "hamming": [hamming_features(SPACE)],
    "ordinal": [ordinal_features(SPACE)],
    "ordinal-parts": [_ORDINAL_PARTS],
    "tw": [_operation_features(1)],
    "tw2g": [_operation_features(2)],
    "ordinal-parts-tw2g": [_ORDINAL_PARTS, _operation_features(2)],
}


@dataclass(frozen=True)
class Config:
    """Which distances, and how many labels."""

    distances: tuple[str, ...] = tuple(DISTANCES)
    """Distances: canonical (Hamming distance of canonical forms), hamming,
    ordinal, ordinal-parts, tw, tw2g, ordinal-parts-tw2g."""
    labels: tuple[int, ...] = (30, 100)
    """How many networks are labelled."""
    sets: int = 8
    """Random sets of labelled networks."""
    networks: int = 2000
    """Random networks with predicted accuracies."""
    base_seed: int = 1000
    """Set i draws from (base_seed, i)."""
    out: str = "results/network_distances"
    """Folder for the results."""


class Accuracy(NamedTuple):
    """One distance on one kind of networks."""

    networks: str
    distance: str
    labels: int
    spearman: float  # mean over the sets
    deviation: float  # of the sets


def main(config: Config) -> list[Accuracy]:
    """Predicts with every distance from every set of labels.

    Returns: a result for each kind of networks, distance and number of labels.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "sets")
    cli.at_most(config, sets=10_000, networks=100_000)
    cli.seed(config)
    cli.require_names(config.distances, DISTANCES, "distance")
    if config.networks < 4:
        raise ValueError(f"--networks must be at least 4, not {config.networks}")
    most = min(config.networks, 2162) - 2
    if not config.labels or not all(2 <= n <= most for n in config.labels):
        given = ", ".join(map(str, config.labels)) or "empty"
        raise ValueError(f"--labels must be 2 to {most}, not {given}")
    table, predictor = named.open_table("ofa"), accuracy_predictor()
    out = cli.folder(config.out, "network_distances")
    drawn = np.random.default_rng(config.base_seed).integers(
        0, 3, (config.networks, 45)
    )
    drawn = drawn.astype(np.int32)
    predicted = in_chunks(Partial(ofa.predicted_accuracy, predictor), drawn)
    measured = table.arch.astype(np.int32), table.columns["imagenet/valid/1"]
    results = []
    for networks, given in {"measured": measured, "random": (drawn, predicted)}.items():
        for distance in config.distances:
            results += _accuracies(config, networks, distance, *given)
    lines = [[f"{x:.6g}" if isinstance(x, float) else x for x in r] for r in results]
    files.write_csv(out / "table.csv", Accuracy._fields, lines)
    Console().print(f"{out}: table.csv", highlight=False, soft_wrap=True)
    return results


def _accuracies(
    config: Config, networks: str, distance: str, archs: np.ndarray, score: np.ndarray
) -> list[Accuracy]:
    """Results of one distance, which are printed, by number of labels."""
    pool = make_pool(SPACE, DISTANCES[distance], arch=archs)
    index = jax.jit(jax.vmap(index_of, (None, 0)))(pool, jnp.asarray(archs))
    results = []
    for labels in config.labels:
        rho = np.array(
            [
                _spearman(config, pool, index, score, labels, one)
                for one in range(config.sets)
            ]
        )
        mean, deviation = float(rho.mean()), float(rho.std())
        results.append(Accuracy(networks, distance, labels, mean, deviation))
        line = f"{networks}, {labels} labels, {distance}: Spearman {mean:.3f}"
        Console().print(line, highlight=False, soft_wrap=True)
    return results


def _spearman(
    config: Config, pool: Pool, index: Array, score: np.ndarray, labels: int, one: int
) -> float:
    """Spearman's correlation over the networks that set number `one` does not label."""
    rng = np.random.default_rng([config.base_seed, one])
    rows = rng.choice(len(score), labels, replace=False)
    target = jnp.asarray(score[rows], jnp.float32)
    predicted = np.asarray(_predict(pool, index, jnp.asarray(rows), target))
    rest = np.setdiff1d(np.arange(len(score)), rows)
    orders = (ranks.ordinal(values[rest]) for values in (predicted, score))
    return float(ranks.spearman(*orders))


@jax.jit
def _predict(pool: Pool, index: Array, rows: Array, target: Array) -> Array:
    """Predictions (n,) of networks whose pool indices are `index` (n,)."""
    return few_labels.gaussian_process(pool, index[rows], target)[0][index]


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: the same command starts over")
