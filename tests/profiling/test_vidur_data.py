"""Bundles of Vidur's own tree, which does not say what was measured."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle, read_bundle, resolve_root
from pytest_gpusim.bundle.checks import check_bundle
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.profiling.vidur_data import SOURCE
from pytest_gpusim.registry import Registry, builtin_registry
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel
from tests.factories import ENGINE, TINY, make_bundle

MODEL = replace(TINY, qk_norm=False)
AS_MODEL = ["--profiled-as", "tiny/model"]


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = builtin_registry()
    registry.add_model(MODEL)
    registry.add_model(replace(MODEL, name="tiny/wider", intermediate_size=512))
    registry.add_model(replace(MODEL, name="tiny/other-heads", head_dim=32))
    return registry


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in Vidur's layout, from tables of known times."""
    bundle = make_bundle(tmp_path / "made", model=MODEL, tensor_parallel_sizes=(1, 2))
    folder = tmp_path / "profiling" / "compute" / "a100" / "tiny" / "model"
    folder.mkdir(parents=True)
    mlp = bundle.mlp.drop(
        columns=["time_stats.qk_norm.median", "time_stats.final_layernorm.median"]
    )
    mlp.to_csv(folder / "mlp.csv", index=False)
    attention = bundle.attention.drop(columns="head_dim")
    # Vidur's tables repeat points.
    pd.concat([attention, attention]).to_csv(folder / "attention.csv", index=False)
    for network, factor in (("a100_dgx", 1.0), ("a100_pair", 2.0)):
        place = tmp_path / "profiling" / "network" / network
        place.mkdir(parents=True)
        pd.DataFrame(
            [
                {
                    "time_stats.all_reduce.median": factor * (0.001 + size / 1e6),
                    "num_workers": 2,
                    "size": size,
                    "collective": "all_reduce",
                    "devices_per_node": per_node,
                }
                for size in (2048, 1 << 20)
                for per_node in (1, 2)
            ]
        ).to_csv(place / "all_reduce.csv")
    return tmp_path / "profiling"


def produce(tree: Path, out: Path, registry: Registry, *options: str) -> Bundle:
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    given = [str(tree), *options]
    if "--model" not in options:
        given += ["--model", "tiny/model"]
    SOURCE.produce(parser.parse_args([*given, "--device", "a100"]), registry, out)
    return read_bundle(out)


def test_a_step_takes_what_the_tables_say(tree: Path, tmp_path: Path, registry: Registry) -> None:
    bundle = produce(tree, tmp_path / "bundle", registry, "--network", "a100_dgx")
    made = read_bundle(tmp_path / "made")
    features = StepFeatures([(64, 256)], 4, 1024, 5, 256, 256)
    settings = replace(ENGINE, tensor_parallel_size=2)
    ours = StepTimeModel(bundle, MODEL, settings).breakdown(features)
    theirs = StepTimeModel(made, MODEL, settings).breakdown(features)
    for operator in ("attn_pre_proj", "mlp_down_proj", "attn_prefill", "attn_decode", "emb"):
        assert ours[operator] == pytest.approx(theirs[operator], rel=1e-6)
    assert "lm_head" not in ours
    # 68 tokens of 64 floats of four bytes, twice in each of two layers.
    reduced = 4 * (0.001 + 68 * 64 * 4 / 1e6) * 1e6
    assert ours["all_reduce"] == pytest.approx(reduced, rel=1e-3)


def test_the_tree_itself_is_refused_with_the_command(tree: Path) -> None:
    with pytest.raises(InputError, match="gpusim profile vidur"):
        resolve_root(tree, "tiny/model", "a100")


def test_degrees_without_a_network_are_left_out(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    bundle = produce(tree, tmp_path / "bundle", registry)
    assert bundle.meta["tensor_parallel_sizes"] == [1]
    assert any("[2] are left out" in note for note in bundle.meta["notes"])


def test_the_bundle_passes_the_checks_and_says_what_is_missing(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    produce(tree, tmp_path / "bundle", registry, "--network", "a100_dgx")
    checks = {c.name: c for c in check_bundle(tmp_path / "bundle", registry=registry)}
    assert not [check for check in checks.values() if check.status == "fail"]
    assert checks["sequence_operators"].status == "warn"
    assert checks["overhead"].status == "warn"


def test_cpu_overheads_become_engine_time(tree: Path, tmp_path: Path, registry: Registry) -> None:
    folder = tree / "cpu_overhead" / "a100_dgx"
    folder.mkdir(parents=True)
    pd.DataFrame(
        {
            "model_name": "tiny/model",
            "batch_size": [1, 8],
            "tensor_parallel_degree": 1,
            "schedule_median": [0.1, 0.2],
            "prepare_inputs_e2e_median": [0.3, 0.4],
        }
    ).to_csv(folder / "cpu_overheads.csv")
    overhead = produce(tree, tmp_path / "bundle", registry).overhead
    assert overhead is not None
    assert set(overhead["time_ns"]) == {400_000, 600_000}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--model", "tiny/wider", "--profiled-as", "tiny/model"],
            "n_expanded_embd: is .128., tiny",
        ),
        (["--model", "tiny/other-heads", "--profiled-as", "tiny/model"], "n_embd / n_q_head = 16"),
        (["--model", "tiny/wider"], "only of tiny/model; name its folder with --profiled-as"),
        (["--network", "h100_dgx"], "has a100_dgx, a100_pair"),
    ],
)
def test_another_model_is_refused(
    tree: Path, tmp_path: Path, registry: Registry, options: list[str], words: str
) -> None:
    with pytest.raises((InputError, UsageError), match=words):
        produce(tree, tmp_path / "bundle", registry, *options)
    assert not (tmp_path / "bundle").exists()


def test_an_unknown_device_names_those_that_there_are(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    (tree / "compute" / "a100").rename(tree / "compute" / "h100")
    with pytest.raises(UsageError, match=r"--device a100: .* has h100"):
        produce(tree, tmp_path / "bundle", registry)
