"""Predictors of the scores of architectures that learn from few labels.

`pool` embeds the candidate architectures of a space once, `pool_gp` is the posterior of a
Gaussian process over all of them, `few_labels` has it and ridge regression as predictors
of a benchmark's scores, and `ensemble` trains perceptrons.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
