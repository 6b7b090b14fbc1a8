"""Measured operating points: reading, clients, refusals, engine time with one left out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.models import QWEN3_32B, QWEN3_235B_A22B
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.points import simulation
from pytest_gpusim.points.clients import EXACT, INFERENCEX, ROUNDED, client_of
from pytest_gpusim.points.engine_time import Kernels, fit_without
from pytest_gpusim.points.report import judge_points, no_measurement
from pytest_gpusim.points.rows import COLUMNS, Point, read_points
from pytest_gpusim.points.shown import points_lines
from pytest_gpusim.points.simulation import EngineTime, PointSimulator, Simulated
from pytest_gpusim.registry import builtin_registry

needs_tables = pytest.mark.skipif(
    find_spec("aiconfigurator_core") is None or find_spec("pyarrow") is None,
    reason="the extra 'silicon' is not installed",
)
ROW = {
    "model": "Qwen/Qwen3-32B",
    "hardware": "h100",
    "precision": "",
    "vllm_version": "0.12.0",
    "tensor_parallel": "4",
    "moe_tensor_parallel": "1",
    "expert_parallel": "1",
    "data_parallel": "",
    "isl": "128",
    "osl": "16",
    "concurrency": "2",
    "ttft_ms": "30.1234567",
    "tpot_ms": "9.1234567",
}
EXPERTS = {
    "model": "Qwen/Qwen3-235B-A22B-FP8",
    "hardware": "h200",
    "precision": "fp8",
    "tensor_parallel": "2",
    "moe_tensor_parallel": "2",
}


def table(path: Path, *changes: dict[str, str]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows({**ROW, **change} for change in changes)
    return path


def point(tmp_path: Path, **change: str) -> Point:
    return read_points(table(tmp_path / "points.csv", change))[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"isl": "0"}, "line 2, column isl: expected a positive integer, found '0'"),
        ({"tensor_parallel": ""}, "column tensor_parallel: expected a positive integer"),
        ({"tpot_ms": "nan"}, "column tpot_ms: expected a positive time in ms"),
        ({"ttft_ms": "fast"}, "column ttft_ms: expected a time in ms, found 'fast'"),
        ({"model": ""}, "column model: expected a name"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        point(tmp_path, **change)


def test_a_row_that_stands_twice_counts_in_no_mean(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", {}, {"isl": "256"}, {})
    with pytest.raises(InputError, match="line 4: is the point of line 2 again"):
        read_points(path)


def test_a_column_stands_once(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", {})
    path.write_text("".join(f"{line},{line.split(',')[0]}\n" for line in path.read_text().split()))
    with pytest.raises(InputError, match="line 1: the column 'model' is there twice"):
        read_points(path)


def test_a_table_needs_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,isl\nx,1\n")
    with pytest.raises(InputError, match="the column 'hardware' is missing"):
        read_points(tmp_path / "t.csv")


def test_release_and_digits_tell_the_client(tmp_path: Path) -> None:
    assert client_of(point(tmp_path)) is EXACT
    assert client_of(point(tmp_path, ttft_ms="30.12", tpot_ms="9.1")) is ROUNDED
    assert client_of(point(tmp_path, vllm_version="")) is INFERENCEX


def test_loads_are_those_of_the_clients(tmp_path: Path) -> None:
    one = point(tmp_path, isl="1000", osl="100", concurrency="16")
    lengths = INFERENCEX.lengths(one)
    assert len(lengths) == 160
    assert {prompt for prompt, _, _ in lengths} == set(range(160))
    assert all(800 <= prompt <= 1000 and 80 <= answer <= 100 for _, prompt, answer in lengths)
    assert lengths == INFERENCEX.lengths(one)
    again = ROUNDED.lengths(one)
    assert [prompt for prompt, _, _ in again[98:102]] == [98, 99, 0, 1]
    assert {request[1:] for request in again} == {(1000, 100)}


@needs_tables
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (EXPERTS | {"tensor_parallel": "1"}, "data-parallel attention is not modelled: experts"),
        ({"data_parallel": "2"}, "data parallelism within one engine is not modelled"),
        ({"model": "some/model"}, "the model some/model is not known"),
        ({"precision": "fp4"}, "which fp4 checkpoint of Qwen/Qwen3-32B is not known"),
        ({"precision": "int4"}, "which int4 checkpoint of Qwen/Qwen3-32B is not known"),
        ({"tensor_parallel": "1", "hardware": "h100"}, "leaves no room for one request"),
        ({"hardware": "h900"}, r"h900_sxm \(did you mean h200_sxm\?\): known are"),
    ],
)
def test_what_is_not_modelled_is_refused(
    tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    longest = {"isl": "40000"} if "no room" in reason else {}
    with (
        PointSimulator(builtin_registry()) as simulator,
        pytest.raises(UsageError, match=reason),
    ):
        simulator.served(point(tmp_path, **change, **longest))


@needs_tables
def test_settings_are_the_releases_defaults_or_the_clients(tmp_path: Path) -> None:
    with PointSimulator(builtin_registry()) as simulator:
        old = simulator.served(point(tmp_path)).settings
        # What AIConfigurator's generator writes for a prompt of 128 and an answer of 16 tokens.
        assert (old.max_num_batched_tokens, old.max_num_seqs) == (512 + 128 + 1500, 512)
        assert old.max_model_len == 128 + 16 + 1500
        # Before 0.14 planned after the step, before 0.19 admitted by the first chunk.
        assert (old.async_scheduling, old.scheduler_reserve_full_isl) == (False, False)
        recipe = simulator.served(
            point(tmp_path, model="meta-llama/Llama-3.1-70B", precision="fp8", vllm_version="")
        )
        assert recipe.shape.name == "nvidia/Llama-3.3-70B-Instruct-FP8"
        assert recipe.settings.async_scheduling is True
        assert recipe.settings.enable_prefix_caching is False
        assert recipe.settings.max_num_seqs == 2
        assert recipe.settings.max_num_batched_tokens == 8192
        experts = simulator.served(
            point(tmp_path, **EXPERTS | {"moe_tensor_parallel": "1", "expert_parallel": "2"})
        )
        assert experts.expert_parallel


@needs_tables
def test_a_request_reaches_the_engine_after_the_front_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = point(tmp_path, concurrency="1")
    with PointSimulator(builtin_registry()) as simulator:
        with_it = simulator.simulate(one)
        monkeypatch.setattr(simulation, "FRONT_END_NS", 0)
        without = simulator.simulate(one)
    assert with_it.ttft_ms - without.ttft_ms == pytest.approx(9.5)
    assert with_it.tpot_ms == pytest.approx(without.tpot_ms)


def kernels(one: Point, shape: ModelShape, sequences: float, missing: float) -> Kernels:
    return Kernels(one, shape, Simulated(0, one.tpot_ms - missing, sequences, 1))


def test_engine_time_never_comes_from_the_points_own_configuration(tmp_path: Path) -> None:
    one = point(tmp_path)

    def known(degree: int, sequences: float, wrong: float = 0.0) -> Kernels:
        # 20 us a layer and 30 us a sequence are missing.
        missing = 64 * 0.02 + sequences * 0.03 + wrong
        return kernels(replace(one, tensor_parallel=degree), QWEN3_32B, sequences, missing)

    others = [known(2, 8), known(2, 64), known(8, 16)]
    fit = fit_without(one, [*others, known(4, 8, wrong=5.0)])
    assert fit is not None
    assert fit.per_layer_ns == pytest.approx(20_000)
    assert fit.per_sequence_ns == pytest.approx(30_000)
    assert fit.configurations == 2
    engine = fit.of(known(2, 8))
    assert engine == EngineTime(pytest.approx(64 * 20_000), pytest.approx(30_000))
    newer = [replace(each, point=replace(each.point, vllm_version="0.20.0")) for each in others]
    assert fit_without(one, [*newer, others[0]]) is None


def test_experts_take_what_others_of_their_kind_are_left_with(tmp_path: Path) -> None:
    one = point(tmp_path, **EXPERTS)
    dense = [
        kernels(
            replace(one, model="dense", tensor_parallel=degree), QWEN3_32B, sequences, 64 * 0.02
        )
        for degree, sequences in ((2, 8), (4, 64))
    ]
    # 94 layers are missing their 20 us, and the 113 GB of experts on each of two devices 10 ms.
    mine = kernels(one, QWEN3_235B_A22B, 8, 94 * 0.02 + 99.0)
    other = kernels(replace(one, tensor_parallel=4), QWEN3_235B_A22B, 8, 94 * 0.02 + 5.0)
    fit = fit_without(one, [*dense, mine, other])
    assert fit is not None
    assert (fit.configurations, fit.expert_configurations) == (2, 1)
    # Half the experts are on each of four devices.
    more = fit.of(mine).per_step_ns - 94 * fit.per_layer_ns
    assert more == pytest.approx(10e6, rel=1e-6)
    assert fit_without(one, dense) == replace(fit, per_expert_gb_ns=0.0, expert_configurations=0)


def test_another_word_for_a_configuration_is_no_other_configuration(tmp_path: Path) -> None:
    one = point(tmp_path)
    others = [
        kernels(replace(one, tensor_parallel=degree), QWEN3_32B, 8, 64 * 0.02) for degree in (2, 8)
    ]
    mine = kernels(one, QWEN3_32B, 8, 5.0)
    same = kernels(replace(one, precision="bf16"), QWEN3_32B, 8, 5.0)
    assert fit_without(one, [*others, mine, same]) == fit_without(one, [*others, mine])


@pytest.mark.parametrize(
    ("ttft_ms", "tpot_ms", "words"),
    [
        (30.0, 0.009, "another unit"),
        (30_000.0, 9.0, "another unit"),
        (31.0, 9.1, "nothing is measured"),
        (31.0, 9.0, None),
    ],
)
def test_times_that_nobody_measured_are_refused(
    tmp_path: Path, ttft_ms: float, tpot_ms: float, words: str | None
) -> None:
    measured = replace(point(tmp_path), ttft_ms=ttft_ms, tpot_ms=tpot_ms)
    found = no_measurement(measured, {"sim_ttft_ms": 31.0, "sim_tpot_ms": 9.1})
    assert (found is None) if words is None else (words in str(found))


@needs_tables
def test_engine_time_is_added_to_each_step(tmp_path: Path) -> None:
    one = point(tmp_path, concurrency="3")
    with PointSimulator(builtin_registry()) as simulator:
        plain = simulator.simulate(one)
        more = simulator.simulate(one, EngineTime(2e6, 1e6))
    # All three answer in lockstep: 2 ms a step and 1 ms for each of three sequences.
    assert plain.sequences == 3
    assert more.tpot_ms - plain.tpot_ms == pytest.approx(5.0, rel=1e-3)


@needs_tables
@pytest.mark.parametrize("simulator", ["reference", "vidur"])
def test_the_command_judges_each_row_and_counts_the_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], simulator: str
) -> None:
    if simulator == "vidur" and find_spec("vidur") is None:
        pytest.skip("vidur is not installed")
    path = table(tmp_path / "p.csv", {}, {"tensor_parallel": "2"}, EXPERTS | {"data_parallel": "2"})
    report = tmp_path / "points.html"
    words = ["--simulator", simulator, "--kernels-alone", "--json", "--report", str(report)]
    assert main(["points", str(path), *words]) == 0
    assert "2 of 3 measured points simulated" in report.read_text()
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    first, second, refused = document["points"]
    assert first["sim_tpot_ms"] < second["sim_tpot_ms"]
    assert first["tpot_error"] == pytest.approx(first["sim_tpot_ms"] / 9.1234567 - 1, abs=1e-4)
    assert refused["refused"] == "data parallelism within one engine is not modelled"
    assert document["summary"]["simulated"] == 2
    assert document["summary"]["refused"] == [{"reason": refused["refused"], "points": 1}]


def test_an_unknown_simulator_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["points", str(table(tmp_path / "p.csv", {})), "--simulator", "nobody"]) == 2
    assert "unknown simulator 'nobody'" in capsys.readouterr().err


@needs_tables
def test_points_without_engine_time_are_said_to_be(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", {}, {"tensor_parallel": "2"})
    lines = list(points_lines(judge_points(path, builtin_registry())))
    place = lines.index("2 of 2 points simulated")
    assert lines[place + 1].startswith("2 of them by kernels alone, without engine time")


@needs_tables
def test_what_the_tables_lack_is_refused_by_row(tmp_path: Path) -> None:
    path = table(
        tmp_path / "p.csv",
        EXPERTS | {"hardware": "l40s"},
        EXPERTS | {"tensor_parallel": "8", "moe_tensor_parallel": "8", "hardware": "h100"},
    )
    document = judge_points(path, builtin_registry(), engine_time=False)
    first, second = (row["refused"] for row in document["points"])
    assert "l40s" in first
    assert "need moe_tp_size 8, measured are 1, 2, 4" in second
    assert document["summary"]["simulated"] == 0
