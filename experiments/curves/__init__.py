"""Parts of the reports on learning-curve surrogates and extrapolators."""
