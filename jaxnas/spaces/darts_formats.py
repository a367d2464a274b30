"""Notations of a DARTS architecture (Liu et al., 2019) as Python objects, on the host.

Every notation goes through one bijection with the vector (32,) int32, which is the
compact form flattened: two cells, normal and reduction, of eight pairs (input,
operation). Pairs 2k and 2k + 1 feed intermediate node k + 2, which takes two different
ones of inputs 0 to k + 1: the outputs of the two cells before (0 and 1) and the
intermediate nodes 2, 3, 4. Operations are indices into `OPERATIONS`.

The reference program shifts operations by one on the way from the compact form to the
genotype, and not on the way back; here both ways agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.types import Array

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
CELLS = ("normal", "reduction")
PAIRS = 8
NODES = (2, 3, 4, 5)
# The first edge of each node: edge FIRST_EDGE[k] + i goes from input i to node k + 2.
FIRST_EDGE = (0, 2, 5, 9)
# Prefix of the architecture's hyper-parameters in NAS-Bench-301, and its names of cells.
PREFIX = "NetworkSelectorDatasetInfo:darts:"
CONFIG_CELLS = ("normal", "reduce")


class Genotype(NamedTuple):
    """A DARTS genotype; its text can be pasted into programs that train DARTS cells."""

    normal: list[tuple[str, int]]  # eight pairs (operation, input)
    normal_concat: Sequence[int]  # the nodes whose outputs the cell concatenates
    reduce: list[tuple[str, int]]
    reduce_concat: Sequence[int]


def is_index(number: Any, end: int) -> bool:
    """Whether a value of any kind is a whole number from 0 to `end` - 1."""
    return isinstance(number, (int, np.integer)) and 0 <= int(number) < end


def _operation(given: Any, where: str) -> int:
    """The index of an operation that is given by name or by index."""
    if isinstance(given, str):
        if given in OPERATIONS:
            return OPERATIONS.index(given)
    elif is_index(given, len(OPERATIONS)):
        return int(given)
    raise ValueError(
        f"{where} has no operation {given!r}: DARTS has {', '.join(OPERATIONS)} "
        f"(0 to {len(OPERATIONS) - 1})"
    )


def _node_pairs(node: int, pairs: Sequence, cell: str) -> list[tuple[int, int]]:
    """The two checked pairs (input, operation index) of one node.

    Raises: `ValueError` that names the node for an input or an operation that it cannot
      have, and for two equal inputs.
    """
    where, checked = f"node {node} of the {cell} cell", []
    for source, operation in pairs:
        if not is_index(source, node):
            raise ValueError(
                f"{where} takes inputs 0 to {node - 1}, not input {source!r}"
            )
        checked.append((int(source), _operation(operation, where)))
    if checked[0][0] == checked[1][0]:
        raise ValueError(f"{where} takes input {checked[0][0]} twice")
    return checked


def _vector(cells: Sequence | np.ndarray) -> np.ndarray:
    """The vector (32,) int32 of two cells.

    Args:
      cells: normal and reduction, each of eight pairs (input, operation), operations by
        name or by index.

    Raises: `ValueError` that names the cell, and the node where it is one.
    """
    flat = []
    for cell, pairs in zip(CELLS, cells, strict=True):
        try:
            pairs = [(source, operation) for source, operation in pairs]
        except (TypeError, ValueError):
            raise ValueError(
                f"the {cell} cell is a list of eight pairs of an input and an "
                f"operation, not {pairs!r:.100}"
            ) from None
        if len(pairs) != PAIRS:
            raise ValueError(
                f"the {cell} cell has {len(pairs)} pairs: wanted {PAIRS}, two for each "
                "of nodes 2 to 5"
            )
        for k, node in enumerate(NODES):
            flat += _node_pairs(node, pairs[2 * k : 2 * k + 2], cell)
    return np.array(flat, np.int32).reshape(-1)


def from_compact(compact: Sequence | np.ndarray) -> np.ndarray:
    """The architecture (32,) int32 of a compact form.

    Args:
      compact: (2, 8, 2), [cell][pair] = (input, operation index); the order of a node's
        two pairs is kept.

    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    if isinstance(compact, str) or not hasattr(compact, "__len__") or len(compact) != 2:
        raise ValueError(
            "a compact DARTS architecture is two cells, normal and reduction, of eight "
            f"pairs (input, operation), not {compact!r:.100}"
        )
    return _vector(compact)


def to_compact(arch: Array | np.ndarray) -> tuple:
    """The compact form of an architecture.

    Args:
      arch: (32,) integers.

    Returns: for each cell eight pairs (input, operation index), as tuples of int.
    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    given = np.asarray(arch)
    if given.shape != (32,) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            "an architecture of darts is an integer vector of shape (32,), not "
            f"{given.dtype} {given.shape}"
        )
    checked = _vector(given.reshape(2, PAIRS, 2)).reshape(2, PAIRS, 2).tolist()
    return tuple(tuple((i, o) for i, o in cell) for cell in checked)


def from_genotype(genotype: Any) -> np.ndarray:
    """The architecture (32,) int32 of a genotype.

    Args:
      genotype: an object with fields `normal` and `reduce`, each of eight pairs
        (operation name, input), in one list or by node. What is concatenated is ignored:
        a cell of this space concatenates all four nodes.

    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    return _vector(_genotype_cells(genotype, "(operation, input)", reverse=True))


def from_bananas(genotype: Any) -> np.ndarray:
    """The architecture (32,) int32 of a genotype in the notation of BANANAS.

    Args:
      genotype: as for `from_genotype`, but with pairs (input, operation).

    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    return _vector(_genotype_cells(genotype, "(input, operation)", reverse=False))


def _genotype_cells(genotype: Any, form: str, reverse: bool) -> list[list[tuple]]:
    """The pairs (input, operation) of both cells of a genotype.

    Args:
      genotype: an object with fields `normal` and `reduce`.
      form: of its pairs, for messages.
      reverse: whether its pairs are (operation, input).

    Raises: `ValueError` that names the field that is not a list of pairs.
    """
    cells = []
    for cell, field in zip(CELLS, CONFIG_CELLS, strict=True):
        pairs: Any = getattr(genotype, field, None)
        try:
            if len(pairs) == len(NODES):  # by node, as some programs write them
                pairs = [pair for node in pairs for pair in node]
            cells.append([(b, a) if reverse else (a, b) for a, b in pairs])
        except (TypeError, ValueError):
            raise ValueError(
                f"a genotype has a field `{field}`, the {cell} cell, of eight pairs "
                f"{form}, not {pairs!r:.100}"
            ) from None
    return cells


def to_genotype(arch: Array | np.ndarray) -> Genotype:
    """The genotype of an architecture.

    Args:
      arch: (32,) integers.

    Returns: the pairs of each cell in the order of `arch`, all four nodes concatenated.
    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    normal, reduce = (
        [(OPERATIONS[operation], source) for source, operation in cell]
        for cell in to_compact(arch)
    )
    return Genotype(normal, range(2, 6), reduce, range(2, 6))


def _edges(config: Mapping, cell: int, node: int) -> list[tuple[int, str]]:
    """The two pairs (input, operation name) of a node in a dictionary of short names.

    Raises: `ValueError` that names the node unless it has two edges, or where the pair of
      inputs says something else.
    """
    name, first = CONFIG_CELLS[cell], FIRST_EDGE[node - 2]
    keys = [f"edge_{name}_{first + i}" for i in range(node)]
    pairs = [(i, config[k]) for i, k in enumerate(keys) if config.get(k) is not None]
    where = f"node {node} of the {CELLS[cell]} cell"
    if len(pairs) != 2:
        raise ValueError(
            f"{where} has {len(pairs)} of the edges {keys[0]} to {keys[-1]}: wanted 2"
        )
    inputs = config.get(f"inputs_node_{name}_{node}")
    sources = "_".join(str(i) for i, _ in pairs)
    if inputs is not None and inputs != sources:
        raise ValueError(
            f"{where} has inputs_node_{name}_{node} {inputs!r} but edges from {sources!r}"
        )
    return pairs


def from_config(config: Any) -> np.ndarray:
    """The architecture (32,) int32, in canonical form, of a ConfigSpace dictionary.

    Args:
      config: hyper-parameters of NAS-Bench-301 (a dictionary, or a configuration with
        `get_dictionary`), names with or without their prefix; others than those of the
        architecture are ignored, and None is absent.

    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    given = config.get_dictionary() if hasattr(config, "get_dictionary") else config
    try:
        short = {str(k).removeprefix(PREFIX): v for k, v in dict(given).items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"a configuration is a dictionary of hyper-parameters, not {given!r:.100}"
        ) from None
    return _vector(
        [[p for node in NODES for p in _edges(short, cell, node)] for cell in (0, 1)]
    )


def to_config(arch: Array | np.ndarray) -> dict[str, str]:
    """The active architecture hyper-parameters of NAS-Bench-301.

    Args:
      arch: (32,) integers.

    Returns: full name -> operation name, or pair of inputs such as "0_2".
    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    config = {}
    for name, cell in zip(CONFIG_CELLS, to_compact(arch), strict=True):
        for k, node in enumerate(NODES):
            pairs = cell[2 * k : 2 * k + 2]
            for source, operation in pairs:
                edge = f"edge_{name}_{FIRST_EDGE[k] + source}"
                config[PREFIX + edge] = OPERATIONS[operation]
            if node > 2:
                inputs = "_".join(str(source) for source, _ in sorted(pairs))
                config[f"{PREFIX}inputs_node_{name}_{node}"] = inputs
    return config
