"""Searches: pure functions that ask for architectures and are told their scores.

A search is a `Search` record of functions (`base`), `run` and `simulate` (`loop`) are its
only loop in compiled programs, and `drive` is the loop around objectives in Python.

    search = presets.gp_tw2g_plus(benchmark.space)
    trace = simulate(keys, search, benchmark, num_steps=100)

`presets` are tuned searches; `random_search`, `regularized_evolution`, `bananas`,
`bayesopt` (over a pool), `bayesopt_sampled` (candidates drawn anew each step) and
`in_order` are what they are made of.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
