"""The simulator ``vidur``: Vidur's event loop over the project's scheduler and step times."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.errors import EngineError, GpusimError, UsageError
from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine, complete_settings
from pytest_gpusim.simulators.vidur.package import require_vidur

if TYPE_CHECKING:
    from vidur.config import SimulationConfig

    from pytest_gpusim.simulators.vidur.session import Session

NAME = "vidur"
SCHEDULERS = ("vllm", "sarathi")
PREDICTORS = ("profile", "random_forest")


def simulate(inputs: SimulationInputs) -> None:
    """Simulate a workload with Vidur and write the run directory ``inputs.out_dir``.

    Parameters (``inputs.params``): ``scheduler`` is ``vllm`` (vLLM v1's rules, the default) or
    ``sarathi`` (Vidur's own); ``predictor`` is ``profile`` (interpolation, the default) or
    ``random_forest`` (Vidur's own, trained on the bundle and cached; ``forest``: ``small``, one
    candidate of Vidur's grid, or ``vidur``, all of it).

    Raises:
        EngineError: Vidur is missing, not of a supported version, or failed.
        UsageError: A parameter or the engine's settings are wrong, or a request can never run.
        InputError: The bundle does not fit the model or the settings.
    """
    version = require_vidur()
    require_vacant(inputs.out_dir)
    scheduler = _choice(inputs, "scheduler", SCHEDULERS)
    predictor = _choice(inputs, "predictor", PREDICTORS)
    inputs = replace(inputs, engine=complete_settings(inputs))
    started_at = utc_now()
    engine = ServingEngine.of_inputs(inputs)
    engine.keeps_spans = predictor == "random_forest"
    session = run(inputs, engine, scheduler, predictor)
    details = {"simulator_version": version, "scheduler": scheduler, "predictor": predictor}
    if scheduler == "sarathi":
        from pytest_gpusim.simulators.vidur.output import write_sarathi_run

        write_sarathi_run(session, NAME, started_at, details)
    else:
        from pytest_gpusim.simulators.output import write_engine_run

        write_engine_run(
            inputs, NAME, started_at, engine, profiled=predictor == "profile", details=details
        )


def run(inputs: SimulationInputs, engine: ServingEngine, scheduler: str, predictor: str) -> Session:
    """Run Vidur's simulator once; all that it writes goes to a directory that is removed."""
    from vidur.simulator import Simulator

    from pytest_gpusim.simulators.vidur.session import open_session

    # Vidur logs to standard output, which is the caller's.
    logging.getLogger("vidur").setLevel(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory(prefix="gpusim-vidur-") as scratch,
        open_session(inputs, engine, Path(scratch)) as session,
    ):
        try:
            Simulator(_configuration(session, scheduler, predictor)).run()
        except GpusimError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise EngineError(f"Vidur failed on {inputs.workload.path}: {reason[:300]}") from error
        return session


def _configuration(session: Session, scheduler: str, predictor: str) -> SimulationConfig:
    from vidur.config import (
        CacheConfig,
        ClusterConfig,
        MetricsConfig,
        ReplicaConfig,
        SimulationConfig,
    )

    from pytest_gpusim.simulators.vidur import scheduler as adapters
    from pytest_gpusim.simulators.vidur.registration import (
        private_model_name,
        register_hardware,
        register_model,
    )

    inputs, number = session.inputs, session.number
    settings = inputs.engine
    device, node = register_hardware(inputs.hardware, ample_memory=True)
    assert settings.num_gpu_blocks is not None
    planner: Any
    if scheduler == "sarathi":
        planner = adapters.GpusimSarathiSchedulerConfig(
            batch_size_cap=settings.max_num_seqs,
            chunk_size=settings.max_num_batched_tokens,
            session=number,
        )
    else:
        planner = adapters.GpusimVllmSchedulerConfig(
            batch_size_cap=settings.max_num_seqs, session=number
        )
    return SimulationConfig(
        cluster_config=ClusterConfig(
            num_replicas=1,
            replica_config=ReplicaConfig(
                model_name=register_model(inputs.model, private_model_name(inputs.model)),
                num_pipeline_stages=1,
                tensor_parallel_size=settings.tensor_parallel_size,
                device=device,
                network_device=node,
            ),
            cache_config=CacheConfig(
                block_size=settings.block_size,
                # Less vLLM's null block.
                num_blocks=settings.num_gpu_blocks - 1,
            ),
            global_scheduler_config=adapters.GpusimSingleReplicaConfig(),
            replica_scheduler_config=planner,
        ),
        request_generator_config=adapters.GpusimWorkloadConfig(
            max_tokens=inputs.workload.max_length()[1], session=number
        ),
        execution_time_predictor_config=_predictor(session, predictor),
        metrics_config=MetricsConfig(
            write_metrics=False,
            enable_chrome_trace=False,
            store_plots=False,
            output_dir=str(session.scratch),
        ),
    )


def _predictor(session: Session, predictor: str) -> Any:
    if predictor == "random_forest":
        from pytest_gpusim.simulators.vidur.forest import forest_config

        return forest_config(session.inputs, session.number)
    from pytest_gpusim.simulators.vidur.predictor import GpusimProfilePredictorConfig

    return GpusimProfilePredictorConfig(session=session.number)


def _choice(inputs: SimulationInputs, name: str, known: tuple[str, ...]) -> str:
    value = str(inputs.params.get(name, known[0]))
    if value not in known:
        raise UsageError(f"--param {name}={value}: known are {', '.join(known)}")
    return value
