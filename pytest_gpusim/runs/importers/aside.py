"""Files that tools write beside their requests, or of other measurements: named, not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.columns import Row, read_rows
from pytest_gpusim.documents import first_document
from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.texts import open_text

_SUMMARY = "is a summary without times of single requests"
_NO_TTFT = "has no TTFT of single requests"
_RECORDS = "give the profile_export.jsonl (AIPerf) or profile_export.json (GenAI-Perf) beside it"
_BY_KEYS = (
    (("load_summary", "successes"), f"{_SUMMARY}, by inference-perf",
     "give per_request_lifecycle_metrics.json (report.request_lifecycle.per_request: true)"),
    (("avg_latency", "latencies", "percentiles"),
     f"is a result of vllm bench latency, which {_NO_TTFT}",
     "measure with vllm bench serve --save-result --save-detailed"),
    (("elapsed_time", "num_requests", "tokens_per_second"),
     f"is a result of vllm bench throughput, which {_NO_TTFT}",
     "measure with vllm bench serve --save-result --save-detailed"),
    (("input_config", "request_count"), f"{_SUMMARY}, by AIPerf or GenAI-Perf",
     _RECORDS),
    (("aiperf_version",), f"{_SUMMARY}, by AIPerf", _RECORDS),
)  # fmt: skip
_FEW = 3


def what_it_is(path: Path) -> tuple[str, str] | None:
    """What a file that no importer takes is, and what to give instead; None where nobody knows."""
    document = first_document(path)
    if isinstance(document, dict):
        metadata = document.get("metadata")
        if isinstance(metadata, dict) and "benchmark_phase" in metadata:
            return "is AIPerf's raw export", "give the profile_export.jsonl beside it"
        for keys, problem, fix in _BY_KEYS:
            if all(key in document for key in keys):
                return problem, fix
    begins = _begins(path)
    if begins.startswith(("Metric,avg,", "Metric,Value")):
        return f"{_SUMMARY}, by AIPerf or GenAI-Perf", _RECORDS
    if path.suffix in (".yaml", ".yml") and begins.startswith(("benchmarks:", "metadata:")):
        return "is a YAML file, perhaps GuideLLM's", "give its benchmarks.json (--output kind=json)"
    return None


def how_to_read(path: Path) -> str:
    """How a table whose columns no one knows is read; an empty text where it is none."""
    try:
        row = next(read_rows(path), None) if path.is_file() else None
    except GpusimError:
        return ""
    names = [str(name) for name in row.cells] if row is not None else []
    if len(names) < _FEW or not _has_numbers(row):
        return ""
    return (
        f"name its columns ({', '.join(names)[:80]}): gpusim import-run csv {path} --columns "
        "arrival=…,ttft=…,e2e=…,prefill=…,decode=…,unit=ms"
    )


def _has_numbers(row: Row | None) -> bool:
    def is_number(cell: Any) -> bool:
        return isinstance(cell, str) and cell.strip().replace(".", "", 1).isdecimal()

    cells = row.cells.values() if row is not None else ()
    if any(isinstance(cell, list | dict) for cell in cells):
        return False
    return sum(is_number(str(cell)) for cell in cells) >= _FEW


def _begins(path: Path) -> str:
    try:
        with open_text(path) as stream:
            return stream.readline(100)
    except InputError:
        return ""
