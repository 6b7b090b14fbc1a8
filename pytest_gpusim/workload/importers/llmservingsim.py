"""LLMServingSim's ``workload.jsonl``: lengths, arrivals and the prompts' token ids.

Where every line has ``output_tok_ids``, they are kept beside the workload, in ``outputs.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.workload.importers.base import Record, Trace, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.llmservingsim import read_lines
from pytest_gpusim.workload.prompts import Prompt


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a ``workload.jsonl``, in order of arrival; its clock is kept."""
    lines = read_lines(Path(file))
    lines.sort(key=lambda line: line.arrival_time_ns)
    trace = Trace("llmservingsim", Path(file), ())
    if any(line.token_ids is not None for line in lines):
        # A line without ids shares nothing: a seed of its own.
        trace.prompts = {
            number: Prompt(number, token_ids=line.token_ids)
            if line.token_ids is not None
            else Prompt(number, seed=number, num_tokens=line.num_prefill_tokens)
            for number, line in enumerate(lines)
        }
    outputs = {n: line.output_token_ids for n, line in enumerate(lines) if line.output_token_ids}
    trace.outputs = outputs if len(outputs) == len(lines) else None
    trace.records = [
        Record(line.arrival_time_ns, line.num_prefill_tokens, line.num_decode_tokens, number)
        for number, line in enumerate(lines)
    ]
    write_trace(trace, out, ImportOptions.of(options))
