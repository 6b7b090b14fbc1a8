"""The judgement of the cross-check, on passes whose figures are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.crosscheck.agreement import as_table, compare, judge, p50
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.runs import Run, read_run, write_run

MS = 1_000_000


def made_up(out: Path, ttft_ms: int, tpot_ms: int, *, failed: int = 0, timed: bool = True) -> Run:
    """Five requests of three tokens; all have the same TTFT and TPOT."""
    requests, tokens = [], []
    for number in range(5):
        arrival = number * 1000 * MS
        times = [arrival + (ttft_ms + index * tpot_ms) * MS for index in range(3)]
        row = {
            "request_id": number,
            "arrival_time_ns": arrival,
            "first_token_time_ns": times[0],
            "ttft_ns": times[0] - arrival,
            "completion_time_ns": times[-1],
            "num_prefill_tokens": 4,
            "num_decode_tokens": 3,
            "num_decode_tokens_actual": 3,
            "status": "error" if number < failed else "ok",
        }
        requests.append(row)
        for index, time in enumerate(times):
            before = times[index - 1] if index else arrival
            tokens.append((number, index, time, time - before))
    write_run(out, requests=requests, tokens=tokens if timed else None, meta={"run_type": "real"})
    return read_run(out)


def test_p50_of_a_run(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", 40, 10)
    assert [p50(run, metric) for metric in ("ttft", "tpot", "e2e")] == [40 * MS, 10 * MS, 60 * MS]


def test_a_failed_request_is_no_basis(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", 40, 10, failed=2)
    with pytest.raises(EngineError, match=r"run: 2 requests failed"):
        p50(run, "ttft")


def test_tools_agree_within_the_noise_of_the_less_steady_one() -> None:
    row = judge([100.0, 110.0, 104.0], [100.0, 101.0, 99.0])
    assert (row.ours_ns, row.theirs_ns) == (104, 100)
    assert row.difference == pytest.approx(0.04)
    assert row.our_noise == pytest.approx(6 / 104)
    assert row.their_noise == pytest.approx(0.01)
    assert row.noise == row.our_noise
    assert row.bias_per_pass == pytest.approx((0.0, 110 / 101 - 1, 104 / 99 - 1))
    assert row.agrees is True


def test_a_steady_bias_beyond_the_noise_is_no_agreement() -> None:
    """Passes that differ from each other by less than the tools do."""
    assert judge([110.0, 111.0, 109.0], [100.0, 101.0, 99.0]).agrees is False


def test_noise_does_not_make_agreement() -> None:
    row = judge([100.0, 160.0, 100.0], [100.0, 100.0, 100.0])
    assert row.noise == pytest.approx(0.6)
    assert row.agrees is None
    assert "unknown: too noisy" in as_table({"ttft": row}, "a", "b")


def test_one_pass_tells_no_noise() -> None:
    row = judge([100.0], [100.0])
    assert (row.noise, row.agrees) == (None, None)
    assert "| unknown | unknown: one pass |" in as_table({"ttft": row}, "a", "b")


def test_each_tool_has_as_many_passes() -> None:
    with pytest.raises(UsageError, match="2 and 1 passes"):
        judge([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="0 and 0 passes"):
        judge([], [])


def test_runs_become_a_table(tmp_path: Path) -> None:
    ours = [made_up(tmp_path / f"o{n}", 40 + n, 10) for n in range(3)]
    theirs = [made_up(tmp_path / f"t{n}", 40, 11) for n in range(3)]
    rows = compare(ours, theirs)
    assert {metric: row.agrees for metric, row in rows.items()} == {
        "ttft": False,  # 1/40 apart, 1/41 of noise
        "tpot": False,
        "e2e": True,
    }
    table = as_table(rows, "ours", "theirs").splitlines()
    assert table[0].startswith("| p50 | ours | theirs | difference | noise floor | agree | bias")
    assert table[2] == ("| TTFT | 41.00 ms | 40.00 ms | +2.5% | 2.4% | no | +0.0%, +2.5%, +5.0% |")


def test_the_command_refuses_wrong_counts_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.crosscheck.__main__ import main

    monkeypatch.setattr("sys.argv", ["crosscheck", "--repeat", "0", "--out", str(tmp_path / "o")])
    assert main() == 2
    assert capsys.readouterr().err == "crosscheck: --repeat 0: expected at least 1\n"
