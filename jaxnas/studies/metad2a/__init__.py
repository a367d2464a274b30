"""Architectures for the user's own images by MetaD2A, in seconds and without a search.

`propose` (`proposal`) is the program, with the settings of a `Config`. It opens the models
and the features of the images (`inputs`), generates cells, ranks them by predicted accuracy
(`ranking`), and writes the files (`results`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
