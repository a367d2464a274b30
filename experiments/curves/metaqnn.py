"""Features of the convolutional networks that MetaQNN found (Baker et al., 2017).

A network is written as a chain of layers, `[C(64,1,1), P(5,3), D(1,3), GAP(10), SM(10)]`:
convolutions of filters, kernel size and stride, pooling of size and stride, dropout with
its place among all dropouts, fully connected layers, global average pooling, softmax.
"""

from __future__ import annotations

import re

import numpy as np

LAYERS = ("C", "P", "D", "FC", "GAP", "SM")
NUMBERS = {"C": 3, "P": 2, "D": 2, "FC": 1, "GAP": 1, "SM": 1}
_LAYER = re.compile(r"([A-Z]+)\((\d+(?:,\d+)*)\)")

Layer = tuple[str, tuple[int, ...]]


def parse(text: str) -> list[Layer]:
    """Reads a chain of layers.

    Args:
      text: in square brackets.

    Returns: the name and the numbers of each layer.
    Raises: `ValueError` that names the layer that cannot be read.
    """
    found = []
    for part in text.strip().removeprefix("[").removesuffix("]").split(", "):
        match = _LAYER.fullmatch(part)
        numbers = tuple(map(int, match[2].split(","))) if match else ()
        if match is None or NUMBERS.get(match[1]) != len(numbers):
            raise ValueError(
                f"layer {len(found)} of {text[:60]!r} is {part[:30]!r}: wanted one of "
                + ", ".join(f"{name} of {num} numbers" for name, num in NUMBERS.items())
            )
        found.append((match[1], numbers))
    return found


def ordinal(network: list[Layer], places: int) -> np.ndarray:
    """The layers in their order, by kind and numbers.

    Args:
      network: from `parse`.
      places: layers that the vector has room for; layers after it are dropped.

    Returns: (3 places,) the index of the kind from 1, the first two numbers of each
      layer, and 0 where there is none.
    """
    vector = np.zeros((places, 3))
    for row, (name, numbers) in zip(vector, network, strict=False):
        row[0] = LAYERS.index(name) + 1
        row[1 : 1 + min(len(numbers), 2)] = numbers[:2]
    return vector.reshape(-1)


def summary(network: list[Layer]) -> np.ndarray:
    """Counts of the layers, and sizes that the accuracy of a network depends on.

    Args:
      network: from `parse`.

    Returns: (19,) the number of layers of each kind; of convolutions by kernel size 1, 3,
      5 and by filters 64, 128, 256, 512; the downsampling by all poolings; filters of the
      first and the last convolution; the logarithm of 1 plus the weights of all
      convolutions; its share after the first pooling; and the mean kernel size.
    """
    counts = [sum(name == kind for name, _ in network) for kind in LAYERS]
    filters, kernels = _convolutions(network)
    counts += [int((kernels == size).sum()) for size in (1, 3, 5)]
    counts += [int((filters == size).sum()) for size in (64, 128, 256, 512)]
    downsampling = np.prod([numbers[1] for name, numbers in network if name == "P"])
    weights = np.concatenate([[3], filters[:-1]]) * filters * kernels**2
    pools = [i for i, (name, _) in enumerate(network) if name == "P"]
    before = sum(name == "C" for name, _ in network[: pools[0] if pools else None])
    total = weights.sum()
    late = weights[before:].sum() / max(total, 1)
    ends = [filters[0], filters[-1]] if len(filters) else [0, 0]
    mean = kernels.mean() if len(kernels) else 0
    return np.array([*counts, downsampling, *ends, np.log1p(total), late, mean], float)


def _convolutions(network: list[Layer]) -> tuple[np.ndarray, np.ndarray]:
    """Filters and kernel sizes (c,) of the convolutions."""
    found = [numbers[:2] for name, numbers in network if name == "C"]
    filters, kernels = np.array(found, float).reshape(-1, 2).T
    return filters, kernels
