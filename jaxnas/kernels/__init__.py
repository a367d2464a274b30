"""Distances and kernels between architectures.

`feature_maps` embed an architecture so that distances are L1 distances of embeddings
(tree-Wasserstein, Hamming, ordinal, paths, operation transport); `graph_distances` are
distances of pairs that have no such embedding, of which `distance_matrices` makes the
matrix of a whole space; `gram` compresses embeddings and computes kernels from them;
`definite` says whether a kernel is positive definite.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
