"""Encodings of a DARTS architecture as vectors of fixed length, for predictors.

`surrogate_vector` has the columns of NAS-Bench-301 (Zela et al., 2022) and NAS-Bench-311
(Yan et al., 2021): the ConfigSpace vector of the architecture and of how it is trained,
in which operations are ordinal and 22 of 56 columns are constant. `one_hot` suits
predictors that are trained anew. None of them depends on the order of a node's two pairs,
except the operations of `adjacency`: give that one the canonical form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.darts_formats import (
    CONFIG_CELLS,
    FIRST_EDGE,
    NODES,
    OPERATIONS,
    PAIRS,
    PREFIX,
)
from jaxnas.types import Array

_OPS = len(OPERATIONS)
# In the integers of architectures: with 64-bit ones, JAX takes code that was compiled
# without jax_enable_x64 for the same with it, and fails.
_NODES = np.array(NODES, np.int32)
_NODE = np.repeat(_NODES, 2)  # of each pair
_FIRST = np.repeat(np.array(FIRST_EDGE, np.int32), 2)
NUM_EDGES = 14
MAX_PATH = 4
# Operation paths of at most four operations from one input: sum of 7^m, m = 0..4.
NUM_PATHS = sum(_OPS**m for m in range(MAX_PATH + 1))


def pair_index(num: int | np.ndarray, low: Array, high: Array) -> Array:
    """The lexicographic index of inputs low < high among the pairs of `num` inputs."""
    return low * (2 * num - low - 1) // 2 + high - low - 1


def _input_pairs(cell: Array) -> Array:
    """The index (4,) int32 of each node's pair of inputs; cell (8, 2)."""
    inputs = cell[:, 0].reshape(len(NODES), 2)
    return pair_index(_NODES, inputs.min(1), inputs.max(1))


def _edge_ops(cell: Array, absent: int) -> Array:
    """The operation (14,) int32 on every edge of a cell (8, 2), or `absent`."""
    empty = jnp.full(NUM_EDGES, absent, jnp.int32)
    return empty.at[_FIRST + cell[:, 0]].set(cell[:, 1])


# How NAS-Bench-301 trains: hyper-parameter -> (kind, low, high, value). The four that its
# files have as constants or narrower are widened to 1..10,000 (eta_min 0..10,000).
_NUMBERS: dict[str, tuple[str, float, float, float]] = {
    "CreateImageDataLoader:batch_size": ("log int", 64, 128, 96),
    "ImageAugmentation:cutout_holes": ("int", 1, 3, 1),
    "ImageAugmentation:cutout_length": ("int", 1, 50, 16),
    PREFIX + "init_channels": ("int", 1, 10_000, 32),
    PREFIX + "layers": ("int", 1, 10_000, 8),
    "OptimizerSelector:sgd:learning_rate": ("log-normal", 0, 0, 0.025),
    "OptimizerSelector:sgd:momentum": ("float", 0.1, 0.99, 0.9),
    "OptimizerSelector:sgd:weight_decay": ("log-normal", 0, 0, 3e-4),
    "SimpleLearningrateSchedulerSelector:cosine_annealing:T_max": (
        *("int", 1, 10_000),
        100,
    ),
    "SimpleLearningrateSchedulerSelector:cosine_annealing:eta_min": (
        *("float", 0, 10_000),
        1e-8,
    ),
    "SimpleTrainNode:mixup:alpha": ("log float", 0.01, 0.7, 0.2),
}
# Choices of one value, or of (false, true) at false, and a constant: their column is 0.
_FIXED = (
    "ImageAugmentation:augment",
    "ImageAugmentation:autoaugment",
    "ImageAugmentation:cutout",
    "ImageAugmentation:fastautoaugment",
    "LossModuleSelectorIndices:loss_module",
    PREFIX + "auxiliary",
    PREFIX + "drop_path_prob",
    "NetworkSelectorDatasetInfo:network",
    "OptimizerSelector:optimizer",
    "SimpleLearningrateSchedulerSelector:lr_scheduler",
    "SimpleTrainNode:batch_loss_computation_technique",
)
_ALWAYS = [
    PREFIX + name
    for cell in CONFIG_CELLS
    for name in (
        *(f"edge_{cell}_{e}" for e in (0, 1)),
        *(f"inputs_node_{cell}_{n}" for n in (3, 4, 5)),
    )
]
_CONDITIONAL = [
    f"{PREFIX}edge_{c}_{e}" for c in CONFIG_CELLS for e in range(2, NUM_EDGES)
]
# Column names, in ConfigSpace's order: parameters without a condition come first.
PARAMETERS = (*sorted([*_NUMBERS, *_FIXED, *_ALWAYS]), *sorted(_CONDITIONAL))
_EDGE_COLUMNS = np.array(
    [
        [PARAMETERS.index(f"{PREFIX}edge_{c}_{e}") for e in range(NUM_EDGES)]
        for c in CONFIG_CELLS
    ]
)
_INPUT_COLUMNS = np.array(
    [
        [PARAMETERS.index(f"{PREFIX}inputs_node_{c}_{n}") for n in NODES[1:]]
        for c in CONFIG_CELLS
    ]
)


def _scaled(kind: str, low: float, high: float, value: float) -> float:
    """A number as ConfigSpace stores it: in [0, 1], or its logarithm if log-normal."""
    if kind == "log-normal":
        return math.log(value)
    # An integer owns the interval of half a unit on either side of it.
    if kind.endswith("int"):
        low, high = low - 0.49999, high + 0.49999
    if kind.startswith("log"):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


@functools.cache
def _default_template() -> np.ndarray:
    """The columns of the benchmark's own training; -1 at absent edges."""
    values = {name: _scaled(*entry) for name, entry in _NUMBERS.items()}
    values |= dict.fromkeys(_CONDITIONAL, -1.0)
    return np.array([values.get(name, 0.0) for name in PARAMETERS])


def _require_in_range(name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a number that the hyper-parameter can have."""
    kind, low, high, _ = _NUMBERS[name]
    if kind == "log-normal":
        low, high = 1e-300, 1e300
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise ValueError(
            f"{name} is a number in its range, {low} to {high}, not {value!r}"
        )


def template(settings: Mapping[str, Any]) -> np.ndarray:
    """The constant columns of `surrogate_vector` for other training settings.

    Args:
      settings: numbers by the full name of a hyper-parameter of training, such as
        "OptimizerSelector:sgd:learning_rate" (raw, not its logarithm), and false or true
        for the two auto-augmentations. Other names are ignored.

    Returns: (56,) float64.
    Raises: `ValueError` for a setting that is not a number in its range.
    """
    columns = _default_template().copy()
    for name, (kind, low, high, _) in _NUMBERS.items():
        if name in settings:
            _require_in_range(name, settings[name])
            value = _scaled(kind, low, high, settings[name])
            columns[PARAMETERS.index(name)] = value
    for name in ("autoaugment", "fastautoaugment"):
        chosen = str(settings.get(f"ImageAugmentation:{name}", False)).lower() == "true"
        columns[PARAMETERS.index(f"ImageAugmentation:{name}")] = chosen
    return columns


def surrogate_vector(arch: Array, columns: np.ndarray | None = None) -> Array:
    """The ordinal vector that NAS-Bench-301 and NAS-Bench-311 are trained on.

    Args:
      arch: (32,) architecture.
      columns: (56,), the constant columns, from `template`; the default is the
        benchmark's own training.

    Returns: (56,) float, columns as in `PARAMETERS`; -1 for an absent edge.
    """
    x = jnp.asarray(_default_template() if columns is None else columns, float)
    for c, cell in enumerate(arch.reshape(2, PAIRS, 2)):
        edges = jnp.asarray(_EDGE_COLUMNS[c])[_FIRST + cell[:, 0]]
        x = x.at[edges].set(cell[:, 1].astype(x.dtype))
        x = x.at[_INPUT_COLUMNS[c]].set(_input_pairs(cell)[1:].astype(x.dtype))
    return x


def one_hot(arch: Array) -> Array:
    """One-hot encoding by edge, normal cell first.

    In each cell: 7 bits for each of edges 0 and 1; 8 for each of edges 2 to 13, the
    last one "absent"; then which pair of inputs nodes 3, 4 and 5 have, 3 + 6 + 10 bits.

    Args:
      arch: (32,) architecture.

    Returns: (258,) float32.
    """
    blocks = []
    for cell in arch.reshape(2, PAIRS, 2):
        ops = _edge_ops(cell, _OPS)
        blocks += [jax.nn.one_hot(ops[:2], _OPS), jax.nn.one_hot(ops[2:], _OPS + 1)]
        for node, pair in zip(NODES[1:], _input_pairs(cell)[1:], strict=True):
            blocks.append(jax.nn.one_hot(pair, node * (node - 1) // 2))
    return jnp.concatenate([b.reshape(-1).astype(jnp.float32) for b in blocks])


def adjacency(arch: Array) -> Array:
    """Adjacency matrices and operation indices, which are ordinal and not one-hot.

    The encoding that BANANAS calls adjacency. In each cell: a 7 x 7 matrix row by row
    (row: source; two inputs, nodes 2 to 5, and the output, which all nodes feed), then
    the operations of the eight pairs in their order.

    Args:
      arch: (32,) architecture, in canonical form if equal ones are to be encoded equally.

    Returns: (114,) float32.
    """
    blocks = []
    for cell in arch.reshape(2, PAIRS, 2):
        matrix = jnp.zeros((7, 7)).at[np.array(NODES), 6].set(1)
        matrix = matrix.at[cell[:, 0], _NODE].set(1)
        blocks += [matrix.reshape(-1), cell[:, 1]]
    return jnp.concatenate(blocks).astype(jnp.float32)


def _append(paths: Array, operation: Array) -> Array:
    """The paths (p,) bool with one more operation () at their end."""
    hot = jnp.arange(_OPS) == operation
    starts = [sum(_OPS**i for i in range(m)) for m in range(MAX_PATH + 1)]
    blocks = [paths[starts[m] : starts[m + 1]] for m in range(MAX_PATH)]
    longer = [(hot[:, None] & block).reshape(-1) for block in blocks]
    return jnp.concatenate([jnp.zeros(1, bool), *longer])


def _cell_paths(cell: Array, source: int) -> Array:
    """The operation paths (p,) bool from one input of a cell (8, 2) to its output."""
    empty = jnp.arange(NUM_PATHS) == 0
    reach = [empty & (source == 0), empty & (source == 1)]
    for k in range(len(NODES)):
        before = jnp.stack(reach)
        first, second = (_append(before[i], o) for i, o in cell[2 * k : 2 * k + 2])
        reach.append(first | second)
    # The cell concatenates all nodes, so a path may end at any of them.
    return functools.reduce(jnp.logical_or, reach[2:])


def path_indicators(arch: Array) -> Array:
    """Which operation paths the cells have (White et al., 2021), over all eight pairs.

    A path from input a (0 or 1) of cell c through operations o_1, ..., o_m has index
    (2 c + a) 2801 + sum_i 7^(i-1) (o_i + 1). The reference program forgets the eighth
    pair.

    Args:
      arch: (32,) architecture.

    Returns: (11204,) bool.
    """
    cells = arch.reshape(2, PAIRS, 2)
    return jnp.concatenate([_cell_paths(c, source) for c in cells for source in (0, 1)])
