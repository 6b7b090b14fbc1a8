"""Predictions with an interval: what is not known of a profile, carried through the simulation."""

from pytest_gpusim.prediction.interval import PREDICTION, Prediction, predict, prediction_lines

__all__ = ["PREDICTION", "Prediction", "predict", "prediction_lines"]
