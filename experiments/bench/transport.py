"""Time of transport between small graphs: many pairs at once, against loops over pairs.

jaxnas solves all pairs, the peers a sample of them, whose values are compared: exact
solvers must agree, for others the table says how much they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import ot
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas import transport as solvers
from jaxnas.batching import in_blocks, in_chunks
from jaxnas.kernels import graph_distances, layer_matching
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.transport import general
from jaxnas.types import Array

# The checks and the centring that POT does by default take longer than the solution.
FAST = {"center_dual": False, "check_marginals": False}
STEPS = 200  # of POT's solvers, at most: some pairs of directed graphs never converge


class PaddedCells(NamedTuple):
    """p cells of up to 8 vertices, padded, as arrays (p, ...)."""

    layers: layer_matching.Layers
    structure: graph_distances.Structure


class Costs(NamedTuple):
    """Costs of matching the vertices of p pairs of cells."""

    match: np.ndarray  # (p, 8, 8) of a match in OTMANN, at most 2
    labels: np.ndarray  # (p, 8, 8) the part of the labels


class Problems(NamedTuple):
    """Random pairs of cells, prepared for all solvers."""

    x: PaddedCells
    y: PaddedCells
    costs: Costs
    graphs: tuple  # adjacency matrices (p, 8, 8) of x and y, and their masses (p, 8)
    compact: list[list[np.ndarray]]  # the first pairs as POT takes them: `_compact`
    full: np.ndarray  # (p, 8, 8) costs of other pairs, of cells with all 8 vertices


def transport(config: Config) -> list[Measurement]:
    """Times five solvers on one core, by pair of NAS-Bench-201 cells.

    Raises: `ValueError` if jaxnas and a peer differ where both are exact.
    """
    problems = _problems(config)
    sections = (_assignment, _sinkhorn, _gromov, _fused_gromov, _otmann)
    with timing.one_core():
        return [row for section in sections for row in section(config, problems)]


def _problems(config: Config) -> Problems:
    """Draws pairs of random cells, and prepares them for all solvers.

    Args:
      config: the number of pairs of jaxnas, and of the first of them that peers solve.
    """
    rng, size = np.random.default_rng(0), (2, config.transport_pairs, 6)
    x, y = (cells(arch) for arch in rng.integers(0, 5, size))
    costs = between(x, y)
    graphs = (x.structure.adj, y.structure.adj, x.structure.mass, y.structure.mass)
    few = range(min(config.pairs, config.transport_pairs))
    compact = [_compact(costs, graphs, i) for i in few]
    # Cells without `none` have all 8 vertices.
    full = between(*(cells(arch) for arch in rng.integers(1, 5, size))).match
    return Problems(x, y, costs, graphs, compact, full)


def _assignment(config: Config, problems: Problems) -> list[Measurement]:
    """Between 8 and 8 vertices of equal mass an assignment is exact transport."""
    exact, uniform = problems.full.astype(np.float64), np.full(8, 1 / 8)

    def assigned(i: int) -> float:
        return exact[i][linear_sum_assignment(exact[i])].sum() / 8

    return _group(
        config,
        "exact transport between 8 and 8 vertices of equal mass",
        lambda c: solvers.assignment(c) / 8,
        (problems.full,),
        {
            "POT emd2": lambda i: ot.emd2(uniform, uniform, exact[i], **FAST),
            "scipy linear_sum_assignment": assigned,
        },
        tolerance=1e-5,
    )


def _sinkhorn(config: Config, problems: Problems) -> list[Measurement]:
    """Entropic transport of jaxnas against exact transport by POT."""

    def exact(i: int) -> float:
        cost, *_, u, v = problems.compact[i]
        return ot.emd2(u, v, cost, **FAST)

    return _group(
        config,
        "transport between vertices of equal mass, 2 to 8 of them",
        solvers.sinkhorn,
        (problems.costs.match, *problems.graphs[2:]),
        {"POT emd2": exact},
        ott=general.sinkhorn,
    )


def _gromov(config: Config, problems: Problems) -> list[Measurement]:
    """Gromov-Wasserstein between adjacency matrices: jaxnas, POT and ott-jax.

    POT takes at most as many steps of the conditional gradient as jaxnas.
    """

    def pot(i: int) -> float:
        structures = problems.compact[i][2:]
        options = {"symmetric": False, "max_iter": STEPS}
        return ot.gromov.gromov_wasserstein2(*structures, **options)

    def ott(a: Array, b: Array, u: Array, v: Array) -> Array:
        # ott-jax takes symmetric structures only: as many steps, for other values.
        return general.gromov_wasserstein(a + a.T, b + b.T, u, v, epsilon=0.05)

    return _group(
        config,
        "Gromov-Wasserstein between directed edges",
        solvers.gromov_wasserstein,
        problems.graphs,
        {"POT, conditional gradient": pot},
        ott=ott,
    )


def _fused_gromov(config: Config, problems: Problems) -> list[Measurement]:
    """Fused Gromov-Wasserstein of labels and edges: jaxnas and POT."""

    def pot(i: int) -> float:
        _, labels, *structures = problems.compact[i]
        options = {"symmetric": False, "max_iter": STEPS}
        return ot.gromov.fused_gromov_wasserstein2(labels, *structures, **options)

    return _group(
        config,
        "fused Gromov-Wasserstein, labels and edges",
        solvers.fused_gromov_wasserstein,
        (*problems.graphs, problems.costs.labels),
        {"POT, conditional gradient": pot},
    )


def _otmann(config: Config, problems: Problems) -> list[Measurement]:
    """OTMANN (Kandasamy et al., 2018): jaxnas, and the linear program by POT."""
    x, y = problems.x.layers, problems.y.layers
    programmes = [_programme(x, y, i) for i in range(len(problems.compact))]
    return _group(
        config,
        "OTMANN",
        layer_matching.otmann(SPACE.labels),
        (x, y),
        {"POT emd2, costs ready": lambda i: ot.emd2(*programmes[i], **FAST)},
        tolerance=1e-4,
    )


def cells(arch: np.ndarray) -> PaddedCells:
    """Prepares architectures (p, 6) for the solvers."""
    gromov = graph_distances.gromov_wasserstein(SPACE)
    layers = in_chunks(layer_matching.cell_layers(SPACE), arch.astype(np.int32))
    return PaddedCells(layers, in_chunks(gromov.prepare, arch.astype(np.int32)))


def between(x: PaddedCells, y: PaddedCells) -> Costs:
    """Computes the costs of matching the vertices of pairs of cells."""
    costs = graph_distances.mismatch_costs(SPACE).astype(np.float32)
    labels = costs[x.layers.label[:, :, None], y.layers.label[:, None]]
    paths = np.abs(x.layers.paths[:, :, None] - y.layers.paths[:, None]).mean(-1)
    return Costs(np.minimum(labels + 0.5 * paths, graph_distances.FORBIDDEN), labels)


def _compact(costs: Costs, graphs: tuple, i: int) -> list[np.ndarray]:
    """Pair `i` without padding: both costs, both adjacency matrices and both masses."""
    of_x, of_y = (graphs[2][i] > 0, graphs[3][i] > 0)
    cut = [(of_x, of_y), (of_x, of_y), (of_x, of_x), (of_y, of_y)]
    square = zip((*costs, *graphs[:2]), cut, strict=True)
    arrays = [np.array(a[i][np.ix_(*c)], np.float64) for a, c in square]
    return [*arrays, *(np.full(k.sum(), 1 / k.sum()) for k in (of_x, of_y))]


def _programme(x: layer_matching.Layers, y: layer_matching.Layers, i: int) -> tuple:
    """OTMANN of pair `i` as the paper solves it, with a layer for unmatched mass."""
    present = [z.label[i] >= 0 for z in (x, y)]
    labels = [z.label[i][k] for z, k in zip((x, y), present, strict=True)]
    paths = [z.paths[i][k] for z, k in zip((x, y), present, strict=True)]
    ends = len(SPACE.labels)
    mass = [
        np.where(z < ends, 1.0, layer_matching.ENDS * (z < ends).sum()) for z in labels
    ]
    cost = layer_matching.label_costs(SPACE.labels)[np.ix_(*labels)]
    cost = cost + 0.5 * np.abs(paths[0][:, None] - paths[1]).mean(-1)
    cost = np.pad(np.minimum(cost, 1e3), ((0, 1), (0, 1)), constant_values=1.0)
    cost[-1, -1] = 0
    pairs = zip(mass, mass[::-1], strict=True)
    return *(np.append(m, other.sum()) for m, other in pairs), cost


def _group(
    config: Config,
    title: str,
    solve: Callable,
    problems: tuple,
    loops: dict[str, Callable[[int], float]],
    *,
    tolerance: float | None = None,
    ott: Callable | None = None,
) -> list[Measurement]:
    """Times a solver on all pairs and loops on a few, and compares their values.

    Args:
      config: the numbers of pairs and repeats.
      title: of the group.
      solve: the solver of jaxnas, for one pair.
      problems: its arguments, of all pairs.
      loops: solvers of other libraries, by the index of a pair.
      tolerance: of the difference to the first loop; default: any.
      ott: the solver of ott-jax, with the arguments of `solve`.

    Raises: `ValueError` if values differ by more than `tolerance`.
    """
    few = range(min(config.pairs, config.transport_pairs))
    program = jax.jit(lambda *arrays: in_blocks(solve, *arrays))
    problems = jax.device_put(problems)
    name = "jaxnas in float32"
    calls = {name: lambda: program(*problems).block_until_ready()}
    calls |= {n: lambda f=f: [f(i) for i in few] for n, f in loops.items()}
    num = {name: config.transport_pairs} | {n: len(few) for n in loops}
    if ott and config.ott_pairs:
        part = jax.tree.map(lambda a: a[: config.ott_pairs], problems)
        mapped = jax.jit(jax.vmap(ott))
        calls["ott-jax, vmapped"] = lambda: mapped(*part).block_until_ready()
        num["ott-jax, vmapped"] = min(config.ott_pairs, config.transport_pairs)
    times = timing.in_turn(calls, config.repeats)
    first = next(iter(loops.values()))
    ours = np.asarray(program(*problems))[: len(few)]
    theirs = np.array([first(i) for i in few])
    apart = np.abs(ours - theirs)
    if tolerance is not None and not apart.max() < tolerance:
        raise ValueError(f"{title}: POT and jaxnas differ by {apart.max():.2g}")
    scaled = {n: t.scaled(1e6 / num[n]) for n, t in times.items()}
    rows = timing.compare(f"a pair: {title}", "us", scaled)
    rank = np.corrcoef(rankdata(ours), rankdata(theirs))[0, 1]
    difference = f", {apart.mean():.2g} of {theirs.mean():.2g} off, rank {rank:.3f}"
    return [rows[0]._replace(what=name + difference), *rows[1:]]
