"""The benchmark driver: `python -m experiments.bench`."""
