"""The network of NAS-Bench-201 in eager PyTorch, the peer of scores and training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.spaces.nasbench201 import CONV1, CONV3, EDGES, POOL, SKIP


def block(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    """Rectifier, convolution and batch norm; the latter has no trainable weights here."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs).requires_grad_(False))


class Cell(nn.Module):
    """A cell; edges without an operation cost nothing."""

    def __init__(self, arch: np.ndarray, channels: int):
        super().__init__()
        made = {
            SKIP: nn.Identity,
            CONV1: lambda: block(channels, channels, 1),
            CONV3: lambda: block(channels, channels, 3),
            POOL: lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }
        edges = zip(EDGES, arch.tolist(), strict=True)
        self.edges = [(edge, made[op]()) for edge, op in edges if op in made]
        self.layers = nn.ModuleList([layer for _, layer in self.edges])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x, *[torch.zeros_like(x)] * 3]
        for (source, target), layer in self.edges:
            nodes[target] = nodes[target] + layer(nodes[source])
        return nodes[3]


class Reduction(nn.Module):
    """The residual block between two stages."""

    def __init__(self, channels: int):
        super().__init__()
        first = block(channels, 2 * channels, 3, 2)
        self.main = nn.Sequential(first, block(2 * channels, 2 * channels, 3))
        shortcut = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.main(x)


def network(sizes: NetworkConfig, arch: np.ndarray) -> nn.Module:
    """Images (b, colours, size, size) to logits (b, classes), in training mode."""
    channels = sizes.stem_channels
    stem = nn.Conv2d(sizes.in_channels, channels, 3, padding=1, bias=False)
    layers = [stem, nn.BatchNorm2d(channels).requires_grad_(False)]
    for stage in range(sizes.num_stages):
        layers += [Cell(arch, channels) for _ in range(sizes.cells_per_stage)]
        if stage < sizes.num_stages - 1:
            layers.append(Reduction(channels))
            channels *= 2
    layers += [nn.BatchNorm2d(channels).requires_grad_(False), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, sizes.num_classes))


def forward(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Logits (b, classes)."""
    with torch.no_grad():
        return model(x).numpy()


def snip(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Sum of |w dl/dw| over the weights of the layers."""
    weights = [
        m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    loss = nn.functional.cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, weights, allow_unused=True)
    both = zip(weights, grads, strict=True)
    total = sum((w * g).abs().sum() for w, g in both if g is not None)
    return float(torch.as_tensor(total).detach())


def jacob_cov(model: nn.Module, x: torch.Tensor) -> float:
    """The eigenvalue score of the correlations between Jacobians (Mellor et al., 2020)."""
    x = x.clone().requires_grad_(True)
    (jacobian,) = torch.autograd.grad(model(x).sum(), x, allow_unused=True)
    if jacobian is None:  # the cell does not connect its input to its output
        return float("-inf")
    values = torch.linalg.eigvalsh(torch.corrcoef(jacobian.flatten(1))) + 1e-5
    return float(-(values.log() + 1 / values).sum().detach())


def train(
    model: nn.Module,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
) -> None:
    """Trains for an epoch of SGD with Nesterov momentum, a step for each batch.

    Args:
      model: is changed.
      images: (b, colours, size, size) of each batch.
      labels: (b,) of each batch.
    """
    model.train().requires_grad_(True)
    settings = dict(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    rule = torch.optim.SGD(model.parameters(), **settings)
    for x, y in zip(images, labels, strict=True):
        rule.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        rule.step()
