"""What the report on learning-curve surrogates is made of."""
