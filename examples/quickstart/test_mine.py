import pytest

PROFILE = "../../benchmarks/recordings/qwen3-0.6b-cpu-poisson/profile"


@pytest.mark.cpu
def test_mine(sim_vs_real):
    comparison = sim_vs_real(real="bench-*.json", profile=PROFILE)
    comparison.check(ttft_p50=0.10, tpot_p50=0.05, e2e_p50=0.05)
