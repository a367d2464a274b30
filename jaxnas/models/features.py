"""Features of the images of a dataset, class by class, and random subsets of them.

features = class_features(datasets.image_features(images.x), images.y)
features = read_by_label("cifar10bylabel.pt")
rows, mask = draw_images(key, features.starts, 20)
subset = features.x[rows]  # (C, 20, F)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.io import torch_files
from jaxnas.io.torch_tensors import Tensor
from jaxnas.models.config import RESNET18_32
from jaxnas.types import Array, FeatureKind, Features

BLOCK_BYTES = 2**25
"""Largest size of the features that are embedded together, unless one subset is larger."""


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """Image features, sorted by class.

    Attributes:
      x: (n, F) float; may be on the host, on a device, or a memory-mapped file.
      starts: (C + 1,) int32, the first row of each class, and n.
      kind: of the features; a model accepts only the kind it was trained on.
    """

    x: Any
    starts: np.ndarray
    kind: FeatureKind

    @property
    def num_classes(self) -> int:
        """The number C of classes."""
        return len(self.starts) - 1


def class_features(features: Features, labels: Any) -> ClassFeatures:
    """Sorts features by class.

    Args:
      features: of n images, from `datasets.image_features` for instance.
      labels: (n,) integers, the class of each image, from 0 to C - 1.

    Raises: `ValueError` for labels that are not one integer from 0 for each image, and
      as `join_classes`, for instance for a class without images.
    """
    labels = np.asarray(labels)
    if labels.shape != features.x.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"wanted an integer label for each of {len(features.x)} images, not "
            f"{labels.dtype} {labels.shape}"
        )
    if labels.size and labels.min() < 0:
        raise ValueError(f"classes are counted from 0; a label is {labels.min()}")
    # A label above the number of images implies an empty class; the loop stays short.
    num_classes = min(int(labels.max(initial=-1)), len(labels)) + 1
    classes = [features.x[labels == label] for label in range(num_classes)]
    return join_classes(classes, features.kind)


def join_classes(classes: Sequence[Any], kind: FeatureKind) -> ClassFeatures:
    """Joins the features of classes, given one by one.

    Args:
      classes: (n_c, F) of the n_c >= 1 images of each class.
      kind: of the features.

    Raises: `ValueError` without a class, for a class without images, and for features
      that are not finite matrices of the kind's width.
    """
    if not len(classes):
        raise ValueError("features of no class; wanted at least one")
    arrays = [np.asarray(x, np.float32) for x in classes]
    for label, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != kind.width or not array.size:
            raise ValueError(
                f"features of class {label} are of shape {array.shape}; wanted (images, "
                f"{kind.width}) with at least one image"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"features of class {label} are not finite")
    starts = np.cumsum([0, *map(len, arrays)]).astype(np.int32)
    return ClassFeatures(np.concatenate(arrays), starts, kind)


def read_by_label(
    path: str | os.PathLike, kind: FeatureKind = RESNET18_32
) -> ClassFeatures:
    """Reads features in the format of the published code, `NAMEbylabel.pt`.

    The file holds a dict from class, counted from 0, to a list of one tensor (n_c, F).

    Args:
      path: the file.
      kind: of the features; default: that of the published files.

    Raises: `ValueError`, of one line that names the file, if it is missing or damaged, or
      does not hold features of this width.
    """
    content = torch_files.load(path).value
    try:
        if not isinstance(content, Mapping) or not content:
            raise ValueError("it is not a dict of classes")
        if sorted(content, key=str) != sorted(range(len(content)), key=str):
            raise ValueError("its classes are not numbered from 0")
        return join_classes(
            [_only_tensor(content[c]) for c in range(len(content))], kind
        )
    except ValueError as error:
        raise ValueError(f"{path} is not a file of features: {error}") from error


def _only_tensor(value: Any) -> np.ndarray:
    """The array of a tensor, or of the only tensor in a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Tensor):
        raise ValueError("a class is not a list of one tensor")
    return value.numpy()


def draw_images(
    key: Array, starts: Array | np.ndarray, num_images: int
) -> tuple[Array, Array]:
    """Draws images from each class of a dataset; see `draw_rows`.

    Args:
      key: random key.
      starts: (C + 1,) int32, as in `ClassFeatures`.
      num_images: S.

    Returns: (C, S) int32 rows of the features, and (C, S) bool, False for padding.
    """
    starts = jnp.asarray(starts)
    return draw_rows(key, starts[:-1], starts[1:] - starts[:-1], num_images)


def draw_rows(
    key: Array, first: Array, counts: Array, num_images: int
) -> tuple[Array, Array]:
    """Draws rows from blocks of rows, without replacement (Floyd's algorithm).

    All subsets of a class are equally probable; a class with fewer images gives all of
    them, and the rest is masked.

    Args:
      key: random key.
      first: (C,) int32, the first row of each class.
      counts: (C,) int32, rows of each class; 0 for padding.
      num_images: S.

    Returns: (C, S) int32 rows, and (C, S) bool, False for padding.
    """
    slots = jnp.arange(num_images)

    def step(chosen: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
        key, i = inputs
        # The i-th of S draws is among the first counts - S + i + 1 images; a draw that
        # has been made before is replaced by the last of them.
        last = counts - num_images + i
        draw = jax.random.randint(key, counts.shape, 0, jnp.maximum(last, 0) + 1)
        repeated = ((chosen == draw[:, None]) & (slots < i)).any(1)
        return chosen.at[:, i].set(jnp.where(repeated, last, draw)), None

    start = jnp.zeros((len(counts), num_images), jnp.int32)
    keys = jax.random.split(key, num_images)
    chosen, _ = jax.lax.scan(step, start, (keys, slots))
    few = (counts <= num_images)[:, None]
    mask = slots < counts[:, None]
    chosen = jnp.where(few, jnp.where(mask, slots, 0), chosen)
    return first[:, None] + chosen, mask


def embed_subsets(
    embed: Callable[..., Any],
    variables: Any,
    key: Array,
    features: ClassFeatures,
    num: int,
    num_images: int,
) -> Any:
    """Embeds random subsets of a dataset.

    Args:
      embed: (variables, features (b, C, S, F), masks (b, C, S)) -> arrays (b, ...),
        compiled.
      variables: of the network.
      key: random key.
      features: of the dataset.
      num: subsets.
      num_images: S, images of each class.

    Returns: a pytree of arrays (num, ...).
    """
    rows, masks = _subsets(key, features.starts, num, num_images)
    subset = rows[0].size * features.x.shape[1] * 4
    block = min(num, max(1, BLOCK_BYTES // subset))
    rows, masks, parts = np.asarray(rows), np.asarray(masks), []
    for i in range(0, num, block):
        # The last block repeats subsets, so that there is one shape to compile.
        now = np.arange(i, i + block) % num
        parts.append(embed(variables, features.x[rows[now]], masks[now]))
    return jax.tree.map(lambda *x: jnp.concatenate(x)[:num], *parts)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _subsets(
    key: Array, starts: Array, num: int, num_images: int
) -> tuple[Array, Array]:
    """Rows (num, C, S) of random subsets, and their masks."""
    keys = jax.random.split(key, num)
    return jax.vmap(draw_images, (0, None, None))(keys, starts, num_images)
