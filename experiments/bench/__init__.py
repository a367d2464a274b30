"""Speed and memory beside other libraries: `python -m experiments.bench`.

Each section is a module whose function takes the `Config` and returns the measurements of
its table; `timing` has the clocks and `peers` the other libraries.
"""
