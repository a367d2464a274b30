"""Notations of a NAS-Bench-NLP recurrent cell (Klyuchnikov et al., 2022), on the host.

A recipe is a dictionary of nodes, each with an operation and the names of its inputs:
other nodes, the word `x`, or the previous hidden states h_prev_0, h_prev_1, h_prev_2. The
nodes named h_new_0, h_new_1, h_new_2 are the next hidden states. The compact form numbers
the nodes: x 0, h_prev_0 to h_prev_2 1 to 3, whether used or not, then the recipe's nodes,
those with an input that is not yet defined moved to the end.

The vector (5 n,) int32 of a space of n + 4 nodes has five numbers for each of n nodes:
the operation, 0 if there is no node; three inputs, as the number of the node plus 1, 0
for an empty slot; and i + 1 for h_new_i, 0 for other nodes. All notations go there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from jaxnas.types import Array

INPUTS = ("x", "h_prev_0", "h_prev_1", "h_prev_2")
OPERATIONS = (
    "in",
    "activation_sigm",
    "activation_tanh",
    "activation_leaky_relu",
    "elementwise_sum",
    "elementwise_prod",
    "linear",
    "blend",
)
SIGM, TANH, LEAKY, SUM, PROD, LINEAR, BLEND = range(1, len(OPERATIONS))
# The fewest and the most inputs of each operation, by index.
FEWEST = (0, 1, 1, 1, 2, 2, 2, 3)
MOST = (0, 1, 1, 1, 2, 2, 3, 3)
FIRST = len(INPUTS)  # the number of the first node of a recipe
SLOTS = 3  # inputs of a node, at most
MAX_HIDDEN = 3
WIDTH = 5  # numbers of the vector for each node
MAX_NODES = 12  # of NAS-Bench-NLP11, inputs included
_OUTPUT = re.compile(r"h_new_([0-9])")
_LONGEST_TEXT = 2**16


class Node(NamedTuple):
    """A node of a recipe."""

    name: str  # for messages
    operation: int  # index into OPERATIONS, 1 to 7
    inputs: tuple[int, ...]  # numbers of the nodes it takes, in order
    hidden: int  # i + 1 for h_new_i, 0 for other nodes


def _check_node(number: int, node: Node, num_hidden: int) -> None:
    """Raises `ValueError` that says what is wrong with a node.

    Args:
      number: of the node; its inputs come before it.
      node: to be checked.
      num_hidden: how many outputs h_new_0, h_new_1, ... the cell has.
    """
    name = OPERATIONS[node.operation]
    fewest, most = FEWEST[node.operation], MOST[node.operation]
    if not fewest <= len(node.inputs) <= most:
        allowed = f"{fewest} or {most}" if fewest < most else f"{most}"
        raise ValueError(
            f"{node.name} ({name}) has {len(node.inputs)} inputs: wanted {allowed}"
        )
    if len(set(node.inputs)) < len(node.inputs):
        raise ValueError(f"{node.name} ({name}) takes an input twice")
    for source in node.inputs:
        if source >= number:
            raise ValueError(f"{node.name} takes node {source}, which is not before it")
        if num_hidden < source < FIRST:
            raise ValueError(
                f"{node.name} takes {INPUTS[source]}, but there is no h_new_{source - 1}"
            )


def _vector(nodes: Sequence[Node], max_nodes: int) -> np.ndarray:
    """The vector (5 (max_nodes - 4),) int32 of nodes in topological order.

    Raises: `ValueError` for no or too many nodes, outputs other than the first ones, and
      a node that is wrong.
    """
    if not 1 <= len(nodes) <= max_nodes - FIRST:
        raise ValueError(
            f"the cell has {len(nodes)} nodes and 4 inputs: wanted at least 1 node, and "
            f"at most {max_nodes} of both"
        )
    hidden = sorted(node.hidden for node in nodes if node.hidden)
    if not hidden or hidden != list(range(1, len(hidden) + 1)):
        names = ", ".join(f"h_new_{h - 1}" for h in hidden) or "no output"
        raise ValueError(
            "the outputs of a cell are h_new_0, or h_new_0 and h_new_1, or these and "
            f"h_new_2; found {names}"
        )
    rows = np.zeros((max_nodes - FIRST, WIDTH), np.int32)
    for k, node in enumerate(nodes):
        _check_node(FIRST + k, node, len(hidden))
        rows[k, [0, WIDTH - 1]] = node.operation, node.hidden
        rows[k, 1 : 1 + len(node.inputs)] = np.array(node.inputs) + 1
    return rows.reshape(-1)


def _nodes(arch: Array | np.ndarray) -> list[Node]:
    """The nodes of a vector (5 n,).

    Raises: `ValueError` for another shape, for gaps between nodes or between inputs, and
      for a node that is wrong.
    """
    given = np.asarray(arch)
    right = given.ndim == 1 and given.size and given.size % WIDTH == 0
    if not right or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            "an architecture of nlp is an integer vector of shape (5 n,), not "
            f"{given.dtype} {given.shape}"
        )
    rows, nodes = given.reshape(-1, WIDTH).tolist(), []
    num = sum(1 for row in rows if row[0])
    for k, (operation, *inputs, hidden) in enumerate(rows):
        if k < num and 0 < operation < len(OPERATIONS):
            used = tuple(i - 1 for i in inputs if i > 0)
            nodes.append(Node(f"node {FIRST + k}", operation, used, hidden))
    if not np.array_equal(_vector(nodes, len(rows) + FIRST), given):
        raise ValueError(
            f"{given.tolist()} is not an architecture of nlp: its nodes come first, "
            "their inputs before empty slots, and all else is 0"
        )
    return nodes


def _parents(name: str, entry: Any) -> tuple[int, list[str]]:
    """The operation and the names of the inputs of an entry of a recipe."""
    try:
        operation, inputs = entry["op"], [str(source) for source in entry["input"]]
    except (TypeError, KeyError, IndexError):
        raise ValueError(
            f"{name} has an operation `op` and a list `input`, not {entry!r:.100}"
        ) from None
    if operation not in OPERATIONS[1:] or isinstance(entry["input"], str):
        raise ValueError(
            f"{name} has no operation {operation!r}: NAS-Bench-NLP has "
            f"{', '.join(OPERATIONS[1:])}"
        )
    return OPERATIONS.index(operation), inputs


def from_recipe(recipe: Mapping, max_nodes: int = MAX_NODES) -> np.ndarray:
    """The architecture (5 (max_nodes - 4),) int32 of a recipe.

    Args:
      recipe: node name -> {"op": operation, "input": names of inputs}, in any order. The
        outputs are the nodes named h_new_0, h_new_1 and h_new_2, by their whole name.
      max_nodes: the most nodes of the space, its four inputs included.

    Raises: `ValueError` that names the node for what is not a recipe of the space.
    """
    if not isinstance(recipe, Mapping) or not recipe:
        raise ValueError(f"a recipe is a dictionary of nodes, not {recipe!r:.100}")
    waiting = {str(k): _parents(str(k), entry) for k, entry in recipe.items()}
    number, nodes = {name: i for i, name in enumerate(INPUTS)}, []
    for name, (_, inputs) in waiting.items():
        unknown = [i for i in inputs if i not in number and i not in waiting]
        if unknown or name in number:
            what = f"takes {unknown[0]!r}, not a node" if unknown else "is an input"
            raise ValueError(f"{name} {what} of the recipe")
    while waiting:
        before = len(waiting)
        for name, (operation, inputs) in list(waiting.items()):
            if all(source in number for source in inputs):
                number[name] = FIRST + len(nodes)
                output = _OUTPUT.fullmatch(name)
                hidden = int(output[1]) + 1 if output else 0
                sources = tuple(number[source] for source in inputs)
                nodes.append(Node(name, operation, sources, hidden))
                del waiting[name]
        if len(waiting) == before:
            raise ValueError(f"{next(iter(waiting))} takes its own output, in a circle")
    return _vector(nodes, max_nodes)


def to_recipe(arch: Array | np.ndarray) -> dict[str, dict[str, Any]]:
    """The recipe of an architecture.

    Args:
      arch: (5 n,) integers.

    Returns: node name -> {"op": name, "input": names}, in the order of the vector; nodes
      are named h_new_i if they are outputs, else node_0, node_1, ....
    Raises: `ValueError` that names the node for what is not an architecture.
    """
    names: list[str] = list(INPUTS)
    recipe: dict[str, dict[str, Any]] = {}
    for node in _nodes(arch):
        plain = sum(name.startswith("node_") for name in names)
        name = f"h_new_{node.hidden - 1}" if node.hidden else f"node_{plain}"
        sources = [names[source] for source in node.inputs]
        recipe[name] = {"op": OPERATIONS[node.operation], "input": sources}
        names.append(name)
    return recipe


def from_compact(compact: Sequence, max_nodes: int = MAX_NODES) -> np.ndarray:
    """The architecture (5 (max_nodes - 4),) int32 of a compact form.

    Args:
      compact: edges (source, target) in the order of each target's inputs; operations of
        all nodes, 0 for the four inputs; and the numbers of h_new_0, h_new_1, ....
      max_nodes: the most nodes of the space, its four inputs included.

    Raises: `ValueError` that names the node for what is not a cell of the space.
    """
    try:
        edges, operations, outputs = compact
        edges = [(source, target) for source, target in edges]
        operations, outputs = list(operations), list(outputs)
    except (TypeError, ValueError):
        raise ValueError(
            "a compact NAS-Bench-NLP cell is a list of edges, of operations and of "
            f"hidden nodes, not {compact!r:.100}"
        ) from None
    for number in (*(n for e in edges for n in e), *operations, *outputs):
        if not isinstance(number, Integral) or number < 0:
            raise ValueError(f"nodes and operations are numbers from 0, not {number!r}")
    num = len(operations)
    if operations[:FIRST] != [0] * FIRST or any(o < FIRST for o in outputs):
        raise ValueError(
            "nodes 0 to 3 are the inputs of the cell: operation 0, no output"
        )
    outside = [n for n in (*(t for _, t in edges), *outputs) if not FIRST <= n < num]
    if outside or len(set(outputs)) < len(outputs):
        raise ValueError(
            f"node {(outside or outputs)[0]} is not one of nodes 4 to {num - 1}, or is "
            "an output twice"
        )
    nodes = []
    for k, operation in enumerate(operations[FIRST:], FIRST):
        if not 0 < operation < len(OPERATIONS):
            raise ValueError(f"node {k} has operation {operation}: wanted 1 to 7")
        sources = tuple(int(s) for s, target in edges if target == k)
        hidden = outputs.index(k) + 1 if k in outputs else 0
        nodes.append(Node(f"node {k}", int(operation), sources, hidden))
    return _vector(nodes, max_nodes)


def to_compact(arch: Array | np.ndarray) -> tuple[tuple, tuple, tuple]:
    """The compact form of an architecture.

    Entry i of the hidden nodes is that of h_new_i. (The reference program lists them in
    ascending order, which forgets which is which.)

    Args:
      arch: (5 n,) integers.

    Returns: edges (source, target), the inputs of a node in their order; operations by
      index, 0 for the four inputs of the cell; and the numbers of the hidden nodes.
    Raises: `ValueError` that names the node for what is not an architecture.
    """
    nodes = _nodes(arch)
    edges = [(i, FIRST + k) for k, node in enumerate(nodes) for i in node.inputs]
    outputs = {node.hidden: FIRST + k for k, node in enumerate(nodes) if node.hidden}
    operations = (*(0,) * FIRST, *(node.operation for node in nodes))
    return tuple(edges), operations, tuple(outputs[h] for h in sorted(outputs))


def to_string(arch: Array | np.ndarray) -> str:
    """The recipe of an architecture as JSON, on one line.

    Args:
      arch: (5 n,) integers.

    Raises: `ValueError` that names the node for what is not an architecture.
    """
    return json.dumps(to_recipe(arch))


def from_string(text: str, max_nodes: int = MAX_NODES) -> np.ndarray:
    """The architecture (5 (max_nodes - 4),) int32 of a recipe in JSON.

    Args:
      text: JSON of a recipe.
      max_nodes: the most nodes of the space, its four inputs included.

    Raises: `ValueError` for other texts; it names the node where a cell is wrong.
    """
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
            raise ValueError
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"not a NAS-Bench-NLP recipe in JSON: {text!r:.100}") from None
    return from_recipe(recipe, max_nodes)
