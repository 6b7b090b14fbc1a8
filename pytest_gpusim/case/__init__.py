"""One case end to end: resolve what is asked, get both sides, compare them.

Used by the pytest plugin and by the command line alike.
"""

from pytest_gpusim.case.arguments import CaseArguments, resolve_case
from pytest_gpusim.case.definition import CannotRunHere, Case, Settings
from pytest_gpusim.case.live import measure
from pytest_gpusim.case.prerequisites import failing_prerequisites
from pytest_gpusim.case.recorded import real_side
from pytest_gpusim.case.simulated import compare, run_simulator, simulate, simulate_alone

__all__ = [
    "CannotRunHere",
    "Case",
    "CaseArguments",
    "Settings",
    "compare",
    "failing_prerequisites",
    "measure",
    "real_side",
    "resolve_case",
    "run_simulator",
    "simulate",
    "simulate_alone",
]
