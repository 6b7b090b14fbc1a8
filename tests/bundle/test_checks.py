"""Broken bundles, planted one by one: each must be named precisely, with what mends it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.bundle.checks import check_bundle, check_root
from pytest_gpusim.bundle.reader import digest_tables
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.registry import builtin_registry
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

Plant = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "bundle"
    make_bundle(path, mixed=True, tensor_parallel_sizes=(1, 2))
    return path


def failures(path: Path, **asked: object) -> dict[str, str]:
    checks = check_bundle(path, registry=builtin_registry(), **asked)
    for check in checks:
        assert "\n" not in check.detail
        assert check.detail
    return {check.name: check.detail for check in checks if check.status == "fail"}


def rewrite(path: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    frame = pd.read_csv(path / name)
    changed = change(frame)
    (frame if changed is None else changed).to_csv(path / name, index=False)


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Plant:
    return lambda path: rewrite(path, name, change)


def set_cell(name: str, row: int, column: str, value: object) -> Plant:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return edit(name, change)


def scale_cell(name: str, row: int, column: str, factor: float) -> Plant:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[row, column] = float(frame.loc[row, column]) * factor

    return edit(name, change)


def set_meta(**values: object) -> Plant:
    def plant(path: Path) -> None:
        meta = json.loads((path / "profile_meta.json").read_text())
        meta.update(values)
        (path / "profile_meta.json").write_text(json.dumps(meta))

    return plant


def drop_meta(key: str) -> Plant:
    def plant(path: Path) -> None:
        meta = json.loads((path / "profile_meta.json").read_text())
        del meta[key]
        (path / "profile_meta.json").write_text(json.dumps(meta))

    return plant


def remove(name: str) -> Plant:
    return lambda path: (path / name).unlink()


def reseal(path: Path) -> None:
    """Make the digest hold again, so that what was planted is found for itself."""
    with contextlib.suppress(OSError, ValueError):
        set_meta(digest=digest_tables(path))(path)


UP, PREFILL, DECODE = (
    "time_stats.mlp_up_proj.median",
    "time_stats.attn_prefill.median",
    "time_stats.attn_decode.median",
)
NORM = "time_stats.input_layernorm.median"
BROKEN: dict[str, tuple[Plant, str, str]] = {
    "no metadata": (remove("profile_meta.json"), "files", r"no profile_meta\.json"),
    "no mlp table": (remove("mlp.csv"), "files", r"no mlp\.csv"),
    "no attention table": (remove("attention.csv"), "files", r"no attention\.csv"),
    "metadata is not JSON": (
        lambda path: (path / "profile_meta.json").write_text("{'model': 1}"),
        "metadata",
        r"line 1: not JSON",
    ),
    "newer schema": (set_meta(schema_version=9), "metadata", r"9 is newer than the 1"),
    "no block size": (set_meta(block_size=None), "metadata", r"block_size is None"),
    "metadata without dtype": (drop_meta("dtype"), "metadata", r"dtype: is missing"),
    "attention of another block size": (
        edit("attention.csv", lambda f: f.assign(block_size=32)),
        "metadata",
        r"block_size has \[32\], profile_meta\.json 16",
    ),
    "no degrees": (
        set_meta(tensor_parallel_sizes=[]),
        "tensor_parallel",
        r"tensor_parallel_sizes is \[\]",
    ),
    "a degree without rows": (
        set_meta(tensor_parallel_sizes=[1, 2, 4]),
        "tensor_parallel",
        r"mlp\.csv: has no rows of tensor-parallel degree 4",
    ),
    "degrees without all-reduce": (
        remove("all_reduce.csv"),
        "tensor_parallel",
        r"all_reduce\.csv: is missing, and there is degree 2",
    ),
    "a column is gone": (
        edit("mlp.csv", lambda f: f.drop(columns=UP)),
        "tables",
        r"mlp\.csv: column time_stats\.mlp_up_proj\.median: is missing",
    ),
    "a word for a number": (
        set_cell("attention.csv", 3, "batch_size", "many"),
        "tables",
        r"attention\.csv: line 5, column batch_size: expected a whole number, found 'many'",
    ),
    "an infinite time": (
        set_cell("mlp.csv", 2, NORM, "inf"),
        "tables",
        r"mlp\.csv: line 4, column time_stats\.input_layernorm\.median: expected a finite number",
    ),
    "a negative time": (
        set_cell("per_sequence.csv", 1, "time_ns", -5),
        "tables",
        r"per_sequence\.csv: line 3, column time_ns: expected a number that is not negative",
    ),
    "a matrix product in no time": (
        set_cell("mlp.csv", 4, UP, 0),
        "times",
        r"mlp\.csv: line 6, column time_stats\.mlp_up_proj\.median: expected a positive time",
    ),
    "a decode without its time": (
        edit("attention.csv", lambda f: f.assign(**{DECODE: f[DECODE].mask(f.index == 80)})),
        "times",
        r"attention\.csv: line 82, column time_stats\.attn_decode\.median",
    ),
    "no decodes at all": (
        edit("attention.csv", lambda f: f[f["is_prefill"]]),
        "times",
        r"attention\.csv: has no decode rows",
    ),
    "head_dim of another model": (
        edit("attention.csv", lambda f: f.assign(head_dim=64)),
        "shape",
        r"attention\.csv: line 2, column head_dim is 64, tiny/model has 16",
    ),
    "vocabulary of another model": (
        edit("mlp.csv", lambda f: f.assign(vocab_size=32000)),
        "shape",
        r"mlp\.csv: line 2, column vocab_size is 32000, tiny/model has 1000",
    ),
    "a point measured twice, differently": (
        edit(
            "mlp.csv",
            lambda f: pd.concat([f, f.iloc[[6]].assign(**{UP: 3 * f.loc[6, UP]})]),
        ),
        "duplicates",
        r"mlp_up_proj\.median at num_tokens 64, num_tensor_parallel_workers 1 is both",
    ),
    "one wild time": (
        scale_cell("mlp.csv", 5, UP, 20),
        "outliers",
        r"mlp\.csv: mlp_up_proj \(degree 1\) by tokens is \S+ at 32, beside",
    ),
    "long contexts cost nothing": (
        edit(
            "attention.csv",
            lambda f: f.assign(**{PREFILL: f[PREFILL].where(f["kv_cache_size"] < 4096, 0.0001)}),
        ),
        "monotone",
        r"attention\.csv: attn_prefill .* by kv_cache_size takes .* at 4096",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_fault_is_named(sound: Path, tmp_path: Path, name: str) -> None:
    plant, check, words = BROKEN[name]
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    plant(path)
    reseal(path)
    found = failures(path)
    assert check in found, found
    assert re.search(words, found[check]), found[check]
    assert "gpusim profile" in found[check] or "upgrade" in found[check]


def test_a_sound_bundle_passes(sound: Path) -> None:
    assert failures(sound, model=TINY, hardware=CPU, engine=ENGINE) == {}


def test_changed_tables_are_noticed(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    scale_cell("mlp.csv", 0, UP, 1.01)(path)
    assert "changed after they were written" in failures(path)["digest"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": replace(TINY, name="other/model")}, "'tiny/model', asked for is 'other/model'"),
        ({"model": replace(TINY, head_dim=32)}, "head_dim: the bundle is of 16, asked for is 32"),
        ({"engine": replace(ENGINE, dtype="bfloat16")}, "dtype: the bundle is of 'float32'"),
        ({"engine": replace(ENGINE, enforce_eager=False)}, "engine_mode: the bundle is of 'eager'"),
        ({"engine": replace(ENGINE, block_size=128)}, "block_size: the bundle is of 16"),
        ({"engine": replace(ENGINE, tensor_parallel_size=8)}, "tensor_parallel_sizes"),
    ],
)
def test_a_bundle_does_not_stand_in_for_another(
    sound: Path, asked: dict[str, object], words: str
) -> None:
    assert words in failures(sound, **asked)["match"]


def test_a_device_that_is_not_of_the_class_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    make_bundle(path, meta={"hardware": "a100", "device_name": "NVIDIA H100 80GB HBM3"})
    assert "'NVIDIA H100 80GB HBM3' is not a a100" in failures(path)["match"]


def test_another_release_of_the_engine_warns(sound: Path) -> None:
    engine = replace(ENGINE, engine_version="0.19.0")
    checks = check_bundle(sound, registry=builtin_registry(), engine=engine)
    (found,) = [check for check in checks if check.name == "engine_version"]
    assert found.status == "warn"
    assert "0.32.0, asked for is 0.19.0" in found.detail


def test_what_is_not_counted_warns(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    make_bundle(path, overhead=False, tables={"per_sequence.csv": None})
    checks = {c.name: c for c in check_bundle(path, registry=builtin_registry())}
    assert checks["overhead"].status == "warn"
    assert checks["sequence_operators"].status == "warn"


def test_a_template_passed_off_as_another_model_is_reported(tmp_path: Path) -> None:
    other = replace(TINY, name="other/model", intermediate_size=256, vocab_size=2000)
    make_bundle(tmp_path / "cpu" / "tiny" / "model")
    make_bundle(tmp_path / "cpu" / "other" / "model", model=other)
    found = [c for c in check_root(tmp_path, registry=builtin_registry()) if c.status == "fail"]
    assert len(found) == 2
    assert all("template" in check.name for check in found)
    assert "cpu/tiny/model" in next(c.detail for c in found if "other/model" in c.name)


def test_a_root_is_searched_for_the_model(tmp_path: Path) -> None:
    make_bundle(tmp_path / "cpu" / "tiny" / "model")
    assert failures(tmp_path, model=TINY, hardware=CPU) == {}
    missing = failures(tmp_path, model=replace(TINY, name="no/such"), hardware=CPU)
    assert "bundles found: cpu/tiny/model" in missing["files"]
    assert "gpusim profile vllm --model no/such" in missing["files"]


def test_an_uncovered_workload_fails_with_the_share(sound: Path, tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "workload", [(3900, 100, 0)] * 20)
    engine = replace(ENGINE, max_num_batched_tokens=8192, max_model_len=32768)
    found = failures(sound, workload=workload, engine=engine)
    # 511 blocks hold two prompts of 244: two sequences of 3,999 tokens, one of them decoding.
    assert "mlp.csv: num_tokens 1 to 7999 can occur, 1 to 2048 is profiled" in found["coverage"]
    too_long = make_workload(tmp_path / "long", [(5000, 10, 0)])
    assert "5010 tokens" in failures(sound, workload=too_long, engine=ENGINE)["workload_fits"]


def test_a_covered_workload_passes(sound: Path, tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "workload", [(1000, 100, 0)] * 5)
    checks = check_bundle(sound, registry=builtin_registry(), workload=workload, engine=ENGINE)
    assert [c.status for c in checks if c.name == "coverage"] == ["pass"]


def test_coverage_without_limits_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    make_bundle(path, meta={"engine_settings": {}})
    workload = make_workload(tmp_path / "workload", [(10, 10, 0)])
    checks = check_bundle(
        path, registry=builtin_registry(), workload=workload, engine=EngineSettings()
    )
    (found,) = [check for check in checks if check.name == "coverage"]
    assert found.status == "skip"
    assert "max_num_seqs" in found.detail


def test_reading_a_broken_bundle_raises_its_first_fault(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    set_cell("attention.csv", 3, "batch_size", "many")(path)
    reseal(path)
    with pytest.raises(Exception, match="line 5, column batch_size"):
        read_bundle(path)
