"""Drivers: one file for each command, on top of `jaxnas.studies`.

The `Config` of a driver is its command line and is read as one. So flags that two drivers
share are written in both, as those of few_labels and zero_cost_search, or of train_table
and search_images.
"""
