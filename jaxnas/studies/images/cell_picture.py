"""A picture of a cell of NAS-Bench-201: its nodes, and an arrow for each operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxnas.networks import counting
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, POOL, SKIP
from jaxnas.studies import figures
from jaxnas.studies.drawing import Axes, FancyArrowPatch, Figure, matplotlib

NAMES = {SKIP: "skip", CONV1: "conv 1×1", CONV3: "conv 3×3", POOL: "avg pool 3×3"}
STYLES: dict[int, dict[str, Any]] = {
    CONV3: {"color": figures.COLOURS[0]},
    CONV1: {"color": figures.COLOURS[2]},
    POOL: {"color": figures.COLOURS[1]},
    SKIP: {"color": "#777777"},
}
# Bend of each edge as a share of its length, positive upwards; no two edges cross.
BEND = {(0, 1): 0.0, (1, 2): 0.0, (2, 3): 0.0, (0, 2): 0.5, (1, 3): -0.5, (0, 3): 0.55}
NODES = ("input", "node 1", "node 2", "output")
SPACING = 2.2  # between nodes, in units of the axes


def draw(path: str | Path, arch: str, *, title: str) -> None:
    """Draws a cell and writes the png, atomically.

    Edges of the operation `none` are left out. Edges that are on no path from the input to
    the output are dashed and called unused.

    Args:
      path: the png.
      arch: the cell in the notation of the benchmark.
      title: above the picture.

    Raises: `ValueError` for a text that is not an architecture.
    """
    ops = nasbench201.from_string(arch)
    live = counting.live(ops)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(8, 4.4), dpi=120, layout="constrained")
        axis = figure.subplots()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        axis.set_axis_off()
        axis.set_aspect("equal")
        axis.set_xlim(-0.6, 3 * SPACING + 0.6)
        axis.set_ylim(-1.55, 2.15)
        for edge, op, used in zip(EDGES, ops.tolist(), live, strict=True):
            if op != NONE:
                _arrow(axis, edge, op, used)
        for node, name in enumerate(NODES):
            box = dict(boxstyle="round,pad=0.5", fc="white", ec="black", lw=1.2)
            x = node * SPACING
            axis.text(x, 0, name, ha="center", va="center", bbox=box, zorder=3)
        if (ops == NONE).all():
            axis.text(1.5 * SPACING, 1, "no operation", ha="center", color="#777777")
        axis.text(1.5 * SPACING, -1.5, arch, ha="center", fontsize=7.5, color="#555555")
        figures.save(figure, path)


def _arrow(axis: Axes, edge: tuple[int, int], op: int, used: bool) -> None:
    """Draws an edge and the name of its operation.

    Args:
      axis: of the picture.
      edge: the nodes where it starts and ends, from 0.
      op: its operation, not `none`.
      used: whether it is on a path from the input to the output.
    """
    start, end = (node * SPACING for node in edge)
    bend = BEND[edge]
    axis.add_patch(
        FancyArrowPatch(
            (start, 0),
            (end, 0),
            # A positive bend of matplotlib is to the right of the direction.
            connectionstyle=f"arc3,rad={-bend}",
            arrowstyle="-|>,head_length=7,head_width=3.5",
            shrinkA=27,
            shrinkB=27,
            linewidth=2.2,
            linestyle="-" if used else (0, (3, 2)),
            alpha=1.0 if used else 0.6,
            zorder=1,
            **STYLES[op],
        )
    )
    # A quadratic curve passes at half of the height of its control point.
    height = bend * (end - start) / 2
    label = NAMES[op] if used else f"{NAMES[op]} (unused)"
    if not bend:
        height, label = 0.16, _two_lines(label)
    axis.text(
        (start + end) / 2,
        height,
        label,
        ha="center",
        va="center" if bend else "bottom",
        fontsize=9.5,
        color=STYLES[op]["color"],
        fontweight="bold",
        bbox={"fc": "white", "ec": "none", "pad": 1.5} if bend else None,
        zorder=2,
    )


def _two_lines(label: str) -> str:
    """Breaks a label at its last space, as straight edges are short."""
    return "\n".join(label.rsplit(" ", 1))
