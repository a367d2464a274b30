"""Sizes and settings of the generator and the predictor of MetaD2A.

The models of two search spaces differ in numbers alone:

    space              vertices N   types T   adjacency
    NAS-Bench-201          8           7      line15
    OFA MobileNetV3       22          29      chain
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxnas.types import FeatureKind, check_sizes

RESNET18_32 = FeatureKind("resnet18-32px", 512)
"""Features of the published models: 512 pooled outputs of an ImageNet-trained ResNet-18
that sees images of 32 pixels."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and settings of a model; static.

    Attributes:
      num_vertices: N, vertices of the largest graph.
      num_types: T, types of vertices; 0 is the input, 1 the output.
      hidden: h, width of the states of vertices.
      latent: z, width of the embeddings of datasets and graphs.
      adjacency: edges of the graphs, a name of `graphs.adjacency`.
      features: kind of the image features, with their width F; models accept no other.
      num_heads: of attention; divides `latent`.
      layer_norm: whether attention blocks normalise, as in the paper; the published
        models do not.
      eps_scale: standard deviation of the latent noise in training, in units of the
        posterior's: 0.01 in the published models, 1 in a variational auto-encoder.
      kl_weight: weight of the divergence in the loss of the generator.
      members: of an ensemble of predictors, whose variables have a leading axis; see
        `model.ensemble`.

    Raises: `ValueError` for sizes below 1, heads that do not divide `latent`, and
      features that are not a `FeatureKind`.
    """

    num_vertices: int
    num_types: int
    hidden: int = 56
    latent: int = 56
    adjacency: str = "line15"
    features: FeatureKind = RESNET18_32
    num_heads: int = 4
    layer_norm: bool = False
    eps_scale: float = 0.01
    kl_weight: float = 0.005
    members: int = 1

    def __post_init__(self):
        if not isinstance(self.features, FeatureKind):
            raise ValueError(f"features must be a FeatureKind, not {self.features!r}")
        check_sizes(
            num_vertices=self.num_vertices,
            num_types=self.num_types,
            hidden=self.hidden,
            latent=self.latent,
            feature_width=self.features.width,
            num_heads=self.num_heads,
            members=self.members,
        )
        if self.latent % self.num_heads:
            raise ValueError(
                f"latent must be a multiple of {self.num_heads} heads, not {self.latent}"
            )


NB201_GENERATOR = ModelConfig(8, 7)
NB201_PREDICTOR = ModelConfig(8, 7, hidden=512)
MBV3_GENERATOR = ModelConfig(22, 29, adjacency="chain")
MBV3_PREDICTOR = ModelConfig(22, 29, hidden=512, adjacency="chain")
