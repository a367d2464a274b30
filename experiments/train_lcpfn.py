"""Trains an LC-PFN, which extrapolates learning curves, on its prior alone.

    python -m experiments.train_lcpfn
    python -m experiments.train_lcpfn --width 512 --layers 6 --hidden 1024 --bars 1000 \\
      --steps 100000 --learning-rate 1e-4

The sizes of the second are the smaller of the two published models (Adriaensen et al.,
2023), which needs an accelerator. No data is read. An interrupted run resumes
from its last save with the same draws. Writes to --out the state of the training,
loss.csv, and at the end model, which `extrapolate.pfn.load` reads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxnas.curves.extrapolate import pfn, pfn_training
from jaxnas.curves.extrapolate.pfn_network import TransformerConfig
from jaxnas.curves.extrapolate.pfn_training import TrainingConfig
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.studies import cli, progress

SAVE_SECONDS = 20.0  # between saves, which take as long as many steps do on a GPU


@dataclass(frozen=True)
class Config:
    """Sizes of the network and of the training."""

    width: int = 128
    """Size of a token."""
    layers: int = 3
    """Layers of the transformer."""
    heads: int = 4
    """Heads of each attention."""
    hidden: int = 256
    """Width of the feed-forward networks."""
    bars: int = 200
    """Bars of the predicted densities."""
    steps: int = 10_000
    """Steps of the training."""
    batch: int = 100
    """Curves of a step."""
    learning_rate: float = 1e-3
    """Highest learning rate of Adam."""
    seed: int = 0
    """Seed of the parameters and of all curves."""
    bfloat16: bool = False
    """Whether matrix products of the layers take bfloat16: faster on a GPU."""
    chunk: int = 500
    """Steps of a compiled loop, a divisor of the steps."""
    stop_after: int | None = None
    """Steps after which this run stops; the same command without it resumes."""
    out: str = "results/lcpfn"
    """Folder for the training."""


def main(config: Config) -> dict[str, Any]:
    """Runs the remaining steps, and writes the model.

    Returns: the number of the last step, and the mean loss of each chunk.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    sizes = ("width", "layers", "heads", "hidden", "bars", "steps", "batch", "chunk")
    cli.positive(config, *sizes)
    cli.at_most(config, width=4096, layers=100, hidden=4096, bars=10_000, batch=10_000)
    cli.at_most(config, steps=100_000_000)
    cli.seed(config, "seed")
    if config.width % config.heads:
        raise ValueError(
            f"--width {config.width} must be a multiple of --heads {config.heads}"
        )
    if config.steps % config.chunk:
        raise ValueError(
            f"--steps {config.steps} must be a multiple of --chunk {config.chunk}"
        )
    network = TransformerConfig(
        *(config.width, config.layers, config.heads, config.hidden, config.bars)
    )
    training = TrainingConfig(
        network,
        *(config.steps, config.batch, config.learning_rate),
        seed=config.seed,
        bfloat16=config.bfloat16,
    )
    settings = (*sizes, "learning_rate", "seed", "bfloat16")
    identity = {n: getattr(config, n) for n in settings}
    identity["driver"] = "train_lcpfn"
    checkpoints.require_orbax()
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    state, losses = _train(config, training, folder)
    files.write_csv(
        folder.path / "loss.csv", ["chunk", "loss"], list(enumerate(losses))
    )
    if state.step == config.steps:
        # Half precision changes log-densities less than the training's last steps do.
        half = jax.tree.map(lambda p: p.astype(np.float16), state.params)
        model = pfn.Model(network, half, state.borders)
        manifest = {"training": identity, "loss": losses[-1]}
        pfn.save(folder.path / "model", model, manifest)
    return {"step": int(state.step), "losses": losses}


def _train(
    config: Config, training: TrainingConfig, folder: run_folder.RunFolder
) -> tuple[pfn_training.State, list[float]]:
    """The last state, and the mean losses of all chunks, including earlier runs."""
    path = folder.path / "state"
    console = Console(stderr=True)
    losses: list[float] = []
    if checkpoints.exists(path):
        like = jax.eval_shape(lambda: pfn_training.start(training))
        state = checkpoints.restore(path, like)
        losses = list(checkpoints.manifest(path)["losses"])
    else:
        state = pfn_training.start(training)
    last = min(config.steps, config.stop_after or config.steps)
    throttle = progress.Throttle(SAVE_SECONDS)
    while state.step < last:
        begin = time.perf_counter()
        state, loss = pfn_training.advance(training, state, config.chunk)
        losses.append(float(np.mean(loss)))
        seconds = time.perf_counter() - begin
        if throttle.due() or state.step >= last:
            checkpoints.save(path, state, {"losses": losses})
            throttle.restart()
        speed = progress.rate(config.chunk * config.batch, seconds, "curve")
        line = f"step {state.step:,}: loss {losses[-1]:.3f}, {speed}"
        console.print(line, highlight=False, soft_wrap=True)
    return state, losses


if __name__ == "__main__":
    cli.command(main, Config)
