"""Transport between measures of any size, by ott-jax (Cuturi et al., 2022).

Functions on arrays around ott-jax, which is imported when one is called, and comes with
the extra `ot`. On graphs of a few vertices the other solvers of this package are hundreds
of times faster. All functions can be differentiated, compiled and vmapped, and raise
`ValueError` for masses of unequal totals outside compiled programs.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from jaxnas.precision import full_precision
from jaxnas.transport.masses import promote_problem
from jaxnas.types import Array


def _ott(name: str) -> Any:
    """A module of ott-jax; `ImportError` that says how to install it."""
    try:
        with warnings.catch_warnings():
            # From packages that ott-jax imports.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(f"ott.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "ott":
            raise
        raise ImportError(
            "transport of general size needs ott-jax: pip install 'jaxnas[ot]'"
        ) from error


@full_precision
def sinkhorn(cost: Array, u: Array, v: Array, *, epsilon: float = 0.05) -> Array:
    """Computes the entropic transport cost, iterating on logarithms until it converges.

    The value is that of `jaxnas.transport.entropic.entropic_cost`.

    Args:
      cost: (n, m) between the points.
      u: (n,) masses.
      v: (m,) masses, of the same total.
      epsilon: weight of the entropy, in the unit of the cost.

    Returns: ().
    """
    cost, u, v = promote_problem(cost, u, v)
    geometry = _ott("geometry.geometry").Geometry(cost, epsilon=epsilon)
    return _ott("solvers.linear").solve(geometry, u, v).reg_ot_cost


@full_precision
def sinkhorn_divergence(
    x: Array, y: Array, u: Array, v: Array, *, epsilon: float = 0.05
) -> Array:
    """Computes the Sinkhorn divergence of point clouds (Feydy et al., 2019).

    Args:
      x: (n, d) points; the cost is the squared Euclidean distance.
      y: (m, d) points.
      u: (n,) masses of x.
      v: (m,) masses of y, of the same total.
      epsilon: weight of the entropy, in the unit of the cost.

    Returns: ().
    """
    x, y, u, v = promote_problem(x, y, u, v)
    clouds = _ott("geometry.pointcloud").PointCloud
    divergence = _ott("tools.sinkhorn_divergence").sinkhorn_divergence
    value, _ = divergence(clouds, x, y, a=u, b=v, epsilon=epsilon)
    return value


@full_precision
def low_rank(
    x: Array, y: Array, u: Array, v: Array, *, rank: int, epsilon: float = 0.0
) -> Array:
    """Computes the transport cost over plans of low rank (Scetbon et al., 2021).

    Time and memory are linear in the number of points.

    Args:
      x: (n, d) points; the cost is the squared Euclidean distance.
      y: (m, d) points.
      u: (n,) masses of x.
      v: (m,) masses of y, of the same total.
      rank: non-negative rank of the plans, at least 1.
      epsilon: weight of the entropy; 0: none.

    Returns: ().
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    x, y, u, v = promote_problem(x, y, u, v)
    geometry = _ott("geometry.pointcloud").PointCloud(x, y)
    problem = _ott("problems.linear.linear_problem").LinearProblem(geometry, u, v)
    solver = _ott("solvers.linear.sinkhorn_lr").LRSinkhorn(rank=rank, epsilon=epsilon)
    return solver(problem).primal_cost


@full_precision
def gromov_wasserstein(
    x: Array, y: Array, u: Array, v: Array, *, epsilon: float = 0.01, rank: int = -1
) -> Array:
    """Computes the entropic Gromov-Wasserstein discrepancy of two structures.

    Args:
      x: (n, n) symmetric structure matrix.
      y: (m, m) symmetric structure matrix.
      u: (n,) masses.
      v: (m,) masses, of the same total.
      epsilon: weight of the entropy, in the unit of the squared entries.
      rank: if at least 1, of plans of this rank (Scetbon et al., 2022).

    Returns: (), the value of the plan at which the solver ends, a local optimum.
    """
    x, y, u, v = promote_problem(x, y, u, v)
    geometry = _ott("geometry.geometry").Geometry
    problem = _ott("problems.quadratic.quadratic_problem").QuadraticProblem(
        geometry(x), geometry(y), a=u, b=v
    )
    if rank < 1:
        linear = _ott("solvers.linear.sinkhorn").Sinkhorn()
        module = _ott("solvers.quadratic.gromov_wasserstein")
        solver = module.GromovWasserstein(linear, epsilon=epsilon)
    else:
        module = _ott("solvers.quadratic.gromov_wasserstein_lr")
        solver = module.LRGromovWasserstein(rank=rank, epsilon=epsilon)
    return solver(problem).primal_cost
