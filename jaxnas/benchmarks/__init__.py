"""Benchmarks that searches are evaluated on, with one interface.

    benchmark = open_benchmark("analog", dataset="cifar10", split="test", epochs=200)
    trace = simulate(keys, search, benchmark, num_steps=100)

A `Benchmark` (`base`) evaluates queries and knows its space, fidelity levels and target.
`tabular_benchmark` looks the results up in a table, `synthetic_benchmark` computes them,
`training_benchmark` trains networks, `surrogate_benchmark` predicts learning curves.
`open_table` opens a table and `open_surrogate` a surrogate, by name or file (`named`):
`table_files` and `table_rules` define the file format, `columns` selects numbers from it,
`sources`, `reference_scores`, `devices`, `ofa`, `trained` and `importers` are where tables
come from. `predicted_accuracy_benchmark` and `fit_latency` are accuracy and latency of
once-for-all networks as functions.
`load_ensemble` loads published surrogates of learning curves (`released`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
