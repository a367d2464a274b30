"""How long do whole experiments, trainings and distances take on one device?

    python -m experiments.device_speed
    JAX_PLATFORMS=cpu python -m experiments.device_speed --seeds 20 --cells 8 --pairs 2000

The first command measures the default device, such as a GPU, and the second one core of
the CPU, with fewer of everything. Writes rows.csv to --out after each row, and for each
search the architectures that it asked, asked-NAME-SEEDS.npz, by which devices compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.bench import timing
from jaxnas import transport
from jaxnas.batching import in_blocks, in_chunks
from jaxnas.benchmarks import named, tabular
from jaxnas.io import files, npz
from jaxnas.kernels import feature_maps, graph_distances, layer_matching
from jaxnas.networks import Data, NetworkConfig, Recipe, runs
from jaxnas.precision import full_precision
from jaxnas.search import loop, presets, regularized_evolution
from jaxnas.search.base import Search
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import cli
from jaxnas.types import Trace


@dataclass(frozen=True)
class Config:
    """What to measure, at which sizes."""

    programs: tuple[
        Literal["evolution", "gp-tw2g-plus", "training", "distances", "sinkhorn"], ...
    ] = ("evolution", "gp-tw2g-plus", "training", "distances", "sinkhorn")
    """Which programs, in which order: evolution, gp-tw2g-plus, training, distances,
    sinkhorn."""
    seeds: tuple[int, ...] = (200, 1000)
    """Runs of a search in one program."""
    evaluations: int = 150
    """Evaluations of each of them."""
    candidates: int = SPACE.size
    """How many cells of NAS-Bench-201 are candidates, and have distances."""
    cells: int = 128
    """Random cells that are trained side by side; an eighth of them of the benchmark's own
    size."""
    steps: int = 16
    """Training steps of an epoch."""
    pairs: int = 100_000
    """Pairs of cells for entropic transport."""
    repeats: int = 3
    """Timed calls after the first one, which compiles."""
    out: str = "results/device_speed"
    """Folder for the results."""


class Row(NamedTuple):
    """A measurement: `number` of something in one call."""

    program: str
    number: int
    what: str
    first_s: float  # wall seconds of the first call, compilation included
    median_s: float  # of the others
    cpu_s: float  # median of processor time of the others, of all threads
    a_second: float  # number / median_s
    result: str  # for comparisons between devices


# Channels, cells of a stage, pixels, images in a step, and the share of --cells.
SIZES = ((8, 1, 16, 64, 1.0), (16, 5, 32, 256, 0.125))


def main(config: Config) -> list[Row]:
    """Measures, prints and writes a row for each size of each program.

    Raises: `ValueError` for sizes out of range, before anything is compiled.
    """
    cli.positive(config, "evaluations", "cells", "steps", "pairs", "repeats")
    cli.at_most(config, cells=100_000, steps=100_000, pairs=100_000_000, repeats=1000)
    if not config.seeds or not 1 <= min(config.seeds) <= max(config.seeds) <= 1_000_000:
        raise ValueError(
            f"--seeds must be at least 1 and at most 1000000, not {config.seeds}"
        )
    if not config.evaluations < config.candidates <= SPACE.size:
        raise ValueError(
            f"--candidates must be {config.evaluations + 1} to {SPACE.size}, "
            f"not {config.candidates}"
        )
    out, console = cli.folder(config.out, "device speed"), Console()
    device = jax.devices()[0].device_kind
    errors = f"{_error(jnp.matmul):.2g}, {_error(full_precision(jnp.matmul)):.2g}"
    console.print(
        f"jax {jax.__version__} on {device}; a product of 512 x 512 normal numbers is off "
        f"by {errors} in full precision",
        highlight=False,
        soft_wrap=True,
    )
    rows = []
    for program in config.programs:
        measured = PROGRAMS[program](config, out)
        while row := _next(measured):
            rows.append(row)
            console.print(
                f"{row.program}, {row.number:,} {row.what}: first {row.first_s:.2f} s, "
                f"then {row.median_s:.4g} s ({row.cpu_s:.4g} CPU-seconds), "
                f"{row.a_second:.4g} a second; {row.result}",
                highlight=False,
                soft_wrap=True,
            )
            files.write_csv(out / "rows.csv", Row._fields, [[*r] for r in rows])
    return rows


def _next(rows: Iterator[Row]) -> Row | None:
    """Measures the next row, if there is one, without caches of compiled programs."""
    with timing.compiling():
        return next(rows, None)


def _cells(number: int) -> np.ndarray:
    """Random different cells (n, 6)."""
    return np.random.default_rng(0).permutation(base.every(SPACE))[:number]


def _error(product: Callable[[jax.Array, jax.Array], jax.Array]) -> float:
    """The largest error of a float32 product of standard normal numbers."""
    x, y = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    return float(np.abs(np.asarray(product(x, y)) - exact).max())


def _timed(config: Config, call: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds of the first call, the median of the others, and of their CPU seconds."""
    wall, cpu = zip(
        *(
            timing.once(lambda: jax.block_until_ready(call()))
            for _ in range(1 + config.repeats)
        ),
        strict=True,
    )
    return wall[0], float(np.median(wall[1:])), float(np.median(cpu[1:]))


def _evolution(config: Config, out: Path) -> Iterator[Row]:
    """Aging evolution with its published sizes."""
    yield from _search(config, out, "evolution", regularized_evolution(SPACE))


def _gaussian_process(config: Config, out: Path) -> Iterator[Row]:
    """The best search of the comparisons, over the distinct functions of all cells."""
    search = presets.gp_tw2g_plus(SPACE, _cells(config.candidates))
    yield from _search(config, out, "gp-tw2g-plus", search)


def _search(config: Config, out: Path, name: str, search: Search) -> Iterator[Row]:
    """Times whole experiments on one device.

    Args:
      config: numbers of seeds, evaluations and repeats.
      out: folder for what was asked.
      name: of the search.
      search: to run.
    """
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    table = named.open_table("analog")
    benchmark = tabular.tabular_benchmark(SPACE, table, **which)
    one_device = jax.devices()[:1]
    for number in config.seeds:
        keys = jax.vmap(jax.random.key)(np.arange(number))
        traces: list[Trace] = []

        def experiment(keys: jax.Array = keys, traces: list = traces) -> Trace:
            steps = config.evaluations
            trace = loop.simulate(keys, search, benchmark, steps, devices=one_device)
            traces.append(trace)
            return trace

        first, *others = _timed(config, experiment)
        asked = [np.asarray(base.rank(SPACE, t.query.arch[:, :, 0])) for t in traces]
        best = np.nanmax(np.asarray(traces[0].score)[:, :, 0], 1)
        arrays = {"rank": asked[0].astype(np.int16), "best": best}
        npz.save_arrays(out / f"asked-{name}-{number}.npz", arrays, {"search": name})
        same = all((ranks == asked[0]).all() for ranks in asked[1:])
        best = f"best accuracy, median {np.median(best):.4f}, mean {np.mean(best):.4f}"
        best += f", all calls the same: {same}"
        yield Row(name, number, "runs", first, *others, number / others[0], best)


def _training(config: Config, out: Path) -> Iterator[Row]:
    """Epochs of cells that train side by side on random images."""
    del out
    archs = _cells(SPACE.size)
    for channels, cells, pixels, batch, share in SIZES:
        number = max(1, round(share * config.cells))
        network = NetworkConfig(channels, cells, 10, pixels, 3)
        rng, size = np.random.default_rng(1), batch * config.steps
        x = rng.normal(size=(size, pixels, pixels, 3)).astype(np.float32)
        y = (np.arange(size) % 10).astype(np.int32)
        # A single image is evaluated, so that the time is that of the steps.
        zero = np.zeros(3, np.float32)
        data = Data(x, y, x[:1], y[:1], x[:1], y[:1], pad_value=zero)
        recipe = Recipe(epochs=1 + config.repeats, batch=batch)
        clocks: list[tuple[float, float]] = []

        def tick(*_: object, clocks: list = clocks) -> None:
            clocks.append((time.perf_counter(), time.process_time()))

        tick()
        trained = runs.train(
            jax.random.key(0), network, recipe, archs[:number], data, report=tick
        )
        seconds = np.diff(np.array(clocks), axis=0)  # (epochs, 2)
        others = np.median(seconds[1:], 0).tolist()
        loss = np.asarray(trained.curves["loss"])[:, -1]
        what = f"cells, {config.steps} steps of {batch} images of {pixels} pixels, "
        what += f"C={channels}, N={cells}"
        result = f"loss, median {np.nanmedian(loss):.4f}"
        yield Row(
            "training", number, what, seconds[0, 0], *others, number / others[0], result
        )


def _distances(config: Config, out: Path) -> Iterator[Row]:
    """Tree-Wasserstein distances of all pairs of cells."""
    del out
    archs = _cells(config.candidates)
    parts = in_chunks(feature_maps.tree_wasserstein_features(SPACE, 2), archs)
    embedded = jax.device_put(np.concatenate([np.asarray(p) for p in parts], 1))

    @jax.jit
    def of_block(rows: jax.Array, columns: jax.Array) -> jax.Array:
        """Distances (b, n), coordinate by coordinate in one buffer."""
        add = lambda i, d: d + abs(rows[:, i][:, None] - columns[:, i])  # noqa: E731
        zero = jnp.zeros((len(rows), len(columns)))
        return jax.lax.fori_loop(0, rows.shape[1], add, zero)

    block = min(1000, len(archs))
    sums: list[float] = []

    def all_pairs() -> None:
        sums[:] = [
            float(of_block(embedded[i : i + block], embedded).sum())
            for i in range(0, len(archs), block)
        ]

    first, *others = _timed(config, all_pairs)
    number, what = len(archs) ** 2, "pairs, tree-Wasserstein of 2-grams"
    mean = f"mean {sum(sums) / number:.5f}"
    yield Row("distances", number, what, first, *others, number / others[0], mean)


def _sinkhorn(config: Config, out: Path) -> Iterator[Row]:
    """Entropic transport between random pairs of cells, in blocks of one program."""
    del out
    archs = np.random.default_rng(0).integers(0, 5, (2, config.pairs, 6), np.int32)
    prepare = graph_distances.gromov_wasserstein(SPACE).prepare
    mass = [np.asarray(in_chunks(prepare, arch).mass) for arch in archs]
    layers = [in_chunks(layer_matching.cell_layers(SPACE), arch) for arch in archs]
    costs = graph_distances.mismatch_costs(SPACE).astype(np.float32)
    labels = [np.asarray(part.label) for part in layers]
    cost = costs[labels[0][:, :, None], labels[1][:, None]]
    problems = jax.device_put((cost, *mass))
    solve = jax.jit(lambda *arrays: in_blocks(transport.sinkhorn, *arrays))
    first, *others = _timed(config, lambda: solve(*problems))
    mean = f"mean {float(solve(*problems).mean()):.5f}"
    rate = config.pairs / others[0]
    yield Row("sinkhorn", config.pairs, "pairs of cells", first, *others, rate, mean)


PROGRAMS = {
    "evolution": _evolution,
    "gp-tw2g-plus": _gaussian_process,
    "training": _training,
    "distances": _distances,
    "sinkhorn": _sinkhorn,
}


if __name__ == "__main__":
    cli.command(main, Config, cores=cli.use_one_core)
