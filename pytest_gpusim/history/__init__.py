"""What comparisons came to, over time: appended, pooled, looked at for regressions.

A history is a directory of ``.jsonl`` files, a line for each figure of each comparison. Every
session writes a file of its own, so that files of shards, or of several machines, merge by being
put together.
"""

from pytest_gpusim.history.alerts import Alert, find_alerts, lost_cases
from pytest_gpusim.history.entry import Entry
from pytest_gpusim.history.store import History

__all__ = ["Alert", "Entry", "History", "find_alerts", "lost_cases"]
