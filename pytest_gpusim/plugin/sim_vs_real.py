"""The `sim_vs_real` fixture's object: one case of a test, and what it came to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from pytest_gpusim.errors import CheckFailed, GpusimError, UsageError
from pytest_gpusim.plugin.session import COMPARISON_PROPERTY, STATE, profiling_root_of

if TYPE_CHECKING:
    from pytest_gpusim.case import Case, Settings
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.deployment import Hardware
    from pytest_gpusim.runs import Run


class SimVsReal:
    """Runs one case of a test; what the fixture of the same name returns."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._config = request.config
        self._state = request.config.stash[STATE]
        self._is_timed = False

    def __call__(self, **arguments: Any) -> CheckedComparison:
        """Compare a simulation with real runs.

        Args:
            arguments: ``model`` (a name or the path of a ``config.json``), ``workload`` (a preset's
                name, a `WorkloadSpec`, a directory), and optionally ``hardware``, ``simulator``,
                ``backend``, ``engine`` (settings as a mapping, file or run directory), ``name``
                (the recording's folder), ``params`` and ``backend_params``
                (options of the simulator and of the backend themselves).
        """
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            settings, case = self._settings(), self._case(**arguments)
            real = cases.real_side(case, settings)
            simulated = self._timed(lambda: cases.simulate(case, settings, real))
            comparison = cases.compare(case, settings, real, simulated)
        except cases.CannotRunHere as reason:
            if self._config.getoption("--gpusim-real") == "recorded":
                pytest.skip(f"{reason} (--gpusim-real recorded)")
            pytest.skip(str(reason))
        except GpusimError as error:
            _fail(error)
        self._publish(comparison)
        return CheckedComparison(comparison)

    def simulate_alone(self, **arguments: Any) -> Run:
        """Simulate a case without a real side: the bundle's own engine settings."""
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            return cases.simulate_alone(self._case(**arguments), self._settings())
        except GpusimError as error:
            _fail(error)

    def measure_alone(self, **arguments: Any) -> list[Run]:
        """The real runs of a case, recorded or measured now."""
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            return cases.real_side(self._case(**arguments), self._settings()).runs
        except cases.CannotRunHere as reason:
            pytest.skip(str(reason))
        except GpusimError as error:
            _fail(error)

    def require_prerequisites(self, **arguments: Any) -> None:
        """Fail, saying what is missing and what makes it, unless the case can run here.

        A case that nobody asked for and that this machine cannot run skips with the reason.
        """
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            case = self._case(**arguments)
            failures = cases.failing_prerequisites(case, self._settings(), self._asked_for(case))
        except cases.CannotRunHere as reason:
            pytest.skip(str(reason))
        except GpusimError as error:
            _fail(error)
        if failures:
            pytest.fail("\n".join(f"{c.name}: {c.detail}" for c in failures), pytrace=False)

    def _asked_for(self, case: Case) -> bool:
        """Whether the user wants this case's prerequisites: named its marker, or a root."""
        named = re.findall(r"\w+", self._config.getoption("markexpr") or "")
        asked = {"prereq", case.hardware.name} <= set(named)
        return asked or profiling_root_of(self._config).is_named

    def _settings(self) -> Settings:
        from pytest_gpusim.case import Settings

        given = self._config.getoption("--gpusim-recordings")
        beside = self._request.path.parent / "recordings"
        recordings = self._config.invocation_params.dir / given if given else beside
        root = profiling_root_of(self._config)
        return Settings(
            registry=self._state.registry,
            artifacts=self._state.artifacts,
            profiling_root=root.path,
            root_is_named=root.is_named,
            recordings=recordings if recordings.is_dir() else None,
            real=self._config.getoption("--gpusim-real"),
            repeat=self._config.getoption("--gpusim-repeat"),
        )

    def _case(
        self,
        *,
        model: str,
        workload: Any,
        hardware: str | None = None,
        engine: Any = None,
        simulator: str = "vidur",
        backend: str = "vllm",
        name: str = "",
        params: Mapping[str, Any] | None = None,
        backend_params: Mapping[str, Any] | None = None,
    ) -> Case:
        from pytest_gpusim.case import Case
        from pytest_gpusim.deployment import EngineSettings

        if engine is None:
            settings = EngineSettings()
        elif isinstance(engine, EngineSettings):
            settings = engine
        elif isinstance(engine, Mapping):
            settings = EngineSettings.from_mapping(engine, self._request.node.nodeid)
        else:
            settings = EngineSettings.load(engine)
        registry = self._state.registry
        registry.simulators.require(simulator)
        return Case(
            model=registry.model(model),
            hardware=registry.hardware.get(hardware) if hardware else self._marked_hardware(),
            workload=workload,
            name=name,
            engine=settings,
            simulator=simulator,
            backend=backend,
            params=params or {},
            backend_params=backend_params or {},
        )

    def _marked_hardware(self) -> Hardware:
        known = self._state.registry.hardware
        for name in known.names():
            if self._request.node.get_closest_marker(name):
                return known.get(name)
        raise UsageError(
            f"{self._request.node.nodeid}: no hardware: mark the test with one of "
            f"{', '.join(known.names())}, or give hardware="
        )

    def _timed(self, simulate: Callable[[], Run]) -> Run:
        """Run the simulation, as a benchmark where pytest-benchmark is active."""
        if not self._config.pluginmanager.hasplugin("benchmark"):
            return simulate()
        benchmark = self._request.getfixturevalue("benchmark")
        # It times one thing in a test: the first comparison, unless the test itself times another.
        if self._is_timed or benchmark.stats is not None:
            return simulate()
        self._is_timed = True
        return cast("Run", benchmark.pedantic(simulate, rounds=1, iterations=1))

    def _publish(self, comparison: Comparison) -> None:
        self._request.node.user_properties.append((COMPARISON_PROPERTY, str(comparison.path)))
        if self._config.pluginmanager.hasplugin("benchmark"):
            benchmark = self._request.getfixturevalue("benchmark")
            benchmark.extra_info.update(comparison.figures())


class CheckedComparison:
    """A comparison in a test: its figures, and `check`."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures, in the shape of ``comparison.json``."""
        return self.comparison.metrics

    @property
    def path(self) -> Path | None:
        """The comparison's directory."""
        return self.comparison.path

    def check(self, **tolerances: Any) -> None:
        """Fail the test unless each named error is within its tolerance.

        Tolerances are relative: ``check(ttft_p50=0.10, tpot_p50=0.05)``.
        """
        __tracebackhide__ = True
        try:
            self.comparison.check(tolerances)
        except CheckFailed:
            raise AssertionError(self.comparison.failure_text()) from None
        except GpusimError as error:
            _fail(error)


def _fail(error: GpusimError) -> NoReturn:
    __tracebackhide__ = True
    # "from None", or the chain of errors is shown as well.
    raise pytest.fail.Exception(str(error), pytrace=False) from None
