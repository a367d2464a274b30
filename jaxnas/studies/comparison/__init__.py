"""A comparison of searches on a benchmark: runs, summaries, tables and figures.

`open_table` opens the benchmark of a `Config`, `METHODS` and `BATCH_METHODS` make the
searches by name, `run` runs what is missing, and `show` prints the summaries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
