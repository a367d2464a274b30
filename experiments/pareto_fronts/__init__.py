"""Parts of `experiments.pareto`: panels, runs and their summary, figures."""
