"""Predictions with an interval: what is not known of a profile, carried through the simulation."""

from pytest_gpusim.prediction.interval import Prediction, predict, prediction_lines
from pytest_gpusim.runs.schema import PREDICTION

__all__ = ["PREDICTION", "Prediction", "predict", "prediction_lines"]
