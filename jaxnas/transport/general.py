"""Transport between measures of any size, by ott-jax (Cuturi et al., 2022).

A thin layer of functions on arrays; ott-jax is imported when one is called, and comes
with the extra `ot`. On graphs of a few vertices the solvers beside this file are
hundreds of times faster. All of these can be differentiated, jitted and vmapped, and
raise `ValueError` for masses of unequal totals where the values are known.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from jaxnas.transport.masses import promote_problem
from jaxnas.types import Array


def _ott(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            # Of packages that it imports and that are no longer maintained.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(f"ott.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "ott":
            raise
        raise ImportError(
            "transport of general size needs ott-jax: pip install 'jaxnas[ot]'"
        ) from error


def sinkhorn(cost: Array, u: Array, v: Array, *, epsilon: float = 0.05) -> Array:
    """Regularised transport cost () of `cost` (n, m) between masses (n,) and (m,).

    Iterates on logarithms until it converges; the value is that of
    `jaxnas.transport.entropic.entropic_cost`.
    """
    cost, u, v = promote_problem(cost, u, v)
    geometry = _ott("geometry.geometry").Geometry(cost, epsilon=epsilon)
    found = _ott("solvers.linear").solve(geometry, u, v)
    return found.reg_ot_cost


def sinkhorn_divergence(
    x: Array, y: Array, u: Array, v: Array, *, epsilon: float = 0.05
) -> Array:
    """Sinkhorn divergence () between points (n, d) and (m, d) with masses (n,), (m,).

    The cost is the squared Euclidean distance (Feydy et al., 2019).
    """
    x, y, u, v = promote_problem(x, y, u, v)
    clouds = _ott("geometry.pointcloud").PointCloud
    divergence = _ott("tools.sinkhorn_divergence").sinkhorn_divergence
    value, _ = divergence(clouds, x, y, a=u, b=v, epsilon=epsilon)
    return value


def low_rank(
    x: Array, y: Array, u: Array, v: Array, *, rank: int, epsilon: float = 0.0
) -> Array:
    """Transport cost () between points over plans of non-negative rank `rank`.

    Linear in the number of points (Scetbon et al., 2021); cost as above.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    x, y, u, v = promote_problem(x, y, u, v)
    geometry = _ott("geometry.pointcloud").PointCloud(x, y)
    problem = _ott("problems.linear.linear_problem").LinearProblem(geometry, u, v)
    solver = _ott("solvers.linear.sinkhorn_lr").LRSinkhorn(rank=rank, epsilon=epsilon)
    return solver(problem).primal_cost


def gromov_wasserstein(
    x: Array, y: Array, u: Array, v: Array, *, epsilon: float = 0.01, rank: int = -1
) -> Array:
    """Entropic Gromov-Wasserstein () between structures (n, n) and (m, m), symmetric.

    With `rank` at least 1 over plans of that rank (Scetbon et al., 2022).
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
