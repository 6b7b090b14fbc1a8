"""Genuine results, written by the tools' own releases against a vLLM 0.32.0 server (tiny Qwen3 on
CPU, loopback). Each has one request that the server refused for its length, but inference-perf's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpusim.runs import Run, read_run

DATA = Path(__file__).parents[2] / "data"
VLLM_BENCH = DATA / "vllm_bench_0.32.0.json"
AIPERF = DATA / "aiperf_0.13.0.jsonl"
"""AIPerf 0.13.0, fixed schedule of three requests after one of warm-up."""
GUIDELLM = DATA / "guidellm_0.8.1.json"
"""GuideLLM 0.8.1, constant rate of 4; tracebacks and most of its statistics were cut away."""
INFERENCE_PERF = DATA / "inference_perf_0.7.0.json"
"""inference-perf 0.7.0, constant rate of 3, per_request without response chunks."""
AISIMULATE = DATA / "aisimulate_0.13.0" / "requests.jsonl"
"""AISimulate 0.13.0, twelve requests at a constant rate of 8, ``--capture-per-request``."""


def medians_ms(run: Run) -> dict[str, float]:
    """TTFT and E2E from the time of sending, as load generators count, and TPOT."""
    done = run.finished
    sent, first, last = (
        done[column].to_numpy(dtype=float)
        for column in ("sent_time_ns", "first_token_time_ns", "completion_time_ns")
    )
    tokens = done["num_decode_tokens_actual"].to_numpy(dtype=float)
    return {
        "ttft": float(np.median(first - sent)) / 1e6,
        "e2e": float(np.median(last - sent)) / 1e6,
        "tpot": float(np.median((last - first) / (tokens - 1))) / 1e6,
    }


def import_changed(import_run: Callable[..., None], tmp_path: Path, name: str, content: Any) -> Run:
    """Import ``content`` (text, or what becomes JSON) from a file called ``name``."""
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    import_run([path], tmp_path / "run")
    return read_run(tmp_path / "run")
