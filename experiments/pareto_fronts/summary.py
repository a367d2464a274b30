"""What runs with several objectives attain: hypervolume, and distance to a front."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.pareto_fronts.panels import Panel, Runs
from jaxnas import metrics, pareto
from jaxnas.io import files
from jaxnas.studies import terminal
from jaxnas.studies.figures import Curve

# Evaluations at which tables read curves, as far as they reach.
MARKS = (20, 40, 60, 80, 100, 150, 200, 300)
LEVELS = (0.25, 0.5, 0.75)


class Summary(NamedTuple):
    """One method on one panel, over all its runs."""

    share: np.ndarray  # (seeds, t) hypervolume so far, of the reference front's
    reported: np.ndarray  # (seeds,) at the end, the same by the accuracy reported
    distance: np.ndarray  # (seeds,) IGD+ at the end, axes scaled by the front
    feasible: np.ndarray  # (seeds,) share of the evaluations that meet the bounds


@jax.jit
def _shares(scores: jax.Array, front: jax.Array, reference: jax.Array) -> jax.Array:
    """Share (seeds, t) of the hypervolume of a front that runs (seeds, t, m) attain."""
    volumes = jax.lax.map(
        lambda run: pareto.hypervolume_so_far(run, reference), scores, batch_size=16
    )
    return volumes / pareto.hypervolume(front, reference)


_distances = jax.jit(jax.vmap(pareto.igd_plus, (0, None)))
# Of all cells, so that one program serves every panel, method and bound.
_on_front = jax.jit(pareto.non_dominated)


def summarise(panel: Panel, runs: Runs) -> Summary:
    """Judges runs by the front of the feasible architectures of a panel.

    Args:
      panel: the architectures that runs are compared with.
      runs: scores in the order of evaluation.

    Returns: the summary.
    """
    bounds = pareto.score_bounds(panel.benchmark.objectives)
    goals = pareto.optimised(panel.benchmark.objectives)
    within = lambda seen: np.asarray(pareto.violation(seen, bounds)) <= 0  # noqa: E731
    feasible, evaluated = within(panel.seen), within(runs.seen)

    def goals_of(scores: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        """Scores (..., g) of what is optimised, NaN where it is not feasible."""
        return np.where(feasible[..., None], scores[..., goals], np.nan)

    front = true_front(goals_of(panel.seen, feasible))
    seen = goals_of(runs.seen, evaluated)
    share = _shares(seen, front, panel.reference[goals])
    reported = _shares(
        goals_of(runs.reported, evaluated),
        true_front(goals_of(panel.reported, feasible)),
        panel.reference_reported[goals],
    )[:, -1]
    unit = np.ptp(front, axis=0)
    unit = jnp.where(unit > 0, unit, 1.0)
    distance = _distances(seen / unit, front / unit)
    return Summary(*map(np.asarray, (share, reported, distance)), evaluated.mean(1))


def true_front(scores: np.ndarray) -> np.ndarray:
    """The front (f, m) of scores (n, m), in ascending order of the first."""
    complete = ~np.isnan(scores).any(1)
    return np.unique(scores[np.asarray(_on_front(scores, complete))], axis=0)


def marks(evaluations: int) -> list[int]:
    """Evaluations at which tables read curves: those of `MARKS` in reach, and the last."""
    return sorted({m for m in MARKS if m < evaluations} | {evaluations})


def share_curve(summaries: Mapping[str, Summary]) -> Curve:
    """Mean (t,) over panels of the mean over runs, and the standard error of it."""
    curves = [metrics.mean_and_sem(s.share) for s in summaries.values()]
    mean, error = (np.stack(part) for part in zip(*curves, strict=True))
    return mean.mean(0), np.sqrt((error**2).sum(0)) / len(error)


def show(console: Console, summaries: Mapping[str, Mapping[str, Summary]]) -> None:
    """Prints the table of a comparison.

    Args:
      console: where.
      summaries: by panel, and by method within each.
    """
    by_method = _by_method(summaries)
    first = next(iter(by_method.values()))
    num, length = (set(s.share.shape for s in first.values())).pop()
    at = marks(length)
    several = len(summaries) > 1
    over = f", mean of {len(summaries)} panels" if several else ""
    rows = []
    for method, of_panels in by_method.items():
        mean, error = share_curve(of_panels)
        cells = [f"{mean[m - 1]:.3f}" for m in at]
        if num > 1:
            cells = [
                f"{c} ± {error[m - 1]:.3f}" for c, m in zip(cells, at, strict=True)
            ]
        lowest = min(of_panels, key=lambda p: of_panels[p].share[:, -1].mean())
        low = of_panels[lowest].share[:, -1].mean()
        cells += [f"{low:.3f} ({lowest})"] if several else []
        shown = ("reported", "distance", "feasible")
        values = {
            n: np.mean([getattr(s, n) for s in of_panels.values()]) for n in shown
        }
        cells += [f"{values[n]:.3f}" for n in shown]
        rows.append((method, *cells))
    title = (
        f"share of the hypervolume of the reference front{over}, {num} "
        f"run{'s' * (num > 1)}; then the same by the accuracy reported, IGD+, and "
        "the share of feasible evaluations"
    )
    header = ("after", *map(str, at), *(["lowest panel"] if several else []))
    terminal.show_rows(console, (*header, "reported", "IGD+", "feasible"), rows, title)


def _by_method(
    summaries: Mapping[str, Mapping[str, Summary]],
) -> dict[str, dict[str, Summary]]:
    """The summaries by method, and by panel within each."""
    methods = next(iter(summaries.values()))
    return {m: {panel: s[m] for panel, s in summaries.items()} for m in methods}


def write_csv(
    path: str | Path,
    panels: Mapping[str, Panel],
    summaries: Mapping[str, Mapping[str, Summary]],
) -> None:
    """Writes a csv file with a row for each panel, method and mark, atomically.

    Args:
      path: the file; its folder must exist.
      panels: by name.
      summaries: by panel, and by method within each.

    Raises: `ValueError` if the file cannot be written.
    """
    header = ["panel", "method", "evaluations", "share_mean", "share_standard_error"]
    header += ["reported_mean", "igd_plus_mean", "feasible_mean", "runs", "note"]
    rows = []
    for panel, methods in summaries.items():
        for method, s in methods.items():
            mean, error = metrics.mean_and_sem(s.share)
            last = [f"{x.mean():.6g}" for x in (s.reported, s.distance, s.feasible)]
            last += [str(len(s.share)), panels[panel].note]
            for m in marks(len(mean)):
                values = f"{mean[m - 1]:.6g}", f"{error[m - 1]:.6g}"
                rows.append([panel, method, m, *values, *last])
    files.write_csv(path, header, rows)
