"""Multi-fidelity searches: successive halving, its relatives, and learning curves.

`brackets` computes the schedules, `samplers` and `kde` choose new architectures, and
`hyperband`, `asynchronous` and `dehb` are the searches. `curve_aware` and `two_levels` wrap
any search that trains to the last epoch; `freeze_thaw` ranks what the latter completes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
