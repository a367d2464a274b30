"""Distances that give no kernel: how to tell, and how to repair them.

exp(-d / l) is a kernel for every length-scale l if and only if d is conditionally
negative definite (Schoenberg, 1938): if the centred matrix B = -J D J / 2, J = I - 1/k,
has no negative eigenvalue. So it is the distance that is repaired, once and for the whole
pool, and then every kernel of it is one, whatever is observed and however it is scaled.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Repair = Literal["clip", "shift"]
REPAIRS = ("clip", "shift")
# Distances come in float32; an eigenvalue smaller than this share of the greatest is 0.
TOLERANCE = 1e-5


class RepairedDistance(NamedTuple):
    """A conditionally negative definite distance, and what had to be repaired."""

    values: np.ndarray  # (k, k) as it came, if that was definite, or else repaired
    smallest: float  # eigenvalue of B before the repair
    largest: float
    change: float  # mean absolute change of a distance, as a share of the mean distance


def require_negative_definite(
    between: np.ndarray, repair: Repair | None = None, *, name: str = "the distance"
) -> RepairedDistance:
    """Refuses or repairs a distance (k, k) that is not negative definite.

    Args:
      repair: None refuses. `clip` sets the negative eigenvalues of B to 0, and so finds
        squared Euclidean distances that are near; its eigendecomposition takes a minute
        and 1.6 GB for 6,236 cells. `shift` adds one constant, -2 times the smallest
        eigenvalue, to all distances but those of zero to itself, which keeps their order
        (Lingoes, 1971): the kernel gets a nugget, which grows with the pool.

    Raises: `ValueError` with the smallest eigenvalue if it is negative and `repair` is
      None; and for a matrix that is no distance.
    """
    if repair is not None and repair not in REPAIRS:
        raise ValueError(f"repair must be None, clip or shift, not {repair!r}")
    given = np.asarray(between, np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not len(given):
        raise ValueError(f"{name}: a distance matrix is square, not {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError(f"{name}: a distance is not finite")
    if given.min() < 0:
        raise ValueError(f"{name}: a distance is negative, {given.min():.3g}")
    if np.diagonal(given).any() or np.abs(given - given.T).max() > 0:
        raise ValueError(
            f"{name}: wanted a symmetric matrix with zeros on the diagonal"
        )
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
        repaired = np.maximum(norm[:, None] + norm - (centred + centred.T), 0.0)
        np.fill_diagonal(repaired, 0.0)
    change = np.abs(repaired - given).mean() / given.mean()
    return RepairedDistance(repaired, smallest, largest, float(change))
