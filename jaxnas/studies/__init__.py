"""Whole studies that commands run: comparisons of searches, searches on images."""
