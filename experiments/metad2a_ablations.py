"""What do MetaD2A's models learn from images, from cells, and from their pairs?

    python -m experiments.metad2a_ablations
    python -m experiments.metad2a_ablations --databases free-images hog.npz untrained.npz
    python -m experiments.metad2a_ablations --seeds 8 --together 8  # on a GPU

Trains variants of the models on a meta-database, each from --seeds seeds:

* `predictor`; the same that sees the images alone (`predictor-images`), or the cells alone
  (`predictor-cells`);
* `generator`, of the cells that the predictor of the same seed ranks best, as
  `experiments.train_metad2a`; the same of pairs whose tasks are shuffled
  (`generator-shuffled`), as a variational auto-encoder (`generator-noise`, eps_scale 1
  instead of 0.01), and with other edges of the graphs (`generator-line10`,
  `generator-chain11`).

All but the first database, of other features of the same images, are for `predictor` and
`generator` alone; `experiments.build_meta_database --features` writes them.

Prints means over the seeds, on tasks of unseen classes, with their standard errors. Of
predictors: correlations, the share of pairs within tasks that are in the right order, and
the accuracy of the cell that is predicted to be best on the grid minus that of one fixed
cell, the best by a ridge regression on the tasks for meta-training. Of
generators: the likelihood of the best recorded cells, and the mean accuracy of the cells
that they generate, estimated on the grid, as differences from the frequencies of operations
at each position of the training pairs; validity and uniqueness of 1,000 samples for the
first task for tests. Writes runs.csv, one row for each training, and the models to --out;
the same command resumes after the last finished training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.ablations.config import Config, Run
from experiments.ablations.figures import of_generator, of_predictor, of_samples
from experiments.ablations.trainings import (
    Source,
    network_of,
    open_source,
    pairs_of,
    trainings_of,
)
from experiments.ablations.variants import ON_ALL, VARIANTS
from experiments.common import meta_models
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.io.run_folder import RunFolder
from jaxnas.models import checkpoint, meta_replicas, meta_training
from jaxnas.models.meta_data import MetaData
from jaxnas.models.model import Model
from jaxnas.models.standardise import fold, standardised
from jaxnas.studies import cli, terminal
from jaxnas.studies.progress import Counter, Progress


def main(config: Config) -> dict[Run, dict[str, float]]:
    """Trains what is missing, prints and writes.

    Returns: the figures of each training.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "seeds", "epochs", "patience", "together")
    cli.at_most(config, seeds=1000, epochs=1_000_000, together=1000)
    meta_models.check_sizes(config)
    cli.seed(config)
    cli.require_names(config.variants, VARIANTS, "variant")
    if not config.databases:
        raise ValueError("no database given: wanted --databases free-images, say")
    sources = {path: open_source(path) for path in config.databases}
    if len({source.kind for source in sources.values()}) < len(config.databases):
        raise ValueError("--databases must have different features, each once")
    for source in sources.values():
        network_of(config, VARIANTS["generator"], source)  # raises for wrong sizes
    checkpoints.require_orbax()
    names = ("hidden", "latent", "images", "batch", "epochs", "patience")
    identity = {name: getattr(config, name) for name in names}
    identity |= {"driver": "metad2a_ablations"}
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    groups = list(_groups(config))
    with Progress(Console(stderr=True)) as progress:
        progress.begin("trainings", Counter(len(groups), "group"))
        for group in groups:
            missing = [r for r in group if _stored(r, sources, folder) is None]
            if missing:
                _train(config, missing, sources[group[0].database], folder)
            progress.advance(1)
    figures = {run: _stored(run, sources, folder) for g in groups for run in g}
    figures = {run: values for run, values in figures.items() if values is not None}
    kinds = {path: source.kind for path, source in sources.items()}
    _write(figures, kinds, folder.path)
    return figures


def _groups(config: Config) -> Iterator[list[Run]]:
    """Lists the trainings, those side by side together; predictors are the first."""
    seeds = range(config.base_seed, config.base_seed + config.seeds)
    for number, database in enumerate(config.databases):
        for variant in VARIANTS:
            if variant not in config.variants or (number and variant not in ON_ALL):
                continue
            runs = [Run(database, variant, seed) for seed in seeds]
            for first in range(0, len(runs), config.together):
                yield runs[first : first + config.together]


def _piece(run: Run, source: Source) -> tuple[str, dict[str, Any]]:
    """Name and labels of the figures of a training."""
    labels = {"records": source.digest, "variant": run.variant, "seed": run.seed}
    return f"figures/{source.kind}/{run.variant}-{run.seed}", labels


def _stored(
    run: Run, sources: Mapping[str, Source], folder: RunFolder
) -> dict[str, float] | None:
    """The figures of a training, or None before it."""
    try:
        piece = run_folder.load_piece(folder, *_piece(run, sources[run.database]))
    except ValueError:
        return None
    return {key: float(value) for key, value in piece.items()}


def _train(config: Config, runs: list[Run], source: Source, folder: RunFolder) -> None:
    """Trains and evaluates models of one variant, and keeps them in the folder."""
    variant = VARIANTS[runs[0].variant]
    parts = [source.parts] * len(runs)
    if variant.generates:
        parts = [pairs_of(config, run, source, folder) for run in runs]
    trainings = trainings_of(config, variant, runs, source, parts)
    network = network_of(config, variant, source)
    initial = [
        meta_models.initial_model(network, run.seed, training.data)
        for run, training in zip(runs, trainings, strict=True)
    ]
    keys = jnp.stack([jax.random.key(run.seed) for run in runs])
    if len(runs) > 1:
        trained = meta_replicas.train_together(keys, initial, trainings)
    else:
        trained = [meta_training.train(keys[0], initial[0], trainings[0])]
    path = files.make_folder(folder.path / "models" / source.kind)
    for run, own, (model, state) in zip(runs, parts, trained, strict=True):
        best = meta_training.best_epoch(state)
        figures = {"epoch": best, "validation loss": state.curve[best - 1][1]}
        figures |= _evaluated(config, run, source, own[0], model)
        name = path / f"{run.variant}-{run.seed}"
        checkpoint.save(name, fold(model, source.scale), split=source.digest)
        name, labels = _piece(run, source)
        run_folder.save_piece(folder, name, figures, labels)


def _evaluated(
    config: Config, run: Run, source: Source, train: MetaData, model: Model
) -> dict[str, float]:
    """The figures of a model of standardised features, on held-out tasks."""
    variant, database, scale = VARIANTS[run.variant], source.database, source.scale

    def seen(data: MetaData) -> MetaData:
        data = standardised(data, scale)
        return variant.change(data, run.seed) if variant.everywhere else data

    if not variant.generates:
        return of_predictor(model, database, seen, config.images)
    figures = of_generator(model, database, train, seen, config.images)
    return figures | of_samples(fold(model, scale), database, train, config.images)


def _write(
    figures: Mapping[Run, dict[str, float]], kinds: Mapping[str, str], out: Path
) -> None:
    """Prints means and standard errors over the seeds, and writes each training."""
    columns = ["features", "variant", "seed", "figure", "value"]
    rows = [
        [kinds[run.database], run.variant, run.seed, name, f"{value:.6g}"]
        for run, values in figures.items()
        for name, value in values.items()
    ]
    files.write_csv(out / "runs.csv", columns, rows)
    for prefix in ("predictor", "generator"):
        groups: dict[tuple[str, str], list[dict[str, float]]] = {}
        for run, values in figures.items():
            if run.variant.startswith(prefix):
                key = kinds[run.database], run.variant
                groups.setdefault(key, []).append(values)
        names = dict.fromkeys(n for v in groups.values() for row in v for n in row)
        cells = [
            [
                name,
                *(
                    _mean([row[name] for row in v if name in row])
                    for v in groups.values()
                ),
            ]
            for name in names
        ]
        header = [prefix, *(f"{variant}, {kind}" for kind, variant in groups)]
        if groups:
            terminal.show_rows(Console(), header, cells)


def _mean(values: list[float]) -> str:
    """A mean with its standard error; a dash for no value."""
    if not values:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.4g}" + (f" ± {error:.2g}" if len(values) > 1 else "")


if __name__ == "__main__":
    cli.command(main, Config)
