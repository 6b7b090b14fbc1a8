import pytest

PROFILE = "../../benchmarks/recordings/qwen3-0.6b-cpu-poisson/profile"
# What the client's file does not say, and what is accepted for that.
UNSAID = ["prefix_cache_cold", "warmed_up", "clock_counted"]


@pytest.mark.cpu
def test_mine(sim_vs_real):
    comparison = sim_vs_real(real="bench-*.json", profile=PROFILE, engine="engine.yaml")
    comparison.check(tpot_p50=0.10, e2e_p50=0.10, accept=UNSAID)
