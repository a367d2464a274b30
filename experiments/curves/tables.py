"""Tables of trials: accuracy, paired differences, noise, and other seeds as a reference.

A table is a header and lines of numbers, for a csv; `formatted` makes text of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.curves.sets import CurveSet
from experiments.curves.trials import FURTHER
from experiments.curves.variants import DEFAULT, RELEASE
from jaxnas.curves import accuracy, repeated

Trial = Mapping[str, np.ndarray]
# By set, variant, and split.
Trials = Mapping[str, Mapping[str, Mapping[int, Trial]]]
Rows = tuple[list[str], list[list]]

HELD_OUT = "held out"
# The metrics that the paper reports, and the error.
MAIN_METRICS = ("r2", "final_r2", "kendall", "final_kendall", "final_spearman", "rmse")
# CPU time of a fit with its noise, and wall time of the curves of all architectures.
SECONDS = ("fit_seconds", "predict_seconds")
# A difference of more than so many standard errors is one.
ERRORS = 2


def scores(trial: Trial, test: str = HELD_OUT) -> dict[str, float]:
    """The average and final metrics of a trial, as of `accuracy.curve_scores`.

    Args:
      trial: from `trials.run`.
      test: HELD_OUT, or the name of further curves.
    """
    if test == HELD_OUT:
        return accuracy.summarise({m: trial[m] for m in accuracy.METRICS})
    return accuracy.summarise({m: trial[f"{test}/{m}"] for m in FURTHER})


def tests(trial: Trial) -> list[str]:
    """HELD_OUT, and the names of further curves that a trial was tested on."""
    further = [n.split("/")[0] for n in trial if n.endswith(f"/{FURTHER[0]}")]
    return [HELD_OUT, *further]


def each_trial(trials: Trials) -> Rows:
    """All metrics of every trial."""
    names = [*accuracy.METRICS, *(f"final_{m}" for m in accuracy.METRICS)]
    header = ["set", "test", "surrogate", "split", *names, *SECONDS, "rmse_train"]
    rows = []
    for data, variant, split, trial in _every(trials):
        for test in tests(trial):
            found = scores(trial, test)
            fit = [float(trial[name]) for name in (*SECONDS, "rmse_train")]
            values = [found.get(name) for name in names]
            rows.append([data, test, variant, split, *values, *fit])
    return header, rows


def means(trials: Trials) -> Rows:
    """Means over splits of the metrics that the paper reports."""
    names = MAIN_METRICS
    header = ["set", "test", "surrogate", "splits", *names, *SECONDS]
    rows = []
    for data, by_variant in trials.items():
        for variant, by_split in by_variant.items():
            done = list(by_split.values())
            for test in tests(done[0]):
                found = [scores(trial, test) for trial in done]
                values = [np.mean([one[name] for one in found]) for name in names]
                seconds = [np.mean([t[name] for t in done]) for name in SECONDS]
                rows.append([data, test, variant, len(done), *values, *seconds])
    return header, rows


def paired(trials: Trials, first: str = DEFAULT, second: str = RELEASE) -> Rows:
    """Differences between two surrogates on the same splits.

    Args:
      trials: all trials.
      first: the surrogate that may not be worse.
      second: the one that it is compared with.

    Returns: for each set, test and metric the means of both, the mean difference first
      minus second over the splits that both have, its standard error, and whether first
      is better, worse, or neither by more than ERRORS standard errors. A single split has
      no standard error.
    """
    header = ["set", "test", "metric", first, second, "difference", "error", "verdict"]
    rows = []
    for data, by_variant in trials.items():
        a, b = by_variant.get(first, {}), by_variant.get(second, {})
        common = sorted(a.keys() & b.keys())
        for test in tests(a[common[0]]) if common else ():
            pairs = [(scores(a[s], test), scores(b[s], test)) for s in common]
            for name in pairs[0][0]:
                x, y = np.array([(one[name], two[name]) for one, two in pairs]).T
                gap, error = difference(x, y)
                better = verdict(name, gap, error)
                rows.append([data, test, name, x.mean(), y.mean(), gap, error, better])
    return header, rows


def main_metrics(rows: Rows) -> Rows:
    """The lines of `paired` with the metrics of `means`: all of them fill pages."""
    header, lines = rows
    return header, [line for line in lines if line[2] in MAIN_METRICS]


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of the difference (s,) between values on the same splits.

    Args:
      first: (s,) values.
      second: (s,) values that are subtracted.

    Returns: the error is NaN for one split.
    """
    gap = first - second
    error = gap.std(ddof=1) / math.sqrt(len(gap)) if len(gap) > 1 else math.nan
    return float(gap.mean()), float(error)


def verdict(metric: str, gap: float, error: float) -> str:
    """Whether a difference speaks for the first surrogate.

    Args:
      metric: its name, with or without final_.
      gap: the mean difference, first minus second.
      error: its standard error.

    Returns: better, worse, or equal if the difference is within ERRORS standard errors,
      or empty where that is not known.
    """
    if math.isnan(gap) or math.isnan(error):
        return ""
    if abs(gap) <= ERRORS * error:
        return "equal"
    lower = metric.removeprefix("final_") in accuracy.LOWER_IS_BETTER
    return "better" if (gap < 0) == lower else "worse"


def noises(trials: Trials) -> Rows:
    """How far draws agree with held-out curves, means over splits.

    Returns: of the ratio of standard deviations and the cover of the 90 % band the mean
      over epochs and the extremes; spike anomalies; and the KL divergence, empty where no
      held-out architecture has several seeds. One line for each surrogate and noise.
    """
    columns = ("ratio", "cover")
    header = ["set", "surrogate", "noise", "splits"]
    header += [f"{c}{end}" for c in columns for end in ("", "_min", "_max")]
    header += ["spikes", "kl", "final_kl"]
    rows = []
    for data, by_variant in trials.items():
        for variant, by_split in by_variant.items():
            done = list(by_split.values())
            for name in noise_names(done[0]):
                found = [noise_of(trial, name) for trial in done]
                rows.append(
                    [data, variant, name, len(done), *_noise_row(found, columns)]
                )
    return header, rows


def noise_names(trial: Trial) -> list[str]:
    """The noise models that a trial has results of."""
    parts = [name.split("/") for name in trial]
    return [p[1] for p in parts if p[0] == "noise" and p[-1] == "ratio"]


def noise_of(trial: Trial, name: str) -> dict[str, np.ndarray]:
    """The arrays of one noise model in a trial, as `trials.run` names them."""
    start = f"noise/{name}/"
    return {n.removeprefix(start): x for n, x in trial.items() if n.startswith(start)}


def _noise_row(found: Sequence[Trial], columns: Sequence[str]) -> Iterator[Any]:
    """Means over splits, and extremes over epochs of the mean over splits."""
    for column in columns:
        value = np.mean([one[column] for one in found], 0)
        yield from (value.mean(), value.min(), value.max())
    yield np.mean([one["spikes"] for one in found])
    kl = [one["kl"] for one in found if "kl" in one]
    mean = np.mean(kl, 0) if kl else None
    yield from (None, None) if mean is None else (mean.mean(), mean[-1])


def references(sets: Mapping[str, CurveSet]) -> Rows:
    """How well the mean of other seeds ranks the architectures that have several."""
    metrics = ("r2", "kendall", "spearman")
    names = [*metrics, *(f"final_{m}" for m in metrics)]
    rows = []
    for name, data in sets.items():
        if (seeds := several(data)) is None:
            continue
        for others in range(1, seeds.shape[1]):
            found = repeated.seed_reference(seeds, others, metrics)
            rows.append([name, len(seeds), others, *(found[n] for n in names)])
    return ["set", "architectures", "other_seeds", *names], rows


def several(data: CurveSet) -> np.ndarray | None:
    """Curves (k, r, E) of the architectures with all seeds, each once; None without."""
    if data.seeds is None:
        return None
    _, first = np.unique(data.groups, return_index=True)
    seeds = data.seeds[first]
    seeds = seeds[np.isfinite(seeds).all((1, 2))]
    return seeds if len(seeds) > 1 else None


def formatted(rows: Rows, digits: int = 3) -> tuple[list[str], list[list[str]]]:
    """A table as text: numbers of so many digits after the point, nothing for None."""
    header, lines = rows
    text = [[_cell(value, digits) for value in line] for line in lines]
    return [name.replace("_", " ") for name in header], text


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{digits}f}"
    return "" if value is None else str(value)


def _every(trials: Trials) -> Iterator[tuple[str, str, int, Trial]]:
    for data, by_variant in trials.items():
        for variant, by_split in by_variant.items():
            for split, trial in by_split.items():
                yield data, variant, split, trial


def rounded(lines: Sequence[Sequence]) -> list[list]:
    """Lines of a csv, with numbers of six digits."""
    return [[f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in lines]
