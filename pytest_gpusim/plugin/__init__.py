"""pytest's side of the project: options, markers, fixtures, header and summary."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from pytest_gpusim.errors import GpusimError, UsageError
from pytest_gpusim.faults import plugin_call
from pytest_gpusim.plugin import judging
from pytest_gpusim.plugin.collector import ComparisonCollector
from pytest_gpusim.plugin.planning import gpusim_decisions as gpusim_decisions
from pytest_gpusim.plugin.planning import gpusim_sweep as gpusim_sweep
from pytest_gpusim.plugin.rootdir import keep_rootdir
from pytest_gpusim.plugin.session import (
    STATE,
    State,
    profiling_root_of,
)
from pytest_gpusim.plugin.sim_vs_real import COMPARISONS, SimVsReal
from pytest_gpusim.progress import lines_to
from pytest_gpusim.registry import Registry, builtin_registry

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run


_WITH_PATHS = (
    "--profiling-root",
    "--gpusim-artifacts",
    "--gpusim-recordings",
    "--gpusim-report",
    "--gpusim-tolerances",
    "--gpusim-history",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpusim", "simulators against real inference engines")
    try:
        group.addoption(
            "--profiling-root",
            metavar="DIR",
            help="folder of profiling bundles (default: tmp/vidur_profiling under the rootdir)",
        )
        # pytest 8 holds options of several groups against each other only when it parses.
        parser.parse_known_args([])
    except (ValueError, argparse.ArgumentError):
        raise pytest.UsageError(
            "another pytest plugin has an option --profiling-root, too: run without one of the "
            "two, such as with -p no:gpusim"
        ) from None
    group.addoption(
        "--gpusim-artifacts",
        metavar="DIR",
        help="folder for runs and comparisons (default: tmp under the rootdir)",
    )
    group.addoption(
        "--gpusim-real",
        choices=("live", "recorded"),
        help="measure the real side now, or replay a recording (default: a recording that matches "
        "the case, else live if this machine can, else skip)",
    )
    group.addoption(
        "--gpusim-recordings",
        metavar="DIR",
        help="folder of recordings, DIR/<case>/{workload,profile,real/1…N,recording.json} "
        "(default: recordings beside the test file)",
    )
    group.addoption(
        "--gpusim-repeat",
        type=int,
        default=3,
        metavar="N",
        help="how many times a live real side is measured (default: 3)",
    )
    group.addoption(
        "--gpusim-report",
        metavar="PATH",
        help="write one HTML page over all comparisons of the session",
    )
    parser.addini("gpusim_profiling_root", "as --profiling-root", default="")
    judging.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    # `from pytest_gpusim import hookspec` would look it up among the public names, and read them.
    pluginmanager.add_hookspecs(import_module("pytest_gpusim.hookspec"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    try:
        keep_rootdir(early_config, _WITH_PATHS)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    registry = builtin_registry()
    try:
        # Historic: a conftest.py of a subdirectory, found later, is asked too.
        with plugin_call("a plugin's pytest_gpusim_register", pluggy.HookCaller.call_historic):
            config.hook.pytest_gpusim_register.call_historic(kwargs={"registry": registry})
        if config.getoption("--gpusim-repeat") < 1:
            raise UsageError(
                f"--gpusim-repeat {config.getoption('--gpusim-repeat')}: expected at least 1"
            )
        for option in ("--profiling-root", "--gpusim-recordings"):
            given = config.getoption(option)
            if given and not (config.invocation_params.dir / given).is_dir():
                raise UsageError(f"{option} {given}: no such directory")
        _require_writable(config)
        judging.configure(config)
    except GpusimError as error:
        raise pytest.UsageError(str(error)) from None
    given = config.getoption("--gpusim-artifacts")
    artifacts = config.invocation_params.dir / given if given else config.rootpath / "tmp"
    config.stash[STATE] = State(registry, artifacts)
    config.pluginmanager.register(ComparisonCollector(config), "gpusim-comparisons")
    config.addinivalue_line("markers", "prereq: checks that need no GPU, no engine, no network")
    config.addinivalue_line("markers", "sim_vs_real: a simulation compared with a real engine")
    for name in registry.hardware.names():
        config.addinivalue_line("markers", f"{name}: runs on, or is about, the hardware {name}")


def _require_writable(config: pytest.Config) -> None:
    """What is written at the end of a session, or in each test, is refused at its beginning."""
    here = config.invocation_params.dir
    artifacts, report = config.getoption("--gpusim-artifacts"), config.getoption("--gpusim-report")
    if artifacts and (here / artifacts).exists() and not (here / artifacts).is_dir():
        raise UsageError(f"--gpusim-artifacts {artifacts}: exists and is not a directory")
    if report and (here / report).is_dir():
        raise UsageError(f"--gpusim-report {report}: is a directory, expected the path of a page")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = config.stash[STATE].registry.hardware.names()
    for item in items:
        if "sim_vs_real" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.sim_vs_real)
            _announce_benchmark(item)
            found = [name for name in names if item.get_closest_marker(name)]
            if len(found) > 1:
                raise pytest.UsageError(
                    f"{item.nodeid}: two hardware markers, {' and '.join(found)}; keep one"
                )


def _announce_benchmark(item: pytest.Item) -> None:
    """Let pytest-benchmark see what is asked for later, so that its own selection works."""
    names = getattr(item, "fixturenames", None)
    if (
        names is not None
        and "benchmark" not in names
        and not item.get_closest_marker("prereq")
        and item.config.pluginmanager.hasplugin("benchmark")
    ):
        names.append("benchmark")
        # A test that fails before it simulates did not ask for it.
        item.add_marker(pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all"))


def pytest_report_header(config: pytest.Config) -> list[str]:
    state = config.stash[STATE]
    root = profiling_root_of(config)
    return [f"gpusim: artifacts {state.artifacts}, profiling root {root.path} ({root.source})"]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Progress of long tests in lines that no capturing holds back; none under ``-q``."""
    config = session.config
    if config.get_verbosity() < 0:
        with lines_to(lambda line: None):
            return (yield)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            if reporter is not None:
                reporter.ensure_newline()
                reporter.write_line(f"gpusim: {line}")

    with lines_to(say):
        return (yield)


@pytest.fixture(scope="session")
def gpusim_artifacts(pytestconfig: pytest.Config) -> Path:
    """The folder that runs, comparisons and generated workloads are written to (a path)."""
    return pytestconfig.stash[STATE].artifacts


@pytest.fixture(scope="session")
def profiling_root(pytestconfig: pytest.Config) -> Path:
    """The folder of profiling bundles (a path): from option, ini, environment or default."""
    return profiling_root_of(pytestconfig).path


@pytest.fixture(scope="session")
def gpusim_registry(pytestconfig: pytest.Config) -> Registry:
    """The `Registry` of the session, with what its plugins and conftest files registered."""
    return pytestconfig.stash[STATE].registry


@pytest.fixture
def workload(request: pytest.FixtureRequest) -> Any:
    """The parametrized workload: a preset's name, a `WorkloadSpec`, or a workload directory."""
    return getattr(request, "param", "spaced")


@pytest.fixture
def vidur_runner(sim_vs_real: SimVsReal) -> Callable[..., Run]:
    """Call with the arguments of `sim_vs_real`: simulates only; returns the `Run`."""
    return sim_vs_real.simulate_alone


@pytest.fixture
def real_runner(sim_vs_real: SimVsReal) -> Callable[..., list[Run]]:
    """Call with the arguments of `sim_vs_real`: measures or replays only; returns the `Run`s."""
    return sim_vs_real.measure_alone


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A comparison that was made is also judged, or that is said; its verdict is a property."""
    __tracebackhide__ = True
    try:
        result = yield
        for comparison in item.stash.get(COMPARISONS, []):
            comparison.require_checked()
        return result
    finally:
        for comparison in item.stash.get(COMPARISONS, []):
            item.user_properties += comparison.properties()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A case that skips, whoever skips it, fails where the session requires it."""
    report = yield
    required = item.config.stash[judging.JUDGING].require and item.get_closest_marker("sim_vs_real")
    if required and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"required (--gpusim-require): {why.removeprefix('Skipped: ')}"
    return report


@pytest.fixture
def sim_vs_real(request: pytest.FixtureRequest) -> Iterator[SimVsReal]:
    """Call it with the arguments below; returns a `CheckedComparison`, whose ``check`` judges."""
    yield SimVsReal(request)
    for comparison in request.node.stash.get(COMPARISONS, []):
        comparison.complete()
