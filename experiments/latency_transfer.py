"""How well are latencies on an unseen device predicted from ten measurements?

    python -m experiments.latency_transfer
    python -m experiments.latency_transfer --sets nb201 --measurements 5 --devices pixel3

The task of HELP (Lee et al., 2021), on the cells of NAS-Bench-201 and networks of FBNet,
each with 27 devices. Every device is predicted in turn from random measurements of it and
from all latencies on the other devices, of which those on the same card with another batch
size are left out. Beside the prediction (`transfer`) are two controls: the mean over the
other devices, without any measurement, and the one of them that ranks the measured
architectures best (`nearest`).

Ranks are compared over all architectures that were not measured: Spearman's correlation,
and for the tenth that is fastest the mean error of the rank, as a share of all
architectures. Expect for NAS-Bench-201 a mean of 0.967, and 0.897 on the worst device. It
takes a minute, and writes table.csv and results.npz to --out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxnas import ranks
from jaxnas.benchmarks import named, table_files
from jaxnas.io import files, npz
from jaxnas.predictors import device_features, transfer_to_device
from jaxnas.studies import cli
from jaxnas.types import Array

SETS = {"nb201": "nb201-devices", "fbnet": "fbnet-latency"}
METHODS = ("transfer", "nearest", "mean")
# Devices of another source than HELP, and not of all cells.
_OTHERS = ("edgegpu", "edgetpu")


@dataclass(frozen=True)
class Config:
    """Which devices are predicted, and from how many measurements."""

    sets: tuple[str, ...] = tuple(SETS)
    """Architectures: nb201, fbnet."""
    devices: tuple[str, ...] = ()
    """Devices to predict; default: all 27."""
    measurements: int = 10
    """Random architectures that are measured on the new device."""
    draws: int = 20
    """Random sets of measured architectures for each device."""
    base_seed: int = 1000
    """Draw i of device number j is drawn from (base_seed, j, i)."""
    out: str = "results/latency_transfer"
    """Folder for the results."""


class Accuracy(NamedTuple):
    """One method on one device, over the draws."""

    set: str
    device: str
    method: str
    spearman: float  # mean
    lowest: float  # of the draws
    fastest_tenth: float  # mean error of the rank, as a share of the architectures


class Devices(NamedTuple):
    """Latencies of n architectures on s devices, and which is the same card."""

    names: tuple[str, ...]
    latency: np.ndarray  # (n, s) milliseconds
    card: np.ndarray  # (s,) int


def main(config: Config) -> list[Accuracy]:
    """Predicts every device in turn.

    Returns: a result for each set, device and method.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "draws")
    cli.at_most(config, draws=10_000)
    cli.seed(config)
    cli.require_names(config.sets, SETS, "set")
    inputs = {name: open_devices(SETS[name]) for name in config.sets}
    for given in inputs.values():
        cli.require_names(config.devices or given.names, given.names, "device")
        most = len(given.latency) - 1
        if not 3 <= config.measurements <= most:
            raise ValueError(
                f"--measurements must be 3 to {most}, not {config.measurements}"
            )
    out = cli.folder(config.out, "latency_transfer")
    results, arrays = [], {}
    for name, given in inputs.items():
        chosen = config.devices or given.names
        scores = {device: _on_device(config, given, device) for device in chosen}
        results += [
            Accuracy(name, d, m, *_summary(s[i]))
            for d, s in scores.items()
            for i, m in enumerate(METHODS)
        ]
        arrays |= {f"{name}/{device}": value for device, value in scores.items()}
        _show(name, [row for row in results if row.set == name])
    manifest = {"base_seed": config.base_seed, "measurements": config.measurements}
    npz.save_arrays(out / "results.npz", arrays, manifest | {"methods": METHODS})
    lines = [[f"{x:.6g}" if isinstance(x, float) else x for x in r] for r in results]
    files.write_csv(out / "table.csv", Accuracy._fields, lines)
    written = f"{out}: table.csv, results.npz"
    Console().print(written, highlight=False, soft_wrap=True)
    return results


def open_devices(table_name: str) -> Devices:
    """The devices of a table whose latencies are of all its architectures."""
    table = named.open_table(table_name)
    columns = table_files.devices(table, "latency")
    names = tuple(name for name in columns if name not in _OTHERS)
    cards = [re.sub(r"_(1|32|64|256)$", "", name) for name in names]
    card = np.unique(cards, return_inverse=True)[1]
    return Devices(names, np.stack([columns[n] for n in names], 1), card)


def prior_weights(devices: Devices, device: str) -> np.ndarray:
    """Weights (s,) of the devices for the prediction of one of them.

    Each card counts once, whatever its number of batch sizes; the same card does not.
    """
    mine = devices.card[devices.names.index(device)]
    sizes = np.bincount(devices.card)[devices.card]
    return np.where(devices.card == mine, 0, 1 / sizes).astype(np.float32)


def _on_device(config: Config, devices: Devices, device: str) -> np.ndarray:
    """Correlation and rank error (methods, 2, draws) of predictions for a device."""
    number = devices.names.index(device)
    key = jax.random.fold_in(jax.random.key(config.base_seed), number)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(config.draws))
    latency = devices.latency[:, number]
    draw = lambda key: jax.random.choice(  # noqa: E731
        key, len(latency), (config.measurements,), replace=False
    )
    rows = jax.jit(jax.vmap(draw))(keys)
    weights = jnp.asarray(prior_weights(devices, device))
    predicted = _predict(
        device_features(devices.latency), weights, rows, jnp.log(latency)[rows]
    )
    quality = [
        [_quality(latency, p, r) for p, r in zip(each, rows, strict=True)]
        for each in np.asarray(predicted)
    ]
    return np.moveaxis(np.array(quality), 2, 1)


@jax.jit
def _predict(features: Array, weights: Array, rows: Array, target: Array) -> Array:
    """Predictions (methods, draws, n) from measurements (draws, m)."""

    def one(draw: tuple[Array, Array]) -> Array:
        rows, target = draw
        measured = jnp.vstack([target, features[rows].T])
        order = jax.vmap(ranks.average_ranks)(measured)
        correlation = jnp.nan_to_num(jnp.corrcoef(order)[0, 1:], nan=-1.0)
        nearest = jnp.argmax(jnp.where(weights > 0, correlation, -2))
        mean = features @ (weights / weights.sum())
        transferred = transfer_to_device(features, weights, rows, target)
        return jnp.stack([transferred, features[:, nearest], mean])

    return jnp.moveaxis(jax.lax.map(one, (rows, target)), 1, 0)


def _quality(
    latency: np.ndarray, predicted: np.ndarray, rows: Array
) -> tuple[float, float]:
    """Spearman's correlation, and the rank error of the fastest tenth."""
    rest = np.setdiff1d(np.arange(len(latency)), np.asarray(rows))
    orders = [ranks.ordinal(values[rest]) for values in (predicted, latency)]
    mine, true = (np.asarray(ranks.average_ranks(order)) for order in orders)
    fastest = np.argsort(true, kind="stable")[: max(1, len(rest) // 10)]
    error = np.abs(mine - true)[fastest].mean() / len(rest)
    return float(ranks.spearman(*orders)), float(error)


def _summary(quality: np.ndarray) -> tuple[float, float, float]:
    """The numbers of `Accuracy` of correlation and rank error (2, draws)."""
    spearman, error = quality
    return float(spearman.mean()), float(spearman.min()), float(error.mean())


def _show(name: str, rows: list[Accuracy]) -> None:
    """Prints the devices of a set, worst first, and the means over them."""
    title = (
        f"{name}: Spearman's correlation on an unseen device; then the rank error of "
    )
    table = Table(title=f"{title}the fastest tenth, as a share of all architectures")
    titles = ("transfer", "lowest draw", "nearest", "mean of others", "rank error")
    for title in ("device", *titles):
        table.add_column(title)
    by_device = {row.device: {} for row in rows}
    for row in rows:
        by_device[row.device][row.method] = row
    lines = [
        (
            device,
            *(
                m["transfer"].spearman,
                m["transfer"].lowest,
                m["nearest"].spearman,
                m["mean"].spearman,
                m["transfer"].fastest_tenth,
            ),
        )
        for device, m in by_device.items()
    ]
    lines.sort(key=lambda line: line[1])
    means = np.mean([line[1:] for line in lines], 0)
    for device, *numbers in (*lines, ("mean", *means)):
        table.add_row(device, *(f"{x:.3f}" for x in numbers))
    Console().print(table)


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: the same command starts over")
