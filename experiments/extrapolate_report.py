"""How well do extrapolators predict the last value of a training from its first epochs?

    python -m experiments.extrapolate_report
    python -m experiments.extrapolate_report --sets nb201 --splits 3 --slow-splits 1

Each is fitted to 100 complete curves and predicts others from 5, 10, 20 and 50 % of their
epochs, on the same splits, by architecture: nb201 are 200 cells of NAS-Bench-201, metaqnn
1,000 convolutional networks, nlp 341 trainings of recurrent cells, resnets 486 residual
networks whose learning rate drops late. "arch" is with features of the architecture. The
files are those of the reference data, which JAXNAS_SHARED names.

Writes to --out: trials.csv (every metric of every split), means.csv, paired.csv
(Spearman's correlation minus that of the last value, with its standard error), a figure,
and all of it as one page, report.html. Trials are saved there, and the same command
resumes after an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.common import html_report
from experiments.curves import tables
from experiments.curves.extrapolation import (
    LAST,
    METHODS,
    METRICS,
    SETS,
    SHARES,
    CurveData,
    trial,
)
from jaxnas.io import files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.studies import cli, terminal
from jaxnas.studies.drawing import Figure, matplotlib
from jaxnas.studies.figures import COLOURS, STYLE, save
from jaxnas.studies.progress import Counter, Progress

# Metrics (splits, shares, metrics) by set and extrapolator.
Trials = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Config:
    """Which extrapolators on which curves."""

    sets: tuple[str, ...] = tuple(SETS)
    """Sets of curves: nb201, metaqnn, nlp, resnets."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Extrapolators, by the names in the report."""
    splits: int = 50
    """Splits of each set."""
    slow_splits: int = 10
    """Splits of the support-vector machines and of the parametric families."""
    out: str = "results/extrapolate_report"
    """Folder for the report and the trials."""


def main(config: Config) -> dict[str, tables.Rows]:
    """Writes the report.

    Returns: its tables by name.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "splits", "slow_splits")
    cli.at_most(config, splits=10_000, slow_splits=10_000)
    cli.require_names(config.sets, SETS, "set")
    cli.require_names(config.methods, METHODS, "method")
    opened = {name: SETS[name]() for name in config.sets}
    identity = {n: getattr(config, n) for n in ("splits", "slow_splits")}
    identity["driver"] = "extrapolate_report"
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    finished = [name for name in SETS if (folder.path / "trials" / name).is_dir()]
    with Progress(Console(stderr=True)) as progress:
        opened |= {name: SETS[name]() for name in finished if name not in opened}
        trials = {
            name: _trials(config, folder, name, data, progress)
            for name, data in opened.items()
        }
    report_tables = {
        "trials": _each(trials),
        "means": _means(trials),
        "paired": _paired(trials),
    }
    for name, (header, lines) in report_tables.items():
        files.write_csv(folder.path / f"{name}.csv", header, tables.rounded(lines))
    figure = folder.path / "spearman.png"
    _draw(figure, trials)
    page = folder.path / "report.html"
    headings = {
        "means": "Means over the splits",
        "paired": "Spearman's correlation minus that of the last value",
    }
    shown = {
        heading: tables.formatted(report_tables[n]) for n, heading in headings.items()
    }
    title = "Extrapolation of learning curves"
    captions = {figure.name: "Spearman's correlation with the last value"}
    html_report.write(page, title, _INTRO, shown, folder.path, captions)
    console = Console()
    for heading, (header, lines) in shown.items():
        terminal.show_rows(console, header, lines, heading)
    console.print(f"{page}", highlight=False, soft_wrap=True)
    return report_tables


_INTRO = (
    "Fitted to 100 complete curves, predicting those of other architectures. Log-"
    "likelihood in nats, of a normal distribution with the predicted mean and deviation, "
    "and squared error are in units of the curves: percentage points, nats for nlp. Cover: "
    "share of true values in bands of 50 and 90 %. Seconds: CPU time for 1,000 curves, "
    "fit included, the median over splits."
)


def _trials(
    config: Config,
    folder: run_folder.RunFolder,
    name: str,
    data: CurveData,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Metrics (splits, shares, metrics) of each extrapolator on a set.

    Other extrapolators with saved trials follow the chosen ones.
    """
    results = {}
    labels = {"data": array_digest(data.curves, data.features)}
    chosen = config.methods if name in config.sets else ()
    for method in dict.fromkeys((*chosen, *METHODS)):
        piece = f"trials/{name}/{method.replace(', ', '-').replace(' ', '-')}"
        try:
            results[method] = run_folder.load_piece(folder, piece, labels)["metrics"]
        except ValueError:
            if method in chosen:
                results[method] = _run(config, data, name, method, progress)
                metrics = {"metrics": results[method]}
                run_folder.save_piece(folder, piece, metrics, labels)
    return results


def _run(
    config: Config, data: CurveData, name: str, method: str, progress: Progress
) -> np.ndarray:
    """Metrics (splits, shares, metrics) of one extrapolator on a set."""
    extrapolator, num = METHODS[method], config.splits
    if extrapolator.slow:
        num = min(num, config.slow_splits)
    progress.begin(f"{name}, {method}", Counter(num, "split"))
    metrics = []
    for seed in range(num):
        metrics.append([trial(data, extrapolator, s, seed) for s in SHARES])
        progress.advance(1)
    return np.array(metrics)


def _each(trials: Trials) -> tables.Rows:
    """Every metric of every split."""
    rows = [
        [name, method, share, split, *map(float, values[split, i])]
        for name, by_method in trials.items()
        for method, values in by_method.items()
        for i, share in enumerate(SHARES)
        for split in range(len(values))
        if np.isfinite(values[split, i]).all()
    ]
    return ["set", "extrapolator", "share", "split", *METRICS], rows


def _means(trials: Trials) -> tables.Rows:
    """Means over splits, and the median of the seconds, which leaves out compilation."""
    rows = []
    for name, by_method in trials.items():
        for i, share in enumerate(SHARES):
            for method, values in by_method.items():
                if np.isfinite(values[:, i]).all():
                    means = values[:, i].mean(0)
                    means[-1] = np.median(values[:, i, -1])
                    row = [name, method, share, len(values), *map(float, means)]
                    rows.append(row)
    return ["set", "extrapolator", "share", "splits", *METRICS], rows


def _paired(trials: Trials) -> tables.Rows:
    """Differences of Spearman's correlation on the splits that both have."""
    rows = []
    for name, by_method in trials.items():
        for method, values in by_method.items():
            if method == LAST or LAST not in by_method:
                continue
            for i, share in enumerate(SHARES):
                first, second = values[:, i, 0], by_method[LAST][: len(values), i, 0]
                if np.isfinite(first).all():
                    gap, error = tables.difference(first, second)
                    verdict = tables.verdict("spearman", gap, error)
                    means = [float(first.mean()), float(second.mean())]
                    rows.append([name, method, share, *means, gap, error, verdict])
    header = ["set", "extrapolator", "share", "spearman", LAST.replace(" ", "_")]
    return [*header, "difference", "error", "verdict"], rows


def _draw(path: Path, trials: Trials) -> None:
    """Draws Spearman's correlation by share of the epochs, a panel for each set."""
    with matplotlib.rc_context(STYLE):
        size = (3.2 * len(trials) + 1, 3.8)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        panels = figure.subplots(1, len(trials), squeeze=False)[0]
        for axis, (name, by_method) in zip(panels, trials.items(), strict=True):
            for method, values in by_method.items():
                k = list(METHODS).index(method)
                look = dict(color=COLOURS[k % len(COLOURS)], label=method)
                line = "o-" if k < len(COLOURS) else "s--"
                axis.plot(SHARES, values[..., 0].mean(0), line, markersize=4, **look)
            axis.set_title(name)
            axis.set_xscale("log")
            axis.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
            axis.minorticks_off()
            axis.set_xlabel("epochs observed")
        panels[0].set_ylabel("Spearman with the last value")
        handles = {line.get_label(): line for axis in panels for line in axis.lines}
        lines, names = list(handles.values()), list(map(str, handles))
        # A single panel is too narrow for more.
        look = {"ncols": min(5, len(trials) + 1), "frameon": False}
        figure.legend(lines, names, loc="outside lower center", **look)
        save(figure, path)


if __name__ == "__main__":
    cli.command(main, Config)
