"""The simulator ``vidur``: Vidur's event loop over the project's scheduler and step times."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.errors import EngineError, GpusimError
from pytest_gpusim.parameters import read_parameters
from pytest_gpusim.progress import Progress
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.engine import complete_settings
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.parameters import ROUTERS
from pytest_gpusim.simulators.vidur.package import require_vidur
from pytest_gpusim.simulators.vidur.parameters import PARAMETERS, PREDICTORS, SCHEDULERS

if TYPE_CHECKING:
    from pytest_gpusim.simulators.vidur.session import Session

NAME = "vidur"


def simulate(inputs: SimulationInputs) -> None:
    """Simulate a workload with Vidur and write the run directory ``inputs.out_dir``.

    ``pytest_gpusim.simulators.vidur.parameters`` has what ``inputs.params`` may hold.

    Raises:
        EngineError: Vidur is missing, not of a supported version, or failed.
        UsageError: A parameter or the engine's settings are wrong, or a request can never run.
        InputError: The bundle does not fit the model or the settings.
    """
    version = require_vidur()
    require_vacant(inputs.out_dir)
    params = read_parameters(PARAMETERS, inputs.params, "the vidur simulator")
    scheduler = params.get("scheduler", SCHEDULERS[0])
    predictor = params.get("predictor", PREDICTORS[0])
    inputs = replace(inputs, engine=complete_settings(inputs))
    started_at = utc_now()
    fleet = Fleet.of_inputs(inputs, params.get("replicas", 1), params.get("router", ROUTERS[0]))
    for engine in fleet.engines:
        engine.keeps_spans = predictor == "random_forest"
    session = run(inputs, fleet, scheduler, predictor)
    details: dict[str, Any] = {
        "simulator_version": version,
        "scheduler": scheduler,
        "predictor": predictor,
    }
    if predictor == "random_forest":
        details["counts_engine_time"] = False  # Vidur trains no operator for it
    if scheduler == "sarathi":
        from pytest_gpusim.simulators.vidur.output import write_sarathi_run

        if len(fleet.engines) > 1:
            details["fleet"] = {"replicas": len(fleet.engines), "router": fleet.policy}
        write_sarathi_run(session, NAME, started_at, details)
    else:
        from pytest_gpusim.simulators.output import write_engine_run

        write_engine_run(
            inputs, NAME, started_at, fleet, profiled=predictor == "profile", details=details
        )


def run(inputs: SimulationInputs, fleet: Fleet, scheduler: str, predictor: str) -> Session:
    """Run Vidur's simulator once; all that it writes goes to a directory that is removed."""
    from pytest_gpusim.simulators.vidur.session import open_session

    try:
        with (
            _silence(),
            tempfile.TemporaryDirectory(prefix="gpusim-vidur-") as scratch,
            open_session(inputs, fleet, Path(scratch)) as session,
        ):
            from vidur.simulator import Simulator

            from pytest_gpusim.simulators.vidur.configuration import simulation_config
            from pytest_gpusim.simulators.vidur.registration import register_adapters

            register_adapters()
            config = simulation_config(session, scheduler, predictor)
            if inputs.workload.is_open_loop and inputs.clock == "engine":
                simulator = Simulator(config)
            else:
                from pytest_gpusim.simulators.vidur.client import ClientSimulator

                simulator = ClientSimulator(config, session)
            # Imports and set-up would make a slow first request.
            with Progress("simulate", len(inputs.workload.requests), "requests") as progress:
                for engine in fleet.engines:
                    engine.progress = progress
                simulator.run()
            return session
    except GpusimError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise EngineError(f"Vidur failed on {inputs.workload.path}: {reason[:300]}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Vidur logs to standard output, which is the caller's."""
    import vidur.logger  # its import sets the level

    logger = logging.getLogger(vidur.logger.__name__.partition(".")[0])
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
