"""Predictors of architecture scores that learn from few labels."""
