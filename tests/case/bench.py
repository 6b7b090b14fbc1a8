"""What ``vllm bench serve --save-detailed`` would write of a run."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_gpusim.runs import Run

LATE_S = 0.00002
"""How late every other request is sent."""


def write_bench(run: Run, path: Path, model: str) -> Path:
    """Write the result file of a client that sent the requests of ``run``."""
    rows = run.requests.to_dict("records")
    document = {"model_id": model, "completed": len(rows), "duration": 0.0}
    columns = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")
    document.update({column: [] for column in columns})
    for row in rows:
        number, late = row["request_id"], LATE_S * (row["request_id"] % 2)
        gaps = run.tokens.loc[run.tokens["request_id"] == number, "token_latency_ns"].tolist()
        document["input_lens"].append(row["num_prefill_tokens"])
        document["output_lens"].append(row["num_decode_tokens"])
        document["ttfts"].append(row["ttft_ns"] / 1e9 - late)
        document["itls"].append([gap / 1e9 for gap in gaps[1:]])
        document["start_times"].append(5000 + row["arrival_time_ns"] / 1e9 + late)
        document["errors"].append("")
        document["duration"] = max(document["duration"], row["completion_time_ns"] / 1e9)
    path.write_text(json.dumps(document))
    return path
