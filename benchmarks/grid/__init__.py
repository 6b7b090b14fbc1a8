"""Three engine settings at three loads on a CPU: does the simulator choose as the engine does?

A small Qwen3 made on the spot, measured live (``python -m benchmarks.grid --measure DIR``) and kept
below ``measured/``, with the profile that was measured before. The settings differ in how many
requests run at a time and in how much prompt a step may hold. The loads share lengths and, scaled,
gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import served
from benchmarks.commands import write_decision
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec

MODEL = served.DENSE
MEASURED = Path(__file__).parent / "measured"
REPEAT = 3
# What differs from the settings of `benchmarks.served`.
SETTINGS: dict[str, dict[str, Any]] = {
    "16 sequences": {},
    "4 sequences": {"max_num_seqs": 4},
    "64 tokens a step": {"max_num_batched_tokens": 64},
}
RATES = (1.5, 2.25, 3.0)
SLO = "ttft_p90=1500ms,tpot_p90=120ms"
OBJECTIVES = ("e2e_p50", "ttft_p90", "tpot_p90", "output_tokens_per_s")


def load(rate: float) -> WorkloadSpec:
    """Forty requests at a rate in requests per second."""
    return WorkloadSpec("poisson", 40, rate, 301, Lengths(32, 400), Lengths(16, 64))


@dataclass(frozen=True)
class Point:
    """A setting at a load.

    Attributes:
        setting: Its name in `SETTINGS`.
        rate: Requests per second.
    """

    setting: str
    rate: float

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.setting.replace(' ', '-')}-{self.rate:g}"

    @property
    def engine(self) -> dict[str, Any]:
        """vLLM's settings."""
        return {**served.SETTINGS, "dtype": "float32", **SETTINGS[self.setting]}

    def workload(self, measured: Path) -> Path:
        """The workload's directory."""
        return measured / "workloads" / f"{self.rate:g}"

    def real(self, measured: Path) -> list[Path]:
        """The directories of its repeats."""
        return [measured / "real" / self.name / str(n + 1) for n in range(REPEAT)]


POINTS = tuple(Point(setting, rate) for rate in RATES for setting in SETTINGS)


def simulate_grid(measured: Path, out: Path, simulator: str = "vidur") -> Path:
    """Simulate every point, and state what is to be decided.

    Args:
        measured: With ``profile``, ``workloads`` and ``real``.
        out: Simulations go to ``out/<point>``.
        simulator: Its name.

    Returns:
        The decision file.
    """
    import pytest_gpusim

    for point in POINTS:
        pytest_gpusim.simulate(
            point.workload(measured),
            measured / "profile",
            engine=point.engine,
            simulator=simulator,
            out=out / point.name,
        )
    decision = out / "decision.toml"
    points = [(p.setting, p.rate, p.real(measured), [out / p.name]) for p in POINTS]
    write_decision(decision, points, slo=SLO, objective=OBJECTIVES)
    return decision
