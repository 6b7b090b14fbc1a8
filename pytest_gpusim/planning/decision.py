"""Would the simulator have taken the decision that reality takes, and what does its choice cost?

Each setting has a value in reality, measured in repeats, and one in simulation. Both sides choose
the best by their means. The *regret* is what the simulator's choice is worse by, in reality's
values. Its interval is Welch's for the difference of two means, at 90%: single repeats share no
queue, single requests do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance
from typing import Any, Literal

from pytest_gpusim.errors import CheckFailed, UsageError

Verdict = Literal["same", "different", "not to be told apart"]
_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Setting:
    """One of the settings to choose from.

    Attributes:
        name: How it is called.
        real: Its value in each repeat.
        simulated: Its value in each simulation.
        notes: What is to be known of the values, such as that they are bounds.
    """

    name: str
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def real_mean(self) -> float:
        """The mean over the repeats."""
        return fmean(self.real)

    @property
    def simulated_mean(self) -> float:
        """The mean over the simulations."""
        return fmean(self.simulated)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's for the mean over the repeats, at 90%; None for one."""
        if len(self.real) < 2:
            return None
        half = _quantile(len(self.real) - 1) * math.sqrt(variance(self.real) / len(self.real))
        return self.real_mean - half, self.real_mean + half


@dataclass(frozen=True)
class Decision:
    """Which setting each side chooses.

    Attributes:
        objective: What is compared, such as ``capacity, requests/s``.
        settings: At least two.
        higher_is_better: Whether the best value is the highest.
    """

    objective: str
    settings: tuple[Setting, ...]
    higher_is_better: bool

    def __post_init__(self) -> None:
        if len(self.settings) < 2:
            raise UsageError(f"{self.objective}: a decision needs at least two settings")
        for setting in self.settings:
            if not setting.real or not setting.simulated:
                raise UsageError(f"{setting.name}: needs a real and a simulated run")

    @property
    def real_choice(self) -> Setting:
        """The best by what was measured."""
        return self._best([setting.real_mean for setting in self.settings])

    @property
    def simulated_choice(self) -> Setting:
        """The best by simulation."""
        return self._best([setting.simulated_mean for setting in self.settings])

    @property
    def regret(self) -> float:
        """What the simulator's choice is worse by than reality's, as a fraction of the latter."""
        best = self.real_choice.real_mean
        return self._worse_by(self.simulated_choice) / abs(best) if best else 0.0

    @property
    def regret_interval(self) -> tuple[float, float] | None:
        """Of the regret; None where repeats are too few, or both sides choose the same."""
        best, chosen = self.real_choice, self.simulated_choice
        half = _half_width(best.real, chosen.real)
        if best is chosen or half is None or not best.real_mean:
            return None
        scale = abs(best.real_mean)
        return self.regret - half / scale, self.regret + half / scale

    @property
    def verdict(self) -> Verdict:
        """Whether the choices differ by more than the repeats do."""
        if self.simulated_choice is self.real_choice or not self.regret:
            return "same"
        interval = self.regret_interval
        return "different" if interval is not None and interval[0] > 0 else "not to be told apart"

    @property
    def rank_correlation(self) -> float | None:
        """Kendall's tau-b of the settings' order; None where a side has all alike."""
        from scipy.stats import kendalltau

        real = [setting.real_mean for setting in self.settings]
        tau = kendalltau(real, [setting.simulated_mean for setting in self.settings]).statistic
        return None if math.isnan(tau) else float(tau)

    @property
    def pairs(self) -> tuple[int, int]:
        """Pairs of settings that reality tells apart, and how many the simulator orders so."""
        apart = right = 0
        for one, other in combinations(self.settings, 2):
            half = _half_width(one.real, other.real)
            difference = one.real_mean - other.real_mean
            if half is not None and abs(difference) > half:
                apart += 1
                right += difference * (one.simulated_mean - other.simulated_mean) > 0
        return apart, right

    def check(self, regret: float = 0.0) -> None:
        """Raise unless the simulator's choice is reality's, or costs no more than ``regret``.

        Raises:
            CheckFailed: It costs more, or the repeats cannot tell whether it does.
        """
        if self.verdict == "same" or (self.regret <= regret and self._surely_within(regret)):
            return
        raise CheckFailed(
            f"decision by {self.objective}: the simulator chooses {self.simulated_choice.name}, "
            f"reality {self.real_choice.name} ({self.verdict}); regret {self._regret_text()}, "
            f"allowed is {regret:.1%}"
        )

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON values."""
        apart, right = self.pairs
        interval = self.regret_interval
        return {
            "objective": self.objective,
            "higher_is_better": self.higher_is_better,
            "settings": [
                {
                    "name": each.name,
                    "real": each.real_mean,
                    "real_runs": list(each.real),
                    "interval": None if each.interval is None else list(each.interval),
                    "simulated": each.simulated_mean,
                    "error": _error(each),
                    "notes": list(each.notes),
                }
                for each in self.settings
            ],
            "real_choice": self.real_choice.name,
            "simulated_choice": self.simulated_choice.name,
            "regret": self.regret,
            "regret_interval": None if interval is None else list(interval),
            "rank_correlation": self.rank_correlation,
            "pairs_apart": apart,
            "pairs_ordered_right": right,
            "verdict": self.verdict,
        }

    def lines(self) -> list[str]:
        """The decision for people."""
        width = max(len(setting.name) for setting in self.settings) + 2
        found = [
            f"{self.objective}, the {'highest' if self.higher_is_better else 'lowest'} is best"
        ]
        found.append(f"  {'setting':{width}}{'real':>12}{'simulated':>12}{'error':>9}")
        for each in self.settings:
            error = _error(each)
            marks = [
                word
                for word, choice in (("real", self.real_choice), ("sim", self.simulated_choice))
                if choice is each
            ]
            mark = f"  <- {' and '.join(marks)}" if marks else ""
            shown = "-" if error is None else f"{error:+.1%}"
            values = f"{each.real_mean:>12.5g}{each.simulated_mean:>12.5g}{shown:>9}"
            notes = f"  ({'; '.join(each.notes)})" if each.notes else ""
            found.append(f"  {each.name:{width}}{values}{mark}{notes}")
        apart, right = self.pairs
        tau = self.rank_correlation
        found.append(
            f"  rank correlation {'-' if tau is None else f'{tau:.2f}'}; of {apart} pairs that the "
            f"repeats tell apart {right} are in the right order"
        )
        found.append(f"  {self.verdict}: regret {self._regret_text()}")
        return found

    def _best(self, values: Sequence[float]) -> Setting:
        pick = max if self.higher_is_better else min
        return self.settings[values.index(pick(values))]

    def _worse_by(self, setting: Setting) -> float:
        difference = self.real_choice.real_mean - setting.real_mean
        return difference if self.higher_is_better else -difference

    def _surely_within(self, regret: float) -> bool:
        interval = self.regret_interval
        return interval is not None and interval[1] <= regret

    def _regret_text(self) -> str:
        interval = self.regret_interval
        if interval is None:
            return f"{self.regret:.1%}"
        return f"{self.regret:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def _error(setting: Setting) -> float | None:
    real = setting.real_mean
    return (setting.simulated_mean - real) / real if real else None


def _half_width(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Of Welch's interval for a difference of means; None without repeats on both sides."""
    if len(one) < 2 or len(other) < 2:
        return None
    parts = [variance(each) / len(each) for each in (one, other)]
    total = sum(parts)
    if not total:
        return 0.0
    sizes = (len(one), len(other))
    freedom = total**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
    return _quantile(freedom) * math.sqrt(total)


def _quantile(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + _CONFIDENCE) / 2, freedom))
