"""Equivalence classes of NAS-Bench-201 cells: isomorphic cells, and equal functions.

`isomorphism_classes` reduces strings as the benchmark does. `function_classes` decides
whether two cells compute the same function of their weights: a node is a multiset of
terms, where a term is the input of the cell, the output of a convolution, or a pooled
multiset. Each convolution is an instance with its own weights. `none` and empty sources
add nothing, `skip_connect` adds the terms of its source. Two cells are in one class if
their outputs are the same up to the names of the instances. Unlike the strings of the
benchmark this neither separates equal functions nor joins the sum of two convolutions
with twice one of them.

A search that is unaware of the classes trains the same network again and again: 460 cells
are a single 3x3 convolution, 400 the identity, 341 zero.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import (
    CONV1,
    CONV3,
    EDGES,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
    SPACE,
)
from jaxnas.types import Array


def _every() -> Iterator[tuple[int, ...]]:
    """All architectures in the order of `rank`."""
    return itertools.product(range(len(OPERATIONS)), repeat=len(EDGES))


@functools.cache
def isomorphism_classes() -> np.ndarray:
    """Numbers the isomorphism class of every architecture: 6,466 classes.

    Two cells are in one class if skipping `skip_connect`, propagating `none` and sorting
    each node's inputs gives the same expression, as in the reduction by the benchmark.

    Returns: (15,625,) int32 by `rank`; classes are numbered from 0 in the order in which
      they first appear.
    """
    expressions: dict[str, int] = {}
    classes = np.zeros(len(OPERATIONS) ** len(EDGES), np.int32)
    for index, arch in enumerate(_every()):
        groups: list[list[str]] = [["0"], [], [], []]
        for op, (source, target) in zip(arch, EDGES, strict=True):
            node = "+".join(sorted(groups[source]))
            if op == NONE or node == "#":
                groups[target].append("#")
            elif op == SKIP:
                groups[target].append(node)
            else:
                # The benchmark sorts these texts by the names of the operations.
                groups[target].append(f"({node})@{OPERATIONS[op]}")
        output = "+".join(sorted(groups[3]))
        classes[index] = expressions.setdefault(output, len(expressions))
    return classes


_INPUT = ("input",)


def _terms(arch: tuple[int, ...], keep_dead: bool) -> tuple[tuple, dict[int, tuple]]:
    """The terms of the output, and the convolutions of a cell.

    Args:
      arch: operations of the six edges.
      keep_dead: whether convolutions of an empty source are instances, too.

    Returns: the terms; and for each convolution, by its edge, the operation and the terms
      of its source.
    """
    nodes: list[tuple] = [(_INPUT,), (), (), ()]
    instances: dict[int, tuple] = {}
    for edge, (source, target) in enumerate(EDGES):
        op, terms = arch[edge], nodes[source]
        if op in (CONV1, CONV3) and (terms or keep_dead):
            instances[edge] = (op, terms)
        # The output of an operation on an empty source is zero.
        if op == NONE or not terms:
            continue
        if op == SKIP:
            nodes[target] += terms
        elif op == POOL:
            nodes[target] += (("pool", tuple(sorted(terms))),)
        else:
            nodes[target] += (("conv", edge),)
    return nodes[3], instances


def _used(terms: tuple, instances: dict[int, tuple], used: set[int]) -> set[int]:
    """Adds to `used` the instances on which the terms depend, and returns it."""
    for term in terms:
        if term[0] == "conv" and term[1] not in used:
            used.add(term[1])
            _used(instances[term[1]][1], instances, used)
        elif term[0] == "pool":
            _used(term[1], instances, used)
    return used


def _renamed(terms: tuple, name: Callable[[int], object]) -> tuple:
    """The terms with `name(edge)` for each instance, sorted."""

    def rename(term: tuple) -> tuple:
        if term[0] == "conv":
            return ("conv", name(term[1]))
        if term[0] == "pool":
            return ("pool", _renamed(term[1], name))
        return term

    return tuple(sorted(map(rename, terms)))


def _canonical(arch: tuple[int, ...], keep_dead: bool) -> tuple:
    """The canonical form: the smallest description over all namings of the instances.

    Args:
      arch: operations of the six edges.
      keep_dead: whether instances that the output does not need are a part of it.
    """
    output, instances = _terms(arch, keep_dead)
    if not keep_dead:
        used = _used(output, instances, set())
        instances = {edge: instances[edge] for edge in used}

    # Instances of different expressions never exchange names: sorted by expression, only
    # instances with the same expression have to be tried in every order.
    @functools.cache
    def expression(edge: int) -> str:
        op, terms = instances[edge]
        return f"{op}{_renamed(terms, expression)}"

    alike: dict[str, list[int]] = {}
    for edge in instances:
        alike.setdefault(expression(edge), []).append(edge)
    groups = [alike[text] for text in sorted(alike)]

    def describe(order: tuple[tuple[int, ...], ...]) -> tuple:
        edges = [edge for group in order for edge in group]
        names = {edge: number for number, edge in enumerate(edges)}
        sources = tuple(
            (instances[edge][0], _renamed(instances[edge][1], names.__getitem__))
            for edge in edges
        )
        return _renamed(output, names.__getitem__), sources

    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    return min(describe(order) for order in orders)


@functools.cache
def function_classes(keep_dead: bool = False) -> np.ndarray:
    """Numbers the function class of every architecture: 5,260 classes.

    Args:
      keep_dead: whether convolutions on which the output does not depend tell cells
        apart, as they do for some scores of untrained networks: 6,239 classes.

    Returns: (15,625,) int32 by `rank`; classes are numbered from 0 in the order in which
      they first appear.
    """
    numbers: dict[tuple, int] = {}
    classes = [
        numbers.setdefault(_canonical(arch, keep_dead), len(numbers))
        for arch in _every()
    ]
    return np.array(classes, np.int32)


def isomorphism_class(arch: Array) -> Array:
    """Looks up the class () int32 of an architecture (6,) in `isomorphism_classes`."""
    return jnp.asarray(isomorphism_classes())[base.rank(SPACE, arch)]


def function_class(arch: Array) -> Array:
    """Looks up the class () int32 of an architecture (6,) in `function_classes`.

    `make_pool(SPACE, ..., same=function_class)` counts cells of one function once.
    """
    return jnp.asarray(function_classes())[base.rank(SPACE, arch)]


@functools.cache
def _canonical_archs() -> np.ndarray:
    """The smallest architecture of the function class of each, (15,625, 6) by `rank`."""
    classes = function_classes()
    first = np.unique(classes, return_index=True)[1]
    return base.every(SPACE)[first[classes]]


def canonical(arch: Array) -> Array:
    """Looks up the smallest architecture (6,) that computes the function of `arch` (6,).

    It is the first of the class of `function_class` in lexicographic order.
    """
    return jnp.asarray(_canonical_archs())[base.rank(SPACE, arch)]
