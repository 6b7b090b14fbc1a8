"""Workloads: which requests arrive when, how long they are, and what their prompts share."""

from pytest_gpusim.workload.load import Load, SessionTurn
from pytest_gpusim.workload.trace import Workload, WorkloadRequest, read_workload
from pytest_gpusim.workload.writer import write_workload

__all__ = [
    "Load",
    "SessionTurn",
    "Workload",
    "WorkloadRequest",
    "read_workload",
    "write_workload",
]
