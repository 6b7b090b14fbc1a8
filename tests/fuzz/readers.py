"""Every reader of files that others make, with the genuine files that are mutated for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.json_documents import read_json
from pytest_gpusim.registry import Registry, builtin_registry

if TYPE_CHECKING:
    from tests.fuzz.carried import Carriers

ROOT = Path(__file__).parents[2]
DATA, CASES = ROOT / "tests" / "data", ROOT / "tests" / "data" / "cases"
RECORDING = ROOT / "benchmarks" / "recordings" / "qwen3-0.6b-cpu-spaced"


@dataclass(frozen=True)
class Reader:
    """A reader by its name.

    Attributes:
        name: What totals are counted by.
        seeds: Genuine files or directories; of a directory one file is mutated.
        read: Called with the mutated file or directory, and with an empty directory to write in.
        changed: Which files of a directory are mutated.
        share: How much of the time it gets, against others.
    """

    name: str
    seeds: Sequence[Path]
    read: Callable[[Path, Path], Any]
    changed: str = "*"
    share: int = 1


def readers(scratch: Path) -> list[Reader]:
    """All readers; files of our own that are no fixtures are made in ``scratch``."""
    from tests.fuzz.carried import carriers
    from tests.fuzz.deployments import deployment_readers
    from tests.fuzz.folders import folder_readers
    from tests.fuzz.numbers import table_readers
    from tests.fuzz.options import option_readers
    from tests.fuzz.statements import statement_readers

    carried = carriers(scratch)
    return [
        *statement_readers(scratch),
        *folder_readers(scratch),
        *_run_importers(scratch, carried),
        *_workload_importers(scratch, carried),
        *_own_directories(scratch, carried),
        *deployment_readers(scratch, carried),
        *option_readers(scratch),
        *table_readers(scratch),
    ]


_REQUESTS = {
    "table.csv": """\
arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens,queue_ms,status,session_id,cached_tokens
2026-01-02T03:04:05Z,20.5,35,100,4,1.5,ok,a,0
2026-01-02 03:04:06.25,21,36,100,1,0,error,b,16
2026-01-02T03:04:07+00:00,22,37,100,8,2,ok,a,96
""",
    "table.jsonl": """\
{"arrival_ms": 0, "ttft_ms": 20, "e2e_ms": 35.25, "isl": 9, "osl": 4, "error": null}
{"arrival_ms": 7.5, "ttft_ms": null, "e2e_ms": null, "isl": 9, "osl": 0, "error": "timed out"}
""",
    "request_metrics.csv": """\
Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,\
request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens
0,0.5,0,0.1,,128,16
1,,,,0.5,128,16
2,0.25,0.01,0.1,0.5,128,16
""",
    "sim.csv": """\
instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL
0,0,m,128,3,0,4000,4000,100,2000,1000,"[1000, 1000]"
0,1,m,128,3,500,5500,5000,100,3000,1000,"[1000, 1000]"
""",
    "blis.json": """\
{"vllm_estimated_duration_s": 9.0, "completed_requests": 2, "scheduling_delay_p99_ms": 0.02,
 "requests": [
  {"arrived_at": 0.0, "num_prefill_tokens": 9, "num_decode_tokens": 4, "ttft_ms": 50.0,
   "e2e_ms": 80.0, "scheduling_delay_ms": 20, "session_id": "a", "round_index": 0},
  {"arrived_at": 1.5, "num_prefill_tokens": 9, "num_decode_tokens": 4, "ttft_ms": 50.0,
   "e2e_ms": 80.0, "scheduling_delay_ms": 10, "session_id": "a", "round_index": 1}]}
""",
    "profile_export.json": """\
{"experiments": [{"experiment": {"mode": "concurrency", "value": 2}, "requests": [
  {"timestamp": 5, "response_timestamps": [10, 30, 50],
   "request_inputs": {"payload": "{\\"model\\": \\"m\\", \\"prompt\\": \\"a b\\"}"},
   "response_outputs": [
    {"response": "data: {\\"choices\\": [{\\"text\\": \\"c\\"}]}\\n\\n"},
    {"response": "data: {\\"choices\\": [{\\"delta\\": {\\"content\\": \\"d\\"}}]}\\n\\n"},
    {"response": "data: {\\"usage\\": {\\"prompt_tokens\\": 2, \\"completion_tokens\\": 2}}"}
   ]}]}]}
""",
}
"""Small results in forms of which no genuine file is among the fixtures."""


def _run_importers(scratch: Path, carried: Carriers) -> Iterator[Reader]:
    registry = builtin_registry()
    made = {name: scratch / name for name in _REQUESTS}
    for name, path in made.items():
        path.write_text(_REQUESTS[name])
    array = scratch / "records.json"
    array.write_text(f"[{','.join((DATA / 'aiperf_0.13.0.jsonl').read_text().splitlines())}]")
    seeds: dict[str, list[Path]] = {
        "csv": [made["table.csv"], made["table.jsonl"]],
        "vidur-metrics": [made["request_metrics.csv"]],
        "llmservingsim-sim": [made["sim.csv"]],
        "blis": [made["blis.json"]],
        "genai-perf": [made["profile_export.json"]],
        "vllm-bench": [DATA / "vllm_bench_0.32.0.json", *_cases("16", "18", "67", "70", "02")],
        "sglang": _cases("42"),
        "aiperf": [DATA / "aiperf_0.13.0.jsonl", array, *_cases("37")],
        "guidellm": [DATA / "guidellm_0.8.1.json", *_cases("31")],
        "inference-perf": [DATA / "inference_perf_0.7.0.json", *_cases("20")],
        "aisimulate": [DATA / "aisimulate_0.13.0" / "requests.jsonl"],
    }
    for kind, files in seeds.items():
        importer = registry.run_importers.get(kind)
        yield Reader(f"run {kind}", files, partial(_import_run, importer))
    every = [file for files in seeds.values() for file in files]
    yield Reader("run of any kind", every, partial(_any_run, registry))
    yield Reader("imported run, used", every, partial(_used_run, registry, carried), share=8)


def _import_run(importer: Callable[..., None], path: Path, out: Path) -> None:
    importer([path], out / "run", {})


def _used_run(registry: Registry, carried: Carriers, path: Path, out: Path) -> None:
    from pytest_gpusim.runs.importers import load_real_run

    carried.run(load_real_run(path, registry, store=out).path, out)


def _any_run(registry: Registry, path: Path, out: Path) -> None:
    """As ``gpusim compare FILE``: every importer looks at it, and one of them takes it."""
    from pytest_gpusim.runs.importers import load_real_runs

    load_real_runs(path.with_name(f"{path.name}#all"), registry, store=out)


def _workload_importers(scratch: Path, carried: Carriers) -> Iterator[Reader]:
    registry = builtin_registry()
    tokenizer = _tokenizer(scratch / "tokenizer")
    lengths = scratch / "lengths.csv"
    lengths.write_text("num_prefill_tokens,num_decode_tokens\n5,6\n7,8\n")
    azure = scratch / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )
    lines = scratch / "workload.jsonl"
    lines.write_text(
        '{"input_toks": 3, "output_toks": 2, "arrival_time_ns": 0, "input_tok_ids": [1, 2, 3], '
        '"output_tok_ids": [4, 5]}\n{"input_toks": 2, "output_toks": 1, "arrival_time_ns": 7}\n'
    )
    columns = "arrival=Timestamp,prefill=Request tokens,decode=Response tokens,unit=s"
    seeds: dict[str, tuple[list[Path], dict[str, Any]]] = {
        "azure": ([azure], {}),
        "vidur": (_cases("57", suffix=".csv"), {}),
        "burstgpt": (_cases("52"), {}),
        "lengths": ([lengths], {"rate": 1.0}),
        "mooncake": (_cases("53", suffix=".jsonl"), {"unit": "ms", "block_size": 512}),
        "sharegpt": (_cases("62"), {"tokenizer": tokenizer, "rate": 1.0}),
        "llmservingsim": ([lines], {}),
        "csv": (_cases("52"), {"columns": columns}),
    }
    for kind, (files, options) in seeds.items():
        importer = registry.workload_importers.get(kind)
        yield Reader(f"workload {kind}", files, partial(_import_workload, None, importer, options))


def _import_workload(
    carried: Carriers | None,
    importer: Callable[..., None],
    options: dict[str, Any],
    path: Path,
    out: Path,
) -> None:
    importer(path, out / "workload", options)
    if carried is not None:
        carried.workload(out / "workload", out)


def _own_directories(scratch: Path, carried: Carriers) -> Iterator[Reader]:
    yield Reader("run directory", [RECORDING / "real" / "1"], carried.run, share=2)
    turns = RECORDING.with_name("qwen3-0.6b-cpu-poisson-turns-202")
    workloads = [RECORDING / "workload", turns / "workload"]
    yield Reader("workload directory", workloads, partial(_workload, carried))
    yield Reader("bundle", [RECORDING / "profile"], _bundle)
    yield Reader("check of a bundle", [RECORDING / "profile"], _check)
    yield Reader("recording", [RECORDING], _recording)
    yield Reader("recording.json", [RECORDING], _recording, changed="recording.json")


def _workload(carried: Carriers, path: Path, out: Path) -> None:
    """Past the digest, which refuses every changed file: who changes one can write that as well."""
    from pytest_gpusim.errors import InputError
    from pytest_gpusim.workload import read_workload
    from pytest_gpusim.workload.load import Load
    from pytest_gpusim.workload.store import store_workload
    from pytest_gpusim.workload.trace import META, digest_of

    with suppress(InputError):
        meta = read_json(path / META)
        if isinstance(meta, dict) and isinstance(meta.get("digest"), str):
            refused = meta.get("refused")
            known = refused if isinstance(refused, list) else []
            meta["digest"] = digest_of(path, Load.from_json(meta.get("load"), path), known)
            (path / META).write_text(json.dumps(meta))
    assert read_workload(path).requests
    store_workload(out / "workloads", lambda made: shutil.copytree(path, made) and None)
    carried.workload(path, out)


def _bundle(path: Path, out: Path) -> None:
    from pytest_gpusim.bundle.metadata import read_bundle_meta
    from pytest_gpusim.bundle.reader import read_bundle_tables
    from pytest_gpusim.case import run_simulator
    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.providers import SimulationInputs
    from pytest_gpusim.workload import read_workload

    # Past the digest, which refuses every changed table.
    bundle, problems = read_bundle_tables(path, read_bundle_meta(path))
    if bundle is None:
        raise problems[0]
    workload = read_workload(RECORDING / "workload")
    workload.requests = workload.requests[:2]
    registry = builtin_registry()
    engine = EngineSettings.load(RECORDING / "real" / "1")
    hardware, model = registry.hardware.get("cpu"), registry.model("Qwen/Qwen3-0.6B")
    inputs = SimulationInputs(model, hardware, workload, bundle, engine, out / "simulated")
    run_simulator("reference", registry, inputs)


def _check(path: Path, out: Path) -> None:
    from pytest_gpusim.bundle_checks.checks import check_root

    for found in check_root(path, registry=builtin_registry()):
        assert found.detail.isprintable(), f"not printable: {found.detail!r}"


def _recording(path: Path, out: Path) -> None:
    from pytest_gpusim.backends.recorded import open_recording, why_not_replayable
    from pytest_gpusim.deployment import EngineSettings

    registry = builtin_registry()
    why_not_replayable(
        path,
        model=registry.model("Qwen/Qwen3-0.6B"),
        hardware=registry.hardware.get("cpu"),
        engine=EngineSettings(max_num_seqs=64),
        workload_digest="0" * 64,
    )
    open_recording(path)


def _cases(*numbers: str, suffix: str = "") -> list[Path]:
    return [
        path
        for number in numbers
        for path in sorted(CASES.glob(f"{number}-*/*"))
        if path.name.endswith(suffix)
    ]


def _tokenizer(folder: Path) -> str:
    from tests.workload.tokenizer import make_tokenizer

    return make_tokenizer(folder)
