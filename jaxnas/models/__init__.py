"""MetaD2A: networks that generate architectures for a dataset and predict accuracies.

Lee, Hyung and Hwang (2021), "Rapid Neural Architecture Search by Learning to Generate
Graphs from Datasets", in flax (the extra `models`).

`Generator` turns the features of a dataset's images into a latent vector, and decodes it
to graphs; `Predictor` embeds dataset and graph and predicts the accuracy. Both work on
one example: `jax.vmap` makes batches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
