"""Would the simulator have taken the decision that reality takes, and what does its choice cost?

Each setting has a value in reality, measured in repeats, and one in simulation. Both sides choose
the best by their means; of settings that the simulator holds for equal, the one that is worst in
reality. The *regret* is what the simulator's choice is worse by than the best of all, in reality's
values. Its interval is Welch's for the difference of two means, at 90%, against each other setting:
single repeats share no queue, single requests do. Its lower end is Bonferroni's over all those
pairs, for of many equal settings one is bound to look better. A choice is the same where that
interval holds nothing above 0, and different where it lies above; the same name alone proves
nothing.
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
# A difference of one request is no more than one, whatever floats make of it.
_JUST_MORE = 1 + 1e-9


@dataclass(frozen=True)
class Setting:
    """One of the settings to choose from.

    Attributes:
        name: How it is called.
        real: Its value in each repeat.
        simulated: Its value in each simulation.
        real_bound: Whether its real value is but a bound: the truth is at least, or at most, that.
        simulated_bound: The same of its simulated value.
        resolution: What a single request makes of a value that counts requests; smaller differences
            are not told, however the repeats agree.
        notes: What is to be known of the values.
    """

    name: str
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    real_bound: Bound = ""
    simulated_bound: Bound = ""
    resolution: float = 0.0
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
        return student(self.real, self.resolution)

    @property
    def error(self) -> float | None:
        """Of the simulated value, relative; None where the real one is 0, or either is a bound."""
        if not self.real_mean or self.real_bound or self.simulated_bound:
            return None
        return (self.simulated_mean - self.real_mean) / self.real_mean

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "real": self.real_mean,
            "real_runs": list(self.real),
            "interval": None if self.interval is None else list(self.interval),
            "simulated": self.simulated_mean,
            "error": self.error,
            "real_bound": self.real_bound or None,
            "simulated_bound": self.simulated_bound or None,
        }


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
        """All that are the best by simulation, or may be, where it gives but a bound."""
        ends = [
            sorted(self._sign * end for end in _ends(each.simulated_mean, each.simulated_bound))
            for each in self.settings
        ]
        surely = max(low for low, _ in ends)
        return tuple(
            each for each, (_, high) in zip(self.settings, ends, strict=True) if high >= surely
        )

    @property
    def regret(self) -> float:
        """What the simulator's choice is worse by than reality's, as a fraction of the latter."""
        best, chosen = self.real_choice, self.simulated_choice
        difference = self._sign * (best.real_mean - chosen.real_mean)
        return abs(difference / best.real_mean) if best.real_mean else 0.0

    @property
    def regret_interval(self) -> tuple[float, float] | None:
        """Of the regret; infinite above where a bound leaves open how much better a rival is, None
        where a setting has one repeat, or the best is 0.
        """
        chosen, scale = self.simulated_choice, abs(self.real_choice.real_mean)
        pairs = len(self.simulated_best) * (len(self.settings) - 1)
        low = high = 0.0
        for rival in self.settings:
            if rival is chosen:
                continue
            half, wide = _half_width(rival, chosen), _half_width(rival, chosen, pairs)
            if half is None or wide is None or not scale:
                return None
            better = self._sign * (rival.real_mean - chosen.real_mean)
            if not self._may_exceed(chosen, rival):
                low = max(low, (better - wide) / scale)
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
            half = _half_width(one, other)
            difference = one.real_mean - other.real_mean
            lower, upper = (one, other) if difference < 0 else (other, one)
            open_ended = lower.real_bound == "at least" or upper.real_bound == "at most"
            if half is not None and abs(difference) > half and not open_ended:
                apart += 1
                _, most = _ends(lower.simulated_mean, lower.simulated_bound)
                least, _ = _ends(upper.simulated_mean, upper.simulated_bound)
                right += least > most
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
            "settings": [each.to_json() for each in self.settings],
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
        """Whether a bound leaves open that one is above the other, whatever their means."""
        if other.real_bound == "at least" and one.real_bound != "at least":
            return False
        return one.real_bound == "at least" or other.real_bound == "at most"


def student(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float] | None:
    """Student's interval for the mean, at 90%, no narrower than the resolution to either side; None
    for one value.
    """
    if len(values) < 2:
        return None
    half = _quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    half = max(half, resolution * _JUST_MORE)
    return fmean(values) - half, fmean(values) + half


def _ends(mean: float, bound: Bound) -> tuple[float, float]:
    """Between what a value lies that may be but a bound."""
    return (
        -math.inf if bound == "at most" else mean,
        math.inf if bound == "at least" else mean,
    )


def _half_width(one: Setting, other: Setting, pairs: int = 1) -> float | None:
    """Of Welch's interval for a difference of means, at 90% for all of so many pairs at once; None
    without repeats on both sides.
    """
    if len(one.real) < 2 or len(other.real) < 2:
        return None
    parts = [variance(each.real) / len(each.real) for each in (one, other)]
    total, resolution = sum(parts), max(one.resolution, other.resolution) * _JUST_MORE
    if not total:
        return resolution
    sizes = (len(one.real), len(other.real))
    freedom = total**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
    return max(_quantile(freedom, pairs) * math.sqrt(total), resolution)


def _quantile(freedom: float, pairs: int = 1) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - (1 - CONFIDENCE) / 2 / pairs, freedom))
