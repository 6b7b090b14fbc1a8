"""Other simulators' files, release by release: columns that came, went or changed their meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("outputs", "expected"), [((1, 5), [1, 5]), ((101, 205), [1, 5])])
def test_an_answer_of_one_token(
    tmp_path: Path, outputs: tuple[int, int], expected: list[int]
) -> None:
    text = servingsim(*outputs, itl=False)
    text = text.replace("35000002,35000002,0,20000000,5000000", "20000000,20000000,0,20000000,0")
    run = load(tmp_path, "sim.csv", text)
    assert run.requests["num_decode_tokens_actual"].tolist() == expected


@pytest.mark.parametrize("outputs", [(50, 5), (4, 205)])
def test_outputs_that_fit_no_time_per_token_are_refused(
    tmp_path: Path, outputs: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="column output: expected as many tokens as fit TTFT, TPO"):
        load(tmp_path, "sim.csv", servingsim(*outputs))
