"""How well are all cells ranked from the accuracies of 50 or 100 of them?

    python -m experiments.few_labels
    python -m experiments.few_labels --datasets cifar10 --labels 20 --models proxies all

For random sets of labelled cells, Spearman's correlation with the accuracy after 200
epochs over all other cells. Models: ridge regression on ranks of scores (`ridge`), and
Gaussian processes with tree-Wasserstein distances (`tw`), scores (`proxies`), or scores,
and of the live part of the cell tree-Wasserstein, Hamming and path distances (`all`).
`live_macs` and `logranks` need no label: 0.822 and 0.868 on CIFAR-10.

Takes 3 minutes on two busy cores. With 100 labels `all` reaches 0.941, 0.935 and 0.923 on
CIFAR-10, CIFAR-100 and ImageNet16-120 (20 sets), and 0.915, 0.908 and 0.887 with 50. With
the scores of AZ-NAS, which `zero_cost_score --proxies az` computes, they are 0.957, 0.949
and 0.942, and 0.941, 0.935 and 0.921:

    python -m experiments.few_labels --models all --scores-from results/az/scores.npz
        --scores hook_logdet synflow snip live_macs freerea-naswot freerea-logsynflow
        az_expressivity@cifar10 az_progressivity@cifar10 az_trainability@cifar10

Writes table.csv and results.npz to --out.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.zero_cost import score_columns
from jaxnas import ranks
from jaxnas.benchmarks import named, table_files
from jaxnas.io import files, npz
from jaxnas.kernels import feature_maps
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import few_labels
from jaxnas.predictors.pool import Pool, index_of, make_pool
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import cli, seed_store
from jaxnas.types import Array

# Chosen on sets from --base-seed 0.
SCORES = (
    *("hook_logdet", "synflow", "snip", "live_macs"),
    *("freerea-naswot", "freerea-logsynflow"),
)
WITHOUT_LABELS = ("live_macs", "logranks")
MODELS = (*WITHOUT_LABELS, "ridge", "tw", "proxies", "all")


@dataclass(frozen=True)
class Config:
    """Which labels, and what learns from them."""

    benchmark: str = "zerocost"
    """zerocost, or a table file with the same scores."""
    datasets: tuple[str, ...] = ("cifar10", "cifar100", "ImageNet16-120")
    """Datasets of the scores and accuracies."""
    labels: tuple[int, ...] = (50, 100)
    """How many cells are labelled."""
    models: tuple[str, ...] = MODELS
    """What ranks the rest."""
    scores: tuple[str, ...] = SCORES
    """Whose ranks the models know."""
    scores_from: tuple[str, ...] = ()
    """Files of zero_cost_score; their scores WHAT on images OF are called WHAT@OF."""
    sets: int = 20
    """Random sets of labelled cells."""
    base_seed: int = 1000
    """Set i draws from (base_seed, i)."""
    out: str = "results/few_labels"
    """Folder for the results."""


class Row(NamedTuple):
    """One model on one dataset."""

    dataset: str
    model: str
    labels: int
    spearman: float  # mean over the sets
    deviation: float  # of the sets


def on_live(parts: FeatureMap) -> FeatureMap:
    """The same parts of a distance, of what is left without dead edges."""
    return lambda arch: parts(nasbench201.without_dead(arch))


def main(config: Config) -> list[Row]:
    """Ranks all cells with every model from every set of labels.

    Returns: a row for each dataset, number of labels and model.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "sets")
    cli.seed(config)
    score_columns.chosen(config.datasets, score_columns.IMAGES, "dataset")
    score_columns.chosen(config.models, dict.fromkeys(MODELS), "model")
    table = named.open_table(config.benchmark)
    if (
        not config.labels
        or not 2 <= min(config.labels) <= max(config.labels) < SPACE.size
    ):
        raise ValueError(
            f"--labels must be 2 to {SPACE.size - 1}, not {config.labels or 'nothing'}"
        )
    own = [named.open_table(name) for name in config.scores_from]
    scores, features, accuracy = {}, {}, {}
    for dataset in config.datasets:
        scores[dataset] = score_columns.gather(table, dataset, own)
        score_columns.chosen(config.scores, scores[dataset], "score")
        if without := tuple(n for n in config.models if n in WITHOUT_LABELS):
            score_columns.chosen(without, scores[dataset], "score")
        features[dataset] = few_labels.ranked(
            score_columns.matrix(scores[dataset], config.scores)
        )
        accuracy[dataset] = score_columns.accuracy(table, dataset, "mean")[1]
    out = cli.folder(config.out, "results.npz")

    rows, arrays, console = [], {}, Console()
    keys = seed_store.seed_keys(config.base_seed, np.arange(config.sets))
    for dataset in config.datasets:
        models = _models(table.arch, features[dataset], config.models)
        for name in config.models:
            for labels in config.labels:
                if name in WITHOUT_LABELS:
                    predict = lambda place, y, v=scores[dataset][name].value: v  # noqa: E731
                else:
                    predict = models[name]
                found = np.array(
                    [_spearman(key, predict, accuracy[dataset], labels) for key in keys]
                )
                arrays[f"{dataset}/{name}/{labels}"] = found
                rows.append(Row(dataset, name, labels, found.mean(), found.std()))
                text = f"{dataset}, {labels} labels, {name}: Spearman "
                text += f"{found.mean():.3f} ± {found.std():.3f}"
                console.print(text, highlight=False, soft_wrap=True)
    manifest = {"table_sha256": table.manifest["sha256"], "base_seed": config.base_seed}
    manifest["scores"] = list(config.scores)
    manifest["scores_sha256"] = [table_files.digest(one) for one in own]
    npz.save_arrays(out / "results.npz", arrays, manifest)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    for row in rows:
        writer.writerow([f"{x:.6g}" if isinstance(x, float) else x for x in row])
    files.atomic_write(out / "table.csv", text.getvalue().encode())
    return rows


# (labelled rows of the table (m,), their accuracy (m,)) -> predictions (n,), by row.
Predict = Callable[[Array, Array], np.ndarray | Array]


def _models(
    arch: np.ndarray, features: np.ndarray, names: tuple[str, ...]
) -> dict[str, Predict]:
    # Each score has a length-scale of its own.
    proxies = [
        few_labels.features_by_architecture(SPACE, arch, f[:, None]) for f in features.T
    ]
    live = (feature_maps.hamming_features(SPACE), feature_maps.path_features(SPACE))
    parts: dict[str, list[FeatureMap]] = {
        "tw": [feature_maps.tree_wasserstein_features(SPACE, n=2)],
        "proxies": proxies,
        "all": [
            feature_maps.live_tree_wasserstein_features(SPACE, n=2),
            *map(on_live, live),
            *proxies,
        ],
    }
    given = jnp.asarray(arch, jnp.int32)
    models: dict[str, Predict] = {
        "ridge": lambda place, y: _ridge(jnp.asarray(features), place, y)
    }
    for name in parts.keys() & set(names):
        pool = make_pool(SPACE, parts[name], arch=arch)
        models[name] = functools.partial(
            _process, pool, jax.vmap(index_of, (None, 0))(pool, given)
        )
    return models


@jax.jit
def _process(pool: Pool, places: Array, place: Array, y: Array) -> Array:
    y = few_labels.normal_scores(y)
    return few_labels.gaussian_process(pool, places[place], y)[0][places]


@jax.jit
def _ridge(features: Array, place: Array, y: Array) -> Array:
    return few_labels.ridge(features, place, few_labels.normal_scores(y))


def _spearman(key: Array, predict: Predict, accuracy: np.ndarray, labels: int) -> float:
    """Spearman's correlation over the cells that are not labelled."""
    place = jax.random.choice(key, len(accuracy), (labels,), replace=False)
    predicted = np.asarray(predict(place, jnp.asarray(accuracy, jnp.float32)[place]))
    rest = np.setdiff1d(np.arange(len(accuracy)), np.asarray(place))
    orders = (ranks.ordinal(values[rest]) for values in (predicted, accuracy))
    return float(ranks.spearman(*orders))


if __name__ == "__main__":
    lost = "interrupted: the same command begins anew"
    cli.command(main, Config, interrupted=lost)
