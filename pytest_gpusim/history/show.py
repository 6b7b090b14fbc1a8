"""A history on a terminal, and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.compare.format import interval, percent, signed_percent
from pytest_gpusim.history.alerts import find_alerts, lost_cases
from pytest_gpusim.history.entry import WATCHED, Entry
from pytest_gpusim.printing import WIDE, wrapped

_BAR, _NARROW_BAR = 21, 11


def case_lines(
    entries: Sequence[Entry], figures: Sequence[str] = (), width: int | None = None
) -> list[str]:
    """One case over commits: a line for each comparison and figure, its error drawn beside it.

    Args:
        entries: Of the case, in order of time.
        figures: Which; default: those that were judged, else TTFT, TPOT and E2E at p50.
        width: In columns; where there are few the drawing is smaller, and the number and the
            spread of the runs are left to wider ones.
    """
    narrow = width is not None and width < WIDE
    shown = list(figures) or sorted({one.figure for one in entries if one.outcome})
    shown = shown or list(WATCHED)
    alerts = {id(alert.now) for alert in find_alerts(entries)}
    lines = []
    for figure in shown:
        rows = [one for one in entries if one.figure == figure]
        if not rows:
            continue
        reach = max(*(abs(one.error) for one in rows), 0.01)
        lines.append(f"{rows[0].case}: {figure}, error from {-reach:.1%} to {reach:+.1%}")
        basis = rows[0].basis
        for one in rows:
            notes = []
            if one.basis != basis:
                notes.append("another workload or profile: starts anew")
            if id(one) in alerts:
                notes.append("worse")
            basis = one.basis
            commit = f"{(one.commit or '-')[:7]:7}" if narrow else f"{(one.commit or '-')[:10]:10}"
            runs = "" if narrow else f" n={one.num_runs} runs vary by {percent(one.run_sd)}"
            drawn = _drawn(one.error, reach, _NARROW_BAR if narrow else _BAR)
            line = (
                f"  {one.time[:16]} {commit} {drawn} {signed_percent(one.error):>7} "
                f"{interval(one.interval):>18}{runs} {one.outcome or one.verdict}"
                + (f"  <- {', '.join(notes)}" if notes else "")
            )
            lines += wrapped(line, width, " " * 19)
    return lines


def overview_lines(entries: Sequence[Entry]) -> list[str]:
    """A line for each case: how often it was compared, when last, with which verdict."""
    lines = []
    for case in sorted({one.case for one in entries}):
        own = [one for one in entries if one.case == case]
        last = max(own, key=lambda one: one.time)
        sessions = len({one.session for one in own})
        lines.append(f"{case}: {sessions} sessions, last {last.time[:16]}: {last.verdict}")
    return [*lines, *alarm_lines(entries)]


def alarm_lines(entries: Sequence[Entry]) -> list[str]:
    """What is worse in the newest session of each case, and which cases are lost."""
    newest = {one.case: one.session for one in sorted(entries, key=lambda one: one.time)}
    worse = [alert for alert in find_alerts(entries) if newest[alert.now.case] == alert.now.session]
    lines = [f"worse: {alert}" for alert in worse]
    return lines + [f"lost: {case} is not compared any more" for case in lost_cases(entries)]


def _drawn(error: float, reach: float, size: int) -> str:
    """An error as a mark on a line of that size whose middle is zero."""
    half = size // 2
    place = half + round(half * error / reach)
    cells = ["·"] * size
    cells[half] = "|"
    cells[place] = "o"
    return "".join(cells)


def draw_case(entries: Sequence[Entry], figures: Sequence[str], out: Path) -> None:
    """Draw errors over time with their intervals, as SVG."""
    from pytest_gpusim.report.charts.canvas import figure_class

    Figure = figure_class()
    import matplotlib as mpl

    shown = list(figures) or sorted({one.figure for one in entries if one.outcome})
    shown = shown or list(WATCHED)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "history", "font.size": 9}):
        figure = Figure(figsize=(8, 1.2 + 1.6 * len(shown)), layout="tight")
        axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axis, name in zip(axes, shown, strict=True):
            rows = [one for one in entries if one.figure == name]
            errors = [100 * one.error for one in rows]
            ends = [one.interval or (one.error, one.error) for one in rows]
            below = [error - 100 * low for error, (low, _) in zip(errors, ends, strict=True)]
            above = [100 * high - error for error, (_, high) in zip(errors, ends, strict=True)]
            axis.axhline(0, color="#94a3b8", lw=1)
            axis.errorbar(range(len(rows)), errors, [below, above], fmt="o-", color="#d9480f", ms=4)
            axis.set_title(name, loc="left")
            axis.set_ylabel("error, %")
            axis.set_xticks(range(len(rows)), [(one.commit or one.time)[:7] for one in rows])
        with atomic_file(out) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
