"""Does a setting bear a load: do the limits hold there, in reality and in simulation?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_gpusim.planning.decision import Verdict, student


@dataclass(frozen=True)
class Bearing:
    """One setting at one load against the limits.

    Attributes:
        setting: Its name.
        load: Requests per second, or clients.
        most: What a value may be at most: 1, where values are the worst ratio to a limit; or the
            share of requests that may be outside, where the limits are those of single requests.
        real: The value of each repeat.
        simulated: The value of each simulation; they hold where their mean does.
        doubts: Why its runs are no evidence.
        resolution: What a single request makes of a value that counts requests.
    """

    setting: str
    load: float
    most: float
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    doubts: tuple[str, ...] = ()
    resolution: float = 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's for the mean over the repeats, at 90%; None for one."""
        return student(self.real, self.resolution)

    @property
    def real_mean(self) -> float:
        """The mean over the repeats."""
        return sum(self.real) / len(self.real)

    @property
    def simulated_mean(self) -> float:
        """The mean over the simulations."""
        return sum(self.simulated) / len(self.simulated)

    @property
    def real_holds(self) -> bool | None:
        """Whether the limits hold in reality; None where the interval spans them, or there is but
        one repeat.
        """
        interval = self.interval
        if interval is None or interval[0] <= self.most < interval[1]:
            return None
        return interval[1] <= self.most

    @property
    def simulated_holds(self) -> bool:
        """Whether they hold in simulation."""
        return self.simulated_mean <= self.most

    @property
    def verdict(self) -> Verdict:
        """Whether both sides say the same."""
        if self.doubts:
            return "inconclusive"
        if self.real_holds is None:
            return "not to be told apart"
        return "same" if self.real_holds == self.simulated_holds else "different"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        interval = self.interval
        return {
            "setting": self.setting,
            "load": self.load,
            "at_most": self.most,
            "real": self.real_mean,
            "real_runs": list(self.real),
            "interval": None if interval is None else list(interval),
            "simulated": self.simulated_mean,
            "real_holds": self.real_holds,
            "simulated_holds": self.simulated_holds,
            "verdict": self.verdict,
        }
