"""Neural architecture search as pure functions on arrays, in JAX.

`import jaxnas` loads no part of the library; each part is imported when it is first
named, as `jaxnas.spaces` or `jaxnas.search`, or by an import statement of its own.
"""

from importlib import import_module as _import_module
from pkgutil import iter_modules as _iter_modules

__version__ = "0.1.0"


def load(path):
    """A trained network as a function: `predict(images) -> class probabilities`.

    It takes raw images (n, size, size, colours), of the units of those that it was
    trained on, and can be compiled, mapped and differentiated. See
    `jaxnas.networks.model_files`, which also saves networks.
    """
    return _import_module("jaxnas.networks.model_files").load(path)


def _parts() -> list[str]:
    return [module.name for module in _iter_modules(__path__)]


def __getattr__(name: str):
    if not name.startswith("_") and name in _parts():
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_parts()])
