"""For the project's own tests: they drive real pytest sessions, and `-m prereq` stays light."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

# Data beside the clone: the two older names follow from the folder of all.
if shared := os.environ.get("GPUSIM_SHARED_DATA"):
    os.environ.setdefault("GPUSIM_PUBLISHED_DATA", str(Path(shared) / "data" / "llmservingsim"))
    os.environ.setdefault("GPUSIM_TRACE_DATA", str(Path(shared) / "data" / "traces"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under ``-m prereq`` import only the test files that have such tests: seconds, not more."""
    if config.getoption("markexpr") == "prereq" and collection_path.suffix == ".py":
        return True if "prereq" not in collection_path.read_text(encoding="utf-8") else None
    return None


@cache
def _runs_alone(path: str) -> bool:
    """Whether a file's tests start vLLM or clusters: in each other's way, or each its own vLLM."""
    text = Path(path).read_text(encoding="utf-8")
    return re.search(r"import .*\bneeds_vllm|\bvllm_forks: |importorskip\(.ray.", text) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under xdist what takes long begins first, so that no worker ends long after the others."""
    if hasattr(config, "workerinput"):
        benchmarks = config.rootpath / "benchmarks"
        items.sort(
            key=lambda item: (not _runs_alone(str(item.path)), benchmarks not in item.path.parents)
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under xdist the tests of a file share a worker, as do all that start engines or clusters."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "engines" if _runs_alone(str(config.rootpath / path)) else path

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI requires the data beside the clone, a test that skips for want of it fails."""
    report = yield
    if report.skipped and os.environ.get("GPUSIM_REQUIRE_DATA"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if re.search(r"GPUSIM_\w+_DATA", why):
            report.outcome, report.longrepr = "failed", f"{item.nodeid}: {why}"
    return report
