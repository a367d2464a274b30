"""The bench of transport between small graphs: many pairs at once, against loops.

Ours are timed on all pairs, the loops on a sample of them, whose values are compared:
where both are exact they have to agree, and else the lines say how far they are apart.
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
from experiments.bench.timing import Row
from jaxnas import transport as solvers
from jaxnas.batching import in_blocks, in_chunks
from jaxnas.kernels import graph_distances, layer_matching
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.transport import general

# Without what POT checks and centres by default, which takes longer than to solve.
FAST = {"center_dual": False, "check_marginals": False}
STEPS = 200  # at most, of POT's solvers: some pairs of directed graphs never converge


class Cells(NamedTuple):
    """Cells of up to 8 vertices, padded, as arrays (p, ...)."""

    layers: layer_matching.Layers
    structure: graph_distances.Structure


class Pairs(NamedTuple):
    """What is between the vertices of pairs of cells."""

    cost: np.ndarray  # (p, 8, 8) of a match in OTMANN, at most 2
    labels: np.ndarray  # (p, 8, 8) the same of labels alone


def transport(config: Config) -> list[Row]:
    """Solvers in turn, on one core, by pair of NAS-Bench-201 cells."""
    rng, size = np.random.default_rng(0), (2, config.transport_pairs, 6)
    few = range(min(config.pairs, config.transport_pairs))
    x, y = (cells(arch) for arch in rng.integers(0, 5, size))
    cost, labels = between(x, y)
    graphs = (x.structure.adj, y.structure.adj, x.structure.mass, y.structure.mass)
    compact = [_compact((cost, labels), graphs, i) for i in few]
    # Cells without `none` have all 8 vertices, so an assignment is exact transport.
    full = between(*(cells(arch) for arch in rng.integers(1, 5, size))).cost
    exact, uniform = full[: len(few)].astype(np.float64), np.full(8, 1 / 8)
    programmes = [_programme(x.layers, y.layers, i) for i in few]
    gromov, settings = ot.gromov, {"symmetric": False, "max_iter": STEPS}

    def assigned(i: int) -> float:
        return exact[i][linear_sum_assignment(exact[i])].sum() / 8

    def fused(i: int) -> float:
        costs, structures = compact[i][1], compact[i][2:]
        return gromov.fused_gromov_wasserstein2(costs, *structures, **settings)

    with timing.one_core():
        return [
            *_group(
                config,
                "exact transport between 8 and 8 vertices of equal mass",
                lambda c: solvers.assignment(c) / 8,
                (full,),
                {
                    "POT emd2": lambda i: ot.emd2(uniform, uniform, exact[i], **FAST),
                    "scipy linear_sum_assignment": assigned,
                },
                tolerance=1e-5,
            ),
            *_group(
                config,
                "transport between vertices of equal mass, 2 to 8 of them",
                solvers.sinkhorn,
                (cost, *graphs[2:]),
                {"POT emd2": lambda i: ot.emd2(*compact[i][4:], compact[i][0], **FAST)},
                ott=general.sinkhorn,
            ),
            *_group(
                config,
                "Gromov-Wasserstein between directed edges",
                solvers.gromov_wasserstein,
                graphs,
                {
                    "POT, conditional gradient": lambda i: gromov.gromov_wasserstein2(
                        *compact[i][2:], **settings
                    )
                },
                # It takes symmetric structures only: so as many steps, for other values.
                ott=lambda a, b, u, v: general.gromov_wasserstein(
                    a + a.T, b + b.T, u, v, epsilon=0.05
                ),
            ),
            *_group(
                config,
                "fused Gromov-Wasserstein, labels and edges",
                solvers.fused_gromov_wasserstein,
                (*graphs, labels),
                {"POT, conditional gradient": fused},
            ),
            *_group(
                config,
                "OTMANN",
                layer_matching.otmann(SPACE.labels),
                (x.layers, y.layers),
                {"POT emd2, costs ready": lambda i: ot.emd2(*programmes[i], **FAST)},
                tolerance=1e-4,
            ),
        ]


def cells(arch: np.ndarray) -> Cells:
    """Architectures (p, 6) as solvers see them."""
    gromov = graph_distances.gromov_wasserstein(SPACE)
    layers = in_chunks(layer_matching.cell_layers(SPACE), arch.astype(np.int32))
    return Cells(layers, in_chunks(gromov.prepare, arch.astype(np.int32)))


def between(x: Cells, y: Cells) -> Pairs:
    """The costs of matching the vertices of pairs of cells."""
    costs = graph_distances.mismatch_costs(SPACE).astype(np.float32)
    labels = costs[x.layers.label[:, :, None], y.layers.label[:, None]]
    paths = np.abs(x.layers.paths[:, :, None] - y.layers.paths[:, None]).mean(-1)
    return Pairs(np.minimum(labels + 0.5 * paths, graph_distances.FORBIDDEN), labels)


def _compact(costs: tuple, graphs: tuple, i: int) -> list[np.ndarray]:
    """Pair `i` without padding, as POT takes it: costs, labels, edges and masses."""
    known, other = (graphs[2][i] > 0, graphs[3][i] > 0)
    cut = [(known, other), (known, other), (known, known), (other, other)]
    square = zip((*costs, *graphs[:2]), cut, strict=True)
    arrays = [np.array(a[i][np.ix_(*c)], np.float64) for a, c in square]
    return [*arrays, *(np.full(k.sum(), 1 / k.sum()) for k in (known, other))]


def _programme(x: layer_matching.Layers, y: layer_matching.Layers, i: int) -> tuple:
    """OTMANN as the paper solves it, with a layer for what is not matched."""
    known = [(z.label[i][z.label[i] >= 0], z.paths[i][z.label[i] >= 0]) for z in (x, y)]
    labels, paths = zip(*known, strict=True)
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
) -> list[Row]:
    """Ours on all pairs, `loops` on a few; values are compared with the first loop's.

    Raises: `ValueError` if they differ by more than `tolerance`.
    """
    few = range(min(config.pairs, config.transport_pairs))
    program = jax.jit(lambda *some: in_blocks(solve, *some))
    problems = jax.device_put(problems)
    name = "jaxnas in float32"
    calls = {name: lambda: program(*problems).block_until_ready()}
    calls |= {n: lambda f=f: [f(i) for i in few] for n, f in loops.items()}
    num = {name: config.transport_pairs} | {n: len(few) for n in loops}
    if ott and config.ott_pairs:
        some = jax.tree.map(lambda a: a[: config.ott_pairs], problems)
        mapped = jax.jit(jax.vmap(ott))
        calls["ott-jax, vmapped"] = lambda: mapped(*some).block_until_ready()
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
    said = f", {apart.mean():.2g} of {theirs.mean():.2g} off, rank {rank:.3f}"
    return [rows[0]._replace(what=name + said), *rows[1:]]
