"""A page of one decision: who chooses what, what it costs, and latency against load behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import provenance, utc_now
from pytest_gpusim.planning.curves import Curve, Panel, charts_of, known_by_load, legend_of
from pytest_gpusim.planning.decided import (
    checks_against,
    choosers,
    hold_word,
    real_text,
    simulated_text,
)
from pytest_gpusim.report.page import write_page

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision
    from pytest_gpusim.planning.question import Measured, Question

LOAD = "load"
_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
_PILLS = {"same": "pass", "different": "fail"}
_OF_INTEREST = ("same", "different", "not to be told apart", "inconclusive")


def write_decision_page(question: Question, decisions: Sequence[Decision], out: Path) -> None:
    """Write the page, one file that asks for no other.

    Args:
        question: The decision file, read.
        decisions: What it came to.
        out: The file to write.
    """
    panels = panels_of(question, decisions)
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
        legend=legend_of(panels[0].curves),
        charts=charts_of(panels, LOAD),
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
        made={**provenance(), "at": utc_now()},
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


def panels_of(question: Question, decisions: Sequence[Decision]) -> list[Panel]:
    """What is shown against load: the margin to the limits, and latencies under their statistics.

    Args:
        question: The decision file, read.
        decisions: Of which the first says who chooses what.
    """
    choices = choosers(decisions[0]) if decisions else {}

    def panel(
        name: str, title: str, value: Callable[[Measured], float | None], limit: float | None
    ) -> Panel:
        curves = tuple(
            Curve(
                setting,
                known_by_load(sides.real, value),
                known_by_load(sides.simulated, value),
                choices.get(setting, ""),
            )
            for setting, sides in question.settings.items()
        )
        return Panel(name, title, curves, limit)

    found, limits = [], question.limits
    if limits is not None:
        title = (
            "Worst ratio to a limit" if limits.limits[0].statistic else "Requests outside limits"
        )
        found.append(panel("used", title, lambda run: limits.used(run.metrics), limits.most_used))
    for metric, label in _METRICS.items():
        of_metric = [each for each in limits.limits if each.metric == metric] if limits else []
        named = next((each for each in of_metric if each.statistic), None)
        statistic = named.statistic.name if named and named.statistic else "p90"
        value = _milliseconds(f"{metric}_{statistic}_ns")
        most = named.most_ns / 1e6 if named else None
        found.append(panel(f"{metric}-{statistic}", f"{label} {statistic}, ms", value, most))
    return found


def _milliseconds(key: str) -> Callable[[Measured], float | None]:
    def value(run: Measured) -> float | None:
        found = run.figures[key]
        return None if found is None else found / 1e6

    return value


def _provenance(question: Question) -> Iterator[dict[str, Any]]:
    for setting, sides in question.settings.items():
        for load in sorted(sides.real):
            for side, runs in (("real", sides.real), ("simulated", sides.simulated)):
                for run in runs[load]:
                    source = {"workload": "not recorded", "profile": "", "engine": "", "at": ""}
                    place = {"setting": setting, "load": f"{load:g}", "side": side}
                    yield {**place, **source, **run.source}
