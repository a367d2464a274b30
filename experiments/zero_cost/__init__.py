"""Code that the drivers of zero-cost scores share."""
