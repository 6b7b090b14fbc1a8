"""What a decision came to: as JSON, for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.json_documents import SCHEMA_VERSION
from pytest_gpusim.printing import table_lines

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision, Setting
    from pytest_gpusim.planning.question import Question


def document_of(question: Question, decisions: Sequence[Decision]) -> dict[str, Any]:
    """The document of ``decision.json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "limits": None if question.limits is None else str(question.limits),
        "capacities": [each.to_json() for each in question.capacities],
        "decisions": [decision.to_json() for decision in decisions],
        "bearings": [bearing.to_json() for bearing in question.bearings],
        "points": [each.to_json() for each in question.evidence],
    }


def lines_of(
    question: Question, decisions: Sequence[Decision], width: int | None = None
) -> list[str]:
    """The same for people, tables within so many columns."""
    found = [line for decision in decisions for line in _decision_lines(decision, width)]
    if len(question.settings) == 1 and question.capacities:
        (only,) = question.capacities
        found += [f"load within {question.limits}", *_rows([only], {}, width)]
        found += [f"  {note}" for note in only.notes]
    if question.bearings:
        found += _bearing_lines(question, width)
    return [*found, *_check_lines(question)]


def checks_against(question: Question) -> Iterator[tuple[str, str, str]]:
    """Per check that speaks against a point: its name and status, at how many points, and why at
    the first.
    """
    by_check: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for each in question.evidence:
        for check in each.against:
            by_check.setdefault((check.name, check.status), []).append((each.place, check.detail))
    for (name, status), places in by_check.items():
        first, detail = places[0]
        more = f" and {len(places) - 1} other points" if len(places) > 1 else ""
        yield f"{name}: {status}", f"{first}{more}", detail


def choosers(decision: Decision) -> dict[str, str]:
    """By setting, which sides choose it, in words."""
    real, simulated = decision.real_choice.name, decision.simulated_choice.name
    if real == simulated:
        return {real: "both choose it"}
    return {real: "reality's choice", simulated: "the simulator's choice"}


def real_text(setting: Setting) -> str:
    """The real value with its interval."""
    value = f"{setting.real_mean:.5g}"
    if setting.real_bound:
        return f"{setting.real_bound} {value}"
    interval = setting.interval
    return value if interval is None else f"{value} ({interval[0]:.5g} to {interval[1]:.5g})"


def simulated_text(setting: Setting) -> str:
    """The simulated value."""
    return f"{setting.simulated_bound} {setting.simulated_mean:.5g}".strip()


def _decision_lines(decision: Decision, width: int | None) -> Iterator[str]:
    best = "highest" if decision.higher_is_better else "lowest"
    yield f"{decision.objective}, the {best} is best"
    yield from _rows(decision.settings, choosers(decision), width)
    yield from (f"  {note}" for note in decision.notes)
    tied = [setting.name for setting in decision.simulated_best]
    if len(tied) > 1:
        yield f"  equal in the simulator: {', '.join(tied)}; the worst in reality is taken"
    apart, right = decision.pairs
    tau = decision.rank_correlation
    yield (
        f"  rank correlation {'-' if tau is None else f'{tau:.2f}'}; {right} of {apart} pairs that "
        "differ in reality are in order"
    )
    why = ", by the checks below" if decision.doubts else ""
    yield f"  {decision.verdict}{why}: regret {decision.regret_text}"


def _rows(settings: Sequence[Setting], marks: dict[str, str], width: int | None) -> Iterator[str]:
    rows = [
        (
            each.name,
            real_text(each),
            simulated_text(each),
            "-" if each.error is None else f"{each.error:+.1%}",
            f"<- {marks[each.name]}" if each.name in marks else "",
        )
        for each in settings
    ]
    header = ("setting", "real", "simulated", "error", "")
    yield from table_lines(header, rows, width, texts=(0, 4))


def _bearing_lines(question: Question, width: int | None) -> Iterator[str]:
    assert question.limits is not None
    of = "worst ratio to a limit" if question.limits.limits[0].statistic else "requests outside"
    yield f"do the limits hold ({question.limits}); {of}"
    rows = [
        (
            each.setting,
            f"{each.load:g}",
            f"{each.real_mean:.3g} {hold_word(each.real_holds)}",
            f"{each.simulated_mean:.3g} {hold_word(each.simulated_holds)}",
            each.verdict,
        )
        for each in question.bearings
    ]
    header = ("setting", "load", "real", "simulated", "verdict")
    yield from table_lines(header, rows, width, texts=(0, 4))


def hold_word(holds: bool | None) -> str:
    """Whether limits hold, in a word."""
    return {True: "holds", False: "breaks", None: "unclear"}[holds]


def _check_lines(question: Question) -> Iterator[str]:
    against = list(checks_against(question))
    if against:
        yield "checks that make this inconclusive (accept = [...] in the file accepts what may be)"
    for name, place, detail in against:
        yield f"  {name}, {place}: {detail}"
