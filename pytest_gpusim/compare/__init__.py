"""Comparing real runs with a simulated one: figures, checks, tolerances, verdict.

Knows no file: `pytest_gpusim.report` writes and reads a comparison's directory.
"""

from pytest_gpusim.compare.comparison import Comparison, compare_runs
from pytest_gpusim.compare.document import ComparisonDocument, document_of
from pytest_gpusim.compare.figures import Figure, Figures
from pytest_gpusim.compare.judging.judgement import Judgement
from pytest_gpusim.compare.judging.tolerances import parse_tolerances
from pytest_gpusim.compare.tolerance import Tolerance

__all__ = [
    "Comparison",
    "ComparisonDocument",
    "Figure",
    "Figures",
    "Judgement",
    "Tolerance",
    "compare_runs",
    "document_of",
    "parse_tolerances",
]
