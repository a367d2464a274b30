"""Peers of the benchmarks: other libraries and plain Python, doing the same work.

Every peer gets its data in the form that suits it best, prepared outside the timing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import ot
from scipy.spatial.distance import cdist
from scipy.special import ndtr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from jaxnas.kernels.op_trees import OpTree


class Laplacian(
    kernels.StationaryKernelMixin, kernels.NormalizedKernelMixin, kernels.Kernel
):
    """The kernel exp(-sum_j d_j / l_j), with L1 distances d_j of the parts of each row.

    Args:
      length_scale: (c,) the l_j.
      length_scale_bounds: (c, 2) of the fit.
      cuts: (c + 1,), part j is the columns cuts[j] to cuts[j + 1].
    """

    def __init__(
        self,
        length_scale: np.ndarray,
        length_scale_bounds: np.ndarray,
        cuts: Sequence[int],
    ):
        self.length_scale = length_scale
        self.length_scale_bounds = length_scale_bounds
        self.cuts = cuts

    @property
    def hyperparameter_length_scale(self):
        num = len(self.length_scale)
        bounds = self.length_scale_bounds
        return kernels.Hyperparameter("length_scale", "numeric", bounds, num)

    def __call__(
        self, X: np.ndarray, Y: np.ndarray | None = None, eval_gradient: bool = False
    ):
        other = X if Y is None else Y
        if not eval_gradient:
            weight = 1 / np.repeat(self.length_scale, np.diff(self.cuts))
            return np.exp(-cdist(X * weight, other * weight, "cityblock"))
        spans = zip(self.cuts[:-1], self.cuts[1:], self.length_scale, strict=True)
        parts = [cdist(X[:, a:b], X[:, a:b], "cityblock") / s for a, b, s in spans]
        gram = np.exp(-sum(parts))
        return gram, np.stack([gram * part for part in parts], axis=-1)


def regressor(scales: np.ndarray, cuts: Sequence[int]) -> GaussianProcessRegressor:
    """A Gaussian process with length-scales that start at `scales` (c,).

    Its `fit` optimises amplitude, length-scales and noise by L-BFGS with exact gradients.
    """
    bounds = np.stack([scales / 100, scales * 100], axis=-1)
    kernel = kernels.ConstantKernel(1.0) * Laplacian(scales, bounds, tuple(cuts))
    kernel += kernels.WhiteKernel(0.01, (1e-4, 1.0))
    return GaussianProcessRegressor(kernel, normalize_y=True)


def without_fit(fitted: GaussianProcessRegressor) -> GaussianProcessRegressor:
    """The same process with its hyperparameters fixed at the fitted ones."""
    kernel = fitted.kernel_
    return GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True)


def search_step(
    model: GaussianProcessRegressor,
    x: np.ndarray,
    row: np.ndarray,
    index: np.ndarray,
    y: np.ndarray,
) -> int:
    """Fits, predicts, and selects the unseen candidate of largest expected improvement.

    Args:
      model: the Gaussian process.
      x: (u, f) embeddings.
      row: (n,) the embedding of each candidate.
      index: (t,) candidates that were evaluated.
      y: (t,) their scores, higher is better.
    """
    with warnings.catch_warnings():
        # There is one for every length-scale that ends at a bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[row[index]], y)
    mean, std = model.predict(x, return_std=True)
    std = np.maximum(std, 1e-9)
    u = (mean - y.max()) / std
    utility = std * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    utility = utility[row]
    utility[index] = -np.inf
    return int(np.argmax(utility))


def cityblock(x: np.ndarray, rows: int, block: int) -> float:
    """The sum of the distances of the first `rows` of `x` (n, f) to all of it."""
    out, total = np.empty((block, len(x))), 0.0
    for i in range(0, rows, block):
        part = x[i : min(i + block, rows)]
        total += cdist(part, x, "cityblock", out=out[: len(part)]).sum()
    return total


def cityblock_distinct(x: np.ndarray, row: np.ndarray, rows: int, block: int) -> float:
    """The same sum, with equal embeddings stored once: `x` (u, f), `row` (n,)."""
    total = 0.0
    for i in range(0, rows, block):
        part = x[row[i : min(i + block, rows)]]
        total += cdist(part, x, "cityblock").take(row, axis=1).sum()
    return total


class Measures(NamedTuple):
    """A cell as three measures, in plain lists."""

    ops: list[float]  # mass by leaf of the operation tree, and last that at the root
    incoming: list[tuple[float, float]]  # (position, mass), ascending
    outgoing: list[tuple[float, float]]


def measures(
    adj: Sequence[Sequence[bool]], ops: Sequence[int], num_labels: int, n: int
) -> Measures:
    """Computes the three measures of a graph, in plain Python.

    Args:
      adj: (v, v) strictly upper triangular adjacency matrix.
      ops: (v,) labels of the vertices; negative for vertices without one.
      num_labels: number of labels.
      n: the largest order of the operation n-grams.
    """
    vertices = range(len(ops))
    depth = [0] + [-1] * (len(ops) - 1)
    for j in vertices:
        for i in range(j):
            if adj[i][j] and depth[i] >= 0:
                depth[j] = max(depth[j], depth[i] + 1)
    layers = max(depth) + 1
    into = [sum(adj[i][j] for i in vertices) for j in vertices]
    out = [sum(adj[j][i] for i in vertices) for j in vertices]
    counts: list[float] = []
    walks = [(ops[i], i) for i in vertices if ops[i] >= 0 and into[i] + out[i]]
    starts = {i: label for label, i in walks}
    for k in range(1, n + 1):
        grams_k = [0] * num_labels**k
        for gram, _ in walks:
            grams_k[gram] += 1
        counts += grams_k
        walks = [
            (gram * num_labels + starts[j], j)
            for gram, i in walks
            for j in starts
            if adj[i][j]
        ]
    total = sum(counts)
    grams = [c / total for c in counts] + [0.0] if total else counts + [1.0]
    lines = []
    for degrees in (into, out):
        mass = [0.0] * layers
        for degree, layer in zip(degrees, depth, strict=True):
            if layer >= 0:
                mass[layer] += degree
        whole = sum(mass)
        mass = [m / whole for m in mass] if whole else [1 / layers] * layers
        lines.append([((i + 1) / layers, m) for i, m in enumerate(mass) if m])
    return Measures(grams, *lines)


def python_distance(x: Measures, y: Measures, tree: list) -> float:
    """The sum of the three distances, in plain Python; `tree` from `python_tree`."""
    total = 0.0
    for leaves, length in tree:
        surplus = 0.0
        for leaf in leaves:
            surplus += x.ops[leaf] - y.ops[leaf]
        total += length * abs(surplus)
    for u, v in ((x.incoming, y.incoming), (x.outgoing, y.outgoing)):
        moves = sorted(u + [(position, -mass) for position, mass in v])
        surplus, last = 0.0, 0.0
        for position, mass in moves:
            total += abs(surplus) * (position - last)
            surplus, last = surplus + mass, position
    return total


def python_tree(tree: OpTree) -> list[tuple[list[int], float]]:
    """The leaves below each edge of a tree, and the length of the edge."""
    rows = [np.flatnonzero(row).tolist() for row in tree.subtrees]
    return list(zip(rows, tree.lengths.tolist(), strict=True))


def transport_problems(x: Measures, y: Measures, tree: OpTree) -> list[tuple]:
    """(masses, masses, ground costs) of the three distances, without empty points."""
    root = np.zeros((len(tree.lengths), 1))
    below = np.concatenate([tree.subtrees, root], axis=1)
    to_root = below.T * tree.lengths
    ground = cdist(to_root, to_root, "cityblock")
    a, b = np.array(x.ops), np.array(y.ops)
    problems = [(a[a > 0], b[b > 0], np.ascontiguousarray(ground[a > 0][:, b > 0]))]
    for u, v in ((x.incoming, y.incoming), (x.outgoing, y.outgoing)):
        (p, a), (q, b) = np.array(u).T, np.array(v).T
        costs = np.abs(p[:, None] - q[None])
        problems.append((a.copy(), b.copy(), costs))
    return problems


def transport_distance(problems: list[tuple]) -> float:
    """The sum of the three distances, by exact optimal transport."""
    # The checks and the centring that POT does by default take longer than the solution.
    fast = {"center_dual": False, "check_marginals": False}
    return sum(float(ot.emd2(a, b, c, **fast)) for a, b, c in problems)
