"""The `sim_vs_real` fixture's object: one case of a test, and what it came to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import pytest

from pytest_gpusim.errors import GpusimError
from pytest_gpusim.plugin.checked import CheckedComparison, fail
from pytest_gpusim.plugin.judging import JUDGING
from pytest_gpusim.plugin.session import COMPARISON_PROPERTY, STATE, profiling_root_of

if TYPE_CHECKING:
    from pytest_gpusim.case import Case, CaseArguments, Settings
    from pytest_gpusim.case.arguments import EngineArgument, WorkloadArgument
    from pytest_gpusim.case.given import RealFiles
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.deployment import Hardware
    from pytest_gpusim.runs import Run


COMPARISONS = pytest.StashKey[list[CheckedComparison]]()
"""What a test compared, in its stash; it may have asked for the fixture in any way."""


class SimVsReal:
    """Runs one case of a test; what the fixture of the same name returns."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._config = request.config
        self._state = request.config.stash[STATE]
        self._judging = request.config.stash[JUDGING]
        self._is_timed = False
        request.node.stash[COMPARISONS] = []  # a test that runs again begins anew

    def __call__(
        self,
        *,
        model: str | None = None,
        workload: WorkloadArgument | None = None,
        real: RealFiles | None = None,
        profile: str | Path | None = None,
        hardware: str | None = None,
        engine: EngineArgument | None = None,
        simulator: str = "vidur",
        backend: str = "vllm",
        name: str = "",
        params: Mapping[str, Any] | None = None,
        backend_params: Mapping[str, Any] | None = None,
        stated: Mapping[str, Any] | None = None,
    ) -> CheckedComparison:
        """Compare a simulation with real runs.

        With ``real`` a result that exists is the real side: ``sim_vs_real(real="bench.json")``.
        Without it a recording that matches is replayed, else the engine is measured here. Relative
        paths are looked for beside the test's file, then below the rootdir and the working
        directory. What cannot be told from the files is asked for by name.

        Args:
            model: A known name, or the path of a ``config.json``. Default: the real run's, else the
                profile's.
            workload: A preset's name, a `WorkloadSpec`, or a workload directory. Default: what the
                first run of ``real`` served.
            real: A result file of another tool (``vllm bench serve --save-result
                --save-detailed`` and others), a run directory, a folder of repeats, a pattern, or a
                list of these; several are repeats.
            profile: A bundle. Default: the one below the profiling root that fits.
            hardware: The device class. Default: the test's hardware marker, else what the real run
                or the profile says.
            engine: Engine settings, as a mapping under vLLM's names, `EngineSettings`, a file, or a
                run directory. With ``real`` they state what that engine ran with.
            simulator: ``vidur``, ``reference``, or one that a plugin registered.
            backend: What measures, where the real side is measured now.
            name: The recording's folder, and the beginning of the artifacts' names.
            params: The simulator's own options.
            backend_params: The backend's own options.
            stated: What the runs do not say themselves and a verdict needs, by key of
                ``run_meta.json``: ``{"clock": "client", "calibrated_on": []}``.
        """
        __tracebackhide__ = True
        from pytest_gpusim import case as cases
        from pytest_gpusim.compare.stating import require_statable

        try:
            require_statable(stated or {})  # before what takes long
            settings = self._settings()
            case = self._case(
                model=model,
                workload=workload,
                real=real,
                profile=profile,
                hardware=hardware,
                engine=engine,
                simulator=simulator,
                backend=backend,
                name=name,
                params=params,
                backend_params=backend_params,
            )
            side = cases.real_side(case, settings)
            simulated = self._timed(lambda: cases.simulate(case, settings, side))
            comparison, path = cases.compare(case, settings, side, simulated, stated)
        except cases.CannotRunHere as reason:
            mode = self._config.getoption("--gpusim-real")
            pytest.skip(f"{reason} (--gpusim-real recorded)" if mode == "recorded" else str(reason))
        except GpusimError as error:
            fail(error)
        self._publish(comparison, path)
        checked = CheckedComparison(comparison, path, self._request.node)
        self._request.node.stash[COMPARISONS].append(checked)
        return checked

    def simulate_alone(self, **arguments: Unpack[CaseArguments]) -> Run:
        """Simulate a case without a real side, under the bundle's engine settings."""
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            return cases.simulate_alone(self._case(**arguments), self._settings())
        except GpusimError as error:
            fail(error)

    def measure_alone(self, **arguments: Unpack[CaseArguments]) -> list[Run]:
        """The real runs of a case, recorded or measured now."""
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            return cases.real_side(self._case(**arguments), self._settings()).runs
        except cases.CannotRunHere as reason:
            pytest.skip(str(reason))
        except GpusimError as error:
            fail(error)

    def require_prerequisites(
        self,
        *,
        accept: Sequence[str] = (),
        stated: Mapping[str, Any] | None = None,
        **arguments: Unpack[CaseArguments],
    ) -> None:
        """Fail, listing what is missing and how to make it, unless the case can run here and pass.

        Nothing is simulated or measured. Checks of the comparison that depend only on profile,
        settings and workload are judged, too. A case that this machine cannot run is skipped with
        the reason, unless its marker or a profiling root was asked for.

        Args:
            accept: Checks that the test's own ``check(accept=…)`` accepts.
            stated: What its ``sim_vs_real(stated=…)`` states.
            arguments: As ``sim_vs_real`` takes them.
        """
        __tracebackhide__ = True
        from pytest_gpusim import case as cases

        try:
            case = self._case(**arguments)
            accepted = [*accept, *self._judging.accept]
            failures = cases.failing_prerequisites(
                case, self._settings(), self._asked_for(case), accepted, stated
            )
        except cases.CannotRunHere as reason:
            pytest.skip(str(reason))
        except GpusimError as error:
            fail(error)
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
            history=self._judging.history,
            accept=self._judging.accept,
        )

    def _case(self, **arguments: Unpack[CaseArguments]) -> Case:
        from pytest_gpusim.case import resolve_case

        here = self._config.invocation_params.dir
        return resolve_case(
            arguments,
            self._state.registry,
            marked=self._marked_hardware(),
            artifacts=self._state.artifacts,
            places=(self._request.path.parent, self._config.rootpath, here),
            asker=self._request.node.nodeid,
        )

    def _marked_hardware(self) -> Hardware | None:
        known = self._state.registry.hardware
        marked = [n for n in known.names() if self._request.node.get_closest_marker(n)]
        return known.get(marked[0]) if marked else None

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

    def _publish(self, comparison: Comparison, path: Path) -> None:
        self._request.node.user_properties.append((COMPARISON_PROPERTY, str(path)))
        if self._config.pluginmanager.hasplugin("benchmark"):
            benchmark = self._request.getfixturevalue("benchmark")
            benchmark.extra_info.update(comparison.flat_figures())
