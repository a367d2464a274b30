"""How well do surrogates predict learning curves of architectures that they have not seen?

    python -m experiments.curve_report
    python -m experiments.curve_report --variants all --splits 1
    python -m experiments.curve_report --sets fashion-curves --limit 60 --rounds 20

The first compares the default of `fit_surrogate` with the procedure of the published
NAS-Bench-x11 surrogates (Yan et al., 2021) on the same five splits of each set; `all`
adds the combinations of compression and regressor, on one split and with one member, and
every noise model is tested with each. Architectures, not trainings, are split.

fashion-curves is embedded; the other sets are files of the reference data, which
JAXNAS_SHARED has. nb201 has a published surrogate's curves of all cells, and 200 real ones
as a second test; nlp and nlp-start are recurrent cells without and with their first three
epochs as features; metaqnn are convolutional networks. On request alone come the sets
final-cifar10, final-cifar100, final-imagenet and the same with -class: real accuracies of
all cells of NAS-Bench-201 after 200 epochs, fitted on one seed and tested on another, and
split by cell or by the function that cells compute. The release needs five epochs.

Writes to --out: trials.csv (every metric of every split), means.csv, paired.csv
(default minus release with its standard error), noise.csv (draws against held-out curves),
reference.csv (other seeds as predictors), figures as png, and all of it as one page,
report.html. Every trial is kept there, and the same command resumes after an interruption;
trials of a changed library are not recognised: give them another --out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.common import html_report
from experiments.curves import sets, surrogate_figures, tables, trials, variants
from experiments.curves.sets import CurveSet
from experiments.curves.variants import BOTH, NOISES
from jaxnas.io import files, run_folder
from jaxnas.studies import cli, terminal
from jaxnas.studies.progress import Counter, Progress

ALL = "all"


@dataclass(frozen=True)
class Config:
    """Which surrogates on which curves."""

    sets: tuple[str, ...] = ()
    """Sets of curves, see above. Default: nb201, nlp, nlp-start, fashion-curves and
    metaqnn, those whose files are found."""
    variants: tuple[str, ...] = BOTH
    """Surrogates: default, release, COMPRESSION-REGRESSOR of svd or vae and lightgbm,
    xgboost or mlp, or all, which means default, release and every combination."""
    noises: tuple[str, ...] = tuple(NOISES)
    """Noise models of every surrogate but the release: kde, std, window."""
    splits: int = 5
    """Splits of default and release; of the combinations there is one."""
    limit: int | None = None
    """Architectures of each set, drawn at random; default: all."""
    rounds: int | None = None
    """Rounds of boosting, or steps of training, for a run of seconds; default: as many
    as each surrogate has."""
    folds: int = 10
    """Folds whose held-out residuals the noise is fitted on."""
    base_seed: int = 0
    """Seed of the splits, of --limit, and of the fits."""
    out: str = "results/curve_report"
    """Folder for the report and the trials."""


def main(config: Config) -> dict[str, tables.Rows]:
    """Writes the report.

    Returns: its tables by name.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "splits", "folds")
    cli.at_most(config, splits=1000, folds=1000)
    cli.positive(
        config, *(n for n in ("limit", "rounds") if getattr(config, n) is not None)
    )
    if config.rounds is not None:
        cli.at_most(config, rounds=1_000_000)
    cli.seed(config)
    chosen = _variants(config)
    opened = {name: _open(config, name) for name in _sets(config)}
    for name, data in opened.items():
        if not any(variants.can_fit(v, data.curves.shape[1]) for v in chosen):
            raise ValueError(f"none of {', '.join(chosen)} can be fitted to {name}")
        # Raises for too few architectures.
        trials.split(config.base_seed, 0, data, sets.SETS[name].train)
    path = cli.named(config.out)
    folder = run_folder.open_or_create(path, _identity(config), cli.OUT)
    done: dict[str, Any] = {}
    for name, data in opened.items():
        able = [v for v in chosen if variants.can_fit(v, data.curves.shape[1])]
        done[name] = _trials(config, folder, name, data, able)
        # Compiled programs are memory maps, of which a process has a limited number.
        jax.clear_caches()
    report_tables = _tables(done, opened)
    for name, (header, lines) in report_tables.items():
        path = folder.path / f"{name}.csv"
        files.write_csv(path, header, tables.rounded(lines))
    figures = _draw(folder.path, done, opened)
    page = folder.path / "report.html"
    page_tables = report_tables | {
        "paired": tables.main_metrics(report_tables["paired"])
    }
    shown = {
        heading: tables.formatted(page_tables[name])
        for name, heading in _HEADINGS.items()
        if page_tables[name][1]
    }
    intro = _intro(config, opened)
    title = "Surrogates of learning curves"
    html_report.write(page, title, intro, shown, folder.path, figures)
    console = Console()
    for heading, (header, lines) in shown.items():
        terminal.show_rows(console, header, lines, heading)
    console.print(f"{page}", highlight=False, soft_wrap=True)
    return report_tables


_HEADINGS = {
    "means": "Accuracy, means over the splits",
    "paired": "Default minus release on the same splits",
    "noise": "Draws against held-out curves",
    "reference": "Other seeds of the same architectures as predictors",
}


def _sets(config: Config) -> Sequence[str]:
    """The names of the sets, all of them known."""
    if config.sets:
        return cli.require_names(config.sets, sets.SETS, "set")
    usual = (name for name, source in sets.SETS.items() if source.usual)
    return [name for name in usual if sets.available(name)]


def _variants(config: Config) -> list[str]:
    """The names of the surrogates, all of them known, each once."""
    names = [*BOTH, *variants.names()]
    cli.require_names(config.variants, [*names, ALL], "surrogate")
    cli.require_names(config.noises, NOISES, "noise model")
    chosen = [n for v in config.variants for n in (names if v == ALL else [v])]
    return list(dict.fromkeys(chosen))


def _open(config: Config, name: str) -> CurveSet:
    """A set, cut to --limit."""
    data = sets.SETS[name].open()
    if config.limit is None:
        return data
    return sets.limited(data, config.limit, jax.random.key(config.base_seed))


def _identity(config: Config) -> dict[str, Any]:
    """Settings shared by all trials of a folder."""
    names = ("limit", "rounds", "folds", "base_seed", "noises")
    identity = {name: getattr(config, name) for name in names}
    return identity | {"driver": "curve_report", "version": 2}


def _trials(
    config: Config,
    folder: run_folder.RunFolder,
    name: str,
    data: CurveSet,
    chosen: Sequence[str],
) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """The trials of one set, by surrogate and split.

    Saved trials are read; missing ones are run and saved. Other surrogates of which all
    splits were saved by earlier calls follow the chosen ones.
    """
    labels, done = {"data": data.digest}, {}
    with Progress(Console(stderr=True)) as shown:
        for variant in dict.fromkeys((*chosen, *BOTH, *variants.names())):
            num = config.splits if variant in BOTH else 1
            pieces = [f"trials/{name}/{variant}-{split}" for split in range(num)]
            kept = [_kept(folder, piece, labels) for piece in pieces]
            if variant in chosen:
                shown.begin(f"{name}, {variant}", Counter(num, "split"))
                for split, trial in enumerate(kept):
                    if trial is None:
                        kept[split] = new = _run(config, name, data, variant, split)
                        run_folder.save_piece(folder, pieces[split], new, labels)
                    shown.advance(1, computed=trial is None)
            if None not in kept:
                done[variant] = dict(enumerate(kept))
    return done


def _kept(
    folder: run_folder.RunFolder, piece: str, labels: Mapping[str, str]
) -> dict[str, np.ndarray] | None:
    """A trial of an earlier call; None if there is none, or it is of other curves."""
    try:
        return run_folder.load_piece(folder, piece, labels)
    except ValueError:
        return None


def _run(
    config: Config, name: str, data: CurveSet, variant: str, split: int
) -> dict[str, np.ndarray]:
    """One trial; all surrogates have the same split, and draw from the same key."""
    share = sets.SETS[name].train
    key, parts = trials.split(config.base_seed, split, data, share)
    settings = {"folds": config.folds} | variants.settings(variant, config.rounds)
    chosen = config.noises if variants.has_noise(variant) else ()
    noises = {name: NOISES[name]() for name in chosen}
    own = variants.own_features(variant)
    return trials.run(key, data, parts, own, settings, noises)


def _tables(
    done: tables.Trials, opened: Mapping[str, CurveSet]
) -> dict[str, tables.Rows]:
    return {
        "trials": tables.each_trial(done),
        "means": tables.means(done),
        "paired": tables.paired(done),
        "noise": tables.noises(done),
        "reference": tables.references(opened),
    }


def _draw(
    out: Path, done: tables.Trials, opened: Mapping[str, CurveSet]
) -> dict[str, str]:
    """Writes all figures; returns the caption of each file, in the page's order."""
    captions = {}
    for name, by_variant in done.items():
        info = opened[name].info
        if opened[name].curves.shape[1] == 1:
            continue
        first = next(iter(by_variant))
        path = out / f"curves-{name}.png"
        captions[path.name] = (
            f"{name}: held-out curves, and predictions of the surrogate {first}"
        )
        surrogate_figures.examples(
            path,
            trial := by_variant[first][0],
            tables.noise_of(trial, (tables.noise_names(trial) or [""])[0]),
            title=captions[path.name],
            label=f"{info.target}, {info.unit}",
        )
        path = out / f"kendall-{name}.png"
        captions[path.name] = f"{name}: Kendall's correlation by epoch, held out"
        both = [v for v in BOTH if v in by_variant] or [first]
        surrogate_figures.by_epoch(
            path,
            {v: np.stack([t["kendall"] for t in by_variant[v].values()]) for v in both},
            title=captions[path.name],
            label="Kendall's tau-b",
        )
    return captions | _draw_all(out, done)


def _draw_all(out: Path, done: tables.Trials) -> dict[str, str]:
    """Writes the figure of all surrogates, if there are more than two."""
    if max(map(len, done.values())) < 3:
        return {}
    values = {
        name: {v: float(of[0]["kendall"][-1]) for v, of in by_variant.items()}
        for name, by_variant in done.items()
    }
    label = "Kendall's tau-b of the last epoch, first split"
    surrogate_figures.final_values(out / "variants.png", values, label=label)
    return {"variants.png": label}


def _intro(config: Config, opened: Mapping[str, CurveSet]) -> str:
    sizes = (
        f"{name} ({len(np.unique(data.groups)):,} architectures, {data.curves.shape[1]} "
        f"epochs, {data.info.source}; {sets.SETS[name].train:.0%} to fit on)"
        for name, data in opened.items()
    )
    short = (
        f" Only {config.rounds} rounds or steps of fitting." if config.rounds else ""
    )
    return (
        f"Sets: {'; '.join(sizes)}.{short} Averages are over epochs, final values of the "
        "last one. Ratio: the standard deviation of draws over that of held-out "
        "residuals; cover: the share of held-out values in the band of 90 % of the draws; "
        "spikes: the share of draws whose best value is above the final one by more than "
        "in 5 % of the held-out curves; fit seconds: CPU time, noise included; predict "
        "seconds: wall time of the curves of all architectures, compilation excluded."
    )


if __name__ == "__main__":
    cli.command(main, Config)
