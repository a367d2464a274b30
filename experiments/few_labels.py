"""How well are all cells ranked from the accuracies of 50 or 100 of them?

    python -m experiments.few_labels
    python -m experiments.few_labels --datasets cifar10 --labels 20 --models proxies all
    python -m experiments.few_labels --scores-from results/zero_cost_score/scores.npz

For random sets of labelled cells, Spearman's correlation with the test accuracy after the
longest training over all other cells. Models: ridge regression on ranks of scores
(`ridge`), and Gaussian processes: with tree-Wasserstein distances (`tw`), with scores
(`proxies`), and with scores and three distances between the live parts of cells, the
tree-Wasserstein, Hamming and path distances (`all`). `live_macs` and `logranks` need no
label: 0.822 and 0.868 on CIFAR-10.

Without the stored scores of NAS-Bench-201, which JAXNAS_SHARED has, scores are your own,
files of zero_cost_score, or counts of MACs, and accuracies those of the embedded table, or
of the table file that --benchmark names; the cells are those that have all the scores.

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

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.zero_cost import score_columns
from jaxnas import ranks
from jaxnas.benchmarks import named, table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
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
LABELS = (50, 100)
WITHOUT_LABELS = ("live_macs", "logranks")
MODELS = (*WITHOUT_LABELS, "ridge", "tw", "proxies", "all")


@dataclass(frozen=True)
class Config:
    """Which labels, and what learns from them."""

    benchmark: str | None = None
    """Table of accuracies: zerocost, analog, or a table file, which may hold scores too.
    Default: zerocost where JAXNAS_SHARED has it, else analog, which is embedded."""
    datasets: tuple[str, ...] = ()
    """Datasets of the accuracies; default: cifar10, cifar100 and ImageNet16-120, as far as
    the table has them."""
    labels: tuple[int, ...] = ()
    """How many cells are labelled; default: 50 and 100, as far as there are more cells."""
    models: tuple[str, ...] = ()
    """What ranks the rest: live_macs, logranks, ridge, tw, proxies, all. Default: all
    whose scores are available."""
    scores: tuple[str, ...] = ()
    """Scores whose ranks the models know; default: those of --scores-from, else
    those available of the six best."""
    scores_from: tuple[str, ...] = ()
    """Files of zero_cost_score; their scores WHAT on images OF are called WHAT@OF."""
    sets: int = 20
    """Random sets of labelled cells."""
    base_seed: int = 1000
    """Set i draws from (base_seed, i)."""
    out: str = "results/few_labels"
    """Folder for the results."""


class Accuracy(NamedTuple):
    """One model on one dataset."""

    dataset: str
    model: str
    labels: int
    spearman: float  # mean over the sets
    deviation: float  # of the sets


def on_live(features: FeatureMap) -> FeatureMap:
    """The same feature map, of architectures without their dead edges."""
    return lambda arch: features(nasbench201.without_dead_edges(arch))


class Inputs(NamedTuple):
    """The cells of one dataset, their scores and their accuracies."""

    arch: np.ndarray  # (n, 6) of those that have all scores
    features: np.ndarray  # (n, f) ranks of the scores
    without_labels: dict[str, np.ndarray]  # (n,) scores that are models by themselves
    accuracy: np.ndarray  # (n,) percent


def main(config: Config) -> list[Accuracy]:
    """Ranks all cells with every model from every set of labels.

    Returns: a result for each dataset, model and number of labels.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "sets")
    cli.at_most(config, sets=10_000)
    cli.seed(config)
    if config.models:
        cli.require_names(config.models, MODELS, "model")
    _, table = score_columns.open_accuracies(config.benchmark)
    score_tables = [named.open_table(name) for name in config.scores_from]
    inputs = _open(config, table, score_tables)
    config = replace(config, labels=_labels(config, inputs))
    out = cli.folder(config.out, "few_labels")

    results, arrays, console = [], {}, Console()
    for dataset, given in inputs.items():
        cells = f"{dataset}: {len(given.arch):,} of {len(table.arch):,} cells"
        console.print(f"{cells} have all the scores", highlight=False, soft_wrap=True)
        for name, labels, rho in _correlations(config, given):
            arrays[f"{dataset}/{name}/{labels}"] = rho
            results.append(Accuracy(dataset, name, labels, rho.mean(), rho.std()))
            text = f"{dataset}, {labels} labels, {name}: Spearman "
            text += f"{rho.mean():.3f}"
            if len(rho) > 1:
                text += f" ± {rho.std():.3f}"
            console.print(text, highlight=False, soft_wrap=True)
    manifest = {"table_sha256": table.manifest["sha256"], "base_seed": config.base_seed}
    manifest["scores"] = list(config.scores)
    manifest["scores_sha256"] = [table_files.digest(one) for one in score_tables]
    npz.save_arrays(out / "results.npz", arrays, manifest)
    lines = [[f"{x:.6g}" if isinstance(x, float) else x for x in r] for r in results]
    files.write_csv(out / "table.csv", Accuracy._fields, lines)
    return results


def _labels(config: Config, inputs: dict[str, Inputs]) -> tuple[int, ...]:
    """The numbers of labels, each smaller than the number of cells of every dataset."""
    num = min(len(one.arch) for one in inputs.values())
    if labels := config.labels or tuple(n for n in LABELS if n < num):
        if 2 <= min(labels) <= max(labels) < num:
            return labels
        given = " ".join(map(str, labels))
        raise ValueError(f"--labels must be 2 to {num - 1}, not {given}")
    raise ValueError(
        f"{num} cells have all the scores, too few for {LABELS[0]} labels: give --labels, "
        f"at most {num - 1}, or scores of more cells"
    )


def _open(
    config: Config, table: BenchmarkTable, score_tables: Sequence[BenchmarkTable]
) -> dict[str, Inputs]:
    """Chooses scores and cells, by dataset."""
    names, inputs = config.scores, {}
    for dataset in score_columns.datasets(table, config.datasets):
        scores = score_columns.gather(table, dataset, score_tables)
        names = names or score_columns.default_scores(SCORES, scores)
        cli.require_names(names, scores, "score")
        alone = [n for n in WITHOUT_LABELS if n in (config.models or scores)]
        if alone:
            cli.require_names(tuple(alone), scores, "score")
        kept = score_columns.measured(scores, (*names, *alone))
        accuracy = score_columns.accuracy(table, dataset, "mean")[1]
        kept &= ~np.isnan(accuracy)
        features = np.stack([scores[name].value[kept] for name in names], 1)
        inputs[dataset] = Inputs(
            table.arch[kept],
            few_labels.ranked(features),
            {name: scores[name].value[kept] for name in alone},
            accuracy[kept],
        )
    return inputs


def _correlations(
    config: Config, inputs: Inputs
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Each model and number of labels, with its correlations (sets,)."""
    keys = seed_store.seed_keys(config.base_seed, np.arange(config.sets))
    learnt = tuple(name for name in MODELS if name not in WITHOUT_LABELS)
    names = config.models or (*inputs.without_labels, *learnt)
    models = _models(inputs.arch, inputs.features, names)
    models |= {n: lambda rows, y, v=v: v for n, v in inputs.without_labels.items()}
    for name in names:
        for labels in config.labels:
            rho = [
                _spearman(key, models[name], inputs.accuracy, labels) for key in keys
            ]
            yield name, labels, np.array(rho)


# (rows (m,) of labelled cells, their accuracy (m,)) -> predictions (n,), by row.
Predict = Callable[[Array, Array], np.ndarray | Array]


def _models(
    arch: np.ndarray, features: np.ndarray, names: tuple[str, ...]
) -> dict[str, Predict]:
    """The models of these names, prepared for cells `arch` (n, 6) and `features` (n, f)."""
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
        "ridge": lambda rows, y: _ridge(jnp.asarray(features), rows, y)
    }
    for name in parts.keys() & set(names):
        pool = make_pool(SPACE, parts[name], arch=arch)
        models[name] = functools.partial(
            _process, pool, jax.vmap(index_of, (None, 0))(pool, given)
        )
    return models


@jax.jit
def _process(pool: Pool, index: Array, rows: Array, y: Array) -> Array:
    """Predictions of a Gaussian process; `index` (n,) is each row's place in the pool."""
    y = few_labels.normal_scores(y)
    return few_labels.gaussian_process(pool, index[rows], y)[0][index]


@jax.jit
def _ridge(features: Array, rows: Array, y: Array) -> Array:
    return few_labels.ridge(features, rows, few_labels.normal_scores(y))


def _spearman(key: Array, predict: Predict, accuracy: np.ndarray, labels: int) -> float:
    """Spearman's correlation over the cells that are not labelled."""
    rows = jax.random.choice(key, len(accuracy), (labels,), replace=False)
    predicted = np.asarray(predict(rows, jnp.asarray(accuracy, jnp.float32)[rows]))
    rest = np.setdiff1d(np.arange(len(accuracy)), np.asarray(rows))
    orders = (ranks.ordinal(values[rest]) for values in (predicted, accuracy))
    return float(ranks.spearman(*orders))


if __name__ == "__main__":
    lost = "interrupted: the same command starts over"
    cli.command(main, Config, interrupted=lost)
