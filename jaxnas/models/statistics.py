"""Validity, uniqueness and novelty of the samples of a generator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxnas.models.generation import Samples, as_tuples
from jaxnas.models.graphs import Codec, adjacency
from jaxnas.models.model import Model
from jaxnas.models.nasbench201 import CODEC


class SampleStatistics(NamedTuple):
    """Statistics of independent samples; NaN where there is nothing to count."""

    validity: float  # valid graphs / graphs
    uniqueness: float  # distinct architectures / valid graphs
    functional_uniqueness: float  # distinct functions of architectures / valid graphs
    novelty: float  # distinct architectures outside the training set / distinct ones
    # Share of edge decisions that agree with the training graphs.
    edge_accuracy: float


def sample_statistics(
    model: Model,
    samples: Samples,
    *,
    trained_on: np.ndarray | None = None,
    codec: Codec = CODEC,
) -> SampleStatistics:
    """Computes statistics of independent samples.

    Args:
      model: the generator, whose configuration names the edges that it was trained on.
        Edges to the output are left out, as sampling does not decide on them.
      samples: of `sample_graphs`.
      trained_on: (m, d) architectures of the training set, for the novelty.
      codec: of the search space.
    """
    arch = samples.arch[samples.valid]
    distinct, functions = set(as_tuples(arch)), np.unique(codec.functions(arch))
    novelty = np.nan
    if trained_on is not None and distinct:
        novelty = len(distinct - set(as_tuples(trained_on))) / len(distinct)
    num = codec.num_vertices
    expected = adjacency(model.network.config.adjacency, num)
    u, v = np.triu_indices(num - 1, 1)
    per_valid = 1 / len(arch) if len(arch) else np.nan
    return SampleStatistics(
        float(samples.valid.mean()),
        len(distinct) * per_valid,
        len(functions) * per_valid,
        float(novelty),
        float((samples.adj[:, u, v] == expected[u, v]).mean()),
    )
