"""Search spaces: architectures as int32 vectors, their identity, graphs and neighbours.

`nasbench101.SPACE` and `nasbench201.SPACE` are published spaces; `product` makes a space
of independent choices, and `restricted` one of some architectures of another.
`nasbench201_classes` says which cells compute the same function.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
