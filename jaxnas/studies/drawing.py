"""The parts of matplotlib that draw figures into files, whatever MPLBACKEND is.

All modules import matplotlib from here: it refuses to be imported where the environment
variable MPLBACKEND names a backend that is not installed, as a shell started from a
notebook can have it, and a `Figure` that is saved to a file needs no backend.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _any_backend() -> Iterator[None]:
    """Lets matplotlib be imported, and then gives it the backend of MPLBACKEND if it can.

    Where it has been imported before, its backend is left as it is.
    """
    imported = "matplotlib" in sys.modules
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend and not imported:
        # A notebook that imports this first still shows its own figures.
        with contextlib.suppress(ValueError):
            sys.modules["matplotlib"].rcParams["backend"] = backend


with _any_backend():
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.ticker import MaxNLocator, NullFormatter

__all__ = (
    "Axes",
    "FancyArrowPatch",
    "Figure",
    "MaxNLocator",
    "NullFormatter",
    "matplotlib",
    "to_rgb",
)
