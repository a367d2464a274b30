"""Zero-cost proxies: scores of untrained networks, for one cell or every cell of a space.

`score_many` scores cells by a proxy of `CATALOGUE`, in compiled batches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
