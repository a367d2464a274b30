"""MobileNetV3 subnets that MetaD2A generates, under bounds on their multiply-adds.

    python -m experiments.subnet_report --generator results/metad2a_subnets/generator
        --predictor results/metad2a_ranking/predictor

For each task of the database that the models were not trained on it draws graphs from the
generator, and prints their statistics: validity of graphs and of stages, before any
selection, and uniqueness of vectors and of networks. Then, for each bound, the predicted
accuracy by once-for-all of

  * `chosen`: the first by the predictor of MetaD2A among --subnets different subnets of any
    size, as the evaluator of Lee et al. (2021) chooses; no subnet is evaluated.
  * `generated`: the best of --subnets generated subnets within the bound.
  * `random`: the best of as many random subnets within the bound.
  * `nsga2`: NSGA-II of population 10 with the bound as constraint, as many evaluations.

Needs the reference files (JAXNAS_SHARED). Writes table.csv to --out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from rich.console import Console

from jaxnas import metrics, models
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import ofa, several
from jaxnas.datasets import meta_database
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import PARTS
from jaxnas.io import files
from jaxnas.models import checkpoint
from jaxnas.models.features import ClassFeatures
from jaxnas.models.generation import Samples
from jaxnas.models.mobilenetv3 import CODEC, valid_stages
from jaxnas.models.model import Model
from jaxnas.pareto import Objective
from jaxnas.search import loop, multi_objective
from jaxnas.spaces import base, mobilenetv3_counts
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.studies.metad2a.config import MAX_DRAWS
from jaxnas.studies.metad2a.inputs import check_flag
from jaxnas.types import Array

# In units of the bound, so that the searches under all bounds are one program.
_SIZE = Objective("multiply-adds", "bounds", "minimise", bound=1.0, optimised=False)
_BLOCK = 1024  # graphs, or random subnets, that are drawn together
_MOST = 2_000_000  # random subnets that are drawn for a bound: few are small
METHODS = ("chosen", "generated", "random", "nsga2")


@dataclass(frozen=True)
class Config:
    """The models, and the bounds."""

    generator: str = "results/metad2a_subnets/generator"
    """Generator of `experiments.train_metad2a`, a folder."""
    predictor: str = "results/metad2a_ranking/predictor"
    """Predictor of `experiments.train_metad2a`, a folder."""
    database: str = "results/subnets/database.npz"
    """Database of `experiments.build_subnet_database`, for the features of its tasks."""
    bounds: tuple[float, ...] = (200.0, 300.0, 400.0)
    """Millions of multiply-adds at 224 pixels, at most."""
    subnets: int = 200
    """Subnets of each method under each bound."""
    draws: int = 10
    """Subsets of the images; predictions are means over them."""
    max_samples: int = 20_000
    """Graphs that are drawn for a task, at most."""
    base_seed: int = 0
    """Seed of everything that is random."""
    out: str = "results/subnet_report"
    """Folder for the results."""


class Drawn(NamedTuple):
    """Graphs that a generator drew for a task."""

    samples: Samples  # the first `_BLOCK`, invalid ones included
    archs: np.ndarray  # (n, 45) different valid subnets, in the order of their draws
    size: np.ndarray  # (n,) millions of multiply-adds


def main(config: Config) -> dict[str, np.ndarray]:
    """Draws, chooses and searches, and prints what comes of it.

    Returns: the statistics by name, one value for each task, and the predicted accuracies
      (tasks, bounds) by method.
    Raises: `ValueError` for bad input, and for a generator that does not make enough
      subnets within a bound.
    """
    cli.positive(config, "subnets", "draws", "max_samples")
    cli.at_most(config, subnets=100_000, draws=MAX_DRAWS, max_samples=1_000_000)
    cli.seed(config)
    if not config.bounds or not all(0 < bound < np.inf for bound in config.bounds):
        raise ValueError(
            "--bounds needs positive numbers of multiply-adds, in millions"
        )
    database = meta_database.load(config.database)
    generator = checkpoint.load(config.generator).model
    check_flag("generator", config.generator, generator, models.Generator, CODEC)
    predictor = checkpoint.load(config.predictor).model
    check_flag("predictor", config.predictor, predictor, models.Predictor, CODEC)
    accuracy = ofa.accuracy_predictor()
    out = cli.folder(config.out, "subnet_report")
    tasks = _held_out(database)
    keys = seed_store.seed_keys(config.base_seed, np.arange(len(tasks)))
    results: dict[str, list] = {}
    for number, key in zip(tasks, keys, strict=True):
        features = meta_database.task_features(database, number)
        drawn = draw(config, generator, key, features)
        chosen = _chosen(config, predictor, key, features, drawn)
        values = _statistics(generator, drawn.samples)
        values |= {
            "chosen": _accuracies(accuracy, chosen),
            "generated": _best_generated(config, accuracy, drawn),
            "random": _best_random(config, accuracy, [config.base_seed, number]),
        }
        for name, value in values.items():
            results.setdefault(name, []).append(value)
    results["nsga2"] = list(_nsga2(config, accuracy, keys))
    arrays = {name: np.array(value) for name, value in results.items()}
    _report(config, arrays)
    files.write_csv(out / "table.csv", _HEADER, _rows(config, arrays))
    return arrays


def _held_out(database: MetaDatabase) -> list[int]:
    """Numbers of the tasks for tests and of unseen pools; `ValueError` without any."""
    parts = PARTS.index("test"), PARTS.index("unseen")
    numbers = [n for n, task in enumerate(database.tasks) if task.part in parts]
    if not numbers:
        raise ValueError("the meta-database has no tasks for tests")
    return numbers


def draw(
    config: Config, generator: Model, key: Array, features: ClassFeatures
) -> Drawn:
    """Draws graphs until there are enough different subnets within every bound.

    Args:
      config: for the bounds and numbers.
      generator: of MobileNetV3.
      key: random key.
      features: of the task.

    Raises: `ValueError` if `max_samples` graphs are too few.
    """
    blocks: list[Samples] = []
    while True:
        key_block = jax.random.fold_in(key, len(blocks))
        block = models.sample_graphs(
            generator, key_block, features, _BLOCK, codec=CODEC
        )
        blocks.append(block)
        archs = np.concatenate([b.arch[b.valid] for b in blocks])
        ids = base.identify(CODEC.space, archs)
        archs = archs[np.sort(np.unique(ids, return_index=True)[1])]
        size = _sizes(archs)
        counts = [(size <= bound).sum() for bound in (*config.bounds, np.inf)]
        if min(counts) >= config.subnets:
            return Drawn(blocks[0], archs, size)
        if len(blocks) * _BLOCK >= config.max_samples:
            raise ValueError(
                f"{len(blocks) * _BLOCK} graphs have {min(counts)} different subnets "
                f"within a bound, wanted {config.subnets}: see --max-samples"
            )


def _sizes(archs: np.ndarray) -> np.ndarray:
    """Millions of multiply-adds (n,) at 224 pixels."""
    return in_chunks(mobilenetv3_counts.multiply_adds, archs) / 1e6


def _accuracies(predictor: ofa.AccuracyPredictor, archs: np.ndarray) -> np.ndarray:
    """Accuracies (n,) that once-for-all predicts at 224 pixels."""
    return in_chunks(Partial(ofa.predicted_accuracy, predictor), archs)


def _chosen(
    config: Config, predictor: Model, key: Array, features: ClassFeatures, drawn: Drawn
) -> np.ndarray:
    """The subnets (bounds, 45) that the predictor of MetaD2A prefers within each bound."""
    archs, size = drawn.archs[: config.subnets], drawn.size[: config.subnets]
    options = {"draws": config.draws, "codec": CODEC}
    predicted = models.predict(predictor, key, features, archs, **options).mean
    rows = [models.best_within(predicted, size, bound) for bound in config.bounds]
    return archs[rows]


def _best_generated(
    config: Config, accuracy: ofa.AccuracyPredictor, drawn: Drawn
) -> np.ndarray:
    """The best (bounds,) of the first generated subnets within each bound."""
    values = _accuracies(accuracy, drawn.archs)
    within = [values[drawn.size <= b][: config.subnets] for b in config.bounds]
    return np.array([v.max() for v in within])


def _best_random(
    config: Config, accuracy: ofa.AccuracyPredictor, seed: list[int]
) -> np.ndarray:
    """The best (bounds,) of random subnets within each bound; `ValueError` if too rare."""
    rng, best = np.random.default_rng(seed), []
    for bound in config.bounds:
        archs = np.zeros((0, len(CODEC.space.choices)), np.int32)
        for _ in range(_MOST // _BLOCK):
            shape = _BLOCK, archs.shape[1]
            block = rng.integers(0, CODEC.space.choices, shape, np.int32)
            archs = np.concatenate([archs, block[_sizes(block) <= bound]])
            if len(archs) >= config.subnets:
                break
        else:
            raise ValueError(
                f"{_MOST:,} random subnets have {len(archs)} within {bound:g} million "
                f"multiply-adds, wanted {config.subnets}: see --bounds"
            )
        best.append(_accuracies(accuracy, archs[: config.subnets]).max())
    return np.array(best)


def _nsga2(config: Config, accuracy: ofa.AccuracyPredictor, keys: Array) -> np.ndarray:
    """The best (tasks, bounds) that NSGA-II evaluates within each bound, NaN if none."""
    benchmark = ofa.predicted_accuracy_benchmark(accuracy)
    objectives = (Objective(*benchmark.target), _SIZE)
    search = multi_objective.nsga2(benchmark.space, objectives, population=10)
    best = []
    for bound in config.bounds:
        relative = Partial(_relative, jnp.float32(1e6 * bound))
        bounded = several.with_objectives(benchmark, {_SIZE: relative})
        trace = loop.simulate(keys, search, bounded, config.subnets)
        scores = np.asarray(trace.objectives)[:, :, 0]
        best.append(np.where(scores[..., 1] >= -1, scores[..., 0], -np.inf).max(1))
    return np.where(np.isfinite(best), best, np.nan).T


def _relative(bound: Array, arch: Array) -> Array:
    """Multiply-adds () in units of the bound."""
    return mobilenetv3_counts.multiply_adds(arch, 224) / bound


def _statistics(generator: Model, samples: Samples) -> dict[str, float]:
    """Validity and uniqueness of independent samples, in percent."""
    values = models.sample_statistics(generator, samples, codec=CODEC)
    stages = jax.vmap(valid_stages)(jnp.asarray(samples.types))
    shares = {
        "valid graphs": values.validity,
        "valid stages": float(stages.mean()),
        "unique vectors": values.uniqueness,
        "unique networks": values.functional_uniqueness,
    }
    return {name: 100 * share for name, share in shares.items()}


_HEADER = ("multiply-adds, millions", *METHODS, "generated above random", "error")


def _rows(config: Config, arrays: dict[str, np.ndarray]) -> list[list[str]]:
    """The rows of the table, as text: means over the tasks, and a paired difference."""
    rows = []
    for i, bound in enumerate(config.bounds):
        means = [f"{arrays[name][:, i].mean():.5f}" for name in METHODS]
        difference = arrays["generated"][:, i] - arrays["random"][:, i]
        paired = [f"{float(x):.5f}" for x in metrics.mean_and_sem(difference)]
        rows.append([f"{bound:g}", *means, *paired])
    return rows


def _report(config: Config, arrays: dict[str, np.ndarray]) -> None:
    """Prints the statistics and the table."""
    console = Console(highlight=False)
    for name, values in arrays.items():
        if name not in METHODS:
            low = f"lowest task {values.min():.2f}"
            console.print(f"{name}: {values.mean():.2f} percent, {low}")
    for bound, lacking in zip(config.bounds, np.isnan(arrays["nsga2"]).T, strict=True):
        if lacking.any():
            console.print(
                f"nsga2 evaluated no subnet within {bound:g} million multiply-adds for "
                f"{lacking.sum()} of {len(lacking)} tasks: its mean is nan"
            )
    rows = _rows(config, arrays)
    title = f"predicted accuracy, means of {len(arrays['random'])} tasks"
    terminal.show_rows(console, _HEADER, rows, title)


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
