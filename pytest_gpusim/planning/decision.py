"""Would the simulator have taken the decision that reality takes, and what does its choice cost?

Each setting has a value in reality, measured in repeats, and one in simulation. Both sides choose
the best by their means; of settings that the simulator holds for equal, the one that is worst in
reality. The *regret* is what the simulator's choice is worse by than the best of all, in reality's
values. Its interval is Welch's for the difference of two means, at 90%, against each other setting:
single repeats share no queue, single requests do. A choice is the same where that interval holds
nothing above 0, and different where it lies above; the same name alone proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance
from typing import Any, Literal

from pytest_gpusim.errors import CheckFailed, UsageError

Verdict = Literal["same", "different", "not to be told apart", "inconclusive"]
Bound = Literal["", "at least", "at most"]
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Setting:
    """One of the settings to choose from.

    Attributes:
        name: How it is called.
        real: Its value in each repeat.
        simulated: Its value in each simulation.
        real_bound: Whether its real value is but a bound: the truth is at least, or at most, that.
        simulated_bound: The same of its simulated value.
    """

    name: str
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    real_bound: Bound = ""
    simulated_bound: Bound = ""

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
        return student(self.real)

    @property
    def error(self) -> float | None:
        """Of the simulated value, relative; None where the real one is 0, or either is a bound."""
        if not self.real_mean or self.real_bound or self.simulated_bound:
            return None
        return (self.simulated_mean - self.real_mean) / self.real_mean

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the values."""
        sides = (("real", self.real_bound), ("simulated", self.simulated_bound))
        return tuple(f"{side}: {bound} that" for side, bound in sides if bound)


@dataclass(frozen=True)
class Decision:
    """Which setting each side chooses.

    Attributes:
        objective: What is compared, such as ``e2e_p90 at load 4``.
        settings: At least two.
        higher_is_better: Whether the best value is the highest.
        notes: What is to be known of it, such as which setting was not measured.
        doubts: Why its runs are no evidence: checks that failed, or could not be judged.
    """

    objective: str
    settings: tuple[Setting, ...]
    higher_is_better: bool
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.settings) < 2:
            raise UsageError(f"{self.objective}: a decision needs at least two settings")
        for setting in self.settings:
            if not setting.real or not setting.simulated:
                raise UsageError(f"{setting.name}: needs a real and a simulated run")

    @property
    def real_choice(self) -> Setting:
        """The best by what was measured; of several the simulator's, where it is among them."""
        best = max(self._sign * setting.real_mean for setting in self.settings)
        chosen = self.simulated_choice
        if self._sign * chosen.real_mean == best:
            return chosen
        return next(each for each in self.settings if self._sign * each.real_mean == best)

    @property
    def simulated_choice(self) -> Setting:
        """The best by simulation; of several the worst in reality."""
        return min(self.simulated_best, key=lambda setting: self._sign * setting.real_mean)

    @property
    def simulated_best(self) -> tuple[Setting, ...]:
        """All that the simulator holds for best."""
        best = max(self._sign * setting.simulated_mean for setting in self.settings)
        return tuple(each for each in self.settings if self._sign * each.simulated_mean == best)

    @property
    def regret(self) -> float:
        """What the simulator's choice is worse by than reality's, as a fraction of the latter."""
        best, chosen = self.real_choice, self.simulated_choice
        difference = self._sign * (best.real_mean - chosen.real_mean)
        return abs(difference / best.real_mean) if best.real_mean else 0.0

    @property
    def regret_interval(self) -> tuple[float, float] | None:
        """Of the regret; infinite above where a rival is known by a bound only, None where a
        setting has one repeat, or the best is 0.
        """
        chosen, scale = self.simulated_choice, abs(self.real_choice.real_mean)
        low = high = 0.0
        for rival in self.settings:
            if rival is chosen:
                continue
            half = _half_width(rival.real, chosen.real)
            if half is None or not scale:
                return None
            better = self._sign * (rival.real_mean - chosen.real_mean)
            if not self._may_exceed(chosen, rival):
                low = max(low, (better - half) / scale)
            high = max(high, (better + half) / scale)
            if self._may_exceed(rival, chosen):
                high = math.inf
        return low, high

    @property
    def verdict(self) -> Verdict:
        """Whether the choice costs something, as far as the repeats tell."""
        if self.doubts:
            return "inconclusive"
        interval = self.regret_interval
        if interval is not None and interval[1] <= 0:
            return "same"
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
            lower, upper = (one, other) if difference < 0 else (other, one)
            open_ended = lower.real_bound == "at least" or upper.real_bound == "at most"
            if half is not None and abs(difference) > half and not open_ended:
                apart += 1
                right += difference * (one.simulated_mean - other.simulated_mean) > 0
        return apart, right

    def check(self, regret: float = 0.0) -> None:
        """Raise unless the repeats show that the simulator's choice costs no more than ``regret``.

        Raises:
            CheckFailed: It costs more, the repeats cannot tell whether it does, or the runs are no
                evidence.
        """
        interval = self.regret_interval
        if not self.doubts and interval is not None and interval[1] <= regret:
            return
        why = f"; {self.doubts[0]}" if self.doubts else ""
        raise CheckFailed(
            f"decision by {self.objective}: the simulator chooses {self.simulated_choice.name}, "
            f"reality {self.real_choice.name} ({self.verdict}); regret {self.regret_text}, "
            f"allowed is {regret:.1%}{why}"
        )

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON values; a regret without an upper end has None there."""
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
                    "error": each.error,
                    "real_bound": each.real_bound or None,
                    "simulated_bound": each.simulated_bound or None,
                }
                for each in self.settings
            ],
            "real_choice": self.real_choice.name,
            "simulated_choice": self.simulated_choice.name,
            "simulated_best": [each.name for each in self.simulated_best],
            "regret": self.regret,
            "regret_interval": None
            if interval is None
            else [end if math.isfinite(end) else None for end in interval],
            "rank_correlation": self.rank_correlation,
            "pairs_apart": apart,
            "pairs_ordered_right": right,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "doubts": list(self.doubts),
        }

    @property
    def regret_text(self) -> str:
        """The regret and its interval, in words."""
        interval = self.regret_interval
        if interval is None:
            return f"{self.regret:.1%}, of unknown noise"
        low, high = interval
        if math.isinf(high):
            return f"{self.regret:.1%} (at least {low:.1%})"
        return f"{self.regret:.1%} ({low:.1%} to {high:.1%})"

    @property
    def _sign(self) -> int:
        return 1 if self.higher_is_better else -1

    def _may_exceed(self, one: Setting, other: Setting) -> bool:
        """Whether a bound leaves open that one is above the other by any amount."""
        return one.real_bound == "at least" or (one.real_bound == other.real_bound == "at most")


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval for the mean, at 90%; None for one value."""
    if len(values) < 2:
        return None
    half = _quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return fmean(values) - half, fmean(values) + half


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

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
