"""Comparing real runs with a simulated one: figures, checks, tolerances, verdict."""

from pytest_gpusim.compare.comparison import Comparison, compare_runs
from pytest_gpusim.compare.tolerances import Judgement, parse_tolerances
from pytest_gpusim.compare.writing import document_of, write_comparison

__all__ = [
    "Comparison",
    "Judgement",
    "compare_runs",
    "document_of",
    "parse_tolerances",
    "write_comparison",
]
