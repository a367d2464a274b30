"""A made meta-database: accuracies by a formula, features of classes around centres."""

import numpy as np

from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import Task
from jaxnas.types import FeatureKind

TINY = FeatureKind("tiny", 4)
GAIN = np.array([-4.0, 0.0, 1.0, 3.0, -1.0])  # of an operation at each position


def database(counts=(12, 4, 3, 2), kind=TINY, cells=3, grid=8, images=5, noise=0.5):
    """Tasks of each part from 12 classes, of which each part has its own three."""
    rng = np.random.default_rng(0)
    centres = rng.random((12, kind.width))
    features = centres[:, None] + 0.1 * rng.random((12, images, kind.width))
    tasks = [
        Task(part, "b", tuple(sorted(3 * part + rng.choice(3, 2 + n % 2, False))))
        for part, count in enumerate(counts)
        for n in range(count)
    ]
    arch = rng.integers(0, 5, (len(tasks), cells, 6))

    def accuracy(arch):
        return 60 + GAIN[arch].sum(-1) + noise * rng.normal(size=arch.shape[:-1])

    grid_arch = rng.integers(0, 5, (grid, 6))
    grid_task = np.array([n for n, task in enumerate(tasks) if task.part > 1])
    grid_test = accuracy(np.broadcast_to(grid_arch, (2, len(grid_task), grid, 6)))
    repeat_cell = np.where(np.arange(len(tasks)) % 2, -1, 0)
    repeat = np.where(repeat_cell < 0, np.nan, accuracy(arch[:, 0]))[:, None]
    test = accuracy(arch)[..., None]
    manifest = {"pools": {"a": {"licence": "MIT"}, "b": {"licence": "CC0"}}}
    manifest |= {"settings": {"epochs": 1}}
    return MetaDatabase(
        tuple(Task(p, n, tuple(map(int, c))) for p, n, c in tasks),
        arch,
        test + 1,
        test,
        np.ones(arch.shape[:2]),
        repeat,
        repeat_cell,
        grid_arch,
        grid_task,
        grid_test,
        {"a": np.zeros((2, 3, kind.width)), "b": features},
        kind,
        manifest,
    )


def random_tensors(network, seed=0):
    """The state dict of a network with random parameters, without compiling anything."""
    from jaxnas.models import state_dicts  # flax is an extra

    rng, tensors = np.random.default_rng(seed), {}
    for name, _, shape in state_dicts.entries(network):
        spread = shape[-1] ** -0.5 if len(shape) > 1 else 0.1
        tensors[name] = rng.normal(0, spread, shape).astype(np.float32)
    return tensors
