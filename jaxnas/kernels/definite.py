"""Negative definiteness of a distance matrix: a test, and two repairs.

exp(-d / l) is a kernel for every length-scale l if and only if d is conditionally
negative definite (Schoenberg, 1938), that is if the centred matrix B = -J D J / 2 with
J = I - 1/k has no negative eigenvalue. The distance over the whole pool is repaired once,
so that each of its kernels is positive semi-definite on any subset and at any
length-scale.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Repair = Literal["clip", "shift"]
REPAIRS = ("clip", "shift")
# Distances come in float32; an eigenvalue smaller than this share of the largest is 0.
TOLERANCE = 1e-5


class RepairedDistance(NamedTuple):
    """A conditionally negative definite distance, and how much the repair changed it."""

    values: np.ndarray  # (k, k) float64, unchanged if it was negative definite already
    smallest: float  # eigenvalue of B before the repair
    largest: float  # eigenvalue of B before the repair
    change: float  # mean absolute change of a distance, as a share of the mean distance


def require_negative_definite(
    distance: np.ndarray, repair: Repair | None = None, *, name: str = "the distance"
) -> RepairedDistance:
    """Refuses or repairs a distance matrix that is not negative definite.

    Args:
      distance: (k, k) symmetric, finite, at least 0, with zeros on the diagonal.
      repair: None refuses. `clip` sets the negative eigenvalues of B to 0, which gives
        squared Euclidean distances close to the original ones; its eigendecomposition
        takes a minute and 1.6 GB for 6,236 cells. `shift` adds one constant, -2 times the
        smallest eigenvalue, to all distances off the diagonal, which keeps their order
        (Lingoes, 1971): the kernel gets a nugget, which grows with the pool.
      name: of the distance, for error messages.

    Returns: the distance, repaired where necessary, and the extreme eigenvalues of B.
    Raises: `ValueError` with the smallest eigenvalue if it is negative and `repair` is
      None; for a matrix that is not a distance; and for an unknown `repair`.
    """
    if repair is not None and repair not in REPAIRS:
        raise ValueError(f"repair must be None, clip or shift, not {repair!r}")
    given = _validated(distance, name)
    centred = given - given.mean(0)
    centred -= centred.mean(1, keepdims=True)
    centred *= -0.5
    if repair == "clip":
        values, vectors = np.linalg.eigh(centred)
    else:
        values, vectors = np.linalg.eigvalsh(centred), None
    smallest, largest = float(values[0]), float(values[-1])
    if smallest >= -TOLERANCE * max(largest, 0.0):
        return RepairedDistance(given, smallest, largest, 0.0)
    if repair is None:
        raise ValueError(
            f"{name} is not negative definite on these {len(given)} graphs, so "
            "exp(-d / l) is no kernel: the centred matrix has eigenvalues from "
            f"{smallest:.3g} to {largest:.3g}; repair='clip' or 'shift' makes it one"
        )
    if vectors is None:
        repaired = given - 2 * smallest * (1 - np.eye(len(given)))
    else:
        repaired = _clipped(centred, values, vectors)
    change = np.abs(repaired - given).mean() / given.mean()
    return RepairedDistance(repaired, smallest, largest, float(change))


def _validated(distance: np.ndarray, name: str) -> np.ndarray:
    """The matrix (k, k) as float64; `ValueError` if it is not a distance."""
    given = np.asarray(distance, np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not len(given):
        raise ValueError(f"{name}: a distance matrix is square, not {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError(f"{name}: a distance is not finite")
    if given.min() < 0:
        raise ValueError(f"{name}: a distance is negative, {given.min():.3g}")
    if np.diagonal(given).any() or np.abs(given - given.T).max() > 0:
        raise ValueError(
            f"{name}: the matrix must be symmetric with zeros on the diagonal"
        )
    return given


def _clipped(
    centred: np.ndarray, values: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """Distances (k, k) of B without its negative eigenvalues; overwrites `centred`.

    Args:
      centred: (k, k), the matrix B.
      values: (k,) its eigenvalues, ascending.
      vectors: (k, k) its eigenvectors, one a column.
    """
    # Whichever side has fewer eigenvalues: the sum of both is the matrix.
    negative = int((values < 0).sum())
    if negative <= len(values) // 2:
        scaled = vectors[:, :negative] * -values[:negative]
        centred += scaled @ vectors[:, :negative].T
    else:
        scaled = vectors[:, negative:] * values[negative:]
        centred = scaled @ vectors[:, negative:].T
    norm = np.diagonal(centred)
    # The sum of a matrix and its transpose is symmetric to the last bit.
    distance = np.maximum(norm[:, None] + norm - (centred + centred.T), 0.0)
    np.fill_diagonal(distance, 0.0)
    return distance
