"""State dicts of the published PyTorch models: names, shapes, and import and export.

A published generator has 99 tensors, a predictor 82. Tensors that influence no output (the
graph encoder of a generator, `set_fc`, `hv_unify`, and `fc2` of a predictor) are kept in
the collection `unused`, so that reading and writing a file preserves all of its tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.models.config import RESNET18_32, ModelConfig
from jaxnas.models.generator import Generator
from jaxnas.models.graphs import adjacency
from jaxnas.models.model import Model, Network
from jaxnas.models.predictor import Predictor
from jaxnas.types import FeatureKind


class Entry(NamedTuple):
    """A tensor of a state dict."""

    name: str
    path: str  # of the variable: collection/module/.../array
    shape: tuple[int, ...]  # in the state dict, where kernels are transposed


def _linear(
    name: str, path: str, out: int, inputs: int, bias: bool = True
) -> Iterator[Entry]:
    """The tensors of a dense layer."""
    yield Entry(f"{name}.weight", f"{path}/kernel", (out, inputs))
    if bias:
        yield Entry(f"{name}.bias", f"{path}/bias", (out,))


def _gru(name: str, path: str, c: ModelConfig) -> Iterator[Entry]:
    """The tensors of a gated recurrent unit."""
    wide = 3 * c.hidden
    yield Entry(f"{name}.weight_ih", f"{path}/wi", (wide, c.num_types))
    yield Entry(f"{name}.weight_hh", f"{path}/wh", (wide, c.hidden))
    yield Entry(f"{name}.bias_ih", f"{path}/bi", (wide,))
    yield Entry(f"{name}.bias_hh", f"{path}/bh", (wide,))


def _sweeps(path: str, c: ModelConfig) -> Iterator[Entry]:
    """The recurrent units of both sweeps of a graph encoder."""
    for way in ("forward", "backward"):
        yield from _gru(f"grue_{way}", f"{path}/{way}/gru", c)


def _messages(path: str, c: ModelConfig) -> Iterator[Entry]:
    """The other layers of a graph encoder."""
    joined = c.hidden + c.num_vertices
    ways = ("forward", "backward")
    for way in ways:
        gate = f"{path}/{way}/message/gate"
        yield from _linear(f"gate_{way}.0", gate, c.hidden, joined)
    for way in ways:
        mapper = f"{path}/{way}/message/map"
        yield from _linear(f"mapper_{way}.0", mapper, c.hidden, joined, bias=False)
    yield from _linear("hv_unify.0", "unused/hv_unify", c.hidden, 2 * c.hidden)
    yield from _linear("hg_unify.0", f"{path}/unify", c.hidden, 2 * c.hidden)


def _set_pool(name: str, path: str, inputs: int, c: ModelConfig) -> Iterator[Entry]:
    """The tensors of a `SetPool`."""
    for block, wide in (("enc.0", inputs), ("enc.1", c.latent), ("dec.0", c.latent)):
        module = f"{path}/{block.replace('.', '_')}"
        if block == "dec.0":
            yield Entry(f"{name}.{block}.S", f"{module}/S", (1, 1, c.latent))
        for layer in ("fc_q", "fc_k", "fc_v", "fc_o"):
            width = c.latent if layer == "fc_o" else wide
            names = f"{name}.{block}.mab.{layer}", f"{module}/mab/{layer}"
            yield from _linear(*names, c.latent, width)
    yield from _linear(f"{name}.dec.1", f"{path}/dec_1", c.latent, c.latent)


def _set_encoder(c: ModelConfig) -> Iterator[Entry]:
    """The tensors of a `SetEncoder`, and the unused layer after it."""
    yield from _set_pool("intra_setpool", "params/set/intra", c.features.width, c)
    yield from _set_pool("inter_setpool", "params/set/inter", c.latent, c)
    yield from _linear("set_fc.0", "unused/set_fc", c.latent, c.features.width)


def _generator(c: ModelConfig) -> Iterator[Entry]:
    """The tensors of a generator, in the order of the published file."""
    h, z, own = c.hidden, c.latent, "params/decoder"
    yield from _sweeps("unused/encoder", c)
    yield from _linear("enc_g_mu", "unused/encoder_mu", z, h)
    yield from _linear("enc_g_var", "unused/encoder_logvar", z, h)
    yield from _linear("fc1", "params/mu", z, h)
    yield from _linear("fc2", "params/logvar", z, h)
    yield from _gru("grud", f"{own}/gru", c)
    yield from _linear("fc3", f"{own}/start", h, z)
    yield from _linear("add_vertex.0", f"{own}/type_0", 2 * h, h)
    yield from _linear("add_vertex.2", f"{own}/type_1", c.num_types, 2 * h)
    yield from _linear("add_edge.0", f"{own}/edge_0", 4 * h, 2 * h)
    yield from _linear("add_edge.2", f"{own}/edge_1", 1, 4 * h)
    joined = h + c.num_vertices
    yield from _linear("decoding_gate.0", f"{own}/message/gate", h, joined)
    yield from _linear("decoding_mapper.0", f"{own}/message/map", h, joined, bias=False)
    yield from _messages("unused/encoder", c)
    yield from _set_encoder(c)


def _predictor(c: ModelConfig) -> Iterator[Entry]:
    """The tensors of a predictor, in the order of the published code."""
    yield from _sweeps("params/encoder", c)
    yield from _linear("fc1", "params/project", c.latent, c.hidden)
    yield from _linear("fc2", "unused/fc2", c.latent, c.hidden)
    yield from _messages("params/encoder", c)
    yield from _set_encoder(c)
    yield from _linear("pred_fc.0", "params/head_0", c.hidden, 2 * c.latent)
    yield from _linear("pred_fc.2", "params/head_1", 1, c.hidden)


def entries(network: Network) -> list[Entry]:
    """Lists the tensors of a network's state dict, in the published order.

    Raises: `ValueError` for settings that the published format cannot express.
    """
    c, generates = network.config, isinstance(network, Generator)
    if c.layer_norm or c.num_heads != 4:
        raise ValueError(
            "the published format has four heads and no layer norms, not "
            f"num_heads={c.num_heads}, layer_norm={c.layer_norm}"
        )
    if c.members > 1:
        raise ValueError(f"the published format has one network, not {c.members}")
    if generates and c.hidden != c.latent:
        raise ValueError(
            "a generator in the published format has hidden = latent, not "
            f"{c.hidden} and {c.latent}"
        )
    return list(_generator(c) if generates else _predictor(c))


def from_state_dict(
    tensors: Mapping[str, np.ndarray],
    *,
    features: FeatureKind = RESNET18_32,
    graph: str | None = None,
) -> Model:
    """Converts a published state dict to a model; shapes give its kind and sizes.

    Args:
      tensors: float arrays by name.
      features: kind that it was trained on.
      graph: name of the adjacency that it was trained on; default: that of the
        published generator of the space.

    Returns: the model; a predictor has no `accuracy`, as the format lacks it.
    Raises: `ValueError` that names the first tensor that is missing, unexpected, of
      another shape or type, or not finite; and for features of another width.
    """
    network = _network(tensors, features, graph)
    expected = entries(network)
    names = {entry.name for entry in expected}
    if unexpected := sorted(set(tensors) - names):
        raise ValueError(f"the model has no tensor {unexpected[0]!r}")
    variables: dict[str, Any] = {}
    for name, path, shape in expected:
        if name not in tensors:
            raise ValueError(f"the tensor {name} is missing")
        value = tensors[name]
        if value.shape != shape:
            raise ValueError(f"wanted {name} {shape}, found {value.shape}")
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ValueError(f"{name} is not of finite floating-point numbers")
        leaf = path.rpartition("/")[-1]
        _put(variables, path, np.ascontiguousarray(_transposed(leaf, value)))
    return Model(network, variables)


def to_state_dict(model: Model) -> dict[str, np.ndarray]:
    """Converts a model to tensors with the names and shapes of the published code.

    Args:
      model: the model; unused tensors that it lacks are written as zeros.

    Returns: arrays by name, in the published order.
    Raises: `ValueError` as `entries`.
    """
    tensors = {}
    for name, path, shape in entries(model.network):
        node: Any = model.variables
        *modules, leaf = path.split("/")
        for module in modules:
            node = node.get(module, {})
        if leaf in node:
            value = np.asarray(node[leaf])
            tensors[name] = np.ascontiguousarray(_transposed(leaf, value)).reshape(
                shape
            )
        else:
            tensors[name] = np.zeros(shape, np.float32)
    return tensors


def unused_shapes(network: Network) -> dict[str, Any]:
    """The collection `unused` of an imported model, as shapes."""
    tree: dict[str, Any] = {}
    for _, path, shape in entries(network):
        if path.startswith("unused/"):
            array = jax.ShapeDtypeStruct(shape[::-1], np.float32)
            _put(tree, path.removeprefix("unused/"), array)
    return tree


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Adds a value to nested dicts at a path of names."""
    *modules, leaf = path.split("/")
    for module in modules:
        tree = tree.setdefault(module, {})
    tree[leaf] = value


def _transposed(leaf: str, value: np.ndarray) -> np.ndarray:
    """Converts a tensor to a variable, or back but for an axis of length 1."""
    if leaf == "S" and value.ndim == 3:
        return value[0]
    return value.T if value.ndim == 2 and leaf != "S" else value


def _network(
    tensors: Mapping[str, np.ndarray], features: FeatureKind, graph: str | None
) -> Network:
    """The network of a state dict.

    Raises: `ValueError` if it is of neither kind, or lacks the tensors that give its sizes.
    """
    kind = Generator if "grud.weight_ih" in tensors else Predictor
    deciding = ("grue_forward.weight_ih", "gate_forward.0.weight", "set_fc.0.weight")
    if kind is Predictor:
        deciding += ("pred_fc.0.weight",)
    for name in deciding:
        if name not in tensors or tensors[name].ndim != 2:
            raise ValueError(f"not a model of MetaD2A: it has no matrix {name}")
    wide, num_types = tensors["grue_forward.weight_ih"].shape
    hidden, joined = tensors["gate_forward.0.weight"].shape
    latent, feature_width = tensors["set_fc.0.weight"].shape
    if wide != 3 * hidden:
        raise ValueError(f"grue_forward is of {wide} rows, gate_forward.0 of {hidden}")
    num_vertices = joined - hidden
    if graph is None:
        graph = "line15" if num_vertices == 8 else "chain"
    if feature_width != features.width:
        raise ValueError(
            f"the model is of features of width {feature_width}, not {features.name!r} of "
            f"width {features.width}"
        )
    adjacency(graph, num_vertices)  # checks the name
    config = ModelConfig(num_vertices, num_types, hidden, latent, graph, features)
    return kind(config)
