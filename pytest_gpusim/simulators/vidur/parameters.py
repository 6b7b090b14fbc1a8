"""What the simulator ``vidur`` takes beside engine settings."""

from __future__ import annotations

from pytest_gpusim.parameters import Parameter
from pytest_gpusim.simulators.parameters import FLEET

SCHEDULERS = ("vllm", "sarathi")
PREDICTORS = ("profile", "random_forest")
FORESTS = ("small", "vidur")

PARAMETERS = (
    *FLEET,
    Parameter(
        "scheduler",
        "text",
        "vLLM v1's rules, or Vidur's own nearest scheduler",
        "vllm",
        SCHEDULERS,
    ),
    Parameter(
        "predictor",
        "text",
        "interpolation of the profile, or Vidur's own forest, trained on it and cached",
        "profile",
        PREDICTORS,
    ),
    Parameter(
        "forest",
        "text",
        "one candidate of the grid that Vidur searches for its forest, or all of it",
        "small",
        FORESTS,
    ),
)
