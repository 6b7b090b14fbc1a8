"""Runs: the timings of one workload on one engine or simulator, real or simulated alike."""

from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import (
    REQUEST_COLUMNS,
    STEP_COLUMNS,
    TOKEN_COLUMNS,
)
from pytest_gpusim.runs.writer import write_run

__all__ = ["REQUEST_COLUMNS", "STEP_COLUMNS", "TOKEN_COLUMNS", "Run", "read_run", "write_run"]
