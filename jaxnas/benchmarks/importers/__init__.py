"""Importers: the files of published benchmarks, read as data and made into tables.

`official` recognises a file and converts it to a table file; `nb101`, `nb201` and
`nb201_runs` read NAS-Bench-101, NAS-Bench-201 and NATS-Bench, `analog` AnalogNAS-Bench.
`x11` reads the surrogates that NAS-Bench-x11 and NAS-Bench-301 publish, `curve_logs` the
learning curves that they are trained on.
"""
