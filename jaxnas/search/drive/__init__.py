"""Searching with an objective in Python, and never losing an evaluation.

    history = drive.optimise(jax.random.key(0), search, objective, 30, "my_search")

`optimise` runs a `Search` against a function of an architecture, in this process or in an
executor, and keeps every query and evaluation in a folder. The same call resumes a search
that was killed, or makes one longer. `read`, `status` and `best` look at a folder from any
process; a `BatchObjective` evaluates a whole batch at once, as benchmarks do.

The modules, from the files up: `history` encodes the events of a search, `journal` keeps
them in a folder, `record` checks that they follow on each other, `search_state` derives the
state of the search from them, `workers` calls the objective and `returned` reads what it
returns, `executors` and `clusters` run it elsewhere, `dispatch` is the loop, and `driver`
puts them together.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
