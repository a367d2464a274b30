"""Searches: pure functions that propose architectures and learn from their scores.

A search is a `Search` record of functions (`base`). `run` and `simulate` (`loop`) run it
on a simulated benchmark within one compiled program, with `steps` as their step; `drive`
runs it from Python on real evaluations.

    search = presets.gp_tw2g_plus(benchmark.space)
    trace = simulate(keys, search, benchmark, num_steps=100)

`presets` are tuned searches. The algorithms are `random_search`, `local_search`,
`regularized_evolution`, `bananas`, `bayesopt` (over a pool), `bayesopt_sampled`
(candidates sampled anew in each step) and `in_order`, which share the building blocks in
`common`, and the multi-fidelity algorithms in `fidelity`: `successive_halving`,
`hyperband`, `asynchronous_halving`, `dehb`, `curve_aware` and `two_levels`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
