"""Bundles of LLMServingSim profiles, told by their content and not by folder names."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.bundle.schema import time_column
from pytest_gpusim.bundle_checks.checks import check_bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.llmservingsim.identity import devices_contradict, models_contradict
from pytest_gpusim.llmservingsim.profile import SOURCE
from pytest_gpusim.llmservingsim.profile_folder import ProfileFiles, Wanted, find_profile
from pytest_gpusim.llmservingsim.profile_tables import read_dense
from pytest_gpusim.llmservingsim.skew import default_alpha, skew_table
from pytest_gpusim.profiling.composition import attention_rows
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.serving.steptime import StepTimeModel
from tests.factories import TINY
from tests.llmservingsim import folder as made


def produce(directory: Path, out: Path, *options: str) -> Bundle:
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    SOURCE.produce(parser.parse_args([str(directory), *options]), builtin_registry(), out)
    return read_bundle(out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made.write_profile(tmp_path / "run" / "profile")
    (tmp_path / "run" / "config.json").write_text(json.dumps(made.CONFIG))
    return tmp_path / "run"


def test_operators_are_put_where_they_belong(folder: Path, tmp_path: Path) -> None:
    bundle = produce(folder, tmp_path / "bundle")
    row = bundle.mlp[bundle.mlp["num_tokens"] == 64].iloc[0]
    assert row["time_stats.mlp_up_proj.median"] == pytest.approx((100 + 0.3 * 64) / 1e3)
    assert row["time_stats.input_layernorm.median"] == pytest.approx((2 + 0.02 * 64) / 1e3)
    assert (
        row["time_stats.post_attention_layernorm.median"]
        == row["time_stats.input_layernorm.median"]
    )
    assert row["time_stats.add.median"] == 0
    assert row["head_dim"] == 64
    head = bundle.per_sequence[bundle.per_sequence["operator"] == "lm_head"]
    assert dict(zip(head["sequences"], head["time_ns"], strict=True))[8] == 508_000
    decode = bundle.attention[~bundle.attention["is_prefill"]]
    assert set(decode["kv_cache_size"]) == {16, 512, 8192}
    assert bundle.meta["source"] == "llmservingsim"
    assert bundle.meta["engine_version"] == "0.19.0"
    assert bundle.meta["tensor_parallel_sizes"] == [1]


def test_the_profile_folder_itself_will_do(folder: Path, tmp_path: Path) -> None:
    assert produce(folder / "profile", tmp_path / "bundle").meta["model"] == "test/model"


def test_a_bundle_of_it_passes_the_checks(folder: Path, tmp_path: Path) -> None:
    produce(folder, tmp_path / "bundle")
    checks = check_bundle(tmp_path / "bundle", registry=builtin_registry())
    assert not [check for check in checks if check.status == "fail"]


def test_sharded_profiles_are_told_by_their_times(folder: Path, tmp_path: Path) -> None:
    degrees = (1, 2, 4)
    for name, degree in (("x", 4), ("y", 1), ("z", 2)):
        made.write_profile(folder / "profile" / name, degree=degree, degrees=degrees)
        (folder / "profile" / name / "meta.yaml").unlink()
    for name in ("dense.csv", "per_sequence.csv", "attention.csv"):
        (folder / "profile" / name).unlink()
    made.write_profile(folder / "spare", degrees=degrees)
    (folder / "spare" / "meta.yaml").rename(folder / "profile" / "meta.yaml")
    for name in ("dense.csv", "per_sequence.csv", "attention.csv"):
        (folder / "spare" / name).unlink()
    (folder / "cluster.json").write_text(json.dumps({"link_bw": 16, "link_latency": 1000}))
    bundle = produce(folder, tmp_path / "bundle", "--tensor-parallel-size", "4")
    row = bundle.mlp[bundle.mlp["num_tokens"] == 64].iloc[0]
    assert row["num_tensor_parallel_workers"] == 4
    assert row["time_stats.mlp_up_proj.median"] == pytest.approx((100 + 0.3 * 64) / 4 / 1e3)
    # A ring of four: six hops of 1,000 ns, each moving a quarter of the tensor at 16 bytes per ns.
    reduced = bundle.all_reduce.set_index("size_bytes")["time_ns"]
    assert reduced[65536] == round(6 * (1000 + 65536 / 4 / 16))


def test_one_set_of_tables_for_several_degrees_must_be_named(folder: Path, tmp_path: Path) -> None:
    made.write_profile(folder / "profile", degrees=(1, 2))
    with pytest.raises(UsageError, match="--tensor-parallel-size"):
        produce(folder, tmp_path / "bundle")


def test_a_degree_that_was_not_profiled_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tp_degrees: is \[1\], asked for is 2"):
        produce(folder, tmp_path / "bundle", "--tensor-parallel-size", "2")


def test_a_model_with_norms_of_queries_and_keys_needs_them(folder: Path, tmp_path: Path) -> None:
    config = made.CONFIG | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has no qk_norm"):
        produce(folder, tmp_path / "bundle")
    made.write_profile(folder / "profile", qk_norm=True)
    bundle = produce(folder, tmp_path / "bundle")
    assert bundle.mlp["time_stats.qk_norm.median"].iloc[0] > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("attention.csv", "no attention.csv"),
        ("per_sequence.csv", "no per_sequence.csv"),
        ("dense.csv", "no dense.csv"),
    ],
)
def test_an_incomplete_profile_is_refused(
    folder: Path, tmp_path: Path, name: str, words: str
) -> None:
    (folder / "profile" / name).unlink()
    with pytest.raises(InputError, match=words):
        produce(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_without_metadata_the_tables_are_read_as_of_one_gpu(folder: Path, tmp_path: Path) -> None:
    (folder / "profile" / "meta.yaml").unlink()
    bundle = produce(folder, tmp_path / "bundle")
    assert bundle.meta["tensor_parallel_sizes"] == [1]
    assert bundle.meta["dtype"] == "bfloat16"


def test_query_weighted_keys_are_contexts_and_half_a_chunk(folder: Path, tmp_path: Path) -> None:
    path = folder / "profile" / "attention.csv"
    frame = pd.read_csv(path)
    frame["prefill_key"] = frame["kv_prefill"] + frame["prefill_chunk"] / 2
    frame.loc[frame["prefill_chunk"] == 0, "prefill_key"] = 0
    plain = produce(folder, tmp_path / "plain")
    newer = frame.drop(columns="kv_prefill").assign(layer="attention", decode_q_len=1)
    pd.concat([newer, newer.assign(layer="indexer", time_us=1.0)]).to_csv(path, index=False)
    assert produce(folder, tmp_path / "newer").digest == plain.digest


FIVE_AXES = """\
pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples
0,n<=2,sr<=5%,kvB<=1k,kp=0,0.1,4
0,n<=4,sr>70%,kvB<=4k,kp=0,0.2,4
16,n<=4,sr<=15%,kvB<=4k,kp<=1k,0.3,4
64,n<=4,sr<=15%,kvB<=4k,kp<=512,0.4,4
"""
THREE_AXES = """\
n_label,pc_label,lev_label,alpha,n_samples
n=2,pc0,lev0,0.1,4
n=8,pcS,lev1,0.2,4
n>8,pcL,lev4,0.3,4
"""
ANCHORS = """\
layer,decode_q_len,pc_label,lev_label,n_anchor,alpha,direct_rows,pooled_rows
attention,1,pc0,lev0,2,0.1,9,9
attention,1,pc0,lev0,32,0.2,9,9
attention,2,pc0,lev0,32,0.9,9,9
indexer,1,pc0,lev0,32,0.8,9,9
"""


def read_skew(text: str, tmp_path: Path, **fit: object) -> pd.DataFrame:
    path = tmp_path / "skew_fit.csv"
    path.write_text(text)
    table, _ = skew_table(pd.read_csv(path), fit, path)
    return table.astype(object).fillna("open")


def test_buckets_of_five_axes(tmp_path: Path) -> None:
    table = read_skew(FIVE_AXES, tmp_path)
    third = table.iloc[2]
    assert third[["prefill_tokens_above", "prefill_tokens_upto"]].tolist() == [15, 16]
    assert third[["num_decodes_above", "num_decodes_upto"]].tolist() == [2, 4]
    assert third[["evenness_above", "evenness_upto"]].tolist() == pytest.approx([0.05, 0.15])
    assert third[["kv_max_above", "kv_max_upto"]].tolist() == [1024, 4096]
    assert third[["kv_prefill_above", "kv_prefill_upto"]].tolist() == [512, 1024]
    assert table["evenness_above"].iloc[1] == pytest.approx(0.7)
    assert table["evenness_upto"].iloc[1] == "open"


def test_buckets_of_three_axes(tmp_path: Path) -> None:
    table = read_skew(THREE_AXES, tmp_path)
    assert table["num_decodes_upto"].tolist() == [4, 8, "open"]
    assert table["gap_upto"].tolist() == [0.25, 0.75, "open"]
    assert table["prefill_tokens_above"].tolist() == ["open", 0, 1024]


def test_edges_stated_in_the_metadata_win(tmp_path: Path) -> None:
    axes = {"n_labels": ["n=2", "n=8", "n>8"], "n_bins": [0, 3, 12, 1_000_000]}
    table = read_skew(THREE_AXES, tmp_path, bucket_axes=axes)
    assert table["num_decodes_above"].tolist() == ["open", 3, 12]


def test_anchors_of_one_kernel_and_query_length(tmp_path: Path) -> None:
    table = read_skew(ANCHORS, tmp_path)
    assert table["alpha"].tolist() == [0.1, 0.2]
    assert table["num_decodes_upto"].tolist() == [8, "open"]


def test_rows_of_an_unknown_bucket_are_left_to_the_default(tmp_path: Path) -> None:
    path = tmp_path / "skew_fit.csv"
    path.write_text(FIVE_AXES.replace("n<=2", "some"))
    table, notes = skew_table(pd.read_csv(path), {}, path)
    assert table["alpha"].tolist() == [0.2, 0.3, 0.4]
    assert notes == [
        "skew_fit.csv: buckets 'some' cannot be read; 1 of 4 rows are left to the default alpha"
    ]


def test_a_chunk_between_the_measured_ones_takes_the_default(tmp_path: Path) -> None:
    table = read_skew("pc,alpha\n0,0.1\n16,0.2\n", tmp_path)
    assert [alpha_of(table, prefill_tokens=n) for n in (0, 15, 16, 17)] == [0.1, -1.0, 0.2, -1.0]


@pytest.mark.parametrize(
    ("times", "tp1", "share"),
    [
        ((4.0, 10.0), None, 1.0),  # their sum, at the degree itself
        ((2.0, 10.0), None, 1.0),  # the mean of two norms of twice the heads
        ((4.0, 10.0), (4.0, 10.0), 0.5),  # a copy of one GPU's
        ((4.0, 10.0), (7.5, 19.0), 1.0),
    ],
)
def test_norms_of_heads_are_split_over_the_gpus(
    tmp_path: Path, times: tuple[float, float], tp1: tuple[float, float] | None, share: float
) -> None:
    places = [tmp_path / f"tp{degree}" for degree in (1, 2)]
    for place, norms in zip(places, (tp1 or times, times), strict=True):
        place.mkdir()
        layers = {**dict.fromkeys(made.DENSE_US, (2.5, 9.0)), "qk_norm": norms}
        rows = [
            (name, n, t)
            for name, both in layers.items()
            for n, t in zip((1, 64), both, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=["layer", "tokens", "time_us"])
        frame.to_csv(place / "dense.csv", index=False)
    siblings = (places[0],) if tp1 else ()
    files = ProfileFiles(places[1], tmp_path / "meta.yaml", {}, 2, siblings)
    times_ms = read_dense(files, TINY).times["qk_norm"]
    assert times_ms == pytest.approx([1e-3 * share * time for time in times])


def alpha_of(table: pd.DataFrame, **batch: float) -> float:
    from pytest_gpusim.bundle import SkewFit

    numbers = table.replace("open", float("nan")).astype(float)
    fit = SkewFit.from_table(numbers, {"enabled": True, "default": -1.0})
    usual = {"prefill_tokens": 0, "kv_prefill": 0, "num_decodes": 4, "evenness": 0.1, "kv_max": 900}
    assert fit is not None
    return fit.alpha(**{**usual, **batch})


def test_no_context_and_any_context_do_not_overlap(tmp_path: Path) -> None:
    table = read_skew("kp_label,alpha\nkp=0,0.1\nkp>0,0.2\n", tmp_path)
    assert alpha_of(table, kv_prefill=0) == 0.1
    assert alpha_of(table, kv_prefill=1) == 0.2
    assert alpha_of(table, kv_prefill=9000) == 0.2


def test_a_bucket_without_rows_is_left_to_the_default(tmp_path: Path) -> None:
    table = read_skew("n_label,alpha\nn<=2,0.1\nn<=16,0.2\n", tmp_path)
    assert [alpha_of(table, num_decodes=n) for n in (2, 3, 8, 9, 16, 17)] == [
        0.1,
        -1.0,
        -1.0,
        0.2,
        0.2,
        -1.0,
    ]


def test_buckets_of_edges_of_their_own_leave_no_gap(tmp_path: Path) -> None:
    table = read_skew("n_label,alpha\nn<=10,0.1\nn<=100,0.2\nn>100,0.3\n", tmp_path)
    assert [alpha_of(table, num_decodes=n) for n in (10, 11, 100, 101)] == [0.1, 0.2, 0.2, 0.3]


def test_labels_in_other_spellings(tmp_path: Path) -> None:
    rows = "n_label,alpha\nn<16,0.1\n[16,64),0.2\n64-128,0.3\nn>=512,0.4\n"
    table = read_skew(rows.replace("[16,64)", '"[16,64)"'), tmp_path)
    sizes = (15, 16, 63, 64, 65, 128, 129, 511, 512)
    found = [alpha_of(table, num_decodes=n) for n in sizes]
    assert found == [0.1, 0.2, 0.2, -1.0, 0.3, 0.3, -1.0, -1.0, 0.4]


def test_an_empty_label_bounds_nothing_and_an_empty_alpha_is_no_row(tmp_path: Path) -> None:
    rows = "n_label,kp_label,pc,alpha\nn<=8,,,0.1\nn<=16,kp=0,,\n"
    table = read_skew(rows, tmp_path)
    assert table["alpha"].tolist() == [0.1]
    assert alpha_of(table, kv_prefill=500, prefill_tokens=70, num_decodes=8) == 0.1


@pytest.mark.parametrize(
    "stated",
    [{"enabled": True}, True, {"enabled": True, "per_tp": [{"tp": 1, "alpha_default": 0.25}]}],
)
def test_an_enabled_fit_without_a_table_is_said(
    folder: Path, tmp_path: Path, stated: object
) -> None:
    (folder / "profile" / "skew_fit.csv").unlink(missing_ok=True)
    meta = folder / "profile" / "meta.yaml"
    document = yaml.safe_load(meta.read_text())
    document["skew_fit"] = stated
    meta.write_text(yaml.safe_dump(document))
    bundle = produce(folder, tmp_path / "bundle")
    assert bundle.meta["skew_fit"]["enabled"]
    expected = 0.25 if isinstance(stated, dict) and "per_tp" in stated else 0.0
    assert bundle.meta["skew_fit"]["default"] == expected
    assert any("no skew_fit.csv" in note for note in bundle.meta["notes"])


def sharded(folder: Path, names: dict[str, int], degrees: tuple[int, ...]) -> None:
    """Replace the profile by one of a folder per degree."""
    shutil.rmtree(folder / "profile")
    for name, degree in names.items():
        made.write_profile(folder / "profile" / name, degree=degree, degrees=degrees)
        (folder / "profile" / name / "meta.yaml").rename(folder / "profile" / "meta.yaml")
    (folder / "cluster.json").write_text(json.dumps({"link_bw": 16, "link_latency": 1000}))


def gate_ms(bundle: Bundle) -> float:
    rows = bundle.mlp[bundle.mlp["num_tokens"] == 64]
    return float(rows["time_stats.mlp_up_proj.median"].iloc[0])


def test_degrees_are_told_by_folders_that_are_named_after_them(
    folder: Path, tmp_path: Path
) -> None:
    # Not all of the degrees that the metadata lists were profiled.
    sharded(folder, {"tp1": 1, "tp4": 4}, (1, 2, 4))
    bundle = produce(folder, tmp_path / "bundle", "--tensor-parallel-size", "4")
    assert gate_ms(bundle) == pytest.approx((100 + 0.3 * 64) / 4 / 1e3)
    with pytest.raises(InputError, match=r"is \[1, 4\], asked for is 2"):
        produce(folder, tmp_path / "other", "--tensor-parallel-size", "2")


def test_times_that_contradict_the_names_win(folder: Path, tmp_path: Path) -> None:
    sharded(folder, {"tp1": 4, "tp4": 1}, (1, 4))
    bundle = produce(folder, tmp_path / "bundle", "--tensor-parallel-size", "4")
    assert gate_ms(bundle) == pytest.approx((100 + 0.3 * 64) / 4 / 1e3)
    assert any("contradict" in note for note in bundle.meta["notes"])


def test_layers_that_are_not_split_come_from_another_degree(folder: Path, tmp_path: Path) -> None:
    sharded(folder, {"tp1": 1, "tp2": 2}, (1, 2))
    for name, layers in (
        ("dense.csv", ("layernorm", "final_layernorm", "rotary_emb")),
        ("per_sequence.csv", ("sampler",)),
    ):
        path = folder / "profile" / "tp2" / name
        frame = pd.read_csv(path)
        frame[~frame["layer"].isin(layers)].to_csv(path, index=False)
    bundle = produce(folder, tmp_path / "bundle", "--tensor-parallel-size", "2")
    row = bundle.mlp[bundle.mlp["num_tokens"] == 64].iloc[0]
    assert row["time_stats.input_layernorm.median"] == pytest.approx((2 + 0.02 * 64) / 1e3)
    assert row["time_stats.attn_rope.median"] == pytest.approx((2 + 0.01 * 64) / 1e3)
    assert set(bundle.per_sequence["operator"]) == {"lm_head", "sampler"}
    notes = "\n".join(bundle.meta["notes"])
    assert "layernorm is not in tp2; taken from tp1" in notes
    path = folder / "profile" / "tp2" / "dense.csv"
    frame = pd.read_csv(path)
    frame[frame["layer"] != "o_proj"].to_csv(path, index=False)
    with pytest.raises(InputError, match="has no o_proj"):
        produce(folder, tmp_path / "other", "--tensor-parallel-size", "2")


def test_backups_of_tables_are_no_tables(folder: Path, tmp_path: Path) -> None:
    (folder / "profile" / "old").mkdir()
    (folder / "profile" / "old" / "dense.csv.bak").write_text("no table")
    assert produce(folder, tmp_path / "bundle").meta["tensor_parallel_sizes"] == [1]


def test_profiles_of_several_models_are_told_apart(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "profile")
    for name, meta in (
        ("a", {"model": "org/Llama-9-8B", "variant": "bf16"}),
        ("b", {"model": "org/Llama-9-8B", "variant": "fp8"}),
        ("c", {"model": "org/Llama-9-70B", "variant": "bf16"}),
    ):
        made.write_profile(folder / "profile" / name, meta=meta)
    profiles = folder / "profile"
    found = find_profile(profiles, Wanted(1, "Llama-9-8B-Instruct", None, "bfloat16"))
    assert found.tables.name == "a"
    with pytest.raises(UsageError, match=r"several profiles fit: .*/a\), .*/b\), .*/c\)"):
        find_profile(profiles)
    with pytest.raises(InputError, match=r"no profile is of Qwen9-8B .*found are org/Llama-9-8B"):
        find_profile(profiles, Wanted(1, "Qwen9-8B", None, "bfloat16"))


@pytest.mark.parametrize("blank", [0, None])
def test_rows_without_decodes_need_no_query_length(
    folder: Path, tmp_path: Path, blank: int | None
) -> None:
    path = folder / "profile" / "attention.csv"
    plain = produce(folder, tmp_path / "plain")
    frame = pd.read_csv(path)
    frame["decode_q_len"] = [1.0 if n else blank for n in frame["n_decode"]]
    frame.to_csv(path, index=False)
    assert produce(folder, tmp_path / "newer").digest == plain.digest


def test_contexts_of_nothing_are_passed_over(folder: Path, tmp_path: Path) -> None:
    path = folder / "profile" / "attention.csv"
    plain = produce(folder, tmp_path / "plain")
    frame = pd.read_csv(path)
    alone = frame["n_decode"] == 0
    again = frame[alone].assign(kv_decode=512)
    frame.loc[frame["prefill_chunk"] == 0, "kv_prefill"] = 256
    pd.concat([frame, again]).to_csv(path, index=False)
    assert produce(folder, tmp_path / "newer").digest == plain.digest


def test_a_grid_without_pure_prefill_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "profile" / "attention.csv"
    frame = pd.read_csv(path)
    frame[frame["n_decode"] > 0].to_csv(path, index=False)
    bundle = produce(folder, tmp_path / "bundle")
    shape = bundle.model_shape
    with pytest.raises(InputError, match=r"attn_prefill.*has no times"):
        StepTimeModel(bundle, shape, EngineSettings())


def test_another_models_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    overrides = {"hf_overrides": {"intermediate_size": 12288}}
    made.write_profile(folder / "profile", meta={"engine_effective": overrides})
    with pytest.raises(InputError, match=r"intermediate_size: the profile is of .*12288.* has 512"):
        produce(folder, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B-Instruct", False),
        ("meta-llama/Meta-Llama-3-8B", "llama3.1-8b", False),
        ("Qwen3-0.6B", "qwen3_0.6b", False),
        ("/tmp/profiler_model_x", "Qwen/Qwen3-8B", False),
        ("mistralai/Mistral-7B-Instruct-v0.3", "Mistral-7B-v0.1", False),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B", True),
        ("Qwen/Qwen3-32B", "Qwen/Qwen2.5-32B", True),
        ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B", True),
    ],
)
def test_spelling_is_no_contradiction_of_models(one: str, other: str, contradict: bool) -> None:
    assert models_contradict(one, other) is contradict


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX4090", False),
        ("NVIDIA H100 80GB HBM3", "H100", False),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000", False),
        ("NVIDIA A100-SXM4-80GB", "a100", False),
        ("NVIDIA Graphics Device", "H100", False),
        ("NVIDIA GeForce RTX 4090", "RTX3090", True),
        ("NVIDIA A100-SXM4-80GB", "H100", True),
        ("NVIDIA A10G", "A100", True),
    ],
)
def test_spelling_is_no_contradiction_of_gpus(one: str, other: str, contradict: bool) -> None:
    assert devices_contradict([one], [other]) is contradict


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ({}, 0.0),
        ({"alpha_default": 0.3}, 0.3),
        ({"alpha_default": 0.3, "per_tp": {2: {"alpha_default": 0.1}}}, 0.1),
        ({"per_tp": {"2": {"alpha_default_by_kernel": {"attention|q=1": 0.2}}}}, 0.2),
    ],
)
def test_the_default_of_the_degree(fit: dict[str, object], expected: float) -> None:
    assert default_alpha(fit, 2) == expected


@pytest.mark.skipif(
    "GPUSIM_PUBLISHED_DATA" not in os.environ, reason="GPUSIM_PUBLISHED_DATA is not set"
)
def test_the_published_fit_predicts_its_own_measurements(tmp_path: Path) -> None:
    from pytest_gpusim.bundle import SkewFit

    profile = next(Path(os.environ["GPUSIM_PUBLISHED_DATA"]).rglob("skew.csv")).parent
    table, _ = skew_table(pd.read_csv(profile / "skew_fit.csv"), {}, profile / "skew_fit.csv")
    fit = SkewFit.from_table(table, {"enabled": True, "default": 0.0})
    shots = pd.read_csv(profile / "skew.csv")
    shots = shots[shots["t_max_us"] > shots["t_mean_us"]]
    errors = [
        abs(
            (
                shot.t_mean_us
                + fit.alpha(
                    prefill_tokens=shot.pc,
                    kv_prefill=shot.kp,
                    num_decodes=shot.n,
                    evenness=shot.nb / shot.n,
                    kv_max=shot.kv_big,
                )
                * (shot.t_max_us - shot.t_mean_us)
            )
            / shot.t_skew_us
            - 1
        )
        for shot in shots.itertuples()
    ]
    assert pd.Series(errors).median() < 0.02
    assert (shots["t_mean_us"] / shots["t_skew_us"] - 1).abs().median() > 0.03


def test_a_bundle_is_the_same_bytes_with_any_pandas() -> None:
    """A column that starts as None is one of objects with pandas 3, which no format reaches."""
    times = pd.DataFrame({"chunk": [16], "context": [0], "time_ms": [0.009545999999999999]})
    decode = pd.DataFrame({"sequences": [4], "context": [64], "time_ms": [0.1]})
    rows = attention_rows(
        TINY,
        1,
        prefill=times,
        decode=decode,
        block_size=16,
        max_model_len=64,
        backend="b",
    )
    for operator in ("attn_prefill", "attn_decode"):
        assert rows[time_column(operator)].dtype == "float64"
