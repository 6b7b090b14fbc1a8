"""``gpusim published``: folders of published runs, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.published import compare_published, published_lines
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from tests.llmservingsim import folder as made
from tests.llmservingsim.folder import LENGTHS, compare, lone_requests, request, worst

ERRORS = """\
Metric                           vLLM         Sim     Diff%
-----------------------------------------------------------
TTFT Mean                       200.0       210.0     +5.0%
Latency Median                1,000.0       990.0     -1.0%
"""


def test_an_engine_that_behaves_as_its_profile_has_no_error(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests(), errors=ERRORS)
    run = compare(folder, tmp_path)
    assert worst(run) < 1e-5
    assert run["metrics"]["ttft"]["mean"]["published_error"] == pytest.approx(0.05)
    assert run["metrics"]["e2e"]["p50"]["published_error"] == pytest.approx(-0.01)
    assert run["metrics"]["tpot"]["p99"]["published_error"] is None
    assert set(run["metrics"]) == {"ttft", "tpot", "e2e"}
    assert set(run["metrics"]["tpot"]) == {"mean", "p50", "p90", "p95", "p99"}


def test_norms_of_queries_and_keys_are_counted_once_per_layer(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests(qk_norm=True), qk_norm=True)
    assert worst(compare(folder, tmp_path)) < 1e-5


@pytest.mark.parametrize("degree", [2, 4])
def test_tensor_parallel_runs_pay_for_collectives(tmp_path: Path, degree: int) -> None:
    def phase_us(size: float) -> float:
        return (degree - 1) * (5.0 + size / degree / 16e3)

    def exchange_us(size: float) -> float:  # two exchange once, more form a ring
        return 5.0 + size / 16e3 if degree == 2 else 2 * phase_us(size)

    requests = lone_requests(
        degree=degree,
        reduce_us=lambda tokens: exchange_us(tokens * made.HIDDEN * made.WIDTH),
        gather_us=phase_us(made.VOCABULARY * made.WIDTH),
    )
    folder = made.write_folder(
        tmp_path / "run",
        requests,
        degree=degree,
        cluster=made.cluster_of(degree=degree, link_bw=16, link_latency=5000),
    )
    assert worst(compare(folder, tmp_path)) < 1e-4


def test_tensor_parallel_without_a_link_names_the_file(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests(degree=2), degree=2)
    with pytest.raises(InputError, match=r"cluster\.json: link_bw"):
        compare(folder, tmp_path)


def test_block_count_follows_from_memory_where_the_run_does_not_state_it(tmp_path: Path) -> None:
    folder = made.write_folder(
        tmp_path / "run",
        lone_requests(),
        cluster=made.cluster_of(mem_size=0.5),
        run={"kv_cache": False},
    )
    run = compare(folder, tmp_path)
    # By hand: 4 layers x (qkv, o, gate and up, down, two norms), embedding, LM head, final norm.
    layer = 256 * (8 + 2 * 4) * 64 + 8 * 64 * 256 + 3 * 256 * 512 + 2 * 256
    weights = 2 * (4 * layer + 2 * 2048 * 256 + 256)
    block = 2 * 4 * 4 * 64 * 2 * 16
    expected = int((0.5 * 2**30 * 0.9 - weights) // block)
    assert run["settings"]["engine"]["num_gpu_blocks"] == expected
    assert run["settings"]["kv_blocks_derived_from"]["weights_bytes"] == weights
    text = "\n".join(published_lines({"runs": [run]}))
    assert f"{expected} KV blocks" in text


def test_no_block_count_and_no_memory_is_said(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests(), run={"kv_cache": False})
    with pytest.raises(InputError, match=r"num_gpu_blocks"):
        compare(folder, tmp_path)


def test_shared_prompts_hit_the_prefix_cache(tmp_path: Path) -> None:
    requests = [request(i, 1600, 2, [5000.0, 5000.0]) for i in range(3)]
    folder = made.write_folder(tmp_path / "run", requests)
    alone = compare(folder, tmp_path / "without")["metrics"]["ttft"]["mean"]["sim_ns"]
    line = {"input_toks": 1600, "output_toks": 2, "input_tok_ids": list(range(1600))}
    (folder / "workload.jsonl").write_text(f"{json.dumps(line)}\n" * 3)
    run = compare(folder, tmp_path / "with")
    assert run["settings"]["shared_prompts"]
    assert run["metrics"]["ttft"]["mean"]["sim_ns"] < 0.9 * alone


def test_prompts_of_another_workload_are_not_used(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests())
    line = {"input_toks": 3, "output_toks": 2, "input_tok_ids": [1, 2, 3]}
    (folder / "workload.jsonl").write_text(f"{json.dumps(line)}\n" * len(LENGTHS))
    run = compare(folder, tmp_path)
    assert not run["settings"]["shared_prompts"]
    assert any("other requests" in note for note in run["settings"]["notes"])


def test_skew_fit_counts_only_where_it_is_enabled(tmp_path: Path) -> None:
    # Two decodes of unequal contexts: 100 and 1900 tokens.
    rows = "pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples\n"
    rows += "0,n<=2,sr<=70%,kvB<=4k,kp=0,0.5,4\n"
    requests = [request(0, 100, 200, [1.0, 1e5]), request(0, 1900, 200, [1.0, 1e5])]
    times = {}
    for enabled in (False, True):
        folder = made.write_folder(
            tmp_path / f"run-{enabled}",
            requests,
            profile={
                "skew_rows": rows,
                "skew_fit": {"enabled": enabled, "per_tp": {1: {"alpha_default": 0.0}}},
            },
        )
        run = compare(folder, tmp_path / str(enabled))
        assert run["settings"]["skew_fit"] is enabled
        times[enabled] = run["metrics"]["tpot"]["mean"]["sim_ns"]
    # By hand: half way from the mean to the longest, 0.001 us a token, 2 sequences, 4 layers.
    assert times[True] - times[False] == pytest.approx(0.5 * 900 * 0.001 * 2 * 4 * 1e3, rel=0.02)


def test_failed_requests_are_left_out(tmp_path: Path) -> None:
    requests = lone_requests()
    for key in ("first_token_ts", "last_token_ts", "scheduled_ts"):
        requests[1][key] = None
    folder = made.write_folder(tmp_path / "run", requests)
    assert worst(compare(folder, tmp_path)) < 1e-5


def test_settings_are_found_where_they_are_stated(tmp_path: Path) -> None:
    """An older ``meta.json``: only what was asked for, limits by the profile's engine."""
    folder = made.write_folder(tmp_path / "run", lone_requests(), cluster=made.cluster_of())
    path = folder / "vllm_run" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["resolved_config"], meta["kv_cache"], meta["hardware"]
    meta["engine_kwargs"] = {"dtype": "bfloat16", "max_num_batched_tokens": 2048}
    path.write_text(json.dumps(meta))
    profile = folder / "profile" / "meta.yaml"
    profile.write_text(profile.read_text().replace("block_size: 16", "max_num_seqs: 64"))
    settings = compare(folder, tmp_path)["settings"]
    assert settings["engine"]["max_num_seqs"] == 64
    assert settings["engine"]["async_scheduling"]
    assert settings["engine"]["tensor_parallel_size"] == 1
    assert sum("not stated" in note for note in settings["notes"]) == 4


def test_a_folder_of_folders_gives_a_run_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        made.write_folder(tmp_path / "all" / name, lone_requests())
    document = compare_published(
        [tmp_path / "all"], builtin_registry(), simulator="reference", store=tmp_path / "store"
    )
    assert document["schema_version"] == 1
    assert [run["name"] for run in document["runs"]] == ["a", "b"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vllm_run/"):
        compare_published([tmp_path], builtin_registry(), simulator="reference")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cache_config", {"cache_dtype": "fp8_e5m2"}, "quantized KV cache"),
        ("parallel_config", {"pipeline_parallel_size": 2}, "pipeline"),
        ("scheduler_config", {"enable_chunked_prefill": False}, "chunked prefill"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    tmp_path: Path, key: str, value: dict[str, Any], words: str
) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests())
    path = folder / "vllm_run" / "meta.json"
    meta = json.loads(path.read_text())
    meta["resolved_config"][key].update(value)
    path.write_text(json.dumps(meta))
    with pytest.raises(UsageError, match=words):
        compare(folder, tmp_path)


def test_waiting_for_the_next_planning_is_not_counted(tmp_path: Path) -> None:
    """An engine 1% slower than its profile is 1% slower, not half a step."""
    quick = made.write_folder(
        tmp_path / "quick",
        [request(0, 200 + 3 * i, 30, [1e5] * 30) | {"queued_ts": 0.013 * i} for i in range(150)],
        run={"asynchronous": True},
    )
    store = tmp_path / "store"
    compare_published([quick], builtin_registry(), simulator="reference", store=store)
    (sim,) = store.glob("*/sim")
    found = read_run(sim)
    assert found.steps is not None
    starts = sorted(found.steps["start_ns"])
    requests = []
    for row in found.requests.itertuples():
        queued = next(start for start in starts if start >= row.arrival_time_ns)
        times = [queued, row.first_token_time_ns, row.completion_time_ns]
        names = ["queued_ts", "first_token_ts", "last_token_ts"]
        requests.append(
            {"input_toks": int(row.num_prefill_tokens), "output_toks": int(row.num_decode_tokens)}
            | {name: 1.01 * time / 1e9 for name, time in zip(names, times, strict=True)}
        )
    slow = made.write_folder(tmp_path / "slow", requests, run={"asynchronous": True})
    run = compare(slow, tmp_path)
    for figures in run["metrics"].values():
        assert figures["mean"]["error"] == pytest.approx(-0.0099, abs=0.02)
        assert figures["p50"]["error"] == pytest.approx(-0.0099, abs=0.04)


def test_a_published_run_is_checked_as_any_simulation(tmp_path: Path) -> None:
    folder = made.write_folder(tmp_path / "run", lone_requests())
    run = compare(folder, tmp_path)
    statuses = {check["name"]: check["status"] for check in run["checks"]}
    assert statuses["same_workload"] == statuses["kv_blocks_mirrored"] == "pass"
    assert statuses["not_calibrated_on"] == "pass"
    assert run["verdict"] in {"pass", "fail", "inconclusive", "not_judged"}
    text = "\n".join(published_lines({"runs": [run]}))
    assert "enough_samples: " in text  # what does not pass is said


def test_what_a_simulator_is_given_is_held_against_each_other(tmp_path: Path) -> None:
    requests = [request(0, 1600, 9000, [1.0] * 9000)]
    folder = made.write_folder(tmp_path / "run", requests)
    with pytest.raises(UsageError, match="max_model_len"):
        compare(folder, tmp_path)
