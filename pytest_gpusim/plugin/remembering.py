"""The history of a session's comparisons: appended once, looked at for what became worse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path


def append_session(
    directory: Path, comparisons: Sequence[Path], makers: Sequence[str], tests: Collection[str]
) -> list[str]:
    """Append a session's comparisons; what became worse by them, or got lost, a line each.

    Args:
        directory: The history.
        comparisons: The comparisons' directories.
        makers: The id of the test that made each.
        tests: All tests of the session: one that made a comparison before and makes none now lost
            its case; one that was not asked for did not.
    """
    from pytest_gpusim.history import History, find_alerts
    from pytest_gpusim.report.versions import read_document

    history = History.read(directory)
    made = history.append([read_document(path) for path in comparisons], makers)
    earlier = {one.test: one.case for one in history.entries if one.test in tests}
    compared = {one.case for one in made}
    lost = sorted({case for case in earlier.values() if case not in compared})
    alerts = [alert for alert in find_alerts((*history.entries, *made)) if alert.now in made]
    return [
        *(f"worse: {alert}" for alert in alerts),
        *(f"lost: {case} is not compared any more" for case in lost),
    ]
