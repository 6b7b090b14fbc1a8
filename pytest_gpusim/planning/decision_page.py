"""A page of one decision: who chooses what, what it costs, and latency against load behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import package_version
from pytest_gpusim.planning.decided import (
    checks_against,
    choosers,
    hold_word,
    real_text,
    simulated_text,
)
from pytest_gpusim.planning.decision import student
from pytest_gpusim.report.charts.canvas import REAL, log_scale
from pytest_gpusim.report.inline import drawn
from pytest_gpusim.report.page import write_page

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision
    from pytest_gpusim.planning.question import Measured, Question

_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
# Told apart by people who see colours otherwise, on white and on dark (after Okabe and Ito).
_COLOURS = ("#0284c7", "#d97706", "#059669", "#c026d3", "#dc2626", "#7c6f64")
_MARKERS, _SIGNS = "os^Dvp", "●■▲◆▼⬟"
_FAR_APART = 5.0  # largest over smallest value, above which an axis is logarithmic
_PILLS = {"same": "pass", "different": "fail"}
_OF_INTEREST = ("same", "different", "not to be told apart", "inconclusive")


def write_decision_page(question: Question, decisions: Sequence[Decision], out: Path) -> None:
    """Write the page, one file that asks for no other.

    Args:
        question: The decision file, read.
        decisions: What it came to.
        out: The file to write.
    """
    write_page(
        out,
        "decision.html.j2",
        title=f"Decision: {question.path.name}",
        sentence=_sentence(question, decisions),
        counts={
            word: count
            for word in _OF_INTEREST
            if (count := sum(each.verdict == word for each in decisions))
        },
        pills=_PILLS,
        limits=question.limits,
        decisions=[_shown(decision) for decision in decisions],
        legend=[
            {
                "name": setting,
                "colour": _COLOURS[number % len(_COLOURS)],
                "mark": _SIGNS[number % len(_SIGNS)],
                "choice": (choosers(decisions[0]) if decisions else {}).get(setting, ""),
            }
            for number, setting in enumerate(question.settings)
        ],
        charts=list(_charts(question, decisions)),
        bearings=[
            {
                "setting": each.setting,
                "load": f"{each.load:g}",
                "real": f"{each.real_mean:.3g}, {hold_word(each.real_holds)}",
                "simulated": f"{each.simulated_mean:.3g}, {hold_word(each.simulated_holds)}",
                "verdict": each.verdict,
            }
            for each in question.bearings
        ],
        checks=list(checks_against(question)),
        runs=list(_provenance(question)),
        file=str(question.path),
        version=package_version("pytest-gpusim"),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _sentence(question: Question, decisions: Sequence[Decision]) -> str:
    """The result in words: the first decision, or where limits hold alike."""
    if decisions:
        first = decisions[0]
        real, simulated = first.real_choice.name, first.simulated_choice.name
        chosen = (
            f"both sides choose {real}"
            if real == simulated
            else f"reality chooses {real}, the simulator {simulated}"
        )
        return f"By {first.objective} {chosen}: {first.verdict}, regret {first.regret_text}."
    alike = sum(each.verdict == "same" for each in question.bearings)
    return (
        f"Both sides agree whether the limits hold at {alike} of {len(question.bearings)} points."
    )


def _shown(decision: Decision) -> dict[str, Any]:
    marks, tau = choosers(decision), decision.rank_correlation
    apart, right = decision.pairs
    return {
        "objective": decision.objective,
        "best": "highest" if decision.higher_is_better else "lowest",
        "verdict": decision.verdict,
        "real": decision.real_choice.name,
        "simulated": decision.simulated_choice.name,
        "regret": decision.regret_text,
        "tau": "n/a" if tau is None else f"{tau:.2f}",
        "pairs": f"{right} of {apart}",
        "notes": decision.notes,
        "rows": [
            {
                "name": each.name,
                "real": real_text(each),
                "simulated": simulated_text(each),
                "error": each.error,
                "mark": marks.get(each.name, ""),
            }
            for each in decision.settings
        ],
    }


def _charts(question: Question, decisions: Sequence[Decision]) -> Iterator[dict[str, str]]:
    limits = question.limits
    if limits is not None:
        yield _chart(
            question,
            decisions,
            "used",
            "Worst ratio to a limit" if limits.limits[0].statistic else "Requests outside limits",
            lambda run: limits.used(run.metrics),
            limits.most_used,
        )
    for metric, label in _METRICS.items():
        of_metric = [each for each in limits.limits if each.metric == metric] if limits else []
        named = next((each for each in of_metric if each.statistic), None)
        statistic = named.statistic.name if named and named.statistic else "p90"
        key = f"{metric}_{statistic}_ns"
        yield _chart(
            question,
            decisions,
            f"{metric}-{statistic}",
            f"{label} {statistic}, ms",
            _milliseconds(key),
            named.most_ns / 1e6 if named else None,
        )


def _milliseconds(key: str) -> Callable[[Measured], float | None]:
    def value(run: Measured) -> float | None:
        found = run.figures[key]
        return None if found is None else found / 1e6

    return value


def _chart(
    question: Question,
    decisions: Sequence[Decision],
    name: str,
    title: str,
    value: Callable[[Measured], float | None],
    limit: float | None,
) -> dict[str, str]:
    """One figure against load: each repeat a mark, their mean and interval, the simulation."""
    first = choosers(decisions[0]) if decisions else {}
    known = {
        setting: (_known(sides.real, value), _known(sides.simulated, value))
        for setting, sides in question.settings.items()
    }
    means = {
        setting: [{load: fmean(values) for load, values in side.items()} for side in sides]
        for setting, sides in known.items()
    }
    said = "; ".join(
        f"{setting} at load {load:g}: real {mean:.4g}"
        + (f", simulated {simulated[load]:.4g}" if load in simulated else "")
        for setting, (real, simulated) in means.items()
        for load, mean in real.items()
    )
    words = f"{title} against load. {said}"
    words += f"; the limit is {limit:.4g}" if limit is not None else ""

    def draw(axes: Any) -> None:
        shown: list[float] = []
        for number, (setting, (repeats, _)) in enumerate(known.items()):
            look = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % 6]}
            real, simulated = means[setting]
            width = 2.2 if setting in first else 1.1
            axes.errorbar(list(real), list(real.values()), yerr=_bars(repeats), lw=width, ms=0,
                          capsize=3, elinewidth=1, **look)  # fmt: skip
            for load, values in repeats.items():
                axes.plot([load] * len(values), values, linestyle="", ms=4, alpha=0.8, **look)
                shown.extend(values)
            axes.plot(list(simulated), list(simulated.values()), "--", lw=width, ms=5.5, mfc="none",
                      **look)  # fmt: skip
            shown.extend(simulated.values())
        if limit is not None:
            axes.axhline(limit, color=REAL, lw=1, ls=":")
        axes.set_xlabel("load")
        if shown and 0 < min(shown) < max(shown) / _FAR_APART:
            log_scale(axes, "y")
        else:
            axes.set_ylim(bottom=0)

    return {"title": title, "caption": "", "svg": drawn(name, words, draw)}


def _known(
    runs: Mapping[float, Sequence[Measured]], value: Callable[[Measured], float | None]
) -> dict[float, list[float]]:
    found = {
        load: [known for run in runs[load] if (known := value(run)) is not None]
        for load in sorted(runs)
    }
    return {load: values for load, values in found.items() if values}


def _bars(real: Mapping[float, Sequence[float]]) -> list[list[float]]:
    """Below and above each mean: Student's interval of the repeats' logarithms, at 90%."""
    below, above = [], []
    for values in real.values():
        mean = fmean(values)
        ends = student([math.log(v) for v in values]) if all(v > 0 for v in values) else None
        below.append(max(0.0, mean - math.exp(ends[0])) if ends else 0.0)
        above.append(max(0.0, math.exp(ends[1]) - mean) if ends else 0.0)
    return [below, above]


def _provenance(question: Question) -> Iterator[dict[str, Any]]:
    for setting, sides in question.settings.items():
        for load in sorted(sides.real):
            for side, runs in (("real", sides.real), ("simulated", sides.simulated)):
                for run in runs[load]:
                    source = {"workload": "not recorded", "profile": "", "engine": "", "at": ""}
                    place = {"setting": setting, "load": f"{load:g}", "side": side}
                    yield {**place, **source, **run.source}
