"""The comparisons of a session: gathered from its tests, shown at its end."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpusim.errors import GpusimError, UsageError, plain_lines
from pytest_gpusim.plugin import judging
from pytest_gpusim.plugin.remembering import append_session
from pytest_gpusim.plugin.session import COMPARISON_PROPERTY

if TYPE_CHECKING:
    from pytest_gpusim.compare.document import ComparisonDocument

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


class ComparisonCollector:
    """Gathers the session's comparisons and shows them at its end.

    Under xdist a comparison is made in a worker: its path travels with the test's report.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._comparisons: list[Path] = []
        self._makers: list[str] = []
        self._tests: set[str] = set()
        self._again: set[str] = set()
        self._alarms: list[str] = []
        self._readable = False
        self._page: Path | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests.add(report.nodeid)
        if str(report.outcome) == "rerun":  # of pytest-rerunfailures
            self._again.add(report.nodeid)
        if report.when == "teardown":  # a fixture may compare, and fail, too
            for key, value in report.user_properties:
                # A test that is run again brings those of its earlier runs, too.
                if key == COMPARISON_PROPERTY and Path(str(value)) not in self._comparisons:
                    self._comparisons.append(Path(str(value)))
                    self._makers.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workerinput"):
            return
        try:
            self._publish()
        except GpusimError as error:
            self._refuse(session, str(error))
        judges = self._config.stash[judging.JUDGING]
        if judges.history is None:
            return
        made = (self._comparisons, self._makers, self._tests)
        try:
            alarms = append_session(judges.history, *made)
        except GpusimError as error:
            self._refuse(session, f"history: {error}")
            return
        self._alarms += [f"history: {alarm}" for alarm in alarms]
        if alarms and judges.fail_on_regression and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _publish(self) -> None:
        """Read what was compared, and write the pages that were asked for.

        Raises:
            GpusimError: A comparison's directory is gone or broken, or a page cannot be written.
        """
        if not self._comparisons:
            return
        self._readable = bool(self._documents)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            from pytest_gpusim.report.session import session_markdown

            try:
                with Path(summary).open("a", encoding="utf-8") as stream:
                    stream.write(session_markdown(self._documents))
            except OSError as error:
                said = f"GITHUB_STEP_SUMMARY={summary}: cannot be written: {error.strerror}"
                raise UsageError(said) from None
        if report := self._config.getoption("--gpusim-report"):
            from pytest_gpusim.report.html import write_session_report

            place = self._config.invocation_params.dir / report
            write_session_report(self._comparisons, place, self._makers)
            self._page = place

    def _rerun_lines(self) -> list[str]:
        """Tests whose comparison a rerun made anew: of several attempts the best is no evidence."""
        found = []
        for test in sorted(self._again & set(self._makers)):
            made = zip(self._makers, self._documents, strict=True)
            verdicts = [document.verdict for maker, document in made if maker == test]
            found.append(f"{test} was run again: its comparisons came to {', '.join(verdicts)}")
        return found

    def _refuse(self, session: pytest.Session, why: str) -> None:
        """What was compared cannot be shown or kept: nobody can tell what a green session saw."""
        self._alarms.append(why)
        session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        report = self._config.getoption("--gpusim-report")
        quiet = self._config.get_verbosity() < 0
        for alarm in self._alarms:
            terminalreporter.write_line(f"gpusim {plain_lines(alarm)}", red=True)
        if not self._comparisons:
            if report:
                terminalreporter.write_line(f"no comparison was made, so no {report}")
            return
        for line in self._rerun_lines() if self._readable else ():
            terminalreporter.write_line(f"gpusim: {plain_lines(line)}", yellow=True)
        if not quiet and self._readable:
            self._show(terminalreporter)
        if not quiet and self._page is not None:
            terminalreporter.write_line(f"report: {self._page}")

    @cached_property
    def _documents(self) -> list[ComparisonDocument]:
        from pytest_gpusim.report.session import told_apart
        from pytest_gpusim.report.versions import read_document

        return told_apart([read_document(path) for path in self._comparisons], self._makers)

    def _show(self, terminalreporter: Any) -> None:
        """A line for each comparison, its verdict coloured; with ``-v`` all that it found."""
        from pytest_gpusim.printing import terminal_width
        from pytest_gpusim.report.session import session_lines
        from pytest_gpusim.report.terminal import detail_lines

        width = terminal_width()
        terminalreporter.section("simulated against real")
        if self._config.get_verbosity() > 0:
            for document in self._documents:
                for line in detail_lines(document, width):
                    terminalreporter.write_line(plain_lines(line))
                terminalreporter.write_line("")
        for verdict, rest in session_lines(self._documents, width):
            colour = _COLOURS.get(verdict.strip())
            terminalreporter.write(verdict, **({colour: True} if colour else {}))
            # write_line would begin a line of its own
            terminalreporter.write(f"{plain_lines(rest)}\n")

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_benchmark_group_stats(self) -> Generator[None, Any, Any]:
        """pytest-benchmark's own table leaves these tests out, unless one of its options asks."""
        groups = yield
        if any(str(one).startswith("--benchmark") for one in self._config.invocation_params.args):
            return groups
        makers = set(self._makers)
        others = [
            (name, [one for one in benchmarks if one["fullname"] not in makers])
            for name, benchmarks in groups
        ]
        return [(name, benchmarks) for name, benchmarks in others if benchmarks]
