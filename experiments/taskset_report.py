"""How well are last values of unfinished trainings of TaskSet predicted?

    python -m experiments.taskset_report
    python -m experiments.taskset_report --draws 2 --tuning 1 --methods "last value" mixture

Of each of 6 tasks, 20 draws of 100 configurations with random prefixes, of 400 epochs in
all, after Rakotoarison et al. (2024, section 5.1). "last value" is a normal distribution
around the last observed one, "gp a curve" a Gaussian process for each curve, and "curve
gp, arch" one over configurations and epochs; "y" predicts values, not their logarithms.
"mixture" mixes these and normal distributions around the last value, by weights that are
fitted to the tuning draws of its task, as is the deviation of "last value".

Writes to --out: draws.csv with the mean log-density in nats and the mean squared error of
each draw, and means.csv with their means and differences from the first of --methods on the
same draws. The curves are a file of the reference data, which JAXNAS_SHARED names. The same
command resumes after the last finished task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from experiments.curves import tables, taskset
from experiments.curves.taskset import Draw
from jaxnas.io import files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.studies import cli, terminal
from jaxnas.studies.progress import Counter, Progress

MIXTURE, LAST = "mixture", "last value"
METHODS: dict[str, Callable[[Draw], np.ndarray]] = {
    "gp a curve": taskset.curve_process(False),
    "gp a curve, y": taskset.curve_process(False, 0.0),
    "curve gp, arch": taskset.curve_process(True),
    "curve gp, arch, y": taskset.curve_process(True, 0.0),
    "lc-pfn": taskset.lc_pfn,
}
PARTS = ("curve gp, arch", "curve gp, arch, y")
# Deviations of "last value", from which one is chosen.
DEVIATIONS = tuple(np.geomspace(0.003, 0.5, 25))


@dataclass(frozen=True)
class Config:
    """Which predictions of which draws."""

    methods: tuple[str, ...] = (MIXTURE, LAST, *METHODS)
    """Methods, by their names in the report."""
    draws: int = 20
    """Draws of each task that are reported."""
    tuning: int = 5
    """Further draws of each task, to which weights and deviations are fitted."""
    base_seed: int = 1000
    """Draw i is of seed base_seed + i; tuning draws are of seeds from 0."""
    out: str = "results/taskset_report"
    """Folder for the report."""


def main(config: Config) -> tables.Rows:
    """Writes the report.

    Returns: its table of means.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "draws", "tuning")
    cli.at_most(config, draws=10_000, tuning=10_000)
    cli.require_names(config.methods, (MIXTURE, LAST, *METHODS), "method")
    cli.seed(config)
    if config.base_seed < config.tuning:
        raise ValueError(
            f"--base-seed must be at least --tuning {config.tuning}, the seeds below "
            f"which are those of the tuning draws, not {config.base_seed}"
        )
    taskset.task(0)  # raises without the file, before the folder is made
    identity = {n: getattr(config, n) for n in ("draws", "tuning", "base_seed")}
    identity |= {"driver": "taskset_report", "version": 1}
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    results = {}
    with Progress(Console(stderr=True)) as progress:
        for name in dict.fromkeys(config.methods):
            progress.begin(name, Counter(taskset.NUM_TASKS, "task"))
            results[name] = []
            for number in range(taskset.NUM_TASKS):
                results[name].append(_of_task(config, folder, name, number))
                progress.advance(1)
    scores = {name: np.array(values) for name, values in results.items()}
    header, rows = _each(scores)
    files.write_csv(folder.path / "draws.csv", header, tables.rounded(rows))
    header, rows = _means(scores)
    files.write_csv(folder.path / "means.csv", header, tables.rounded(rows))
    lines = tables.formatted((header, rows))
    terminal.show_rows(Console(), *lines, "Means over the draws")
    return header, rows


def _of_task(
    config: Config, folder: run_folder.RunFolder, name: str, number: int
) -> np.ndarray:
    """Mean log-density and squared error (draws, 2) of a method on a task."""
    piece = f"scores/{name.replace(', ', '-').replace(' ', '-')}-{number}"
    labels = {"data": array_digest(*taskset.task(number))}
    try:
        return run_folder.load_piece(folder, piece, labels)["scores"]
    except ValueError:
        predict = _fitted(name, number, config.tuning)
        draws = [
            taskset.draw(number, config.base_seed + i) for i in range(config.draws)
        ]
        scores = np.array([_scores(predict, sample) for sample in draws])
        run_folder.save_piece(folder, piece, {"scores": scores}, labels)
        return scores


def _scores(predict: taskset.Predict, sample: Draw) -> tuple[float, float]:
    """Mean log-density and squared error of the last values of a draw."""
    log_density, square = taskset.scores(predict(sample), sample.last)
    return float(log_density.mean()), float(square.mean())


def _fitted(name: str, number: int, tuning: int) -> taskset.Predict:
    """A method for a task, with what it fits to tuning draws."""
    if name == LAST:
        draws = [taskset.draw(number, seed) for seed in range(tuning)]
        fits = [taskset.last_value(std) for std in DEVIATIONS]
        each = [np.mean([_scores(fit, one)[0] for one in draws]) for fit in fits]
        return fits[int(np.argmax(each))]
    if name == MIXTURE:
        weights = fit_weights([_densities(number, seed) for seed in range(tuning)])
        return lambda sample: mix(weights[group(sample)], _parts(sample))
    return METHODS[name]


def _densities(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Densities (m, k) of the parts at last values of a tuning draw, and groups (m,)."""
    sample = taskset.draw(number, seed)
    logs = [taskset.scores(part, sample.last)[0] for part in _parts(sample)]
    return np.exp(np.stack(logs, 1)), group(sample)


def _parts(sample: Draw) -> np.ndarray:
    """Probabilities (k, m, bars) that are mixed."""
    around = [taskset.last_value(std)(sample) for std in taskset.SCALES]
    predicted = [METHODS[name](sample) for name in PARTS]
    uniform = np.full_like(around[0], 1 / taskset.BARS)
    return np.stack([*predicted, *around, uniform])


def group(sample: Draw) -> np.ndarray:
    """Groups (m,) of unfinished trainings that share weights, from 0 to 14.

    By observed epochs, and by whether the last value is 0, below a tenth or above.
    """
    lengths = np.digitize(sample.lengths[sample.unfinished], (2, 4, 8, 16))
    return 3 * lengths + np.digitize(taskset.last_values(sample), (0.001, 0.1))


def mix(weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Mixtures (m, bars) of parts (k, m, bars) by weights (m, k)."""
    return np.einsum("mk,kmb->mb", weights, parts)


def fit_weights(draws: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Fits the weights (15, k) of mixtures by expectation maximisation.

    Those of a group maximise the likelihood times a Dirichlet prior with as much weight as
    two trainings, whose mean is the weights of all groups together.

    Args:
      draws: for each, densities (m, k) of the parts and groups (m,).
    """
    densities, groups = map(np.concatenate, zip(*draws, strict=True))
    all_of_them = _maximise(densities, np.full(densities.shape[1], 1.0))
    each = [_maximise(densities[groups == g], 2 * all_of_them) for g in range(15)]
    return np.stack(each)


def _maximise(
    densities: np.ndarray, prior: np.ndarray, rounds: int = 200
) -> np.ndarray:
    """Weights (k,) for densities (n, k), with pseudo-counts `prior` (k,)."""
    weights = prior / prior.sum()
    for _ in range(rounds):
        shares = densities * weights
        shares /= shares.sum(1, keepdims=True)
        counts = shares.sum(0) + prior
        weights = counts / counts.sum()
    return weights


def _each(scores: Mapping[str, np.ndarray]) -> tables.Rows:
    """The scores of every draw."""
    rows = [
        [task, draw, name, *map(float, values[task, draw])]
        for name, values in scores.items()
        for task, draw in np.ndindex(values.shape[:2])
    ]
    return ["task", "draw", "method", "log_density", "mse"], rows


def _means(scores: Mapping[str, np.ndarray]) -> tables.Rows:
    """Means over the draws of a task, and of all; differences from the first method."""
    first, rows = next(iter(scores.values())), []
    for name, values in scores.items():
        for task in ("all", *range(taskset.NUM_TASKS)):
            part = slice(None) if task == "all" else slice(task, task + 1)
            own, other = (v[part].reshape(-1, 2) for v in (values, first))
            gaps = [tables.difference(own[:, i], other[:, i]) for i in (0, 1)]
            rows.append([task, name, *map(float, own.mean(0)), *gaps[0], *gaps[1]])
    ends = ("log_density", "mse")
    names = [f"{end}_{what}" for end in ends for what in ("difference", "error")]
    return ["task", "method", *ends, *names], rows


if __name__ == "__main__":
    cli.command(main, Config)
