"""What comes after reading: whatever a reader took must be carried on, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.registry import builtin_registry
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

_MOST_TOKENS = 20_000
"""Of requests that are simulated: more take their honest time."""


@dataclass(frozen=True)
class Carriers:
    """What goes on with a run directory, a workload directory and engine settings."""

    run: Callable[[Path, Path], None]
    workload: Callable[[Path, Path], None]
    engine: Callable[[EngineSettings, Path], None]


def carriers(scratch: Path) -> Carriers:
    """All of them; what they simulate with is made in ``scratch``."""
    bundle = make_bundle(scratch / "carried-bundle")
    workload = make_workload(scratch / "carried-workload", [(16, 3, 0), (20, 2, 5_000_000)])
    return Carriers(
        carry_run,
        partial(carry_workload, bundle),
        lambda settings, out: simulate(bundle, workload, settings, out),
    )


def carry_run(path: Path, out: Path) -> None:
    """A run is written again, becomes a workload and a timeline, and is compared and shown."""
    from pytest_gpusim.report.timeline import write_timeline
    from pytest_gpusim.runs import read_run
    from pytest_gpusim.runs.as_workload import import_run
    from pytest_gpusim.runs.writer import rewrite_run

    run = read_run(path)
    rewrite_run(run, out / "again", run.meta)
    import_run(path, out / "run-workload", {})
    write_timeline([run], out / "timeline.json")
    show(run, run, out)


def show(real: Run, sim: Run, out: Path) -> None:
    """A comparison as documents, on the terminal, as a summary and in a history."""
    from pytest_gpusim.compare import compare_runs, document_of
    from pytest_gpusim.history import History
    from pytest_gpusim.history.show import overview_lines
    from pytest_gpusim.report.inline import settings_rows
    from pytest_gpusim.report.load import load_charts
    from pytest_gpusim.report.summary import summary_markdown
    from pytest_gpusim.report.terminal import comparison_lines, failure_lines

    history = History.read(out / "none").spreads([real])
    comparison = compare_runs([real], [sim], history=history).judged({})
    document = document_of(comparison, out / "comparison")
    lines = [*comparison_lines(document, 80), *failure_lines(document)]
    "\n".join([*lines, summary_markdown(document)]).encode()
    json.dumps([document.comparison, document.meta], allow_nan=False)
    settings_rows(document.meta)
    load_charts([document])
    History.read(out / "history").append([document])
    overview_lines(History.read(out / "history").entries)


def carry_workload(bundle: Bundle, path: Path, out: Path) -> None:
    """A workload is exported, and its first requests are simulated."""
    from pytest_gpusim.errors import GpusimError
    from pytest_gpusim.workload import read_workload
    from pytest_gpusim.workload.exporters import EXPORT_KINDS, export_workload

    workload = read_workload(path)
    if sum(r.num_prefill_tokens for r in workload.requests) < _MOST_TOKENS * 10:
        for kind in EXPORT_KINDS:
            with suppress(GpusimError):
                export_workload(kind, workload, out / f"exported-{kind}")
    workload.max_length()
    workload.requests = workload.requests[:3]
    workload.sessions = {i: turn for i, turn in workload.sessions.items() if i < 3}
    if sum(r.num_prefill_tokens + r.num_decode_tokens for r in workload.requests) < _MOST_TOKENS:
        simulate(bundle, workload, ENGINE, out)


def simulate(bundle: Bundle, workload: Workload, settings: EngineSettings, out: Path) -> None:
    """A small workload under these settings; the run must be one that can be read."""
    from pytest_gpusim.case import run_simulator
    from pytest_gpusim.providers import SimulationInputs
    from pytest_gpusim.runs import read_run

    registry = builtin_registry()
    registry.add_model(TINY)
    inputs = SimulationInputs(TINY, CPU, workload, bundle, settings, out / "simulated")
    run_simulator("reference", registry, inputs)
    read_run(out / "simulated")
