"""``gpusim published`` on files of other forms, or with less in them, than the usual ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pytest_gpusim.cli import main
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.published import compare_published, published_lines
from pytest_gpusim.published.errors import read_published_errors
from pytest_gpusim.registry import builtin_registry
from tests.llmservingsim import folder as made
from tests.llmservingsim.folder import compare, folder_with, lone_requests, notes_of, worst

Edit = Callable[[dict[str, Any]], None]


def test_one_bad_folder_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        made.write_folder(tmp_path / "all" / name, lone_requests())
    (tmp_path / "all" / "a" / "vllm_run" / "meta.json").write_text("{")
    (tmp_path / "all" / "b" / "config.json").unlink()
    monkeypatch.chdir(tmp_path)
    code = main(["published", "all", "absent", "--simulator", "reference", "--json"])
    printed = capsys.readouterr()
    assert code == 2
    assert [run["name"] for run in json.loads(printed.out)["runs"]] == ["c"]
    lines = printed.err.splitlines()
    places = ("a/vllm_run/meta.json", "b/config.json", "absent")
    assert len(lines) == len(places)
    assert all(any(place in line for line in lines) for place in places)
    with pytest.raises(InputError, match=r"meta\.json"):
        compare_published([tmp_path / "all"], builtin_registry(), simulator="reference")


@pytest.mark.parametrize(
    "edit",
    [
        lambda meta: meta.update(hardware="NVIDIA Test GPU"),
        lambda meta: meta.update(hardware=None, kv_cache={"num_gpu_blocks": 4096}),
        lambda meta: meta["resolved_config"].update(
            cache_config="CacheConfig(block_size=16, num_gpu_blocks=4096, cache_dtype='auto')"
        ),
        lambda meta: meta.update(engine_kwargs=["--tensor-parallel-size", "1"]),
        lambda meta: meta["resolved_config"]["scheduler_config"].update(max_num_seqs="256"),
    ],
)
def test_sections_may_have_other_forms(tmp_path: Path, edit: Edit) -> None:
    run = compare(folder_with(tmp_path, edit), tmp_path)
    assert worst(run) < 1e-5
    assert run["settings"]["engine"]["num_gpu_blocks"] == 4096
    assert run["settings"]["device_name"] == "NVIDIA Test GPU"


def test_a_configuration_that_is_a_text_is_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, lambda meta: meta.update(resolved_config="VllmConfig"))
    run = compare(folder, tmp_path)
    engine = run["settings"]["engine"]
    assert (engine["max_num_seqs"], engine["max_num_batched_tokens"]) == (256, 2048)
    assert "resolved_config is no object" in notes_of(run)
    assert "max_num_seqs is not stated; taken from vLLM's default, 256" in notes_of(run)


@pytest.mark.parametrize(
    "nodes",
    [
        {"node0": {"instances": {"i0": {"npu_mem": {"mem_size": 0.5, "mem_util": 0.9}}}}},
        {"instances": [{"npu_mem": {"mem_size": "0.5", "mem_util": 0.9}}]},
    ],
)
def test_nodes_may_be_mappings(tmp_path: Path, nodes: dict[str, Any]) -> None:
    folder = folder_with(tmp_path, cluster={"nodes": nodes}, run={"kv_cache": False})
    found = compare(folder, tmp_path)["settings"]["kv_blocks_derived_from"]
    assert found["memory_bytes"] == 2**29


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (
            {"model": "org/Llama-9-8B"},
            r"model: the profile is of org/Llama-9-8B, the run of Llama-9-70B",
        ),
        (
            {"gpu": "NVIDIA H100", "hardware": "H100"},
            r"gpu: the profile is of NVIDIA H100, the run",
        ),
        ({"variant": "fp8"}, r"variant: the profile is of fp8, the run of bfloat16"),
        ({"variant": "fp16"}, r"variant: the profile is of fp16, the run of bfloat16"),
    ],
)
def test_a_profile_of_something_else_is_refused(
    tmp_path: Path, meta: dict[str, Any], words: str
) -> None:
    def edit(document: dict[str, Any]) -> None:
        document.update(model="Llama-9-70B", hardware={"device_name": "NVIDIA RTX 4090"})

    profile = {"gpu": "RTX4090", "model": "Llama-9-70B-Instruct", **meta}
    folder = folder_with(tmp_path, edit, profile={"meta": profile})
    with pytest.raises(InputError, match=words):
        compare(folder, tmp_path)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda c: c.update(num_gpu_blocks=0, num_kv_tokens=16 * 700), 700),
        (lambda c: c.update(num_gpu_blocks=0, num_gpu_blocks_override=800), 800),
        # 2 (K and V) x 4 layers x 4 heads x 64 x 2 bytes x 16 tokens a block.
        (lambda c: c.update(num_gpu_blocks=None, kv_cache_memory_bytes=65536 * 900 + 1), 900),
    ],
)
def test_blocks_by_what_the_run_says_of_its_cache(
    tmp_path: Path, edit: Edit, expected: int
) -> None:
    folder = folder_with(tmp_path, lambda meta: edit(meta["kv_cache"]))
    run = compare(folder, tmp_path)
    assert run["settings"]["engine"]["num_gpu_blocks"] == expected
    derived = run["settings"]["kv_blocks_derived_from"]
    lines = "\n".join(published_lines({"runs": [run]}))
    assert derived is None or f"{expected} KV blocks" in lines


def test_each_gpu_holds_its_share_of_weights_and_heads(tmp_path: Path) -> None:
    cluster = made.cluster_of(mem_size=0.5, degree=2, link_bw=16, link_latency=1000)
    folder = folder_with(tmp_path, degree=2, cluster=cluster, run={"kv_cache": False})
    terms = compare(folder, tmp_path)["settings"]["kv_blocks_derived_from"]
    layer = 256 * (8 + 2 * 4) * 64 + 8 * 64 * 256 + 3 * 256 * 512 + 2 * 256
    weights = 2 * (4 * layer + 2 * 2048 * 256 + 256) // 2
    block = 2 * 4 * 2 * 64 * 2 * 16
    assert terms["num_gpu_blocks"] == int((0.5 * 2**30 * 0.9 - weights) // block)


def test_memory_without_its_share_is_said_to_be_too_much(tmp_path: Path) -> None:
    cluster = made.cluster_of(mem_size=0.5)
    del cluster["nodes"][0]["instances"][0]["npu_mem"]["mem_util"]
    run = compare(folder_with(tmp_path, cluster=cluster, run={"kv_cache": False}), tmp_path)
    assert "no mem_util is stated" in notes_of(run)


@pytest.mark.skipif(
    "GPUSIM_PUBLISHED_DATA" not in os.environ, reason="GPUSIM_PUBLISHED_DATA is not set"
)
@pytest.mark.parametrize(
    ("with_cluster", "formula"),
    [
        (True, "(24 GiB x 0.833919 - 14.958 GiB of weights) / 2 MiB = 2588 KV blocks"),
        (False, "(23.5165 GiB x 0.9 - 14.958 GiB of weights) / 2 MiB = 3178 KV blocks"),
    ],
)
def test_the_published_machine_has_room_for_the_blocks_that_it_had(
    tmp_path: Path, with_cluster: bool, formula: str
) -> None:
    """The real engine had 2,588 blocks; plain memory times utilization says 3,178."""
    from pytest_gpusim.llmservingsim.published_run import read_published

    source = next(Path(os.environ["GPUSIM_PUBLISHED_DATA"]).rglob("cluster.json")).parent
    folder = tmp_path / "run"
    (folder / "vllm_run").mkdir(parents=True)
    for name in ("profile", "config.json", *(["cluster.json"] if with_cluster else [])):
        (folder / name).symlink_to(source / name)
    meta = json.loads((source / "vllm_run" / "meta.json").read_text())
    assert meta["kv_cache"].pop("num_gpu_blocks") == 2588
    del meta["kv_cache"]["num_kv_tokens"]
    meta["resolved_config"]["cache_config"]["num_gpu_blocks"] = 0
    (folder / "vllm_run" / "meta.json").write_text(json.dumps(meta))
    run = read_published(folder, builtin_registry())
    assert run.capacity is not None
    assert run.capacity["formula"] == formula
    assert f"= {run.engine.num_gpu_blocks} KV blocks" in formula
    assert any("too many KV blocks" in note for note in run.notes) is not with_cluster


def test_without_any_dtype_the_profiles_is_taken(tmp_path: Path) -> None:
    def edit(meta: dict[str, Any]) -> None:
        meta["resolved_config"]["model_config"]["dtype"] = "auto"

    folder = folder_with(tmp_path, edit)
    config = json.loads((folder / "config.json").read_text())
    del config["torch_dtype"]
    (folder / "config.json").write_text(json.dumps(config))
    run = compare(folder, tmp_path)
    assert run["settings"]["engine"]["dtype"] == "bfloat16"
    assert "dtype is not stated; taken as the profile's, bfloat16" in notes_of(run)


@pytest.mark.parametrize("absent", [None, 0.0])
def test_times_that_the_engine_never_set_are_missing(tmp_path: Path, absent: float | None) -> None:
    requests = lone_requests()
    for key in ("queued_ts", "first_token_ts", "last_token_ts", "scheduled_ts"):
        requests[1][key] = absent
    run = compare(folder_with(tmp_path, requests=requests), tmp_path)
    assert run["settings"]["failed_requests"] == 1
    assert worst(run) < 1e-5


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("lora_config", {"max_loras": 1}, "LoRA"),
        ("kv_transfer_config", {"kv_role": "kv_producer"}, "KV cache transfer"),
        ("quant_config", "<Fp8Config>", "quantized weights"),
        ("parallel_config", {"decode_context_parallel_size": 2}, "context parallelism"),
        ("cache_config", {"cache_dtype": "fp8_e5m2"}, "quantized KV cache"),
    ],
)
def test_what_is_not_modelled_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        compare(
            folder_with(tmp_path, lambda m: m["resolved_config"].update({key: value})), tmp_path
        )


@pytest.mark.parametrize("role", [None, "prefill"])
def test_several_engines_are_refused(tmp_path: Path, role: str | None) -> None:
    cluster = made.cluster_of()
    instances = cluster["nodes"][0]["instances"]
    instances.append({**instances[0], "pd_type": role})
    with pytest.raises(UsageError, match="engines are not modelled"):
        compare(folder_with(tmp_path, cluster=cluster), tmp_path)


def test_what_is_harmless_is_not_refused(tmp_path: Path) -> None:
    def edit(meta: dict[str, Any]) -> None:
        resolved = meta["resolved_config"]
        resolved["cache_config"].update(cache_dtype="bfloat16", sliding_window=4096)
        resolved["model_config"].update(disable_sliding_window=True)
        resolved["scheduler_config"]["policy"] = "priority"
        meta["engine_kwargs"]["kv_cache_dtype"] = "torch.bfloat16"

    folder = folder_with(tmp_path, edit)
    config = {**json.loads((folder / "config.json").read_text()), "sliding_window": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    run = compare(folder, tmp_path)
    assert worst(run) < 1e-5
    assert "scheduling policy 'priority' is simulated as fcfs" in notes_of(run)


@pytest.mark.parametrize(
    ("version", "reserves", "words"),
    [
        ("0.19.0", None, None),
        ("0.17.1", False, "vLLM 0.17.1 is scheduled by the nearest known rules"),
        ("0.1.dev1+gabc", None, "vLLM 0.1.dev1+gabc is scheduled by the nearest known rules"),
        ("0.20.0", None, "the profile is of vLLM 0.19.0, the run of 0.20.0"),
    ],
)
def test_releases_without_rules_of_their_own_are_said(
    tmp_path: Path, version: str, reserves: bool | None, words: str | None
) -> None:
    def edit(meta: dict[str, Any]) -> None:
        meta["vllm_version"] = version
        del meta["resolved_config"]["scheduler_config"]["scheduler_reserve_full_isl"]

    run = compare(folder_with(tmp_path, edit), tmp_path)
    assert run["settings"]["engine"].get("scheduler_reserve_full_isl") is reserves
    if words is None:
        assert "vLLM 0.19" not in notes_of(run)
    else:
        assert words in notes_of(run)


def test_stated_engine_time_is_counted_and_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    without = compare(folder, tmp_path / "without")
    assert without["settings"]["engine_time"].startswith("none")
    assert without["settings"]["extrapolated"]["share"] < 0.01
    rows = "num_prefill_tokens,num_sequences,time_ns\n0,1,250000\n0,256,250000\n"
    rows += "2048,1,250000\n2048,256,250000\n"
    (folder / "profile" / "overhead.csv").write_text(rows)
    run = compare(folder, tmp_path / "with")
    assert run["settings"]["engine_time"] == "overhead.csv of the profile"
    sides = [each["metrics"]["tpot"]["mean"]["sim_ns"] for each in (without, run)]
    assert sides[1] - sides[0] == pytest.approx(250_000, abs=2)


def test_steps_outside_the_profile_are_counted(tmp_path: Path) -> None:
    requests = [made.request(0, 40, 3, [1e5] * 3)]
    folder = folder_with(tmp_path, requests=requests)
    path = folder / "profile" / "per_sequence.csv"
    path.write_text(path.read_text().replace("lm_head,1,", "lm_head,2,"))
    run = compare(folder, tmp_path)
    assert run["settings"]["extrapolated"]["share"] == pytest.approx(1.0)
    assert "extrapolated: 100.00% of" in "\n".join(published_lines({"runs": [run]}))


@pytest.mark.parametrize(
    "line",
    [
        "TTFT Mean   100.0  110.0  +10%",
        "TTFT Mean (ms)   100.0  110.0",
        "ttft_mean 100 110",
        "Mean TTFT (ms): 100.0 110.0",
        "| TTFT | Mean | 100 | 110 | +10% |",
    ],
)
def test_published_errors_in_other_spellings(tmp_path: Path, line: str) -> None:
    (tmp_path / "published_errors.txt").write_text(f"Metric vLLM Sim\n{line}\n")
    assert read_published_errors(tmp_path) == ({"ttft": {"mean": pytest.approx(0.1)}}, [])
    (tmp_path / "published_errors.txt").write_text("about ten percent\nTTFT Mean 1e999 2\n")
    said = ["published_errors.txt has no figures that can be read"]
    assert read_published_errors(tmp_path) == ({}, said)


@pytest.mark.parametrize("layout", ["flat", "folders"])
def test_sharded_profiles_with_all_that_may_come_together(tmp_path: Path, layout: str) -> None:
    """Two GPUs, norms of queries and keys, and a skew fit: both simulators say the same."""
    pytest.importorskip("vidur")

    def phase_us(size: float) -> float:
        return 5.0 + size / 2 / 16e3

    def exchange_us(size: float) -> float:
        return 5.0 + size / 16e3

    options = {
        "degree": 2,
        "qk_norm": True,
        "reduce_us": lambda tokens: exchange_us(tokens * made.HIDDEN * made.WIDTH),
        "gather_us": phase_us(made.VOCABULARY * made.WIDTH),
    }
    cluster = made.cluster_of(degree=2, link_bw=16, link_latency=5000)
    rows = "n_label,kp_label,alpha\nn<=2,kp=0,0.5\nn<=2,kp>0,0.25\n"
    fit = {"enabled": True, "per_tp": {1: {"alpha_default": 9.0}, 2: {"alpha_default": 0.0}}}
    folder = made.write_folder(
        tmp_path / "run",
        lone_requests(**options),
        degree=2,
        qk_norm=True,
        cluster=cluster,
        profile={"skew_fit": fit, "skew_rows": rows},
    )
    if layout == "folders":
        profile = folder / "profile"
        files = [path for path in profile.iterdir() if path.suffix == ".csv"]
        (profile / "tp2").mkdir()
        for path in files:
            path.rename(profile / "tp2" / path.name)
        made.write_profile(profile / "tp1", degree=1, qk_norm=True)
        dense = pd.read_csv(profile / "tp1" / "dense.csv")
        dense.loc[dense["layer"] == "qk_norm", "time_us"] *= 1.9
        dense.to_csv(profile / "tp1" / "dense.csv", index=False)
        (profile / "tp1" / "meta.yaml").unlink()
        meta = yaml.safe_load((profile / "meta.yaml").read_text())
        (profile / "meta.yaml").write_text(yaml.safe_dump({**meta, "tp_degrees": "[1, 2]"}))
    runs = [compare(folder, tmp_path, simulator) for simulator in ("reference", "vidur")]
    assert runs[0]["settings"]["skew_fit"]
    assert worst(runs[0]) < 1e-4
    for metric, figures in runs[0]["metrics"].items():
        for statistic, figure in figures.items():
            other = runs[1]["metrics"][metric][statistic]["sim_ns"]
            assert other == pytest.approx(figure["sim_ns"], abs=1000)
