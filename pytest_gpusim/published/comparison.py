"""Simulating published runs and setting our error beside the published one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id
from pytest_gpusim.case import run_simulator
from pytest_gpusim.compare.format import UNKNOWN
from pytest_gpusim.errors import EngineError, GpusimError
from pytest_gpusim.json_documents import SCHEMA_VERSION
from pytest_gpusim.llmservingsim.published_run import find_runs, read_published
from pytest_gpusim.printing import table_lines
from pytest_gpusim.progress import counted
from pytest_gpusim.published.errors import METRICS, read_published_errors
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.runs import Run

_NO_ENGINE_TIME = "none: no stated source gives this machine's engine time per iteration"
_STATED_ENGINE_TIME = "overhead.csv of the profile"
_EXTRAPOLATION = (
    "below the profile's first point of an axis the value there, beyond its last one the last slope"
)


def compare_published(
    directories: Sequence[Path | str],
    registry: Registry,
    *,
    simulator: str = "vidur",
    store: Path | None = None,
    failures: list[GpusimError] | None = None,
) -> dict[str, Any]:
    """Simulate published runs, and compare.

    Args:
        directories: Folders of one run each, or folders of such folders.
        registry: Where the simulator is.
        simulator: Its name.
        store: Where bundles, workloads and runs go; a new folder below ``tmp/published``.
        failures: Gets the error of each folder that cannot be compared, and the others are; where
            it is not given the first such error is raised.

    Returns:
        The document of ``gpusim published --json``.

    Raises:
        InputError: A folder is not such a run, or a file in it cannot be read.
    """
    store = store or DEFAULT_ROOT / "published" / new_id("published")
    registry.simulators.require(simulator)
    found: list[Path] = []
    for given in directories:
        with _collected(given, failures):
            found += find_runs([given])
    runs: list[dict[str, Any]] = []
    # One alone says itself how far it is.
    several = counted(found, "simulate", len(found), "runs") if len(found) > 1 else found
    for number, directory in enumerate(several):
        with _collected(directory, failures):
            work = store / f"{number}-{directory.name}"
            runs.append(_compare_run(directory, registry, simulator, work))
    return {"schema_version": SCHEMA_VERSION, "runs": runs}


@contextmanager
def _collected(directory: Path | str, failures: list[GpusimError] | None) -> Iterator[None]:
    """Put what goes wrong with one folder into ``failures``, where there is such a list."""
    try:
        yield
    except GpusimError as error:
        if failures is None:
            raise
        failures.append(error)
    except Exception as error:
        if failures is None:
            raise
        # A defect, or files of a shape that nobody thought of: the other folders do not suffer.
        text = f"{directory}: cannot be compared ({type(error).__name__}: {error})"
        failures.append(EngineError(f"{text}; this is a defect of gpusim, please report it"))


def _compare_run(directory: Path, registry: Registry, simulator: str, work: Path) -> dict[str, Any]:
    from pytest_gpusim.compare import compare_runs
    from pytest_gpusim.llmservingsim.inputs import prepare
    from pytest_gpusim.runs import read_run

    run = read_published(directory, registry)
    inputs = prepare(run, registry, work)
    run_simulator(simulator, registry, inputs)
    real, sim = read_run(work / "real"), read_run(work / "sim")
    comparison = compare_runs([real], sim, workload=inputs.workload)
    published, unread = read_published_errors(directory)
    stated = inputs.bundle.overhead is not None
    settings = {
        "model": run.model.name,
        "hardware": inputs.hardware.name,
        "device_name": run.device_name,
        "engine": run.engine.to_json(),
        "kv_blocks_derived_from": run.capacity,
        "engine_time": _STATED_ENGINE_TIME if stated else _NO_ENGINE_TIME,
        "simulator": simulator,
        "skew_fit": bool((inputs.bundle.meta.get("skew_fit") or {}).get("enabled")),
        "extrapolated": {"share": _extrapolated_share(sim), "rule": _EXTRAPOLATION},
        "shared_prompts": inputs.workload.prompts is not None,
        "requests": len(inputs.workload.requests),
        "failed_requests": len(_failed(real)),
        "notes": [*run.notes, *unread, *inputs.bundle.meta.get("notes", ())],
        "workload_digest": inputs.workload.digest,
        "profiling_digest": inputs.bundle.digest,
        "artifacts": str(work),
    }
    return {
        "name": directory.name,
        "settings": settings,
        "metrics": _metrics(comparison, _from_queueing(sim), published),
        "checks": [check.to_json() for check in comparison.checks],
        "verdict": comparison.verdict,
    }


def _extrapolated_share(sim: Run) -> float | None:
    """The share of the steps' time that was extrapolated; None where there are no steps."""
    if sim.steps is None or "extrapolated" not in sim.steps:
        return None
    total = float(sim.steps["duration_ns"].sum())
    flagged = sim.steps["extrapolated"].astype(bool)
    return float(sim.steps.loc[flagged, "duration_ns"].sum()) / total if total else None


def published_lines(document: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """The document for people, within so many columns: our error beside the published one."""
    for run in document["runs"]:
        settings = run["settings"]
        engine = settings["engine"]
        yield f"{run['name']}: {settings['model']} on {settings['device_name']}"
        yield f"  engine: {json.dumps(engine)}"
        if settings["kv_blocks_derived_from"]:
            yield f"  KV blocks: {settings['kv_blocks_derived_from']['formula']}"
        yield f"  engine time per iteration: {settings['engine_time']}"
        extrapolated = settings["extrapolated"]
        if extrapolated["share"] is not None:
            share = f"{extrapolated['share']:.2%} of the simulated time"
            yield f"  extrapolated: {share}; {extrapolated['rule']}"
        if settings["failed_requests"]:
            yield f"  failed requests, left out: {settings['failed_requests']}"
        for note in settings["notes"]:
            yield f"  note: {note}"
        for check in run["checks"]:
            if check["status"] not in ("pass", "skip"):
                yield f"  {check['status']}: {check['name']}: {check['detail']}"
        header = ("metric", "real ms", f"{settings['simulator']} ms", "error", "published")
        rows = [
            (f"{metric} {statistic}", *_cells(figure))
            for metric, figures in run["metrics"].items()
            for statistic, figure in figures.items()
        ]
        yield from table_lines(header, rows, width)
        yield ""


def _cells(figure: Mapping[str, Any]) -> Iterator[str]:
    for key in ("real_ns", "sim_ns"):
        yield UNKNOWN if figure[key] is None else f"{figure[key] / 1e6:.2f}"
    for key in ("error", "published_error"):
        yield "-" if figure[key] is None else f"{figure[key]:+.2%}"


def _metrics(
    comparison: Comparison, sim: Run, published: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    from pytest_gpusim.compare.figures import summarize
    from pytest_gpusim.compare.measure import measure_run

    context = comparison.sides
    sides = [*context.real_metrics, measure_run(sim, leave_out=context.left_out)]
    metrics: dict[str, Any] = {}
    for metric, statistics in METRICS.items():
        values = [side.values(metric) for side in sides]
        real_side, sim_side = (
            summarize(each) if each is not None and len(each) else {} for each in values
        )
        metrics[metric] = {
            statistic: _figure(
                real_side.get(statistic),
                sim_side.get(statistic),
                published.get(metric, {}).get(statistic),
            )
            for statistic in statistics
        }
    return metrics


def _from_queueing(sim: Run) -> Run:
    """The simulated run with requests arriving when its engine takes them from its input queue.

    An engine does so between steps, when it plans the next one: that is what ``queued_ts`` states
    of the real run. The simulated steps do not begin when the real ones did, so a request comes in
    the middle of one, and what it waits for the next planning is not the engine's doing.
    """
    import numpy as np

    if sim.steps is None:
        return sim
    plannings = np.unique(sim.steps["start_ns"].to_numpy(dtype="int64"))
    came = sim.requests["arrival_time_ns"].to_numpy(dtype="int64")
    place = np.searchsorted(plannings, came).clip(max=len(plannings) - 1)
    queued = np.maximum(came, plannings[place])
    first = sim.requests["first_token_time_ns"]
    requests = sim.requests.assign(arrival_time_ns=queued, ttft_ns=first - queued)
    return replace(sim, requests=requests)


def _figure(real: float | None, sim: float | None, published: float | None) -> dict[str, Any]:
    error = (sim - real) / real if real and sim is not None else None
    return {
        "real_ns": None if real is None else round(real),
        "sim_ns": None if sim is None else round(sim),
        "error": error,
        "published_error": published,
    }


def _failed(run: Run) -> set[int]:
    rows = run.requests[run.requests["status"] == "error"]
    return {int(number) for number in rows["request_id"]}
