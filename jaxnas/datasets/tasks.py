"""Classification tasks drawn from pools of classes, for learning across datasets.

    division = divide_images(images, 40, min_test=20, max_test=200, seed=0)
    parts = {"digits": divide_classes(10, name="digits", seed=0), "glyphs": all_unseen(40)}
    tasks = draw_tasks(parts, (100, 20, 20, 5), seed=0)
    train, test = task_images(images, division, tasks[0])  # if tasks[0].pool == "digits"

The classes of a pool are divided into those for meta-training, meta-validation and
meta-test before any task is drawn, so that no class of a test task has been trained on; a
whole pool may be *unseen*, and gives tasks for tests alone. The images of each class are
divided once: an image is for training in all tasks of the class, or for tests in all.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.datasets.images import Images

PARTS = ("train", "validation", "test", "unseen")
"""Parts of the classes and tasks; `unseen` is for the classes of held-out pools."""
FRACTIONS = (0.6, 0.15, 0.25)  # of the classes of a pool, of the first three parts


class Task(NamedTuple):
    """A classification problem: some classes of one pool."""

    part: int  # index of `PARTS`
    pool: str
    classes: tuple[int, ...]  # numbers in the pool, increasing


class Division(NamedTuple):
    """The images of the c classes of a pool that have enough of them."""

    classes: np.ndarray  # (c,) numbers in `Images`, increasing
    train: np.ndarray  # (c, train) indices of images
    test: np.ndarray  # (c, test) indices of images; those of small classes are repeated


def divide_images(
    images: Images,
    train: int,
    *,
    min_test: int,
    max_test: int,
    seed: int,
    num_train: int | None = None,
) -> Division:
    """Divides the images of each class into those for training and those for tests.

    All classes get as many test images as the largest has left, at most `max_test`. The
    images of smaller classes are repeated in turn, so that all classes count alike in a
    test, and no image of a smaller class is left out.

    Args:
      images: of the pool.
      train: training images of a class.
      min_test: classes with fewer than `train + min_test` images are left out, and those
        without a test image.
      max_test: largest number of test images of a class.
      seed: of the division; each class is shuffled by itself.
      num_train: images from this index on are for tests alone, those before it for
        training alone; default: each may be either.

    Raises: `ValueError` if fewer than two classes have enough images.
    """
    pairs = [
        _shuffled_class(images, label, train, seed, num_train)
        for label in range(images.num_classes)
    ]
    classes = [
        label
        for label, (for_training, for_tests) in enumerate(pairs)
        if len(for_training) == train and len(for_tests) >= max(1, min_test)
    ]
    if len(classes) < 2:
        sizes = sorted((tuple(map(len, pair)) for pair in pairs), reverse=True)
        raise ValueError(
            f"{images.name}: wanted at least 2 classes of {train} + {min_test} images; "
            f"the largest classes have {' and '.join(f'{a} + {b}' for a, b in sizes[:2])}"
        )
    test = min(max_test, max(len(pairs[label][1]) for label in classes))
    return Division(
        np.array(classes),
        np.stack([pairs[label][0] for label in classes]),
        np.stack([np.resize(pairs[label][1], test) for label in classes]),
    )


def _shuffled_class(
    images: Images, label: int, train: int, seed: int, num_train: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffles the images of a class: at most `train` for training, the rest for tests."""
    rng = np.random.default_rng((seed, label))
    indices = rng.permutation(np.flatnonzero(images.y == label))
    if num_train is None:
        return indices[:train], indices[train:]
    for_training = indices < num_train
    return indices[for_training][:train], indices[~for_training]


def divide_classes(
    num_classes: int, *, name: str, seed: int, fractions: Sequence[float] = FRACTIONS
) -> np.ndarray:
    """Divides the classes of a pool at random into parts.

    Args:
      num_classes: of the pool.
      name: of the pool; the division depends on no other pool.
      seed: of the division.
      fractions: of the parts train, validation and test, with sum 1.

    Returns:
      (num_classes,) indices of `PARTS`.
    """
    ends = np.round(np.cumsum(fractions) * num_classes).astype(int)
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return np.searchsorted(ends, rng.permutation(num_classes), side="right")


def all_unseen(num_classes: int) -> np.ndarray:
    """Assigns all classes of a pool to `unseen`: (num_classes,) indices of `PARTS`."""
    return np.full(num_classes, PARTS.index("unseen"))


def draw_tasks(
    parts: Mapping[str, np.ndarray],
    numbers: Sequence[int],
    *,
    sizes: Sequence[int] = (2, 3, 5, 10, 20),
    seed: int,
) -> list[Task]:
    """Draws different tasks of each part, so ordered that every prefix has all parts.

    For each task a pool is drawn, then the number of classes, then the classes; pools and
    numbers whose tasks are all drawn are left out.

    Args:
      parts: by pool, the part of each class, as `divide_classes` returns it.
      numbers: of tasks, for each of `PARTS`.
      sizes: possible numbers of classes; a training program is compiled for each.
      seed: of the draw.

    Returns:
      the tasks; their shares of the parts are nearly equal in every prefix.

    Raises: `ValueError` if a part has fewer different tasks.
    """
    if len(numbers) != len(PARTS) or min(numbers) < 0 or not sum(numbers):
        raise ValueError(
            f"wanted numbers of tasks from 0 for {', '.join(PARTS)}, not all of them 0, "
            f"and not {tuple(numbers)}"
        )
    if not sizes or min(sizes) < 2:
        raise ValueError(f"a task has at least 2 classes: sizes {tuple(sizes)}")
    drawn = [
        ((index + 0.5) / number, task)
        for part, number in enumerate(numbers)
        for index, task in enumerate(_draw_part(parts, part, number, sizes, seed))
    ]
    return [task for _, task in sorted(drawn, key=lambda pair: pair[0])]


def _draw_part(
    parts: Mapping[str, np.ndarray],
    part: int,
    number: int,
    sizes: Sequence[int],
    seed: int,
) -> list[Task]:
    """Draws `number` different tasks of one part; arguments as of `draw_tasks`."""
    classes = {pool: np.flatnonzero(p == part) for pool, p in parts.items()}
    left = {
        (pool, size): math.comb(len(available), size)
        for pool, available in classes.items()
        for size in sorted(set(sizes))
        if size <= len(available)
    }
    if number > sum(left.values()):
        raise ValueError(
            f"the pools {', '.join(parts)} give {sum(left.values())} different tasks for "
            f"{PARTS[part]}, not {number}: name more pools or other sizes"
        )
    rng, tasks = np.random.default_rng((seed, part)), {}
    while len(tasks) < number:
        pools = sorted({pool for pool, _ in left})
        pool = pools[rng.integers(len(pools))]
        size = rng.choice([size for name, size in left if name == pool])
        chosen = np.sort(rng.choice(classes[pool], size, replace=False))
        task = Task(part, pool, tuple(chosen.tolist()))
        if task not in tasks:
            tasks[task] = None
            left[pool, size] -= 1
            left = {key: count for key, count in left.items() if count}
    return list(tasks)


def task_images(
    images: Images, division: Division, task: Task
) -> tuple[Images, Images]:
    """Collects the training and test images of a task, with classes from 0.

    Args:
      images: of the pool.
      division: of the pool, by which `task.classes` counts.
      task: of the pool.
    """

    def part(indices: np.ndarray) -> Images:
        chosen = indices[list(task.classes)]
        y = np.repeat(np.arange(len(chosen), dtype=np.int32), chosen.shape[1])
        return Images(images.x[chosen.ravel()], y, len(chosen), images.name, names)

    numbers = division.classes[list(task.classes)]
    names = tuple(images.class_names[i] for i in numbers) if images.class_names else ()
    return part(division.train), part(division.test)
