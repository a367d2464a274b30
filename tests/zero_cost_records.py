"""The recorded networks of zero_cost.npz, as this project's parameters."""

from typing import NamedTuple

import numpy as np

from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import (
    Head,
    NetworkConfig,
    Params,
    Reduction,
    StageConvs,
)
from jaxnas.spaces import nasbench201 as nb201


class Record(NamedTuple):
    """One recorded network."""

    network: NetworkConfig
    arch: np.ndarray  # (6,)
    params: Params  # float64
    x: np.ndarray  # (32, h, w, 3) float64
    y: np.ndarray  # (32,)
    noise: np.ndarray  # (8, h, w, 3)
    out: dict  # recorded arrays
    scores: dict  # recorded in float64
    probes: list  # of AZ-NAS, last block first, channels last
    entry: dict


def matrix(weight):
    """(out, in, kh, kw) as (kh * kw * in, out)."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def load(arrays, index, tag):
    """The record of a tag from the arrays of the npz and the object of the json."""
    entry = index["entries"][tag]
    network = NetworkConfig(entry["C"], entry["N"], entry["classes"], entry["res"])
    prefix = f"w/{tag}/"
    w = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    w = {k: v.astype(np.float64) for k, v in w.items()}

    def conv(name, norm=None):
        if norm is None:
            return Conv(matrix(w[f"{name}.weight"]), None, None)
        return Conv(matrix(w[name + ".weight"]), w[norm + ".weight"], w[norm + ".bias"])

    def stage(first, channels):
        leaves = {}
        for kind, size in ((0, 1), (1, 3)):
            # What the recorded network does not have must not matter: NaN would show.
            shape = (network.cells_per_stage, 6, size * size * channels, channels)
            bn = (network.cells_per_stage, 6, channels)
            parts = np.full(shape, 7.0), np.full(bn, 5.0), np.full(bn, 3.0)
            for n in range(network.cells_per_stage):
                for e in range(6):
                    name = f"cells.{first + n}.layers.{e}.op"
                    weight = w.get(f"{name}.1.weight")
                    if weight is not None and weight.shape[-1] == size:
                        one = conv(f"{name}.1", f"{name}.2")
                        for part, leaf in zip(parts, one, strict=False):
                            part[n, e] = leaf
            leaves[kind] = Conv(*parts)
        return StageConvs(leaves[0], leaves[1])

    n = network.cells_per_stage
    stages = [stage(i * (n + 1), network.stem_channels * 2**i) for i in range(3)]
    reductions = []
    for q in (n, 2 * n + 1):
        a, b = f"cells.{q}.conv_a.op", f"cells.{q}.conv_b.op"
        convs = conv(f"{a}.1", f"{a}.2"), conv(f"{b}.1", f"{b}.2")
        reductions.append(Reduction(*convs, conv(f"cells.{q}.downsample.1")))
    head = Head(
        w["lastact.0.weight"],
        w["lastact.0.bias"],
        w["classifier.weight"].T,
        w["classifier.bias"],
    )
    params = Params(conv("stem.0", "stem.1"), tuple(stages), tuple(reductions), head)
    inputs = f"input/{entry['input_set']}/"
    x = arrays[inputs + "x"].astype(np.float64).transpose(0, 2, 3, 1)
    noise = arrays[inputs + "noise8"].astype(np.float64).transpose(0, 2, 3, 1)
    probes = []
    for i, shape in enumerate(entry["az_probe_shapes"]):
        bits = np.unpackbits(arrays[f"probe/{tag}/{i}"])[: np.prod(shape)]
        probes.append(2.0 * bits.reshape(shape).transpose(0, 2, 3, 1) - 1)
    start = f"out/{tag}/"
    return Record(
        network,
        nb201.from_string(entry["arch"]),
        params,
        x,
        arrays[inputs + "y"],
        noise,
        {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)},
        entry["scores_f64"],
        probes,
        entry,
    )
