"""A recording replays what it was made of, and refuses what it was not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.backends.recorded import open_recording, why_not_replayable, write_recording
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import read_json, write_json
from pytest_gpusim.runs import write_run
from pytest_gpusim.workload import Workload, WorkloadRequest, read_workload, write_workload
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import token_ids
from tests.factories import CPU, ENGINE, TINY, make_bundle
from tests.workload.tokenizer import make_tokenizer


def _workload(out: Path, requests: int = 3) -> Workload:
    rows = [WorkloadRequest(i, i, 10 + i, 2, i * 1000) for i in range(requests)]
    write_workload(out, rows, None, name="w", seed=1, generator={})
    return read_workload(out)


def _run(out: Path, workload: Workload, **meta: Any) -> Path:
    requests = [
        {
            "request_id": r.request_id,
            "arrival_time_ns": r.arrival_time_ns,
            "first_token_time_ns": r.arrival_time_ns + 500,
            "ttft_ns": 500,
            "completion_time_ns": r.arrival_time_ns + 700,
            "num_prefill_tokens": r.num_prefill_tokens,
            "num_decode_tokens": 2,
            "num_decode_tokens_actual": 2,
            "status": "ok",
        }
        for r in workload.requests
    ]
    tokens = [
        (r.request_id, i, r.arrival_time_ns + 500 + 200 * i, 500 if i == 0 else 200)
        for r in workload.requests
        for i in range(2)
    ]
    known = {
        "run_type": "real",
        "model": TINY.name,
        "hardware": "cpu",
        "device_name": "Synthetic processor, 2 cores",
        "workload_dir": str(workload.path),
        "workload_digest": workload.digest,
        "engine": {**ENGINE.to_json(), "weights": "/home/somebody/checkpoint"},
        "params": {"weights": "/home/somebody/checkpoint"},
    }
    write_run(out, requests=requests, tokens=tokens, meta={**known, **meta})
    return out


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    workload = _workload(tmp_path / "workload")
    make_bundle(tmp_path / "bundle")
    runs = [_run(tmp_path / f"run{n}", workload) for n in range(2)]
    out = tmp_path / "case"
    write_recording(out, workload_dir=workload.path, bundle_dir=tmp_path / "bundle", run_dirs=runs)
    return out


def _ask(place: Path, digest: str, **changes: Any) -> str | None:
    case: dict[str, Any] = {"model": TINY, "hardware": CPU, "engine": EngineSettings()}
    return why_not_replayable(place, workload_digest=digest, **{**case, **changes})


def test_what_was_recorded_comes_back(recording: Path) -> None:
    found = open_recording(recording)
    assert [run.path.name for run in found.runs] == ["1", "2"]
    assert found.runs[1].requests["ttft_ns"].tolist() == [500, 500, 500]
    assert found.workload.requests[2].num_prefill_tokens == 12
    assert found.bundle.meta["model"] == TINY.name
    assert _ask(recording, found.workload.digest) is None
    assert _ask(recording, found.workload.digest, engine=ENGINE) is None


def test_no_path_of_the_machine_is_kept(recording: Path, tmp_path: Path) -> None:
    for path in recording.rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path
        assert "/home/somebody" not in path.read_text(), path


def test_another_case_is_refused_with_both_sides(recording: Path) -> None:
    digest = open_recording(recording).workload.digest
    reason = _ask(recording, digest, engine=EngineSettings(max_num_seqs=99))
    assert reason is not None
    assert "max_num_seqs 16" in reason
    assert "99" in reason
    assert "workload" in str(_ask(recording, "f" * 64))
    assert "tiny/model" in str(_ask(recording, digest, model=replace(TINY, name="other/model")))
    assert "num_layers" in str(_ask(recording, digest, model=replace(TINY, num_layers=3)))
    assert "hardware" in str(_ask(recording, digest, hardware=replace(CPU, name="a100")))


def test_a_changed_run_is_refused(recording: Path) -> None:
    path = recording / "real" / "2" / "request_metrics.csv"
    path.write_text(path.read_text().replace(",500,", ",501,"))
    with pytest.raises(InputError, match=r"real/2: was changed"):
        open_recording(recording)


def test_a_run_that_was_left_out_of_the_list_is_refused(recording: Path) -> None:
    path = recording / "recording.json"
    meta = read_json(path)
    write_json(path, {**meta, "runs": {"1": meta["runs"]["1"]}})
    with pytest.raises(InputError, match=r"real/2: is a run that recording\.json does not list"):
        open_recording(recording)


def test_a_folder_without_its_metadata_is_refused(recording: Path) -> None:
    (recording / "recording.json").unlink()
    with pytest.raises(InputError, match=r"recording\.json: no such file"):
        _ask(recording, "0" * 64)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("runs", 1, "runs: expected a JSON object, found 1"),
        ("runs", {"../../real/1": "x"}, "runs: '../../real/1' is no name of a folder"),
        ("runs", {"/etc": "x"}, "runs: '/etc' is no name of a folder"),
        ("engine", [1], r"engine: expected a JSON object, found \[1\]"),
        ("model_shape", "x", "model_shape: expected a JSON object, found 'x'"),
        ("workload_digest", 5, "workload_digest: expected a text, found 5"),
    ],
)
def test_what_a_recording_says_in_another_kind_is_refused(
    recording: Path, key: str, value: Any, says: str
) -> None:
    path = recording / "recording.json"
    write_json(path, {**read_json(path), key: value})
    for look in (open_recording, lambda place: _ask(place, "0" * 64)):
        with pytest.raises(InputError, match=says):
            look(recording)


def test_what_lies_beside_a_workload_is_not_recorded(tmp_path: Path) -> None:
    """A link in a foreign workload may lead to anything that its reader can read."""
    workload = _workload(tmp_path / "w")
    (tmp_path / "secret").write_text("sk-secret")
    (workload.path / "notes.txt").symlink_to(tmp_path / "secret")
    make_bundle(tmp_path / "bundle")
    write_recording(
        tmp_path / "case",
        workload_dir=workload.path,
        bundle_dir=tmp_path / "bundle",
        run_dirs=[_run(tmp_path / "r1", workload)],
    )
    files = [path for path in (tmp_path / "case").rglob("*") if path.is_file()]
    assert not any(b"sk-secret" in path.read_bytes() for path in files)
    assert {path.name for path in (tmp_path / "case" / "workload").iterdir()} == {
        "trace_intervals.csv",
        "trace_lengths.csv",
        "workload_meta.json",
    }


def test_a_newer_schema_is_refused_by_name(recording: Path) -> None:
    path = recording / "recording.json"
    write_json(path, {**read_json(path), "schema_version": 2})
    with pytest.raises(InputError, match="schema_version"):
        open_recording(recording)


def test_runs_of_different_workloads_are_not_recorded_together(tmp_path: Path) -> None:
    workload, other = _workload(tmp_path / "w"), _workload(tmp_path / "w2", requests=4)
    make_bundle(tmp_path / "bundle")
    runs = [_run(tmp_path / "r1", workload), _run(tmp_path / "r2", other)]
    with pytest.raises(InputError, match="workload_digest"):
        write_recording(
            tmp_path / "case",
            workload_dir=workload.path,
            bundle_dir=tmp_path / "bundle",
            run_dirs=runs,
        )
    assert not (tmp_path / "case").exists()


def test_simulated_runs_are_not_recorded(tmp_path: Path) -> None:
    workload = _workload(tmp_path / "w")
    make_bundle(tmp_path / "bundle")
    runs = [_run(tmp_path / "r1", workload, run_type="vidur")]
    with pytest.raises(InputError, match="run_type"):
        write_recording(
            tmp_path / "case",
            workload_dir=workload.path,
            bundle_dir=tmp_path / "bundle",
            run_dirs=runs,
        )


def test_text_prompts_keep_their_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    make_tokenizer(tmp_path / "tokenizer")
    rows = [WorkloadRequest(i, i, 4, 2, i * 1000) for i in range(3)]
    prompts = {i: Prompt(i, text="alpha beta gamma delta") for i in range(3)}
    place = str(tmp_path / "tokenizer")
    write_workload(
        tmp_path / "w", rows, prompts, name="w", seed=1, generator={}, tokenizer_ref=place
    )
    workload = read_workload(tmp_path / "w")
    make_bundle(tmp_path / "bundle")
    run = _run(tmp_path / "r", workload)
    out = tmp_path / "case"
    write_recording(out, workload_dir=workload.path, bundle_dir=tmp_path / "bundle", run_dirs=[run])
    expected = token_ids(workload, TINY.vocab_size)
    shutil.rmtree(tmp_path / "tokenizer")
    assert str(tmp_path) not in (out / "workload" / "workload_meta.json").read_text()
    assert token_ids(open_recording(out).workload, TINY.vocab_size) == expected


def test_a_recording_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        write_recording(tmp_path / "case", workload_dir=tmp_path, bundle_dir=tmp_path, run_dirs=[])
