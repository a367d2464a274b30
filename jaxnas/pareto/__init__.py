"""Several objectives: dominance, fronts, hypervolume, and its expected improvement.

    scores = as_scores(objectives, values)  # (n, m), higher is better
    front = scores[non_dominated(scores)]
    hypervolume(scores, reference)

Functions of scores take one set of n points with m objectives, are pure, and can be
vmapped and jitted. NaN is a value that is missing: it counts as -inf, worse than all
numbers. `valid` (n,) says which rows of a padded set count.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
