"""Cells of NAS-Bench-201 that are the same network, in the benchmark's sense and exactly.

Exactly: a node is a multiset of terms: the cell's input, the output of a convolution,
which is an instance of its own with its own weights, or a pooled multiset. `none` and
empty sources add nothing, `skip_connect` adds the source's terms. Two cells are in one
class if their outputs are the same up to the names of the instances. Unlike the strings
of the benchmark this neither separates equal functions nor joins the sum of two
convolutions with twice one of them.

A search that does not know this trains the same network again and again: 460 cells are a
single 3x3 convolution, 400 the identity, 341 zero.
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
    """Every architecture, by rank."""
    return itertools.product(range(len(OPERATIONS)), repeat=len(EDGES))


@functools.cache
def isomorphism_classes() -> np.ndarray:
    """The class of every architecture, (15,625,) int32 by `rank`: 6,466 classes.

    Two cells are in one class if skipping `skip_connect`, propagating `none` and sorting
    each node's inputs gives the same expression, as in the benchmark's own reduction.
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
                # By name: the benchmark sorts these texts, sums within sums and all.
                groups[target].append(f"({node})@{OPERATIONS[op]}")
        output = "+".join(sorted(groups[3]))
        classes[index] = expressions.setdefault(output, len(expressions))
    return classes


_INPUT = ("input",)


def _terms(arch: tuple[int, ...], keep_dead: bool):
    """The output's terms, and (operation, source terms) of each instance."""
    nodes: list[tuple] = [(_INPUT,), (), (), ()]
    instances: dict[int, tuple] = {}
    for edge, (source, target) in enumerate(EDGES):
        op, terms = arch[edge], nodes[source]
        if op in (CONV1, CONV3) and (terms or keep_dead):
            instances[edge] = (op, terms)
        # What has no input gives zero, kept or not.
        if op == NONE or not terms:
            continue
        if op == SKIP:
            nodes[target] += terms
        elif op == POOL:
            nodes[target] += (("pool", tuple(sorted(terms))),)
        else:
            nodes[target] += (("conv", edge),)
    return nodes[3], instances


def _used(terms: tuple, instances: dict[int, tuple], found: set[int]) -> set[int]:
    """The instances that the terms need, directly or not."""
    for term in terms:
        if term[0] == "conv" and term[1] not in found:
            found.add(term[1])
            _used(instances[term[1]][1], instances, found)
        elif term[0] == "pool":
            _used(term[1], instances, found)
    return found


def _renamed(terms: tuple, name: Callable[[int], object]) -> tuple:
    """The terms with other names for instances, sorted."""

    def rename(term: tuple) -> tuple:
        if term[0] == "conv":
            return ("conv", name(term[1]))
        if term[0] == "pool":
            return ("pool", _renamed(term[1], name))
        return term

    return tuple(sorted(map(rename, terms)))


def _canonical(arch: tuple[int, ...], keep_dead: bool) -> tuple:
    """The smallest description over all names of the instances."""
    output, instances = _terms(arch, keep_dead)
    if not keep_dead:
        used = _used(output, instances, set())
        instances = {edge: instances[edge] for edge in used}

    # Instances of different expressions never exchange names: sorting by the expression
    # leaves only those that look alike to be tried in every order.
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
    """The class of every architecture, (15,625,) int32 by rank.

    Args:
      keep_dead: tell cells apart by the convolutions that their outputs do not need as
        well, as some scores do: 6,239 classes; default: 5,260.

    Returns: numbers from 0 in the order in which the classes first appear.
    """
    numbers: dict[tuple, int] = {}
    classes = [
        numbers.setdefault(_canonical(arch, keep_dead), len(numbers))
        for arch in _every()
    ]
    return np.array(classes, np.int32)


def isomorphism_class(arch: Array) -> Array:
    """The class () int32 of an architecture (6,), of `isomorphism_classes`."""
    return jnp.asarray(isomorphism_classes())[base.rank(SPACE, arch)]


def function_class(arch: Array) -> Array:
    """The class () int32 of an architecture (6,), of `function_classes`.

    `make_pool(SPACE, ..., same=function_class)` counts cells of one function once.
    """
    return jnp.asarray(function_classes())[base.rank(SPACE, arch)]
