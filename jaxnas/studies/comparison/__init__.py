"""A comparison of searches on a benchmark: runs, summaries, tables and figures."""
