"""Bayesian optimisation with Gaussian processes.

`pool_search` compares all architectures of a pool, `sampled_search` those that
`proposals` draws anew in each step. Both take a rule for the next batch from `selectors`,
which `shortlists` applies to a posterior, and their stages and refits from `schedule`.
"""
