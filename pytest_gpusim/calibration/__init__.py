"""Fitting what no profile holds, engine time and front end, on real runs of a deployment."""

from pytest_gpusim.calibration.calibrate import calibrate
from pytest_gpusim.calibration.result import Calibration, Fitted

__all__ = ["Calibration", "Fitted", "calibrate"]
