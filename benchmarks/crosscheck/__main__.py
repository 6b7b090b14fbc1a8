"""Our openai backend and vLLM's own client on one live server: ``python -m benchmarks.crosscheck``.

Both send the same lengths at the same times, one after the other and in turns first: at once, the
one whose requests come first would be served first each time. Their results become runs (vLLM's by
the ``vllm-bench`` importer), and the p50 of TTFT, TPOT and E2E must agree within the noise floor of
the passes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.crosscheck.agreement import as_table, compare
from benchmarks.crosscheck.server import SMALL_QWEN3, live_server
from pytest_gpusim.artifacts import new_id, require_vacant
from pytest_gpusim.deployment import EngineSettings, Hardware
from pytest_gpusim.errors import EngineError, GpusimError, UsageError
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec, generate_workload

OURS, THEIRS = "gpusim openai", "vllm.benchmarks.serve"
_CHUNK = 16
_CLIENT_S = 1200
"""How long vLLM's client may take, the import of vLLM included."""


def main() -> int:
    """Run the cross-check; 1 unless all p50 agree, 2 and 3 as the exit codes of ``gpusim``."""
    try:
        return _crosscheck()
    except GpusimError as error:
        print(f"crosscheck: {error}", file=sys.stderr)
        return error.exit_code


def _crosscheck() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crosscheck", description=__doc__)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second")
    parser.add_argument("--repeat", type=int, default=3, help="passes; one tells no noise")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/crosscheck")
    options = parser.parse_args()
    for name in ("requests", "repeat"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}: expected at least 1")
    out: Path = options.out or Path("tmp") / "crosscheck" / new_id("crosscheck")
    require_vacant(out)
    out.mkdir(parents=True, exist_ok=True)
    spec = WorkloadSpec(
        "poisson",
        requests=options.requests,
        rate=options.rate,
        seed=7,
        prefill=Lengths(32, 256),
        decode=Lengths(16, 48),
    )
    generate_workload(spec, out / "workload")
    workload = read_workload(out / "workload")
    trace = out / "trace.jsonl"
    write_trace(workload, trace)
    hardware = builtin_registry().hardware.get("cpu")

    runs: dict[str, list[Run]] = {OURS: [], THEIRS: []}
    with live_server(SMALL_QWEN3, out / "server") as url:
        measure_ours(url, workload, hardware, out / "warm-up")
        for number in range(1, options.repeat + 1):
            clients = [
                (OURS, lambda n=number: measure_ours(url, workload, hardware, out / f"ours-{n}")),
                (THEIRS, lambda n=number: measure_theirs(url, trace, out, out / f"theirs-{n}")),
            ]
            for name, measure in clients if number % 2 else reversed(clients):
                runs[name].append(measure())
            print(f"pass {number}: done", flush=True)
    rows = compare(runs[OURS], runs[THEIRS])
    figures = {metric: row.to_json() for metric, row in rows.items()}
    write_json(out / "crosscheck.json", {"metrics": figures, "requests": options.requests})
    table = as_table(rows, OURS, THEIRS)
    (out / "crosscheck.md").write_text(table)
    print(f"\n{table}\n{out}")
    return 0 if all(row.agrees for row in rows.values()) else 1


def write_trace(workload: Workload, path: Path) -> None:
    """The workload as a ``timed_trace`` of vLLM's client: same times, lengths, nothing shared."""
    lines = []
    for request in workload.requests:
        blocks = -(-request.num_prefill_tokens // _CHUNK)
        first = request.request_id * 100_000
        entry = {
            "timestamp": request.arrival_time_ns / 1e9,
            "input_length": request.num_prefill_tokens,
            "output_length": request.num_decode_tokens,
            "hash_ids": list(range(first, first + blocks)),
        }
        lines.append(json.dumps(entry) + "\n")
    path.write_text("".join(lines))


def measure_ours(url: str, workload: Workload, hardware: Hardware, out: Path) -> Run:
    """One pass of the openai backend, without a warm-up of its own."""
    from pytest_gpusim.backends.openai.backend import measure

    params = {"url": url, "warmup": "no"}
    measure(MeasureInputs(SMALL_QWEN3, hardware, workload, EngineSettings(), [out], params))
    return read_run(out)


def measure_theirs(url: str, trace: Path, root: Path, out: Path) -> Run:
    """One pass of vLLM's client; its result is imported as the run ``out``."""
    from pytest_gpusim.runs.importers.vllm_bench import import_run

    result = out.with_suffix(".json")
    program = (
        "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
        "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
    )
    command = [
        *(sys.executable, "-u", "-c", program, "--backend", "vllm", "--base-url", url),
        *("--model", SMALL_QWEN3.name, "--tokenizer", str(root / "server" / "model")),
        *("--dataset-name", "timed_trace", "--dataset-path", str(trace), "--self-timed"),
        *("--timed-trace-chunk-hash-size", str(_CHUNK)),
        *("--num-prompts", str(len(trace.read_text().splitlines()))),
        *("--ignore-eos", "--temperature", "0", "--disable-tqdm"),
        *("--save-result", "--save-detailed"),
        *("--result-dir", str(result.parent), "--result-filename", result.name),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = result.with_suffix(".log")
    with log.open("wb") as stream:
        try:
            client = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=_CLIENT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"{log}: vLLM's client did not end within {_CLIENT_S} s") from None
    if client.returncode != 0:
        raise EngineError(f"{log}: vLLM's client ended with {client.returncode}")
    import_run([result], out)
    return read_run(out)


if __name__ == "__main__":
    sys.exit(main())
