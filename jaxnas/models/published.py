"""Files of the published PyTorch models, read and written without torch.

model = read_published("ckpt_400.pt")
write_published("copy.pt", model)  # for torch.load(path, weights_only=True)
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from jaxnas.io import torch_files, torch_writer
from jaxnas.io.torch_tensors import Tensor
from jaxnas.models.config import RESNET18_32
from jaxnas.models.model import Model
from jaxnas.models.state_dicts import from_state_dict, to_state_dict
from jaxnas.types import FeatureKind


def read_published(
    path: str | os.PathLike,
    *,
    features: FeatureKind = RESNET18_32,
    graph: str | None = None,
) -> Model:
    """Reads a generator or a predictor from a file of `torch.save`.

    Args:
      path: of a state dict; its shapes give the kind of the model and its sizes.
      features: kind that the model was trained on; default: those of the published models.
      graph: name of the adjacency that it was trained on; default: that of the
        published generator of the space.

    Returns: the model; `with_accuracy` completes a predictor.
    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, or
      not a model on these features.
    """
    content = torch_files.load(path).value
    try:
        if not isinstance(content, Mapping):
            raise ValueError("it is not a dict of tensors")
        for name, value in content.items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name!r} is not a tensor")
        tensors = {name: tensor.numpy() for name, tensor in content.items()}
        return from_state_dict(tensors, features=features, graph=graph)
    except ValueError as error:
        raise ValueError(f"{path} is not a model of MetaD2A: {error}") from error


def write_published(path: str | os.PathLike, model: Model) -> None:
    """Writes a model in the format of the published code, atomically.

    Args:
      path: the file, whose folder must exist.
      model: the model; `accuracy` of a predictor is not part of the format.

    Raises: `ValueError` for a configuration that the format cannot express, and if the
      file cannot be written.
    """
    torch_writer.save(path, to_state_dict(model))
