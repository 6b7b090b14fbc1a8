# The public API, a line a name; ``__init__.py`` loads each on first use.

from .api import compare_results, read_real_run, simulate
from .bundle import Bundle, read_bundle, write_bundle
from .checks import Check
from .compare import Comparison, Figure, Judgement, Tolerance, compare_runs
from .deployment import EngineSettings, Hardware, ModelShape
from .errors import CheckFailed, EngineError, GpusimError, InputError, UsageError
from .plugin.checked import CheckedComparison
from .plugin.sim_vs_real import SimVsReal
from .providers import MeasureInputs, SimulationInputs
from .registry import Registry, builtin_registry
from .report.directory import write_comparison
from .report.versions import read_document
from .runs import Run, read_run, write_run
from .workload import Workload, WorkloadRequest, read_workload, write_workload
from .workload.generate import Lengths, WorkloadSpec, generate_workload

__all__ = [
    "Bundle",
    "Check",
    "CheckFailed",
    "CheckedComparison",
    "Comparison",
    "EngineError",
    "EngineSettings",
    "Figure",
    "GpusimError",
    "Hardware",
    "InputError",
    "Judgement",
    "Lengths",
    "MeasureInputs",
    "ModelShape",
    "Registry",
    "Run",
    "SimVsReal",
    "SimulationInputs",
    "Tolerance",
    "UsageError",
    "Workload",
    "WorkloadRequest",
    "WorkloadSpec",
    "builtin_registry",
    "compare_results",
    "compare_runs",
    "generate_workload",
    "read_bundle",
    "read_document",
    "read_real_run",
    "read_run",
    "read_workload",
    "simulate",
    "write_bundle",
    "write_comparison",
    "write_run",
    "write_workload",
]
