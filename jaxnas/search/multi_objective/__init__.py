"""Searches for the front of several objectives, under bounds.

Every search takes the objectives of its benchmark, in their order, and reads
`Result.objectives`. Feasible architectures come before infeasible ones, and of these the
one of smaller violation (Deb et al., 2002). Random search serves as it is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
