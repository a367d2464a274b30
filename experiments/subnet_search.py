"""Searches for the most accurate MobileNetV3 subnet within a latency on a device.

    python -m experiments.subnet_search --seeds 50 --base-seed 1000
    python -m experiments.subnet_search --devices v100_64 --percentiles 30
        --methods nsga2 gp --out results/v100

Accuracy is the predicted accuracy of once-for-all, latency the function fitted to the
measurements of a device, whose rank correlation with held-out measurements is printed. The
bound is a percentile of the latencies of 10,000 random subnets. A search learns both from
its evaluations alone. Its choice is the best evaluation within the bound.

Needs the reference files (JAXNAS_SHARED). Writes results.npz and table.csv to --out. Every
run can be killed and started again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from rich.console import Console

import jaxnas
from experiments.pareto_fronts.methods import METHODS
from jaxnas import metrics
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import latency, named, several
from jaxnas.benchmarks.base import Benchmark
from jaxnas.benchmarks.ofa import predicted_accuracy_benchmark
from jaxnas.io import files, npz
from jaxnas.pareto import Objective
from jaxnas.search import loop
from jaxnas.spaces import mobilenetv3
from jaxnas.spaces.mobilenetv3 import SPACE
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.types import Array

# In units of the bound, so that the searches of all panels are one program.
LATENCY = Objective("latency", "bounds", "minimise", bound=1.0, optimised=False)
OBJECTIVES = (Objective("predicted accuracy"), LATENCY)
_RANDOM = 10_000  # subnets of which bounds are percentiles
_INIT = 10  # random evaluations at the start of a run of gp


@dataclass(frozen=True)
class Config:
    """The devices and bounds, the methods, and the length and number of runs."""

    devices: tuple[str, ...] = ("titan_xp_64", "2080ti_64", "v100_32")
    """Cards and batch sizes of the table ofa-latency."""
    percentiles: tuple[float, ...] = (20.0, 50.0)
    """Bounds, as percentiles of the latencies of random subnets."""
    resolution: int = 224
    """Pixels on each side of an image: 160, 176, 192, 208 or 224."""
    methods: tuple[str, ...] = ("random", "evolution", "nsga2", "nsga2-20", "gp")
    """Which methods: random, evolution, nsga2 (population 10), nsga2-20, gp; each is
    compared with the last."""
    force: bool = False
    """Search also with latencies that are not predicted well enough."""
    evaluations: int = 200
    """Evaluations of each run; more of them make the runs of a folder longer."""
    seeds: int = 20
    """Independent runs of each method."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 25
    """Runs between two saves."""
    out: str = "results/subnet_search"
    """Folder for the results."""


class Panel(NamedTuple):
    """A device and a bound."""

    benchmark: Benchmark
    bound: float  # milliseconds
    spearman: float  # of the latency function, with held-out measurements


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: scores (seeds, evaluations, 2) by `PANEL/METHOD`, as they are in results.npz:
      predicted accuracy, and minus the latency in units of the bound.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    panels = open_panels(config)
    folder = seed_store.open_folder(config.out, _identity(config))
    sizes = config.evaluations, _INIT
    searches = {m: METHODS[m](SPACE, OBJECTIVES, *sizes) for m in config.methods}

    def simulate(label: str, seeds: np.ndarray) -> dict[str, np.ndarray]:
        name, method = label.rsplit("-on-", 1)[::-1]
        keys = seed_store.seed_keys(config.base_seed, seeds)
        benchmark = panels[name].benchmark
        trace = loop.simulate(keys, searches[method], benchmark, config.evaluations)
        return {"scores": np.asarray(trace.objectives)[:, :, 0]}

    labels = [f"{m}-on-{name}" for m in config.methods for name in panels]
    runs = seed_store.run_chunks(
        folder,
        labels,
        config.seeds,
        simulate,
        chunk=config.chunk,
        work=(config.evaluations, "evaluation"),
        adapt=seed_store.cut_to(config.evaluations),
    )
    arrays = {
        f"{name}/{m}": runs[f"{m}-on-{name}"]["scores"]
        for name in panels
        for m in config.methods
    }
    npz.save_arrays(folder.path / "results.npz", arrays, {"settings": folder.identity})
    rows = _rows(config, panels, arrays)
    files.write_csv(folder.path / "table.csv", _HEADER, rows)
    title = f"{config.seeds} run{'s' * (config.seeds > 1)} of each method"
    terminal.show_rows(Console(), _HEADER, rows, title)
    return arrays


def open_panels(config: Config) -> dict[str, Panel]:
    """Opens a panel for each device and percentile, by name.

    Raises: `ValueError` for an unknown device, for a resolution without predictions, and
      for a device whose latencies cannot be predicted well enough.
    """
    accuracy = predicted_accuracy_benchmark(resolution=config.resolution)
    table = named.open_table("ofa-latency")
    archs = np.random.default_rng(0).integers(0, 3, (_RANDOM, mobilenetv3.LENGTH))
    archs, panels = archs.astype(np.int32), {}
    for device in dict.fromkeys(config.devices):
        options = {"resolution": config.resolution, "force": config.force}
        fitted = latency.latency_function(table, device, **options)
        milliseconds = in_chunks(fitted.predict, archs)
        for percentile in dict.fromkeys(config.percentiles):
            bound = float(np.percentile(milliseconds, percentile))
            relative = Partial(_relative, fitted.predict, jnp.float32(bound))
            benchmark = several.with_objectives(accuracy, {LATENCY: relative})
            name = f"{device}-p{percentile:g}"
            panels[name] = Panel(benchmark, bound, fitted.spearman)
    return panels


def _relative(predict: Partial, bound: Array, arch: Array) -> Array:
    """The latency () of an architecture in units of the bound."""
    return predict(arch) / bound


def best_feasible(scores: np.ndarray) -> np.ndarray:
    """Predicted accuracy (s,) of the choices of runs with scores (s, t, 2).

    The best evaluation within the bound; NaN where there is none.
    """
    feasible = np.where(scores[..., 1] >= -1, scores[..., 0], -np.inf).max(1)
    return np.where(np.isfinite(feasible), feasible, np.nan)


_HEADER = (
    "panel", "bound, ms", "held-out Spearman", "method", "predicted accuracy",
    "standard error", "below the last method", "paired standard error",
    "share within bound", "runs without choice",
)  # fmt: skip


def _rows(
    config: Config, panels: Mapping[str, Panel], arrays: Mapping[str, np.ndarray]
) -> list[list[str]]:
    """The rows of the table, as text, with paired differences from the last method."""
    rows = []
    for name, panel in panels.items():
        last = best_feasible(arrays[f"{name}/{config.methods[-1]}"])
        for method in dict.fromkeys(config.methods):
            scores = arrays[f"{name}/{method}"]
            best = best_feasible(scores)
            mean, error = metrics.mean_and_sem(best)
            below, paired = metrics.mean_and_sem(last - best)
            within = (scores[..., 1] >= -1).mean()
            numbers = [f"{float(x):.5f}" for x in (mean, error, below, paired)]
            start = [name, f"{panel.bound:.2f}", f"{panel.spearman:.3f}", method]
            rows.append([*start, *numbers, f"{within:.3f}", f"{np.isnan(best).sum()}"])
    return rows


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong in themselves."""
    cli.positive(config, "seeds", "evaluations", "chunk")
    cli.at_most(config, seeds=1_000_000, evaluations=100_000)
    cli.seed(config)
    cli.require_names(config.methods, METHODS, "method")
    for name in ("devices", "percentiles"):
        if not getattr(config, name):
            raise ValueError(f"--{name} needs at least one value")
    if not all(0 < percentile < 100 for percentile in config.percentiles):
        given = ", ".join(map(str, config.percentiles))
        raise ValueError(f"--percentiles must be between 0 and 100, not {given}")
    if config.evaluations <= _INIT and "gp" in config.methods:
        raise ValueError(
            f"--evaluations must be more than the {_INIT} random ones of gp, not "
            f"{config.evaluations}"
        )


def _identity(config: Config) -> dict:
    """The identity of a folder: all that its runs depend on, as JSON values."""
    free = ("out", "chunk", "seeds", "methods", "devices", "percentiles", "force")
    # A longer run begins like a shorter one, by any method.
    free += ("evaluations",)
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | {"driver": "subnet_search", "made_by": made_by}


if __name__ == "__main__":
    cli.command(main, Config)
