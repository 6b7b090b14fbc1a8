"""Another tool's file as the real side, from the shell: where it is the simulator's own, 0%."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_gpusim.cli import main

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "data" / "cases"
RECORDING = ROOT / "benchmarks" / "recordings" / "qwen3-0.6b-cpu-poisson"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def simulate(capsys: pytest.CaptureFixture[str]) -> None:
    main([
        "simulate", "--model", "Qwen/Qwen3-0.6B", "--hardware", "cpu", "--workload", "w",
        "--profile", str(RECORDING / "profile"), "--engine", str(RECORDING / "real" / "1"),
        "--simulator", "reference", "--out", "sim",
    ])  # fmt: skip
    capsys.readouterr()


@pytest.mark.parametrize(
    "place",
    [
        "16-closed-loop-c1/result.json",
        "58-iperf-shared-prefix/per_request_lifecycle_metrics.json",
        "70-rejected-too-long/result.json",
    ],
)
def test_the_simulators_own_times_are_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run(capsys, "workload", "import", "run", CASES / place, "--out", "w")
    simulate(capsys)
    main(["compare", str(CASES / place), "sim", "--json"])
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    for name in ("ttft", "tpot", "e2e"):
        for statistic, figure in metrics[name].items():
            # One microsecond: the clients keep seconds as floats.
            close = pytest.approx(figure["real_ns"], abs=1000)
            assert figure["sim_ns"] == close, (name, statistic)


def test_repeats_jitter_and_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [CASES / "59-three-repeats" / f"r{number}.json" for number in range(3)]
    run(capsys, "workload", "import", "run", runs[0], "--out", "w")
    simulate(capsys)
    main(["compare", *map(str, runs), "sim", "--json"])
    document = json.loads(capsys.readouterr().out)
    check = next(each for each in document["checks"] if each["name"] == "same_workload")
    assert check["status"] == "warn"
    assert "differ by up to 3.84 ms" in check["detail"]
    assert len(document["real_runs"]) == 3
    assert document["metrics"]["ttft"]["p50"]["run_sd"] > 0


def test_another_simulators_file_is_the_simulated_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vidur's own table, by its published columns, against a result of vllm bench."""
    monkeypatch.chdir(tmp_path)
    place = CASES / "70-rejected-too-long" / "result.json"
    document = json.loads(place.read_text())
    rows = [
        "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,"
        "request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens"
    ]
    served = [i for i, error in enumerate(document["errors"]) if not error]
    document = {
        key: [value[i] for i in served] if isinstance(value, list) and len(value) == 24 else value
        for key, value in document.items()
    }
    document |= {"completed": len(served), "failed": 0}
    Path("result.json").write_text(json.dumps(document))
    before = None
    for i, start in enumerate(document["start_times"]):
        gap = "" if before is None else start - before
        first = document["ttfts"][i] * 1.1
        last = document["latencies"][i] * 1.1
        rows.append(f"{i},{last},0,{first},{gap},128,16")
        before = start
    Path("request_metrics.csv").write_text("\n".join(rows) + "\n")
    main(["compare", "result.json", "request_metrics.csv", "--json"])
    compared = json.loads(capsys.readouterr().out)
    assert compared["sim_run"].startswith("request_metrics-")
    for name in ("ttft", "tpot", "e2e"):
        assert compared["metrics"][name]["p50"]["error"] == pytest.approx(0.1, abs=1e-5)
