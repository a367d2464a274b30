"""Searching with a function of the user's, in Python, and never losing an evaluation."""

from jaxnas.search.drive.checks import Together
from jaxnas.search.drive.driver import optimise
from jaxnas.search.drive.executors import ray_executor
from jaxnas.search.drive.history import Evaluation
from jaxnas.search.drive.reports import Status, best, read, status

__all__ = [
    "Evaluation",
    "Status",
    "Together",
    "best",
    "optimise",
    "ray_executor",
    "read",
    "status",
]
