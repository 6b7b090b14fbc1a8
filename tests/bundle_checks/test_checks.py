"""What a bundle is asked for, beside what is wrong in itself."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.bundle_checks.checks import check_bundle, check_root
from pytest_gpusim.bundle_checks.templates import Templates
from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.errors import InputError
from pytest_gpusim.registry import builtin_registry
from tests.bundle_checks.planting import failures, rewrite, scale_cell
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

UP = "time_stats.mlp_up_proj.median"


def test_a_sound_bundle_passes(sound: Path) -> None:
    assert failures(sound, model=TINY, hardware=CPU, engine=ENGINE) == {}


def test_changed_tables_are_noticed(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    scale_cell("mlp.csv", 0, UP, 1.01)(path)
    assert "changed after they were written" in failures(path)["digest"]


def test_a_bundle_that_was_read_is_not_read_again(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    known = read_bundle(path)
    scale_cell("mlp.csv", 0, UP, -1)(path)
    assert "tables" in failures(path)
    assert set(failures(path, known=known)) == {"digest"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": replace(TINY, name="other/model")}, "'tiny/model', asked for is 'other/model'"),
        ({"model": replace(TINY, head_dim=32)}, "head_dim: the bundle is of 16, tiny/model has 32"),
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
    assert "'NVIDIA H100 80GB HBM3' is not of the class a100" in failures(path)["match"]


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


@pytest.mark.parametrize(
    "columns", ["num_tokens,num_tokens \n", "num_tokens\n1\nx\n", "", "a\n\0\n"]
)
def test_a_table_beside_that_is_none_is_nobodys_template(tmp_path: Path, columns: str) -> None:
    other = replace(TINY, name="other/model", intermediate_size=256, vocab_size=2000)
    mine = make_bundle(tmp_path / "cpu" / "tiny" / "model").path
    beside = make_bundle(tmp_path / "cpu" / "other" / "model", model=other).path
    (beside / "mlp.csv").write_text(columns)
    assert Templates().copied_from(mine, [beside]) == []


def test_a_root_is_searched_for_the_model(tmp_path: Path) -> None:
    make_bundle(tmp_path / "cpu" / "tiny" / "model")
    assert failures(tmp_path, model=TINY, hardware=CPU) == {}
    with pytest.raises(InputError, match="no bundle of no/such on cpu") as raised:
        failures(tmp_path, model=replace(TINY, name="no/such"), hardware=CPU)
    assert "bundles found: cpu/tiny/model" in str(raised.value)
    assert "gpusim profile vllm --model no/such --hardware cpu" in str(raised.value)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on two devices, without one of the four pairs; read-only."""
    root = tmp_path_factory.mktemp("root")
    other = replace(TINY, name="other/model", num_q_heads=8)
    a100 = {"hardware": "a100", "device_name": "NVIDIA A100-SXM4-80GB"}
    make_bundle(root / "cpu" / "tiny" / "model")
    make_bundle(root / "a100" / "tiny" / "model", meta=a100, tables=slower(1.5))
    make_bundle(root / "cpu" / "other" / "model", model=other, tables=slower(2.5, other))
    return root


def slower(factor: float, model: ModelShape = TINY) -> dict[str, pd.DataFrame]:
    """Tables of another device."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = make_bundle(Path(scratch) / "bundle", model=model)
    times = [column for column in bundle.mlp if column.startswith("time_stats.")]
    return {"mlp.csv": bundle.mlp.assign(**{c: bundle.mlp[c] * factor for c in times})}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["a100/tiny/model", "cpu/other/model", "cpu/tiny/model"]),
        ({"model": TINY}, ["a100/tiny/model", "cpu/tiny/model"]),
        ({"hardware": CPU}, ["cpu/other/model", "cpu/tiny/model"]),
    ],
)
def test_what_is_asked_picks_the_bundles(root, asked, expected):
    checks = check_root(root, registry=builtin_registry(), **asked)
    assert sorted({check.name.split(":")[0] for check in checks}) == expected
    assert [check for check in checks if check.status == "fail"] == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": replace(TINY, name="no/such")}, "no bundle of no/such; bundles found: a100/t"),
        ({"hardware": replace(CPU, name="h100")}, "no bundle on h100; bundles found: a100/tiny"),
    ],
)
def test_what_no_bundle_is_of_is_an_error(root, asked, words):
    with pytest.raises(InputError, match=words) as raised:
        check_root(root, registry=builtin_registry(), **asked)
    assert "gpusim profile vllm --model" in str(raised.value)


def test_each_bundle_of_a_root_is_held_against_what_is_asked(root, tmp_path):
    asked = {"model": replace(TINY, head_dim=32), "engine": replace(ENGINE, enforce_eager=False)}
    workload = make_workload(tmp_path / "workload", [(3900, 90, 0)] * 20)
    found = failures(root, workload=workload, **asked)
    for name in ("cpu/tiny/model", "a100/tiny/model"):
        assert "head_dim: the bundle is of 16" in found[f"{name}: match"]
        assert "engine_mode: the bundle is of 'eager'" in found[f"{name}: match"]
    checks = check_root(root, registry=builtin_registry(), workload=workload, model=TINY)
    assert {c.status for c in checks if "coverage" in c.name} == {"pass"}


def test_a_bundle_of_one_processor_is_not_that_of_another(sound):
    found = failures(sound, device_name="Another processor, 4 cores")
    assert (
        "device_name: the bundle is of 'Synthetic processor, 2 cores', asked for is 'Another "
        "processor, 4 cores'; profile what is asked with 'gpusim profile vllm --model tiny/model"
    ) in found["match"]
    assert failures(sound, device_name="Synthetic processor, 2 cores") == {}


def test_the_engines_file_is_in_the_command(sound):
    engine, place = replace(ENGINE, dtype="bfloat16"), Path("my engine.yaml")
    found = failures(sound, engine=engine, engine_from=place)
    assert found["match"].endswith("--hardware cpu --engine 'my engine.yaml''")


def test_a_template_is_found_among_bare_bundles_and_whatever_its_order(tmp_path):
    other = replace(TINY, name="other/model", intermediate_size=256, vocab_size=2000)
    make_bundle(tmp_path / "mine")
    make_bundle(tmp_path / "theirs", model=other)

    def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame.columns[::-1]].iloc[::-1].assign(**{"time_stats.emb.mean": 1.5})

    rewrite(tmp_path / "theirs", "mlp.csv", shuffled)
    rewrite(tmp_path / "theirs", "attention.csv", lambda frame: frame.iloc[::-1])
    for name, beside in (("mine", "theirs"), ("theirs", "mine")):
        found = failures(tmp_path / name)["template"]
        assert f"the times are those of {tmp_path / beside}, which is of another" in found


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


@pytest.mark.parametrize(("hardware", "status"), [("cpu", "pass"), ("abacus", "skip")])
def test_coverage_without_limits_is_judged_under_the_releases_defaults(
    tmp_path: Path, hardware: str, status: str
) -> None:
    """Which depend on the device: of an unknown one nothing is known."""
    path = tmp_path / "bundle"
    make_bundle(path, meta={"engine_settings": {}, "hardware": hardware})
    workload = make_workload(tmp_path / "workload", [(10, 10, 0)])
    checks = check_bundle(
        path, registry=builtin_registry(), workload=workload, engine=EngineSettings()
    )
    (found,) = [check for check in checks if check.name == "coverage"]
    assert found.status == status
