"""Neural architecture search as pure functions on arrays, in JAX.

Layers, each of which imports only from those above it (`tests/test_layers.py`):

    types, precision         Query, Result, Trace: what searches and benchmarks exchange;
                             products of matrices in full precision
    batching, io, pivoting   maps in pieces; files, checkpoints, safe readers, run folders;
                             pivoted factorisations
    gp, dpp, acquisition, metrics, ranks, transport
                             mathematics on arrays
    spaces, ensembles, pareto
                             architectures as int32 vectors, their identity and graphs;
                             several objectives
    kernels, networks, curves, models
                             distances; the networks searched over; learning curves;
                             networks that generate and score architectures
    proxies, datasets, predictors
                             scores of untrained networks; images; learning from few labels
    benchmarks               tables, synthetic objectives and trainings with one interface
    search                   searches, their loop, and the driver of Python objectives
    studies                  comparisons and image searches, as the commands run them

Every part is imported when it is first used: `import jaxnas` alone loads none of them.
`load(folder)` returns a network that `studies.images` trained, as a function of images.
"""

import lazy_loader

__version__ = "0.4.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
