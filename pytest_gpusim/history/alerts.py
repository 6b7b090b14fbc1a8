"""Did a case become worse, or get lost?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pytest_gpusim.history.entry import Entry

POINTS, RELATIVE = 0.02, 0.10


@dataclass(frozen=True)
class Alert:
    """A figure that became worse; ``before`` is its baseline, which stays while it is worse."""

    now: Entry
    before: Entry

    def __str__(self) -> str:
        commit = f" (commit {self.before.commit[:10]})" if self.before.commit else ""
        return (
            f"{self.now.case}: {self.now.figure} is off by {self.now.error:+.1%} "
            f"{_ends(self.now)}, it was {self.before.error:+.1%} {_ends(self.before)}{commit}"
        )


def find_alerts(entries: Iterable[Entry]) -> list[Alert]:
    """Every watched entry, in the order given, that is worse than its baseline.

    What a session made comes last, whatever a clock that was set back says. Worse is an error
    larger by at least 2 points and by 10% of what it was, with an interval apart from the one of
    then: noise is no alert. A changed workload or profile starts anew. The baseline stays while it
    is worse; against the very same real runs, as of a recording, it also stays while the error is
    any larger, for then only the simulation moved: many small steps are no way around.
    """
    found: list[Alert] = []
    baselines: dict[tuple[str | None, ...], Entry] = {}
    for entry in entries:
        if not entry.is_watched:
            continue
        before = baselines.get(entry.series)
        comparable = before is not None and before.basis == entry.basis
        if before is not None and comparable and is_worse(entry, before):
            found.append(Alert(entry, before))
        elif before is None or not comparable or not _crept(entry, before):
            baselines[entry.series] = entry
    return found


def is_worse(now: Entry, before: Entry) -> bool:
    """Whether a figure is worse than its baseline."""
    size, was = abs(now.error), abs(before.error)
    if now.interval is None or before.interval is None:
        # One run has no interval; against that same run only the simulation moved.
        apart = now.run_digests == before.run_digests
    else:
        apart = now.interval[0] > before.interval[1] or now.interval[1] < before.interval[0]
    return apart and size - was >= POINTS and size >= was * (1 + RELATIVE)


def _crept(now: Entry, before: Entry) -> bool:
    return now.run_digests == before.run_digests and abs(now.error) > abs(before.error)


def lost_cases(entries: Collection[Entry]) -> list[str]:
    """Cases of the commit before the newest that the newest does not have.

    Sessions of one commit, such as shards, count together; outside a repository, each for itself.
    """
    by_commit: dict[str, set[str]] = {}
    for entry in sorted(entries, key=lambda one: one.time):
        key = entry.commit or entry.session
        cases = by_commit.pop(key, set())
        by_commit[key] = cases | {entry.case}  # in order of each commit's newest session
    if len(by_commit) < 2:
        return []
    before, newest = list(by_commit.values())[-2:]
    return sorted(before - newest)


def _ends(entry: Entry) -> str:
    ends = entry.interval
    return "" if ends is None else f"[{ends[0]:+.1%}, {ends[1]:+.1%}]"
