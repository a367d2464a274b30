"""The once-for-all space of MobileNetV3 networks (Cai et al., 2020).

A network has five stages of up to four layers, inverted residual blocks. An architecture
is int32 (45,), all choices from 0 to 2: the kernel size of each of the 20 layers, as an
index into `KERNELS`; their expansion ratios, into `EXPANSIONS`; and the depth of each
stage, into `DEPTHS`. Layers of a stage beyond its depth are inactive: vectors that differ
only there are the same architecture, whose canonical form has 0 in these positions.

The input resolution is an argument of the functions that depend on it. To search over it
as well, `SPACE_WITH_RESOLUTION` has a 46th position, an index into `RESOLUTIONS`; all
functions of this module, `mobilenetv3_formats` and `mobilenetv3_counts` take both forms.

There are 7371^5, about 2.2 x 10^19, architectures; every vector is valid. A network is a
chain of layers, whose graph has their operations as vertices.
"""

from __future__ import annotations

import dataclasses
import re

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base
from jaxnas.types import Array, Graph

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))
"""Input resolutions of the 46th position, in pixels."""
STAGES, LAYERS = 5, 20
LENGTH = 2 * LAYERS + STAGES
PARTS = (range(LAYERS), range(LAYERS, 2 * LAYERS), range(2 * LAYERS, LENGTH))
"""Positions of kernels, expansions and depths."""
LABELS = tuple(f"conv_k{k}_e{e}" for k in KERNELS for e in EXPANSIONS)
_PER_STAGE = LAYERS // STAGES
# A stage of depth d has 9^d settings.
NUM_ARCHITECTURES = sum(9**depth for depth in DEPTHS) ** STAGES
_LAYER = re.compile(r"k([357])e([346])")


def depths(arch: Array) -> Array:
    """Number of active layers of each stage: arch (d,) -> (5,) int32, from 2 to 4."""
    return jnp.asarray(arch[2 * LAYERS : LENGTH], jnp.int32) + DEPTHS[0]


def active_layers(arch: Array) -> Array:
    """The layers that are in the network: arch (d,) -> (20,) bool."""
    return (jnp.arange(_PER_STAGE) < depths(arch)[:, None]).reshape(-1)


def active(arch: Array) -> Array:
    """The positions that an architecture uses: arch (d,) -> (d,) bool."""
    layers = active_layers(arch)
    rest = jnp.ones(len(arch) - 2 * LAYERS, bool)
    return jnp.concatenate([layers, layers, rest])


def canonical(arch: Array) -> Array:
    """The same architecture with 0 in all inactive positions: (d,) -> (d,)."""
    return jnp.where(active(arch), arch, 0)


def operations(arch: Array) -> Array:
    """Kernel size and expansion of every layer as one index into `LABELS`.

    Args:
      arch: (d,) int32.

    Returns: (20,) int32, 3 times the kernel's index plus the expansion's; -1 for inactive
      layers.
    """
    kernel, expansion = arch[:LAYERS], arch[LAYERS : 2 * LAYERS]
    pair = len(EXPANSIONS) * kernel + expansion
    return jnp.where(active_layers(arch), pair, -1).astype(jnp.int32)


def resolution(arch: Array) -> Array:
    """The input resolution () int32 in pixels: 224 for an architecture (45,)."""
    last = arch[LENGTH] if len(arch) > LENGTH else -1
    return jnp.asarray(RESOLUTIONS, jnp.int32)[last]


def to_graph(arch: Array) -> Graph:
    """Converts an architecture (d,) to the chain of its layers, a graph of 22 vertices.

    Vertex 0 is the input, 1 to 20 are the layers and 21 is the output. Inactive layers are
    no vertices: an edge leads from the layer before them to the one behind.
    """
    ops = operations(arch)
    ends = jnp.full(1, -1, jnp.int32)
    mask = jnp.concatenate([ends + 2, ops + 1, ends + 2]) > 0
    position = jnp.cumsum(mask)  # along the chain
    follows = position[None] == position[:, None] + 1
    adj = follows & mask[:, None] & mask
    return Graph(adj, jnp.concatenate([ends, ops, ends]), mask)


def to_string(arch: Array | np.ndarray) -> str:
    """Writes an architecture as `k3e4,k7e6|...`: the active layers of each stage.

    The resolution of an architecture (46,) follows after `@`, as in `...|k3e3,k5e3@224`.

    Raises: `ValueError` for choices out of range.
    """
    sized = np.shape(arch) == (LENGTH + 1,)
    given = base.as_choices(SPACE_WITH_RESOLUTION if sized else SPACE, arch)
    stages = []
    for stage, depth in enumerate(given[2 * LAYERS : LENGTH]):
        first = stage * _PER_STAGE
        layers = range(first, first + DEPTHS[depth])
        pairs = [(KERNELS[given[i]], EXPANSIONS[given[LAYERS + i]]) for i in layers]
        stages.append(",".join(f"k{k}e{e}" for k, e in pairs))
    suffix = f"@{RESOLUTIONS[given[LENGTH]]}" if sized else ""
    return "|".join(stages) + suffix


def from_string(text: str) -> np.ndarray:
    """Parses the notation of `to_string` to an architecture in canonical form.

    Args:
      text: five stages of two to four layers.

    Returns: (45,) int32.
    Raises: `ValueError` for another number of stages or layers, and for a layer that the
      space does not have.
    """
    stages = text.split("|") if isinstance(text, str) else []
    arch = np.zeros(LENGTH, np.int32)
    if len(stages) != STAGES:
        raise _malformed(text)
    for stage, layers in enumerate(stages):
        parsed = [_LAYER.fullmatch(layer) for layer in layers.split(",")]
        if len(parsed) not in DEPTHS:
            raise _malformed(text)
        arch[2 * LAYERS + stage] = DEPTHS.index(len(parsed))
        for i, match in enumerate(parsed, stage * _PER_STAGE):
            if match is None:
                raise _malformed(text)
            arch[i] = KERNELS.index(int(match[1]))
            arch[LAYERS + i] = EXPANSIONS.index(int(match[2]))
    return arch


def _with_resolution_from_string(text: str) -> np.ndarray:
    """Parses the notation with a resolution to an architecture (46,) int32."""
    layers, _, pixels = text.partition("@") if isinstance(text, str) else ("", "", "")
    arch = from_string(layers)
    if pixels not in map(str, RESOLUTIONS):
        raise ValueError(
            f"{text!r} has the resolution {pixels!r}: wanted '@' and a multiple "
            f"of 4 from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]} at the end"
        )
    return np.append(arch, np.int32(RESOLUTIONS.index(int(pixels))))


def _malformed(text: object) -> ValueError:
    return ValueError(
        f"not a network of {SPACE.name}: {text!r}; wanted five stages such as "
        "'k3e4,k7e6|...', each of two to four layers with kernel 3, 5 or 7 and expansion "
        "3, 4 or 6"
    )


def _space(name: str, choices: tuple[int, ...]) -> base.Space:
    """The product of the choices, whose inactive positions do not count."""
    sized = len(choices) > LENGTH
    return dataclasses.replace(
        base.product(name, choices, active=active),
        to_string=to_string,
        from_string=_with_resolution_from_string if sized else from_string,
        size=NUM_ARCHITECTURES * (len(RESOLUTIONS) if sized else 1),
        labels=LABELS,
        graphs=(to_graph,),
    )


SPACE = _space("mobilenetv3", (3,) * LENGTH)
"""Networks of one resolution: vectors (45,)."""
SPACE_WITH_RESOLUTION = _space(
    "mobilenetv3-resolution", (3,) * LENGTH + (len(RESOLUTIONS),)
)
"""Networks with their input resolution: vectors (46,)."""
