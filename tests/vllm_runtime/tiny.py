"""A two-layer Qwen3 that a live engine runs in milliseconds, and who must skip without vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.backends.vllm import measure
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload import Workload, WorkloadRequest, read_workload, write_workload
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import CPU, TINY

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vllm is not installed: pip install 'pytest-gpusim[cpu]'"
)

# vLLM's CPU attention wants a head_dim of at least 32.
QWEN3 = replace(TINY, name="tiny/qwen3", head_dim=32, hidden_size=128)
# As it is profiled, so that one engine does for tests that measure and tests that profile. Its
# blocks are too few for eight long requests: some are preempted and find blocks again.
ENGINE = EngineSettings(
    max_num_seqs=8,
    max_num_batched_tokens=128,
    max_model_len=256,
    block_size=32,
    num_gpu_blocks=40,
    enable_prefix_caching=True,
    long_prefill_token_threshold=0,
)


def measure_tiny(workload: Workload, outs: Sequence[Path], **params: Any) -> list[Run]:
    """Measure the model on the tests' one engine; a run for each of ``outs``."""
    measure(MeasureInputs(QWEN3, CPU, workload, ENGINE, outs, {"threads": 1, **params}))
    return [read_run(out) for out in outs]


def tiny_workload(
    out: Path,
    *,
    requests: int = 8,
    gap_ns: int = 20_000_000,
    prefill: int = 40,
    decode: int = 6,
    shared_tokens: int = 0,
    lengths: Sequence[tuple[int, int]] | None = None,
) -> Workload:
    """Requests at equal gaps, each some tokens longer; the first ``shared_tokens`` in common."""
    pairs = lengths or [(prefill + i, decode + i % 3) for i in range(requests)]
    rows = [WorkloadRequest(i, i, p, d, i * gap_ns) for i, (p, d) in enumerate(pairs)]
    prompts = None
    if shared_tokens:
        prompts = {0: Prompt(0, seed=0, num_tokens=pairs[0][0])}
        for i, (tokens, _) in enumerate(pairs[1:], start=1):
            prompts[i] = Prompt(
                i, seed=i, num_tokens=tokens, prefix_of=0, prefix_tokens=shared_tokens
            )
    write_workload(out, rows, prompts, name="tiny", seed=0, generator={})
    return read_workload(out)
