"""A whole case on a live server: measured, simulated, compared, recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.backends.recorded import open_recording
from pytest_gpusim.case import Case, Settings, compare, real_side, simulate
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.registry import builtin_registry
from tests.backends.stub_server import StubServer, steady, stub_server
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra 'server')")

MS = 1_000_000
DEVICE = "Synthetic processor, 2 cores"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with stub_server() as server:
        server.answer = steady(0.001)
        yield server


def case_on(url: str, tmp_path: Path, **changes: Any) -> tuple[Case, Settings]:
    make_bundle(tmp_path / "bundle")
    workload = make_workload(tmp_path / "workload", [(20 + i, 3, i * 5 * MS) for i in range(6)])
    given: dict[str, Any] = {
        "name": "stub",
        "simulator": "reference",
        "backend": "openai",
        "backend_params": {"url": url, "device_name": DEVICE},
        **changes,
    }
    case = Case(TINY, CPU, workload.path, **given)
    places = {"artifacts": tmp_path / "out", "profiling_root": tmp_path / "bundle"}
    return case, Settings(builtin_registry(), **places, real="live", repeat=2)


def checks_of(case: Case, settings: Settings, *, write: bool = False) -> dict[str, str]:
    real = real_side(case, settings)
    simulated = simulate(case, settings, real)
    if write:
        comparison, _ = compare(case, settings, real, simulated)
    else:
        comparison = compare_runs(real.runs, simulated, workload=real.workload)
    return {check.name: check.status for check in comparison.checks}


def test_what_a_server_does_not_tell_is_not_taken_from_the_bundle(
    stub: StubServer, tmp_path: Path
) -> None:
    case, settings = case_on(stub.url, tmp_path)
    checks = checks_of(case, settings, write=True)
    assert (checks["settings_mirrored"], checks["kv_blocks_mirrored"]) == ("unknown", "unknown")
    assert checks["same_workload"] == checks["warmed_up"] == "pass"
    recording = open_recording(tmp_path / "out" / "recordings" / "stub")
    assert recording.meta["engine"] == {"max_model_len": 4096}


def test_what_the_case_states_of_the_server_is_compared(stub: StubServer, tmp_path: Path) -> None:
    stated = {**ENGINE.to_json(), "max_num_seqs": 7}
    case, settings = case_on(stub.url, tmp_path, engine=EngineSettings(**stated))
    checks = checks_of(case, settings)
    assert checks["settings_mirrored"] == checks["kv_blocks_mirrored"] == "pass"


def test_a_server_that_tells_nothing_is_compared_but_not_recorded(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.models = [{"id": "tiny"}]
    case, settings = case_on(stub.url, tmp_path)
    assert checks_of(case, settings)["kv_blocks_mirrored"] == "unknown"
    assert "is not recorded: " in capsys.readouterr().err
    assert not any((tmp_path / "out" / "recordings").glob("*"))


def test_the_device_of_another_machine_is_asked_for_beforehand(tmp_path: Path) -> None:
    case, settings = case_on("", tmp_path, backend_params={"url": "http://192.0.2.1:8000"})
    with pytest.raises(UsageError, match=r"192\.0\.2\.1:8000: which cpu .* device_name, such as"):
        real_side(case, settings)
    assert not (tmp_path / "out").exists()


def test_other_prompt_lengths_are_another_workload(stub: StubServer, tmp_path: Path) -> None:
    def one_more(body: Any, reply: Any) -> None:
        reply.prompt_tokens += 1
        steady()(body, reply)

    stub.answer = one_more
    case, settings = case_on(stub.url, tmp_path)
    assert checks_of(case, settings)["same_workload"] == "fail"
