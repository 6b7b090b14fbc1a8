"""Experts and int8 weights on a CPU: small models, made on the spot (`benchmarks.served`)."""

from __future__ import annotations

import pytest

from benchmarks.cases import RECORDINGS

pytestmark = pytest.mark.cpu

JUDGED = {"ttft_p50": 0.15, "tpot_p50": 0.10, "e2e_p50": 0.10}


@pytest.mark.parametrize("model", ["qwen3-moe", "mixtral", "int8"])
def test_served(sim_vs_real, model):
    place = RECORDINGS / f"small-{model}-cpu"
    comparison = sim_vs_real(
        real=place / "real", profile=place / "profile", workload=place / "workload"
    )
    comparison.check(**JUDGED)
