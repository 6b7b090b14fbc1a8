"""Runs: the timings of one workload on one engine or simulator, real or simulated alike."""

from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.run import Clock, Run, clock_of
from pytest_gpusim.runs.schema import (
    REQUEST_COLUMNS,
    STEP_COLUMNS,
    TOKEN_COLUMNS,
)
from pytest_gpusim.runs.writer import write_run

__all__ = [
    "REQUEST_COLUMNS",
    "STEP_COLUMNS",
    "TOKEN_COLUMNS",
    "Clock",
    "Run",
    "clock_of",
    "read_run",
    "write_run",
]
