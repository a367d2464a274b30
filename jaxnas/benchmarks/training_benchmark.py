"""Real trainings as a benchmark: the interface of a table, answered by training.

made = benchmark(key, network, RECIPES["short"], data, folder="trainings")
drive.optimise(key, search, drive.Together(made.evaluate), 10, "search")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.tree_util import Partial

from jaxnas.benchmarks import training
from jaxnas.benchmarks.base import Benchmark, Target, continued
from jaxnas.benchmarks.training import Curves
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.train import Data, Recipe
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array


def benchmark(
    key: Array,
    network: NetworkConfig,
    recipe: Recipe,
    data: Data,
    *,
    folder: str | Path | None = None,
    devices: Sequence[Any] | None = None,
    report: Callable[[np.ndarray, Curves], object] | None = None,
    name: str = "images",
) -> Benchmark:
    """Trains cells of NAS-Bench-201; arguments as for `objective.trainings`.

    Args:
      name: of the images, for the description.

    Returns: a benchmark with one level for each epoch of the recipe, without truth and
      optimum.
    Raises: `ValueError` for data that do not fit the network.
    """
    options: dict[str, Any] = dict(folder=folder, devices=devices, report=report)
    evaluate = training.trainings(key, network, recipe, data, **options)
    return Benchmark(
        space=SPACE,
        evaluate=Partial(evaluate),
        levels=continued(range(1, recipe.epochs + 1)),
        target=Target("validation accuracy", "percent"),
        cost_unit="seconds",
        description=f"trainings of {recipe.epochs} epochs on {name}",
    )
