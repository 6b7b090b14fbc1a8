"""Bundles of Vidur's own tree, which does not say what was measured."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle, read_bundle, resolve_root
from pytest_gpusim.bundle_checks.checks import check_bundle
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


def cpu_overheads(folder: Path, model: str = "tiny/model", factor: float = 1.0) -> None:
    """Engine times of 0.4 and 0.6 ms at degree 1, ten times that at degree 2."""
    folder.mkdir(parents=True)
    rows = [
        {
            "model_name": model,
            "batch_size": batch,
            "tensor_parallel_degree": degree,
            "schedule_median": schedule * factor * (10 if degree == 2 else 1),
            "prepare_inputs_e2e_median": prepare * factor * (10 if degree == 2 else 1),
        }
        for batch, schedule, prepare in ((1, 0.1, 0.3), (8, 0.2, 0.4))
        for degree in (1, 2)
    ]
    pd.DataFrame(rows).to_csv(folder / "cpu_overheads.csv")


@pytest.mark.parametrize("place", ["cpu_overhead/a100_dgx", "cpu_overhead/a100_dgx/tiny/model"])
def test_cpu_overheads_become_engine_time(
    tree: Path, tmp_path: Path, registry: Registry, place: str
) -> None:
    cpu_overheads(tree / place)
    overhead = produce(tree, tmp_path / "bundle", registry).overhead
    assert overhead is not None
    assert set(overhead["time_ns"]) == {400_000, 600_000}


def test_cpu_overheads_are_of_the_network_the_folder_and_the_degree(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    cpu_overheads(tree / "cpu_overhead" / "a100_dgx" / "tiny" / "model")
    cpu_overheads(tree / "cpu_overhead" / "a100_pair" / "tiny" / "model", factor=2)
    cpu_overheads(tree / "cpu_overhead" / "h100_dgx" / "tiny" / "model", factor=3)
    both = produce(tree, tmp_path / "ambiguous", registry)
    assert both.overhead is None
    assert any("give --network, it may be any of" in note for note in both.meta["notes"])
    options = ["--network", "a100_pair", "--tensor-parallel-size", "2"]
    pair = produce(tree, tmp_path / "pair", registry, *options)
    assert pair.overhead is not None
    assert set(pair.overhead["time_ns"]) == {8_000_000, 12_000_000}
    assert pair.meta["tensor_parallel_sizes"] == [2]
    several = produce(tree, tmp_path / "several", registry, "--network", "a100_pair")
    assert several.overhead is None
    assert any("give --tensor-parallel-size" in note for note in several.meta["notes"])


def test_cpu_overheads_of_another_model_are_not_counted(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    registry.add_model(replace(MODEL, name="tiny/renamed"))
    renamed = ["--model", "tiny/renamed", *AS_MODEL]
    cpu_overheads(tree / "cpu_overhead" / "a100_dgx")
    assert produce(tree, tmp_path / "renamed", registry, *renamed).overhead is not None
    (tree / "cpu_overhead" / "a100_dgx" / "cpu_overheads.csv").unlink()
    (tree / "cpu_overhead" / "a100_dgx").rmdir()
    cpu_overheads(tree / "cpu_overhead" / "a100_dgx", model="another/model")
    bundle = produce(tree, tmp_path / "bundle", registry)
    assert bundle.overhead is None
    assert any("nothing of tiny/model at degree 1" in note for note in bundle.meta["notes"])


def test_transfers_between_devices_are_kept(tree: Path, tmp_path: Path, registry: Registry) -> None:
    pd.DataFrame(
        [
            {
                "time_stats.send_recv.median": 0.002 * per_node,
                "size": size,
                "collective": "send_recv",
                "devices_per_node": per_node,
            }
            for size in (1024, 4096)
            for per_node in (1, 2)
        ]
    ).to_csv(tree / "network" / "a100_dgx" / "send_recv.csv")
    table = produce(tree, tmp_path / "bundle", registry, "--network", "a100_dgx").send_recv
    assert table is not None
    assert table.to_numpy().tolist() == [[1024, 4000], [4096, 4000]]


def test_parallel_rows_alone_need_a_network(tree: Path, tmp_path: Path, registry: Registry) -> None:
    for name in ("mlp", "attention"):
        path = tree / "compute" / "a100" / "tiny" / "model" / f"{name}.csv"
        frame = pd.read_csv(path)
        frame[frame["num_tensor_parallel_workers"] > 1].to_csv(path, index=False)
    with pytest.raises(UsageError, match=r"degrees .2. and no all-reduce.*a100_dgx, a100_pair"):
        produce(tree, tmp_path / "bundle", registry)
    assert produce(tree, tmp_path / "b", registry, "--network", "a100_dgx").all_reduce is not None
    with pytest.raises(UsageError, match=r"--tensor-parallel-size 4: .*has .2."):
        produce(tree, tmp_path / "bundle", registry, "--tensor-parallel-size", "4")


@pytest.mark.parametrize(
    ("name", "column", "cell", "words"),
    [
        ("mlp", "num_tokens", "many", "column num_tokens: expected a whole number, found 'many'"),
        ("mlp", "use_gated_mlp", "yes", "expected True or False, found 'yes'"),
        ("mlp", "use_gated_mlp", False, "use_gated_mlp: is .False., tiny/model has True"),
        ("mlp", "time_stats.emb.median", "inf", "expected a finite number"),
        ("attention", "is_prefill", "maybe", "expected True or False, found 'maybe'"),
        ("attention", "block_size", "", "expected a whole number, found nothing"),
        ("cpu_overheads", "schedule_median", "fast", "schedule_median: expected a finite number"),
        ("cpu_overheads", "batch_size", "1.5", "column batch_size: expected a whole number"),
    ],
)
def test_a_bad_cell_is_named(
    tree: Path, tmp_path: Path, registry: Registry, name: str, column: str, cell: object, words: str
) -> None:
    cpu_overheads(tree / "cpu_overhead" / "a100_dgx")
    (path,) = tree.rglob(f"{name}.csv")
    frame = pd.read_csv(path, dtype=str)
    frame[column] = str(cell)
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match=words):
        produce(tree, tmp_path / "bundle", registry)


def test_a_device_is_not_the_beginning_of_another_name(
    tree: Path, tmp_path: Path, registry: Registry
) -> None:
    (tree / "network" / "a100_pair").rename(tree / "network" / "a1000_pair")
    bundle = produce(tree, tmp_path / "bundle", registry)
    assert "all-reduces of network a100_dgx" in bundle.meta["notes"]


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
