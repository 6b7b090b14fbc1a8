"""A real run from a directory or straight from another tool's file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_gpusim.errors import GpusimWarning, InputError
from pytest_gpusim.registry import Registry, builtin_registry
from pytest_gpusim.runs import read_run, write_run
from pytest_gpusim.runs.importers import load_real_run, recognised_by
from pytest_gpusim.runs.importers.gpusim import import_run as import_gpusim
from pytest_gpusim.runs.importers.load import recognise
from tests.runs.factory import META, REQUESTS, TOKENS
from tests.runs.importers.samples import AIPERF, GUIDELLM, INFERENCE_PERF, VLLM_BENCH

SAMPLES = {
    "vllm-bench": VLLM_BENCH,
    "aiperf": AIPERF,
    "guidellm": GUIDELLM,
    "inference-perf": INFERENCE_PERF,
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_is_told_by_its_content(tmp_path: Path, kind: str) -> None:
    path = shutil.copy(SAMPLES[kind], tmp_path / "some-name")
    run = load_real_run(path, builtin_registry(), store=tmp_path / "runs")
    assert run.meta["params"]["import"]["kind"] == kind
    assert run.path.parent == tmp_path / "runs"
    again = load_real_run(run.path, builtin_registry(), store=tmp_path / "runs")
    assert again.path == run.path


def test_unknown_and_missing_files_are_refused_with_the_known_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"some": "thing"}')
    with pytest.raises(InputError, match=r"nor a file of a known kind \(aiperf, aisimulate, blis"):
        load_real_run(path, builtin_registry())
    with pytest.raises(InputError, match="no such run directory or file"):
        load_real_run(tmp_path / "nothing", builtin_registry())


def test_a_file_that_two_kinds_recognise_names_both() -> None:
    @recognised_by(lambda path: True)
    def greedy(files: Sequence[Path], out: Path) -> None:
        raise AssertionError("must not be called")

    registry = Registry()
    registry.add_importer("one", greedy)
    registry.add_importer("two", greedy)
    with pytest.raises(InputError, match="could be a run of one or two; import it first"):
        recognise(VLLM_BENCH, registry)


def test_a_run_directory_of_another_tool_becomes_one_of_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "request_metrics.csv").write_text(
        "status,request_id,extra,arrival_time_ns,first_token_time_ns,ttft_ns,completion_time_ns,"
        "num_prefill_tokens,num_decode_tokens,num_decode_tokens_actual\n"
        "ok,0,x,0,5,5,9,7,2,2\nerror,1,x,3,,,,7,2,\n"
    )
    (theirs / "token_metrics.csv").write_text(
        "request_id,token_index,token_time_ns,token_latency_ns\n0,0,5,5\n0,1,9,4\n"
    )
    (theirs / "run_meta.json").write_text(
        json.dumps(
            {"schema_version": 1, "run_id": "r", "engine": {"block_size": 16}, "note": "mine"}
        )
    )
    import_gpusim([theirs], tmp_path / "ours")
    run = read_run(tmp_path / "ours")
    assert run.requests["status"].tolist() == ["ok", "error"]
    assert run.tokens is not None
    assert run.tokens["token_time_ns"].tolist() == [5, 9]
    assert (run.meta["run_id"], run.meta["note"]) == ("r", "mine")
    assert run.meta["engine"] == {"block_size": 16}
    assert run.meta["params"]["import"]["clock"] is None


def test_the_clock_and_the_token_ids_of_a_run_are_kept(tmp_path: Path) -> None:
    tokens = [{**row, "token_id": 7 + n} for n, row in enumerate(TOKENS)]
    meta = {**META, "params": {"clock": "client", "rate": float("nan")}}
    write_run(tmp_path / "theirs", requests=REQUESTS, tokens=tokens, meta={**META})
    (tmp_path / "theirs" / "run_meta.json").write_text(json.dumps({"schema_version": 1, **meta}))
    import_gpusim([tmp_path / "theirs"], tmp_path / "ours")
    run = read_run(tmp_path / "ours")
    assert run.tokens is not None
    assert run.tokens["token_id"].tolist() == list(range(7, 13))
    assert run.meta["params"]["import"]["clock"] == "client"
    assert run.meta["params"]["rate"] is None


def test_a_look_that_breaks_finds_nothing_and_is_said() -> None:
    @recognised_by(lambda path: bool(1 / 0))
    def broken(files: Sequence[Path], out: Path) -> None:
        raise AssertionError("must not be called")

    registry = Registry()
    registry.add_importer("broken", broken)
    said = pytest.warns(GpusimWarning, match=r"0\.32\.0\.json: the importer 'broken' failed.*Zero")
    with said, pytest.raises(InputError, match="is not a run directory"):
        recognise(VLLM_BENCH, registry)


def test_an_incomplete_run_directory_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "request_metrics.csv").write_text("request_id\n0\n")
    with pytest.raises(InputError, match="incomplete"):
        load_real_run(tmp_path, builtin_registry())
