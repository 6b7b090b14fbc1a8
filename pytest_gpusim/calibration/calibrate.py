"""``gpusim calibrate``: from real runs and a bundle to a calibrated bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle import Bundle, write_bundle
from pytest_gpusim.bundle.match import compare_with_run
from pytest_gpusim.bundle.schema import FRONTEND, OVERHEAD, TABLES, constant_engine_time
from pytest_gpusim.bundle_checks.biases import step_time_bias
from pytest_gpusim.calibration.evidence import Evidence, mean_figures, times_of
from pytest_gpusim.calibration.fit import fit
from pytest_gpusim.calibration.front_end import MeasuredFrontEnd, measured_front_end
from pytest_gpusim.calibration.parameters import FRONT_END, Parameter, engine_time
from pytest_gpusim.calibration.resimulation import Resimulation
from pytest_gpusim.calibration.result import Calibration
from pytest_gpusim.case.definition import engine_of
from pytest_gpusim.case.simulated import checked_inputs, workload_as_produced
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry
from pytest_gpusim.runs.identity import digests_of, requests_digest

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

FEWEST_REQUESTS = 20


def calibrate(
    runs: Sequence[Run],
    bundle: Bundle,
    registry: Registry,
    out: Path,
    *,
    workload: Workload | None = None,
    artifacts: Path,
) -> Calibration:
    """Fit engine time and front end on real runs, and write the bundle with them at ``out``.

    Engine time is fitted where the bundle has none, the front end where the runs are timed by a
    client; where a server told its engine's times besides, the front end is measured by them. The
    bundle says by which runs and workloads, so that it is not judged on them.

    Args:
        runs: Real runs of the deployment that the bundle is of, of one workload or of several.
        bundle: The profile.
        registry: For the model and the device class.
        out: The bundle to write; absent or empty.
        workload: What the runs served, with what its prompts share; None: their own requests.
        artifacts: Where workloads of runs are kept.

    Raises:
        UsageError: The runs cannot tell what is to be fitted; says which load would.
        InputError: A run is not of the bundle's deployment.
    """
    front_end = measured_front_end(runs)
    evidence = [
        _evidence(repeats, bundle, registry, workload, artifacts, front_end)
        for repeats in _workloads(runs)
    ]
    parameters = _parameters(evidence, bundle, front_end)
    measured = bundle.overhead is not None
    calibration = fit(
        evidence,
        parameters,
        [Resimulation(each, measured=measured) for each in evidence],
        max(step_time_bias(bundle, each.inputs.engine) for each in evidence),
    )
    if front_end is not None:
        fitted = (*calibration.fitted, front_end.median())
        calibration = replace(calibration, fitted=fitted)
    used = {name for each in evidence for run in each.runs for name in digests_of(run)}
    used |= {each.inputs.workload.digest for each in evidence}
    _write(out, bundle, calibration, front_end, sorted(used))
    return calibration


def _workloads(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, repeats of one workload together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(requests_digest(run), []).append(run)
    return list(groups.values())


def _evidence(
    runs: Sequence[Run],
    bundle: Bundle,
    registry: Registry,
    workload: Workload | None,
    artifacts: Path,
    front_end: MeasuredFrontEnd | None,
) -> Evidence:
    first = runs[0]
    for run in runs:
        _require_usable(run, bundle)
        if run.clock != first.clock:
            raise InputError(run.path, "clock", f"is the {run.clock}'s, that of {first.path} not")
    if workload is None:
        from pytest_gpusim.case.given import workload_of

        served = workload_of(first, artifacts / "workloads")
    else:
        served = workload_as_produced(workload, first, artifacts)
    model, hardware = str(bundle.meta["model"]), str(bundle.meta["hardware"])
    inputs = SimulationInputs(
        registry.models.get(model) if model in registry.models.names() else bundle.model_shape,
        registry.hardware.get(hardware),
        served,
        bundle,
        engine_of(first),
        out_dir=Path(),
    )
    return Evidence(tuple(runs), checked_inputs(inputs), mean_figures(runs, front_end))


def _require_usable(run: Run, bundle: Bundle) -> None:
    if run.meta.get("run_type") != "real":
        raise InputError(run.path, "run_type", "is not 'real'; calibrate on measured runs")
    for field, text in compare_with_run(bundle.meta, run.meta)[1]:
        raise InputError(run.path, field, f"does not fit {bundle.path}: {text}")
    done = len(run.finished)
    if done < FEWEST_REQUESTS:
        raise UsageError(
            f"{run.path}: {done} finished requests tell too little; it takes {FEWEST_REQUESTS}"
        )


def _parameters(
    evidence: Sequence[Evidence], bundle: Bundle, front_end: MeasuredFrontEnd | None
) -> list[Parameter]:
    found = []
    time = engine_time(evidence[0].inputs.engine)
    if bundle.overhead is None:
        for each in evidence:
            if not len(times_of(each.runs[0])["tpot"]):
                raise UsageError(
                    f"{each.runs[0].path}: has answers of one token only, which do not tell the "
                    f"{time.words} from the front end; it takes {time.told_by}"
                )
        found.append(time)
    clocks = {each.runs[0].clock for each in evidence}
    if len(clocks) > 1:
        raise UsageError("these runs are timed by different clocks: calibrate on those of one")
    if clocks == {"client"} and front_end is None:
        found.append(FRONT_END)
    if not found and front_end is None:
        raise UsageError(
            f"{bundle.path}: has its engine time, and runs timed by the engine's clock do not "
            f"tell the front end; it takes {FRONT_END.told_by}"
        )
    return found


def _write(
    out: Path,
    bundle: Bundle,
    calibration: Calibration,
    measured: MeasuredFrontEnd | None,
    used: Sequence[str],
) -> None:
    tables: dict[str, pd.DataFrame | None] = {
        name: getattr(bundle, name.removesuffix(".csv")) for name in TABLES
    }
    time, front_end = (calibration.value_ns(name) for name in ("engine_time", "front_end"))
    if time is not None:
        tables[OVERHEAD] = constant_engine_time(round(time))
    if measured is not None:
        tables[FRONTEND] = measured.table()
    elif front_end is not None:
        tables[FRONTEND] = _front_end(round(front_end))
    meta: Mapping[str, Any] = {
        **bundle.meta,
        "created_at": None,
        "calibrated_on": sorted({*(bundle.meta.get("calibrated_on") or []), *used}),
        "calibration": calibration.to_json(),
        "uncalibrated_digest": bundle.digest,
    }
    write_bundle(out, tables, meta)


def _front_end(time_ns: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"boundary": ["ingress"], "num_prompt_tokens": [0], "time_ns": [time_ns]})
