"""A campaign loses nothing that was measured, and its settings reach the engine as they must."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings, Hardware
from pytest_gpusim.profiling.vllm import source
from pytest_gpusim.profiling.vllm.campaign import Campaign
from pytest_gpusim.profiling.vllm.estimate import duration, guess
from pytest_gpusim.profiling.vllm.grid import Shape
from pytest_gpusim.vllm_runtime import LaunchSpec
from tests.factories import CPU, ENGINE, TINY

PREFILL, DECODE = Shape(((10, 0),), 0, 0), Shape((), 3, 33)
SHAPES = [PREFILL, DECODE]
CPU_ENGINE = dataclasses.replace(ENGINE, block_size=32)


class Stopped(Exception):
    pass


class FakeEngine:
    """Answers each shape with one step; dies after so many answers."""

    def __init__(self, life: int = 1000, wall_ns: int = 5) -> None:
        self.engine = {"threads": None}
        self.asked: list[dict[str, Any]] = []
        self._life, self._wall_ns = life, wall_ns

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if len(self.asked) == self._life:
            raise Stopped
        self.asked.append(command)
        row = {
            "wall_ns": self._wall_ns,
            "cpu_ns": self._wall_ns,
            "prefills": command["prefills"],
            "decodes": command["decodes"],
            "operators": {"emb": 1},
        }
        return {"rows": [row]}


def campaign(
    root: Path, blocks: int = 100, passes: int = 2, shapes: list[Shape] = SHAPES
) -> Campaign:
    made = Campaign("x", passes, root)
    made.plan(blocks, lambda _: shapes)
    return made


def run(made: Campaign, engine: Any) -> list[str]:
    told: list[str] = []
    made.run(engine, hooks=True, say=told.append)
    return told


def test_everything_is_measured_once_a_pass(tmp_path: Path):
    first = campaign(tmp_path)
    run(first, FakeEngine())
    assert [(s.number, s.shape) for s in first.samples()].count((0, PREFILL)) == 1
    assert len(first.samples()) == 4
    again = FakeEngine()
    run(campaign(tmp_path), again)
    assert again.asked == []


@pytest.mark.parametrize("number", ["1e999", "NaN", "9" * 5000, "[" * 5000, "null"])
def test_a_number_that_is_none_ends_what_is_believed(tmp_path: Path, number: str):
    first = campaign(tmp_path)
    run(first, FakeEngine())
    lines = first.path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"wall_ns": 5', f'"wall_ns": {number}')
    first.path.write_text("".join(lines))
    again = campaign(tmp_path)
    assert again.measured == 1
    assert any("going on after 1 of 4" in line for line in run(again, FakeEngine()))
    for line in again.path.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("blocks", [0, -1, 10**400])
def test_blocks_that_no_engine_has_are_not_believed(tmp_path: Path, blocks: int):
    first = campaign(tmp_path)
    run(first, FakeEngine())
    lines = first.path.read_text().splitlines(keepends=True)
    first.path.write_text("".join([json.dumps({"num_gpu_blocks": blocks}) + "\n", *lines[1:]]))
    assert campaign(tmp_path).measured == 0


def test_two_kills_in_the_middle_of_a_line_lose_two_lines(tmp_path: Path):
    first = campaign(tmp_path, passes=4)
    with pytest.raises(Stopped):
        run(first, FakeEngine(life=3 + 3))  # the first three are for the estimate
    first.path.write_bytes(first.path.read_bytes()[:-9])
    second = campaign(tmp_path, passes=4)
    assert second.measured == 2
    with pytest.raises(Stopped):
        run(second, FakeEngine(life=3 + 3))
    second.path.write_bytes(second.path.read_bytes()[:-9])
    third = campaign(tmp_path, passes=4)
    assert third.measured == 4
    assert any("going on after 4 of 8" in line for line in run(third, FakeEngine()))
    assert len(third.samples()) == 8
    for line in third.path.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b"7\n",
        b"null\n",
        b'{"pass": 0, "shape": {}, "rows": []}\n',
        b'{"pass": 0, "shape": {"prefills": [[1]], "num_decodes": 0, "decode_context": 0}}\n',
        b'{"pass": null, "shape": null, "rows": null}\n',
        b'{"num_gpu_blocks": null}\n',
        b"\xff\xfe\n",
        b'{"num_gpu_blocks": 8, "of": "\xed\xa0\x80"}\n',  # half of a surrogate pair
    ],
)
def test_an_odd_line_ends_what_is_read(tmp_path: Path, line: bytes):
    first = campaign(tmp_path)
    run(first, FakeEngine())
    whole = first.path.read_bytes().splitlines(keepends=True)
    first.path.write_bytes(b"".join(whole[:2]) + line + b"".join(whole[2:]))
    again = campaign(tmp_path)
    assert again.measured == 1
    run(again, FakeEngine())
    assert campaign(tmp_path).measured == 4


def test_a_few_kv_blocks_less_at_the_next_start_change_nothing(tmp_path: Path):
    def shapes_for(blocks: int) -> list[Shape]:
        return [PREFILL, Shape((), 1, blocks)]

    first = Campaign("x", 1, tmp_path)
    first.plan(1000, shapes_for)
    run(first, FakeEngine())
    more = Campaign("x", 1, tmp_path)
    more.plan(1015, shapes_for)
    assert more.measured == 2
    # Those that no longer fit are others; what is the same is kept.
    less = Campaign("x", 1, tmp_path)
    less.plan(990, shapes_for)
    assert less.measured == 1


def test_other_identities_are_other_campaigns(tmp_path: Path):
    run(campaign(tmp_path), FakeEngine())
    other = Campaign("y", 2, tmp_path)
    other.plan(100, lambda _: SHAPES)
    assert other.measured == 0


def test_the_estimate_covers_both_engines(tmp_path: Path):
    told: list[str] = []
    campaign(tmp_path).run(FakeEngine(), hooks=True, say=told.append, again=True)  # type: ignore[arg-type]
    assert "measurements, about" in told[0]
    assert "in all up to" in told[1]


def test_a_guess_before_the_start_grows_with_the_model_and_the_passes():
    spec = LaunchSpec.resolve(TINY, CPU_ENGINE, "cpu", threads=1)
    count, seconds = guess(spec, CPU, 2, quick=True)
    assert guess(spec, CPU, 4, quick=True) == (2 * count, pytest.approx(2 * seconds))
    assert guess(spec, CPU, 2, quick=False)[0] > count
    bare = LaunchSpec.resolve(TINY, EngineSettings(), "cuda")
    assert guess(bare, Hardware("a100", "cuda", "A100", 80, 312), 5, quick=False)[1] > 0
    auto = bare.with_settings(dtype="auto")
    assert guess(auto, Hardware("a100", "cuda", "A100", 80, 312), 5, quick=False)[1] > 0
    assert [duration(s) for s in (5, 90, 7200)] == ["5 s", "1.5 min", "2.0 h"]


def test_a_threshold_is_off_while_profiling_and_told_in_the_bundle():
    settings = dataclasses.replace(
        CPU_ENGINE, long_prefill_token_threshold=64, enable_prefix_caching=False
    )
    compiled = LaunchSpec.resolve(
        TINY, dataclasses.replace(settings, enforce_eager=False), "cpu", threads=1
    )
    plain, cached = source.engines_to_time(compiled)
    assert (plain.settings.enforce_eager, cached.settings.enforce_eager) == (True, False)
    for spec in (plain, cached):
        assert spec.settings.long_prefill_token_threshold == 0
        assert spec.settings.enable_prefix_caching is True
    resolved = {**cached.settings.to_json(), "engine_mode": "compiled"}
    covered = source.covered_settings(resolved, settings)
    assert covered["long_prefill_token_threshold"] == 64
    assert covered["enable_prefix_caching"] is False
    assert covered["engine_mode"] == "compiled"
    eager = compiled.with_settings(enforce_eager=True)
    plain, cached = source.engines_to_time(eager)
    assert plain == cached
