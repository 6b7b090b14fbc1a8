"""Attribution: where an error was put in, there it must be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.steps import same_batches
from tests.compare.runs import MS, real_run, request, sim_run, steady

Batches = Sequence[Mapping[int, int]]


def steps_of(
    batches: Batches, durations: Sequence[float], *, prefill: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """A step table of the batches; step numbers in ``prefill`` prefill with all their tokens."""
    rows, clock = [], 0.0
    for number, (batch, duration) in enumerate(zip(batches, durations, strict=True)):
        tokens = sum(batch.values())
        rows.append(
            {
                "step": number,
                "start_ns": round(clock * MS),
                "duration_ns": round(duration * MS),
                "num_prefill_tokens": tokens if number in prefill else 0,
                "num_decode_tokens": 0 if number in prefill else tokens,
                "num_sequences": len(batch),
                "extrapolated": 0,
            }
        )
        clock += duration
    return rows


def attribution(
    tmp_path: Path,
    real: tuple[Batches, Sequence[float]],
    sim: tuple[Batches, Sequence[float]],
    *,
    prefill: Sequence[int] = (),
) -> dict[str, Any]:
    sides = []
    for make, name, (batches, durations) in ((real_run, "real", real), (sim_run, "sim", sim)):
        steps = steps_of(batches, durations, prefill=prefill)
        sides.append(make(tmp_path / name, steady(4), steps=steps, batches=batches))
    return compare_runs([sides[0]], sides[1]).attribution


def test_phases_add_up_to_the_error_of_e2e(tmp_path: Path) -> None:
    # Real: 10 queue, 90 prefill, 100 decode. Simulated: 30, 70, 150; E2E 200 -> 250.
    def rows(queue: float, prefill: float, gap: float) -> list[dict[str, Any]]:
        first = queue + prefill
        return [
            request(i, i * 1000, [i * 1000 + first + k * gap for k in range(6)],
                    scheduled=i * 1000 + queue)
            for i in range(8)
        ]  # fmt: skip

    real, sim = rows(10, 90, 20), rows(30, 70, 30)
    comparison = compare_runs([real_run(tmp_path / "real", real)], sim_run(tmp_path / "sim", sim))
    phases = comparison.attribution["phases"]
    assert phases["queue"] == {
        "real_ns": 10 * MS,
        "sim_ns": 30 * MS,
        "contribution": pytest.approx(0.10),
    }
    assert phases["prefill"]["contribution"] == pytest.approx(-0.10)
    assert phases["decode"]["contribution"] == pytest.approx(0.25)
    whole = sum(phase["contribution"] for phase in phases.values())
    assert whole == pytest.approx(comparison.metrics["e2e"]["mean"]["error"])
    assert comparison.attribution["findings"][0].startswith("most of the error lies in decode")


def test_batches_pair_in_order_of_occurrence() -> None:
    real = [{0: 5}, {0: 1}, {0: 1, 1: 3}, {0: 1}, {0: 1}]
    sim = [{0: 5}, {0: 1}, {0: 1}, {1: 3}, {0: 1}]
    assert same_batches(real, sim) == [(0, 0), (1, 1), (3, 2), (4, 4)]


def test_a_wrong_model_is_told_from_a_wrong_schedule(tmp_path: Path) -> None:
    batches = [{0: 10}, {0: 1}, {0: 1, 1: 1}, {0: 1, 1: 1}]
    found = attribution(
        tmp_path, (batches, [100, 20, 22, 22]), (batches, [50, 16, 20, 20]), prefill=[0]
    )
    assert found["steps"]["schedule"]["same_share"] == 1
    assert found["steps"]["schedule"]["first_difference"] is None
    model = found["steps"]["model"]
    assert model["steps"] == 4
    assert model["error"] == pytest.approx((106 - 164) / 164)
    assert model["with_prefill"] == pytest.approx(-0.5)
    assert model["decode_only"] == pytest.approx((56 - 64) / 64)
    assert any("look at the profile, not at the schedule" in text for text in found["findings"])


def test_a_wrong_schedule_is_told_from_a_wrong_model(tmp_path: Path) -> None:
    real = [{0: 10}, {0: 1, 1: 8}, {0: 1, 1: 1}, {0: 1, 1: 1}]
    sim = [{0: 10}, {0: 1}, {1: 8}, {0: 1, 1: 1}]
    found = attribution(tmp_path, (real, [50, 60, 20, 20]), (sim, [50, 15, 45, 20]))
    schedule = found["steps"]["schedule"]
    assert schedule["same"] == 2
    assert schedule["same_share"] == 0.5
    assert schedule["first_difference"] == {
        "step": 1,
        "real_start_ns": 50 * MS,
        "only_real": [1],
        "only_sim": [],
        "other_tokens": [],
    }
    assert found["steps"]["model"]["error"] == 0
    assert found["steps"]["model"]["real_share"] == pytest.approx(70 / 150)
    assert any("the schedule differs" in text for text in found["findings"])


def test_a_constant_offset_is_recognised(tmp_path: Path) -> None:
    batches: list[dict[int, int]] = [{0: 1}] * 4 + [dict.fromkeys(range(4), 1)] * 4
    real, sim = [20.0] * 4 + [80.0] * 4, [15.0] * 4 + [75.0] * 4
    found = attribution(tmp_path, (batches, real), (batches, sim))
    assert any("off by about -5 ms whatever the batch size" in text for text in found["findings"])
    rows = found["steps"]["by_batch_size"]
    assert [(row["from"], row["to"], row["real_ns"]) for row in rows] == [
        (1, 1, 20 * MS),
        (3, 4, 80 * MS),
    ]


def test_errors_over_the_run(tmp_path: Path) -> None:
    rows = [request(i, i * 1000, [i * 1000 + 100 * (0.8 + 0.02 * i)]) for i in range(20)]
    comparison = compare_runs(
        [real_run(tmp_path / "real", steady(20, tokens=1))], sim_run(tmp_path / "sim", rows)
    )
    parts = comparison.attribution["by_position"]
    assert [part["requests"] for part in parts] == [4] * 5
    # Requests 0-3: 0.80, 0.82, 0.84, 0.86 of the real TTFT.
    assert parts[0]["ttft_error"] == pytest.approx(-0.17)
    assert parts[-1]["ttft_error"] == pytest.approx(0.15)
    assert parts[0]["tpot_error"] is None
    assert any("from -17.0% to +15.0%" in text for text in comparison.attribution["findings"])


def test_what_the_runs_do_not_tell_is_none(tmp_path: Path) -> None:
    sim = sim_run(tmp_path / "sim", steady(4), meta={"operator_shares": None})
    found = compare_runs([real_run(tmp_path / "real", steady(4))], sim).attribution
    assert found["steps"] is None
    assert found["operators"] is None
    assert found["extrapolated_share"] is None
    assert found["findings"] == []


def test_operators_come_largest_first(tmp_path: Path) -> None:
    sim = sim_run(tmp_path / "sim", steady(4), meta={"operator_shares": {"a": 0.2, "b": 0.8}})
    found = compare_runs([real_run(tmp_path / "real", steady(4))], sim).attribution
    assert list(found["operators"].items()) == [("b", 0.8), ("a", 0.2)]


def test_the_noise_of_requests_is_told_from_slow_requests(tmp_path: Path) -> None:
    # Ten requests of TPOT 20 ms; in each of three runs other two of them take 30 ms.
    def rows(slow: Sequence[int]) -> list[dict[str, Any]]:
        return [
            request(i, i * 1000, [i * 1000 + 100 + k * (30 if i in slow else 20) for k in range(6)])
            for i in range(10)
        ]

    real = [
        real_run(tmp_path / f"real{number}", rows(slow))
        for number, slow in enumerate([(0, 1), (2, 3), (4, 5)])
    ]
    found = compare_runs(real, sim_run(tmp_path / "sim", rows(()))).attribution
    spread = found["spread"]["tpot"]
    assert spread["lift"] == pytest.approx(0.5)
    assert spread["error"] == pytest.approx(0)
    # Six of ten requests vary: 30, 20, 20 has the mean 70/3 and the deviation 10 / sqrt(3).
    assert spread["per_request"] == pytest.approx((0.6 * (10 / 3**0.5 / (70 / 3)) ** 2) ** 0.5)
    assert found["spread"]["ttft"] == {"per_request": 0, "lift": 0, "error": 0}
    assert [text for text in found["findings"] if text.startswith("the same request's TPOT")]

    # Requests that are slow in every run are no noise.
    real = [real_run(tmp_path / f"same{number}", rows((0, 1))) for number in range(3)]
    found = compare_runs(real, sim_run(tmp_path / "other", rows(()))).attribution
    assert found["spread"]["tpot"] == {
        "per_request": 0,
        "lift": 0,
        "error": pytest.approx(-1 / 3),
    }
    assert not [text for text in found["findings"] if text.startswith("the same request's")]
    assert compare_runs(real[:2], sim_run(tmp_path / "two", rows(()))).attribution["spread"] is None


def test_steps_are_held_against_the_middle_real_run(tmp_path: Path) -> None:
    batches: Batches = [{0: 10}, {0: 1}, {0: 1}, {0: 1}]

    def run(name: str, itl: float, durations: Sequence[float]) -> Any:
        steps = steps_of(batches, durations, prefill=[0])
        rows = steady(4, itl=itl)
        return real_run(tmp_path / name, rows, steps=steps, batches=batches)

    real = [run("slow", 40, [200] * 4), run("middle", 20, [100] * 4), run("fast", 19, [90] * 4)]
    steps = steps_of(batches, [100] * 4, prefill=[0])
    sim = sim_run(tmp_path / "sim", steady(4), steps=steps, batches=batches)
    assert compare_runs(real, sim).attribution["steps"]["model"]["error"] == 0
