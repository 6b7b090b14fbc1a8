"""What a calibration found, as ``calibration`` of ``profile_meta.json`` holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.calibration.parameters import Parameter

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.90
"""Of the intervals."""


@dataclass(frozen=True)
class Fitted:
    """A parameter's value and its interval, in ns."""

    parameter: Parameter
    value_ns: float
    low_ns: float
    high_ns: float

    def to_json(self) -> dict[str, Any]:
        """Its entry under ``parameters``."""
        return {
            "name": self.parameter.name,
            "time_ns": round(self.value_ns),
            "low_ns": round(self.low_ns),
            "high_ns": round(self.high_ns),
            "prior_ns": self.parameter.prior_ns,
        }

    def __str__(self) -> str:
        value, low, high = (round(x) / 1e6 for x in (self.value_ns, self.low_ns, self.high_ns))
        return f"{self.parameter.words}: {value:.3g} ms ({low:.3g} to {high:.3g})"


@dataclass(frozen=True)
class Joint:
    """What was fitted, and the profile's error with it, as one normal distribution.

    Attributes:
        names: Of the parameters, in ns; last the error of all step times, a share.
        mean: In order of the names.
        covariance: The same.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """``joint`` of the calibration."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(),
        }


@dataclass(frozen=True)
class Calibration:
    """A fit.

    Attributes:
        fitted: The parameters.
        residuals: By workload, metric and statistic: (simulated - real) / real after the fit.
        runs: Run ids by workload, in the same order.
        profile_bias: Share by which the profile's step times are thought to be off.
        joint: The fit with its correlations; None where nothing was fitted.
    """

    fitted: tuple[Fitted, ...]
    residuals: tuple[dict[str, dict[str, float]], ...]
    runs: tuple[tuple[str, ...], ...]
    profile_bias: float
    joint: Joint | None = None

    def value_ns(self, name: str) -> float | None:
        """A parameter's value; None where it was not fitted."""
        return next((f.value_ns for f in self.fitted if f.parameter.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """``calibration`` of ``profile_meta.json``."""
        return {
            "parameters": [fitted.to_json() for fitted in self.fitted],
            "level": LEVEL,
            "profile_bias": self.profile_bias,
            "joint": None if self.joint is None else self.joint.to_json(),
            "residuals": [
                {"runs": list(runs), "errors": errors}
                for runs, errors in zip(self.runs, self.residuals, strict=True)
            ],
        }
