"""How a session judges: the options for it, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpusim.errors import GpusimWarning, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gpusim.compare.tolerance import Given

MARKER = "gpusim_tolerances"


class UncheckedComparison(GpusimWarning):
    """A test called ``sim_vs_real`` and never ``check``, or caught what that raised."""


@dataclass(frozen=True)
class Judging:
    """How a session judges.

    Attributes:
        tolerances: Of the session's file, by name; None where it has none.
        accept: Names of checks that the user accepts.
        history: Where comparisons are appended, and whose spread is pooled.
        fail_on_regression: Whether what became worse fails the session.
        require: Whether a case that would skip fails.
        unchecked: ``warn`` or ``fail`` for a comparison that was never checked, or whose failure
            the test caught.
        inconclusive: ``fail`` or ``xfail`` for a check that was inconclusive.
    """

    tolerances: Mapping[str, Given] | None
    accept: tuple[str, ...]
    history: Path | None
    fail_on_regression: bool
    require: bool
    unchecked: str
    inconclusive: str


JUDGING = pytest.StashKey[Judging]()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("gpusim")
    group.addoption(
        "--gpusim-tolerances",
        metavar="FILE",
        help="TOML file with [tolerances], for each check() that states none",
    )
    group.addoption(
        "--gpusim-accept",
        action="append",
        default=[],
        metavar="CHECK,…",
        help="judge although these checks are unknown or fail; listed beside each verdict",
    )
    group.addoption(
        "--gpusim-history",
        metavar="DIR",
        help="append the results of comparisons, and use the spread of earlier real runs",
    )
    group.addoption(
        "--gpusim-fail-on-regression",
        action="store_true",
        help="fail if a case became worse than in the history, or is missing",
    )
    group.addoption(
        "--gpusim-require",
        action="store_true",
        help="fail a case that would be skipped",
    )
    group.addoption(
        "--gpusim-unchecked",
        choices=("warn", "fail"),
        help="result of a test that compares and never calls check(), or catches what check() "
        "raises (default: warn)",
    )
    group.addoption(
        "--gpusim-inconclusive",
        choices=("fail", "xfail"),
        default="fail",
        help="result of a test whose check() is inconclusive (default: fail)",
    )
    parser.addini("gpusim_tolerances", "as --gpusim-tolerances", default="")
    parser.addini("gpusim_history", "as --gpusim-history", default="")
    parser.addini("gpusim_unchecked", "as --gpusim-unchecked", default="warn")


def configure(config: pytest.Config) -> None:
    """Read the options, and register the marker.

    Raises:
        UsageError: A file or name that cannot be used.
    """
    config.addinivalue_line(
        "markers", f"{MARKER}(**tolerances): what check() judges where it states none"
    )
    place = _place(config, "--gpusim-tolerances", "gpusim_tolerances")
    accept = tuple(
        name.strip()
        for names in config.getoption("--gpusim-accept")
        for name in names.split(",")
        if name.strip()
    )
    tolerances = None
    if place is not None:
        from pytest_gpusim.report.tolerance_file import read_tolerance_file

        tolerances = read_tolerance_file(place)
    if accept:
        from pytest_gpusim.compare.checks import require_acceptable

        require_acceptable(accept)
    history = _place(config, "--gpusim-history", "gpusim_history")
    if history is not None and history.exists() and not history.is_dir():
        raise UsageError(f"--gpusim-history {history}: exists and is not a directory")
    regression = config.getoption("--gpusim-fail-on-regression")
    if regression and history is None:
        raise UsageError("--gpusim-fail-on-regression needs --gpusim-history DIR")
    unchecked = config.getoption("--gpusim-unchecked") or config.getini("gpusim_unchecked")
    if unchecked not in ("warn", "fail"):
        raise UsageError(f"gpusim_unchecked = {unchecked}: expected warn or fail")
    config.stash[JUDGING] = Judging(
        tolerances=tolerances,
        accept=accept,
        history=history,
        fail_on_regression=regression,
        require=config.getoption("--gpusim-require"),
        unchecked=unchecked,
        inconclusive=config.getoption("--gpusim-inconclusive"),
    )


def tolerances_of(item: pytest.Item) -> Mapping[str, Given] | None:
    """What ``check()`` judges in a test where it states nothing: the marker's, else the file's;
    None for the defaults.
    """
    marker = item.get_closest_marker(MARKER)
    if marker is not None:
        if marker.args or not marker.kwargs:
            raise UsageError(f"{item.nodeid}: write @pytest.mark.{MARKER}(ttft_p50=0.10)")
        return dict(marker.kwargs)
    return item.config.stash[JUDGING].tolerances


def _place(config: pytest.Config, option: str, ini: str) -> Path | None:
    given: Any = config.getoption(option)
    if given:
        return config.invocation_params.dir / str(given)
    stated = str(config.getini(ini))
    return config.rootpath / stated if stated else None
