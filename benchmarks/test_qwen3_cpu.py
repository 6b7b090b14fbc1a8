"""Qwen3-0.6B on a CPU: Vidur against vLLM, recorded or live."""

from __future__ import annotations

import pytest

from benchmarks.cases import MODEL, UNSEEN, WORKLOADS, cpu_workload

pytestmark = pytest.mark.cpu

_workloads = pytest.mark.parametrize(
    "workload",
    [pytest.param(cpu_workload(name), id=name) for name in WORKLOADS]
    + [pytest.param(cpu_workload(name, seed), id=f"{name}-unseen") for name, seed in UNSEEN],
    indirect=True,
)


@pytest.mark.prereq
@_workloads
def test_prerequisites(sim_vs_real, workload):
    sim_vs_real.require_prerequisites(model=MODEL, workload=workload)


@_workloads
def test_qwen3(sim_vs_real, workload):
    comparison = sim_vs_real(model=MODEL, workload=workload)
    # A CPU of a shared machine is seldom quiet: its own spread widens the tolerances.
    comparison.check(
        **{
            f"{metric}_{point}": 0.05
            for metric in ("ttft", "tpot", "e2e")
            for point in ("p50", "p90")
        },
        noise_factor=1.5,
    )
