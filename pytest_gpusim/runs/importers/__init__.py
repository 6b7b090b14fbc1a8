"""Importers of other tools' results: each writes a run directory of the contract."""

from pytest_gpusim.runs.importers.base import recognised_by
from pytest_gpusim.runs.importers.load import load_real_run

__all__ = ["load_real_run", "recognised_by"]
