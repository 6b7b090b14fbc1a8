"""A plugin of a few lines: a toy simulator, a toy importer, a toy model. Used by name."""

from __future__ import annotations

from pytest_gpusim.runs import write_run
from tests.factories import TINY

STEP_NS = 1_000_000


def simulate(inputs):
    """Every request alone in the world: a step per token, each of the same length."""
    requests, tokens = [], []
    for request in inputs.workload.requests:
        times = [
            request.arrival_time_ns + STEP_NS * (index + 1)
            for index in range(request.num_decode_tokens)
        ]
        requests.append(
            {
                "request_id": request.request_id,
                "arrival_time_ns": request.arrival_time_ns,
                "first_token_time_ns": times[0],
                "ttft_ns": times[0] - request.arrival_time_ns,
                "completion_time_ns": times[-1],
                "num_prefill_tokens": request.num_prefill_tokens,
                "num_decode_tokens": request.num_decode_tokens,
                "num_decode_tokens_actual": request.num_decode_tokens,
                "status": "ok",
            }
        )
        for index, time in enumerate(times):
            before = times[index - 1] if index else request.arrival_time_ns
            tokens.append((request.request_id, index, time, time - before))
    meta = {"run_type": "toy", "engine": inputs.engine.to_json(), "model": inputs.model.name}
    write_run(inputs.out_dir, requests=requests, tokens=tokens, meta=meta)


def import_run(files, out):
    """Lines of ``arrival first completion`` in ns."""
    rows = []
    for number, line in enumerate(files[0].read_text().splitlines()):
        arrival, first, completion = map(int, line.split())
        rows.append(
            {
                "request_id": number,
                "arrival_time_ns": arrival,
                "first_token_time_ns": first,
                "ttft_ns": first - arrival,
                "completion_time_ns": completion,
                "num_prefill_tokens": 1,
                "num_decode_tokens": 2,
                "num_decode_tokens_actual": 2,
                "status": "ok",
            }
        )
    write_run(out, requests=rows, tokens=None, meta={"run_type": "real", "backend": "toy"})


def pytest_gpusim_register(registry):
    registry.add_model(TINY)
    registry.add_simulator("toy", simulate)
    registry.add_importer("toy", import_run)
