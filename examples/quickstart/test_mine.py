import pytest

PROFILE = "../../benchmarks/recordings/qwen3-0.6b-cpu-poisson/profile"
MINE = {"real": "bench-*.json", "profile": PROFILE, "engine": "engine.yaml"}
# What the client's file does not say: that which is known, and what is accepted for the rest.
SAID = {"device_name": "AMD EPYC, 2 cores"}
UNSAID = ["prefix_cache_cold", "warmed_up", "clock_counted"]


@pytest.mark.prereq
def test_all_is_there(sim_vs_real):
    sim_vs_real.require_prerequisites(**MINE, stated=SAID, accept=UNSAID)


@pytest.mark.cpu
def test_mine(sim_vs_real):
    comparison = sim_vs_real(**MINE, stated=SAID)
    comparison.check(tpot_p50=0.10, e2e_p50=0.10, accept=UNSAID)
