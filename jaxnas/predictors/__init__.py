"""Predictors of an architecture's score from features and from observed scores.

`pool` embeds the candidate pool; `pool_gp` keeps the posterior of a Gaussian process over
it, one observation at a time. `few_labels` predicts a whole pool from a small labelled
sample, `device_transfer` predicts latencies on a new device, and `ensemble` trains the
neural networks of BANANAS. `tasks` has kernels between classification tasks, and
`regimes` predicts labels that two procedures collected. Searches build on these
predictors, which know nothing of searches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
