"""What a simulated engine ran into: how much of its time it spent at each of its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pytest_gpusim.runs import Run

# Waiting for less of the time than this, a queue is the accident of arrivals.
_OFTEN = 0.05
_NEARLY_FULL = 0.98
WORDS = {
    "kv_blocks": "KV blocks: requests wait, or are preempted, for want of them (num_gpu_blocks)",
    "sequences": "sequences: requests wait for a seat (max_num_seqs)",
    "tokens": "tokens: prefills wait for the step's budget (max_num_batched_tokens)",
    "prefill": "step time: steps that hold prefills are most of it",
    "decode": "step time: steps of decodes alone are most of it",
}


@dataclass(frozen=True)
class Binding:
    """Shares of the busy time, and the one that binds.

    Attributes:
        shares: ``kv_blocks``, ``sequences``, ``tokens``: of the time in steps that met the limit
            while requests waited or prefills were cut; ``prefill``: in steps that hold prefills.
        binds: A key of `WORDS`; None where the run has no steps.
    """

    shares: Mapping[str, float]
    binds: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded."""
        shares = {name: round(share, 4) for name, share in self.shares.items()}
        return {"binds": self.binds, "shares_of_time": shares}


def what_binds(run: Run) -> Binding:
    """What a run was limited by, by its ``step_metrics.csv`` and engine settings."""
    import numpy as np

    if run.steps is None or run.steps.empty:
        return Binding({}, None)
    settings = run.meta.get("engine") or {}
    columns = {
        name: run.steps[name].to_numpy(dtype="float64", na_value=np.nan)
        for name in run.steps.columns
    }
    time = columns["duration_ns"]
    whole = float(time.sum()) or 1.0
    waiting = columns["waiting"] > 0
    tokens = columns["num_prefill_tokens"] + columns["num_decode_tokens"]

    def share(steps: Any) -> float:
        return float(time[np.asarray(steps, dtype=bool)].sum()) / whole

    blocks = (settings.get("num_gpu_blocks") or np.inf) - 1
    seated = columns["running"] >= settings.get("max_num_seqs", np.inf)
    spent = tokens >= settings.get("max_num_batched_tokens", np.inf)
    # A request that waits although there are seats and tokens wants more blocks than are left.
    full = (columns["kv_blocks_used"] >= _NEARLY_FULL * blocks) | ~(seated | spent)
    shares = {
        "kv_blocks": share((waiting & full) | (columns["preempted"] > 0)),
        "sequences": share(waiting & seated),
        "tokens": share(spent),
        "prefill": share(columns["num_prefill_tokens"] > 0),
    }
    limits = {name: value for name, value in shares.items() if name != "prefill"}
    most = max(limits, key=lambda name: limits[name])
    if limits[most] < _OFTEN:
        most = "prefill" if shares["prefill"] >= 0.5 else "decode"
    return Binding(shares, most)
