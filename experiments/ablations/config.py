"""Settings of the experiments, and the trainings that they list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from experiments.ablations.variants import VARIANTS


@dataclass(frozen=True)
class Config:
    """Which variants, and their training."""

    databases: tuple[str, ...] = ("free-images",)
    """Meta-databases of the same tasks with different features."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which variants, by the names above; all but `predictor-...` need `predictor`."""
    seeds: int = 3
    """Trainings of each variant."""
    base_seed: int = 0
    """The first seed."""
    hidden: int = 128
    """Width of the states of vertices of the predictor."""
    latent: int = 56
    """Width of the embeddings of datasets and graphs, a multiple of 4."""
    images: int = 12
    """Images of each class that a step draws."""
    batch: int = 8
    """Tasks of a step."""
    epochs: int = 60
    """Largest number of epochs."""
    patience: int = 12
    """Epochs without a lower validation loss after which a training ends."""
    together: int = 1
    """Seeds that are trained side by side, for a GPU."""
    out: str = "results/metad2a_ablations"
    """Folder for the results."""


class Run(NamedTuple):
    """A training: a variant on a database from a seed."""

    database: str
    variant: str
    seed: int
