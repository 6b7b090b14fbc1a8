"""What ``sim_vs_real`` returns: a comparison in a test, and its `check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

import pytest

from pytest_gpusim.errors import GpusimError, plain_lines
from pytest_gpusim.plugin.judging import JUDGING, tolerances_of

if TYPE_CHECKING:
    from pytest_gpusim.compare import Comparison, ComparisonDocument
    from pytest_gpusim.compare.judging.verdict import Verdict
    from pytest_gpusim.compare.metrics import Tolerances


class CheckedComparison:
    """What ``sim_vs_real(…)`` returns: a comparison whose ``check`` judges it.

    Attributes:
        comparison: The `Comparison` itself.
        path: The directory that it is written to.
    """

    def __init__(self, comparison: Comparison, path: Path, item: pytest.Item) -> None:
        self.comparison = comparison
        self.path = path
        self.checked = False
        self._failed = False
        self._is_complete = False
        self._item = item

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures, in the shape of ``metrics`` in ``comparison.json``."""
        return self.comparison.metrics

    @property
    def verdict(self) -> Verdict:
        """``pass``, ``fail``, ``inconclusive``, or ``not_judged`` before `check`."""
        return self.comparison.verdict

    def check(
        self,
        *,
        accept: Sequence[str] = (),
        slo: Mapping[str, str] | None = None,
        **tolerances: Unpack[Tolerances],
    ) -> None:
        """Fail the test unless the verdict is ``pass``, of this call and of earlier ones together.

        Args:
            accept: Names of checks that may be unknown, or fail if that can be accepted.
            slo: Latency limits that a request must meet to count in ``goodput``:
                ``{"ttft": "200ms", "tpot": "20ms"}``.
            tolerances: By name of the figure: ``ttft_p50=0.10``, ``ttft_p50="10%:2ms"`` or
                ``ttft_p50=Tolerance(rel=0.10, abs="2ms")``. Default: those of the test's marker
                ``gpusim_tolerances``, else of the session's file, else TTFT, TPOT and E2E at p50
                and p90 within 10%.
        """
        __tracebackhide__ = True
        self.checked = True
        try:
            given = dict(tolerances) or tolerances_of(self._item)
            self.comparison = self.comparison.judged(given, accept=accept, slo=slo)  # type: ignore[arg-type]
        except GpusimError as error:
            fail(error)
        self._complete()
        broken = self._failure()
        if not broken:
            return
        if self.verdict == "inconclusive" and self._inconclusive_is_expected():
            from pytest_gpusim.report.session import reasons_line

            pytest.xfail(f"simulated against real: {reasons_line(self._document())}")
        self._failed = True
        raise AssertionError("\n".join(broken))

    def properties(self) -> list[tuple[str, str]]:
        """Verdict and judgements as properties of the test, for JUnit."""
        from pytest_gpusim.compare.format import interval, signed_percent

        accepted = [one.name for one in self.comparison.checks if one.status == "accepted"]
        return [
            ("gpusim_verdict", self.verdict),
            *([("gpusim_accepted", ", ".join(accepted))] if accepted else []),
            *(
                (
                    f"gpusim_{item.name}",
                    f"{item.outcome}: error {signed_percent(item.error)} {interval(item.interval)}",
                )
                for item in self.comparison.judgements
            ),
        ]

    def require_checked(self) -> None:
        """What becomes of a comparison that was never checked: it fails where a needed check did,
        and else warns, or fails where the session says so. So does a test that went on after its
        check() failed.
        """
        __tracebackhide__ = True
        if self.checked and not self._failed:
            return
        if self.verdict == "fail" and not self.checked:
            raise AssertionError("\n".join(self._failure()))
        what = "check() was never called: nothing was judged"
        if self._failed:
            what = f"its verdict is {self.verdict}: the test caught what check() raised"
        said = f"{self._item.nodeid}: sim_vs_real() compared and {what}"
        if self._item.config.stash[JUDGING].unchecked == "fail":
            pytest.fail(said, pytrace=False)
        import warnings

        from pytest_gpusim.plugin.judging import UncheckedComparison

        path, line, _ = self._item.location
        warnings.warn_explicit(UncheckedComparison(said), None, path, (line or 0) + 1)

    def _inconclusive_is_expected(self) -> bool:
        return self._item.config.stash[JUDGING].inconclusive == "xfail"

    def complete(self) -> None:
        """Complete the directory where no `check` did, once the test is over."""
        if not self._is_complete:
            self._complete()

    def _complete(self) -> None:
        from pytest_gpusim.report.directory import update_comparison

        update_comparison(self.comparison, self.path)
        self._is_complete = True

    def _failure(self) -> list[str]:
        from pytest_gpusim.report.terminal import failure_lines

        return [plain_lines(line) for line in failure_lines(self._document())]

    def _document(self) -> ComparisonDocument:
        from pytest_gpusim.compare import document_of

        return document_of(self.comparison, self.path)


def fail(error: GpusimError) -> NoReturn:
    """Fail the test with a user's mistake, in one line."""
    __tracebackhide__ = True
    # "from None", or the chain of errors is shown as well.
    raise pytest.fail.Exception(str(error), pytrace=False) from None
