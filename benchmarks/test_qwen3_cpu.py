"""Qwen3-0.6B on a CPU: Vidur against vLLM, recorded or live."""

from __future__ import annotations

import pytest

from benchmarks.cases import CLOSED, MODEL, UNSEEN, WORKLOADS, cpu_workload

pytestmark = pytest.mark.cpu

# What three to five repeats on a shared machine can decide. What they cannot is inconclusive, and
# no pass: `make bench` shows those as expected failures.
JUDGED = {"ttft_p50": 0.10, "ttft_p90": 0.10, "tpot_p50": 0.10, "e2e_p50": 0.10}

_seen = [pytest.param(cpu_workload(name), id=name) for name in WORKLOADS]
_unseen = [pytest.param(cpu_workload(name, seed), id=f"{name}-unseen") for name, seed in UNSEEN]

_closed = [pytest.param(spec, id=spec.short_name) for spec in CLOSED]


@pytest.mark.prereq
@pytest.mark.parametrize("workload", _seen, indirect=True)  # the others need no more than these
def test_prerequisites(sim_vs_real, workload):
    sim_vs_real.require_prerequisites(model=MODEL, workload=workload)


@pytest.mark.parametrize("workload", [*_seen, *_unseen], indirect=True)
def test_qwen3(sim_vs_real, workload):
    comparison = sim_vs_real(model=MODEL, workload=workload)
    comparison.check(**JUDGED)


@pytest.mark.parametrize("workload", _closed, indirect=True)
def test_closed_loop(sim_vs_real, workload):
    """Clients that wait for their answers, and conversations of two turns."""
    comparison = sim_vs_real(model=MODEL, workload=workload)
    comparison.check(**JUDGED)
