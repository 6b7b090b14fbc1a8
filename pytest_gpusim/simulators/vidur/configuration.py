"""Vidur's configuration of one simulation; everything that its defaults would decide is set."""

from __future__ import annotations

from typing import Any

from vidur.config import (
    CacheConfig,
    ClusterConfig,
    MetricsConfig,
    ReplicaConfig,
    SimulationConfig,
)

from pytest_gpusim.simulators.parameters import ROUTERS
from pytest_gpusim.simulators.vidur.configs import (
    GpusimLeastOutstandingConfig,
    GpusimProfilePredictorConfig,
    GpusimRandomConfig,
    GpusimRoundRobinConfig,
    GpusimSarathiSchedulerConfig,
    GpusimSingleReplicaConfig,
    GpusimVllmSchedulerConfig,
    GpusimWorkloadConfig,
)
from pytest_gpusim.simulators.vidur.forest import forest_config
from pytest_gpusim.simulators.vidur.registration import (
    private_model_name,
    register_hardware,
    register_model,
)
from pytest_gpusim.simulators.vidur.session import Session


def simulation_config(session: Session, scheduler: str, predictor: str) -> SimulationConfig:
    """The configuration of a session; building it writes to the session's scratch directory.

    Args:
        session: What is simulated.
        scheduler: ``vllm`` or ``sarathi``.
        predictor: ``profile`` or ``random_forest``.
    """
    inputs, settings = session.inputs, session.inputs.engine
    device, node = register_hardware(inputs.hardware, ample_memory=True)
    assert settings.num_gpu_blocks is not None
    return SimulationConfig(
        cluster_config=ClusterConfig(
            num_replicas=len(session.fleet.engines),
            replica_config=ReplicaConfig(
                model_name=register_model(inputs.model, private_model_name(inputs.model)),
                num_pipeline_stages=1,
                tensor_parallel_size=settings.tensor_parallel_size,
                device=device,
                network_device=node,
            ),
            # Less vLLM's null block.
            cache_config=CacheConfig(
                block_size=settings.block_size, num_blocks=settings.num_gpu_blocks - 1
            ),
            global_scheduler_config=_router(session),
            replica_scheduler_config=_scheduler(session, scheduler),
        ),
        request_generator_config=GpusimWorkloadConfig(
            max_tokens=inputs.workload.max_length()[1], session=session.number
        ),
        execution_time_predictor_config=(
            forest_config(inputs, session.number)
            if predictor == "random_forest"
            else GpusimProfilePredictorConfig(session=session.number)
        ),
        # Metrics are made from the run directory; Vidur's cost time for every request of a step.
        metrics_config=MetricsConfig(
            write_metrics=False,
            enable_chrome_trace=False,
            store_plots=False,
            output_dir=str(session.scratch),
        ),
    )


def _router(session: Session) -> Any:
    if len(session.fleet.engines) == 1:
        return GpusimSingleReplicaConfig()
    configs = (GpusimRoundRobinConfig, GpusimRandomConfig, GpusimLeastOutstandingConfig)
    return dict(zip(ROUTERS, configs, strict=True))[session.fleet.policy]()


def _scheduler(session: Session, scheduler: str) -> Any:
    settings = session.inputs.engine
    if scheduler == "sarathi":
        return GpusimSarathiSchedulerConfig(
            batch_size_cap=settings.max_num_seqs,
            chunk_size=settings.max_num_batched_tokens,
            session=session.number,
        )
    return GpusimVllmSchedulerConfig(batch_size_cap=settings.max_num_seqs, session=session.number)
