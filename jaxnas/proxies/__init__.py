"""Scores of untrained networks: `catalogue` has them by name, `batch` runs them."""
