"""Bayesian optimisation with Gaussian processes over pools and over sampled candidates."""
