"""Vidur and AIConfigurator agree on the same tables; needs the extras silicon and vidur."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.silicon import rows
from pytest_gpusim.cli import main
from pytest_gpusim.runs import read_run

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("aiconfigurator_core", "pyarrow", "vidur")),
    reason="the extras 'silicon' and 'vidur' are not installed",
)
TOLERANCE = 0.10


def test_vidur_agrees_with_aiconfigurators_own_estimate(tmp_path: Path) -> None:
    wrong = {}
    for row in rows(tmp_path):
        prefill, tpot = row.errors
        if abs(tpot) > TOLERANCE or (abs(prefill) > TOLERANCE and not row.cause):
            point = (row.model, row.degree, row.batch, row.prompt)
            wrong[point] = f"prefill {prefill:+.1%}, TPOT {tpot:+.1%}"
    assert not wrong


def test_a_machine_without_a_gpu_simulates_an_a100(tmp_path: Path) -> None:
    model = ["--model", "Qwen/Qwen3-0.6B"]
    bundle, workload, run = (str(tmp_path / name) for name in ("bundle", "workload", "run"))
    engine = tmp_path / "engine.yaml"
    engine.write_text(
        "{max_num_seqs: 256, max_num_batched_tokens: 8192, max_model_len: 4096, "
        "num_gpu_blocks: 30000}"
    )
    asked = [*model, "--hardware", "a100", "--workload", workload, "--engine", str(engine)]
    lengths = ["--prefill", "128:1024", "--decode", "64:256"]
    arrivals = ["--arrivals", "poisson", "--requests", "20", "--rate", "8", "--seed", "0"]
    for command in (
        ["profile", "aiconfigurator", "--system", "a100_sxm", *model, "--out", bundle],
        ["workload", "generate", *arrivals, *lengths, "--out", workload],
        ["check", bundle, *asked],
        ["simulate", *asked, "--profiling-root", bundle, "--out", run],
    ):
        assert main(command) == 0, command
    requests = read_run(tmp_path / "run").requests
    assert set(requests["status"]) == {"ok"}
    times = requests["completion_time_ns"] - requests["first_token_time_ns"]
    # A step cannot be shorter than reading 0.6 billion weights of two bytes at 2 TB/s.
    assert (times / (requests["num_decode_tokens_actual"] - 1)).min() > 580_000
