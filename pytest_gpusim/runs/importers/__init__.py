"""Importers of other tools' results: each writes a run directory of the contract."""

from pytest_gpusim.runs.importers.base import ImportedRequest, write_imported
from pytest_gpusim.runs.importers.files import recognised_by
from pytest_gpusim.runs.importers.load import load_real_run, load_real_runs, load_simulated_run

__all__ = [
    "ImportedRequest",
    "load_real_run",
    "load_real_runs",
    "load_simulated_run",
    "recognised_by",
    "write_imported",
]
