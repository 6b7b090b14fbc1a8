"""Other simulators' files, release by release: columns that came, went or changed their meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.errors import InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_simulated_run

MS = 1_000_000


def load(tmp_path: Path, name: str, text: str) -> Run:
    path = tmp_path / name
    path.write_text(text)
    return load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")


VIDUR = (
    "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,"
    "request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens"
)


def test_vidurs_canary_says_when_requests_arrived(tmp_path: Path) -> None:
    """A part of its table, whose gaps have no sum, and what its prefix cache had."""
    head = f"{VIDUR},request_arrived_at,request_num_prefill_tokens_cached,replica"
    rows = "0,.035,0,.02,.5,100,4,.5,0,0\n3,.06,.002,.03,.7,200,5,1.5,64,1\n"
    found = load(tmp_path, "request_metrics.csv", f"{head}\n{rows}").requests
    assert found["arrival_time_ns"].tolist() == [0, 1000 * MS]
    assert found["num_cached_tokens"].tolist() == [0, 64]
    assert found["scheduled_time_ns"].tolist() == [0, 1002 * MS]


def test_gaps_across_requests_that_are_gone_are_refused(tmp_path: Path) -> None:
    rows = "0,.035,0,.02,,100,4\n3,.06,0,.03,1.0,200,5\n"
    says = "line 3: is request 3, the one before it is 0: the gaps have no sum; give the table as"
    with pytest.raises(InputError, match=says):
        load(tmp_path, "request_metrics.csv", f"{VIDUR}\n{rows}")


def servingsim(*outputs: int, itl: bool = True) -> str:
    """Two requests with prompts of 100 and 200 tokens, and answers of 4 and 5."""
    head = "request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT"
    rows = [
        f"0,m,100,{outputs[0]},0,35000002,35000002,0,20000000,5000000",
        f"1,m,200,{outputs[1]},1000000000,1060000000,60000000,0,30000000,7500000",
    ]
    if itl:
        head += ",ITL"
        rows[0] += ',"[5000000, 5000000, 5000002]"'
        rows[1] += f',"{[7500000] * 4}"'
    return "\n".join([head, *rows, ""])


@pytest.mark.parametrize("itl", [False, True])
@pytest.mark.parametrize("outputs", [(4, 5), (104, 205)])
def test_outputs_with_and_without_their_prompts(
    tmp_path: Path, outputs: tuple[int, int], itl: bool
) -> None:
    run = load(tmp_path, "sim.csv", servingsim(*outputs, itl=itl))
    assert run.requests["num_decode_tokens_actual"].tolist() == [4, 5]
    assert (run.tokens is not None) is itl


def test_a_gap_that_is_no_time_leaves_no_token_times(tmp_path: Path) -> None:
    run = load(tmp_path, "sim.csv", servingsim(4, 5).replace("[5000000", "[1e999"))
    assert run.tokens is None
    assert run.requests["num_decode_tokens_actual"].tolist() == [4, 5]


@pytest.mark.parametrize(("outputs", "expected"), [((1, 5), [1, 5]), ((101, 205), [1, 5])])
def test_answers_of_one_token(
    tmp_path: Path, outputs: tuple[int, int], expected: list[int]
) -> None:
    text = servingsim(*outputs, itl=False)
    text = text.replace("35000002,35000002,0,20000000,5000000", "20000000,20000000,0,20000000,0")
    run = load(tmp_path, "sim.csv", text)
    assert run.requests["num_decode_tokens_actual"].tolist() == expected
    alone = "".join(text.splitlines(keepends=True)[:2]).replace(
        "20000000,20000000,0,2", "20000900,20000900,0,2"
    )
    run = load(tmp_path, "sim.csv", alone)
    assert run.requests["num_decode_tokens_actual"].tolist() == expected[:1]


@pytest.mark.parametrize("outputs", [(50, 5), (4, 205)])
def test_outputs_that_fit_no_time_per_token_are_refused(
    tmp_path: Path, outputs: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="column output: expected as many tokens as fit TTFT, TPO"):
        load(tmp_path, "sim.csv", servingsim(*outputs))


# A simulator of one's own, that writes TTFT and E2E alone.

TIMES = [(0.020, 0.035, 4), (0.030, 0.060, 5), (0.025, 0.055, 4)]


def measured(place: Path, **more: Any) -> None:
    """A result of vllm bench, of the same times."""
    document = {
        "model_id": "m", "duration": 3.0, "completed": 3, "request_rate": 1.0,
        "start_times": [5.0, 6.0, 7.0], "queue_times": [0.0] * 3, "errors": [""] * 3,
        "ttfts": [first for first, _, _ in TIMES],
        "itls": [[(last - first) / (n - 1)] * (n - 1) for first, last, n in TIMES],
        "latencies": [last for _, last, _ in TIMES],
        "input_lens": [100, 200, 100], "output_lens": [n for _, _, n in TIMES], **more,
    }  # fmt: skip
    (place / "real.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("order", "named"),
    [((0, 1, 2), ""), ((0, 1, 2), "{}"), ((2, 0, 1), "{}"), ((0, 1, 2), "cmpl-{}")],
)
def test_times_alone_are_those_of_the_real_sides_requests(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    order: tuple[int, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    measured(tmp_path)
    rows = [
        [
            *([named.format(n)] if named else []),
            f"{TIMES[n][0] * 1100:.6f}",
            f"{TIMES[n][1] * 1100:.6f}",
        ]
        for n in order
    ]
    head = [*(["request_id"] if named else []), "ttft_ms", "e2e_ms"]
    Path("sim.csv").write_text("".join(",".join(row) + "\n" for row in [head, *rows]))
    main(["compare", "real.json", "sim.csv", "--json"])
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    for name in ("ttft", "tpot", "e2e"):
        for statistic in ("p50", "p90", "mean"):
            assert metrics[name][statistic]["error"] == pytest.approx(0.1, abs=1e-5)


def test_a_closed_loops_arrivals_are_the_simulations_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    measured(tmp_path, max_concurrency=1, request_rate="inf")
    Path("sim.csv").write_text("ttft_ms,e2e_ms\n20,35\n30,60\n25,55\n")
    assert main(["compare", "real.json", "sim.csv"]) == 2
    assert "sim.csv: has no column of arrivals, which in a closed loop" in capsys.readouterr().err
