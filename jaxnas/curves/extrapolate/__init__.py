"""Extrapolation of learning curves: the final value of a training from its first epochs.

Each extrapolator is an `Extrapolator`, two pure functions that a compiled search can call:
`fit` learns from completed trainings, `predict` gives mean and standard deviation of the
final value of one that was interrupted. `apply` validates arrays and predicts many.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
