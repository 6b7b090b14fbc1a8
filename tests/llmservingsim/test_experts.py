"""Layers of experts, priced from ``moe.csv`` by the experts that a batch reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.experts import read_experts
from pytest_gpusim.llmservingsim.profile_folder import find_profile
from tests.llmservingsim import folder as made
from tests.llmservingsim.folder import LAYERS, compare, request, worst

EXPERTS, TOP = 16, 2
CONFIG = {
    **made.CONFIG,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": EXPERTS,
    "num_experts_per_tok": TOP,
    "moe_intermediate_size": 128,
}
SHAPE = ModelShape.from_config(CONFIG, name="test/experts", where="config.json")


def block_us(tokens: float, activated: float) -> float:
    return 20 + 3 * activated + 0.5 * tokens


def reached(tokens: int) -> float:
    """Balls into bins: an expert is missed by all of ``tokens`` draws of 2 out of 16."""
    return EXPERTS * (1 - (14 / 16) ** tokens)


def moe_csv(folder: Path, *, ep: int | None = None, scale: float = 1.0) -> None:
    rows = [
        "tokens,activated_experts,time_us" if ep is None else "ep,tokens,activated_experts,time_us"
    ]
    for tokens in made.TOKENS:
        for activated in (2, 4, 8, 16):
            if activated <= tokens * TOP:
                cells = f"{tokens},{activated},{scale * block_us(tokens, activated)!r}"
                rows.append(cells if ep is None else f"{ep},{cells}")
    path = folder / "moe.csv"
    kept = path.read_text() if path.exists() else ""
    path.write_text(kept + "\n".join(rows[1:] if kept else rows) + "\n")


def dense_without_mlp(folder: Path) -> None:
    path = folder / "dense.csv"
    rows = [
        row
        for row in path.read_text().splitlines()
        if not row.startswith(("gate_up_proj", "act_fn", "down_proj"))
    ]
    rows += [f"qk_norm,{n},4.0" for n in made.TOKENS]
    path.write_text("\n".join(rows) + "\n")


def profile(folder: Path, degree: int = 1) -> Path:
    made.write_profile(folder, degree=degree, degrees=[degree])
    dense_without_mlp(folder)
    return folder


def times(folder: Path, degree: int, expert_parallel: bool = False) -> dict[int, int]:
    table, _ = read_experts(find_profile(folder, degree), SHAPE, expert_parallel)
    assert set(table["num_tensor_parallel_workers"]) == {degree}
    assert set(table["num_expert_parallel_workers"]) == {degree if expert_parallel else 1}
    return dict(zip(table["num_tokens"], table["time_ns"], strict=True))


def test_a_batch_pays_for_the_experts_that_it_reaches(tmp_path: Path) -> None:
    moe_csv(profile(tmp_path))
    found = times(tmp_path, 1)
    for tokens in (1, 2, 8, 40, 512, 2048):
        assert found[tokens] == pytest.approx(1e3 * block_us(tokens, reached(tokens)), abs=1)


@pytest.mark.parametrize("expert_parallel", [False, True])
def test_devices_share_experts_and_tokens(tmp_path: Path, expert_parallel: bool) -> None:
    moe_csv(profile(tmp_path, 2))
    found = times(tmp_path, 2, expert_parallel)
    for tokens in (2, 16, 1024):
        alone = block_us(tokens / 2, reached(tokens) / 2)
        assert found[tokens] == pytest.approx(1e3 * alone, abs=1)


def test_a_table_of_the_expert_parallel_degree_goes_first(tmp_path: Path) -> None:
    profile(tmp_path, 2)
    moe_csv(tmp_path, ep=1)
    moe_csv(tmp_path, ep=2, scale=2.0)
    assert times(tmp_path, 2, True)[64] == pytest.approx(2e3 * block_us(64, reached(64) / 2), abs=1)
    assert times(tmp_path, 2)[64] == pytest.approx(1e3 * block_us(32, reached(64) / 2), abs=1)


def test_a_profile_without_experts_is_refused(tmp_path: Path) -> None:
    profile(tmp_path)
    with pytest.raises(InputError, match=r"no moe\.csv, and test/experts has experts"):
        times(tmp_path, 1)
    (tmp_path / "moe.csv").write_text("tokens,activated_experts\n1,2\n")
    with pytest.raises(InputError, match="time_us"):
        times(tmp_path, 1)


def expert_step_us(tokens: int, attention: float) -> float:
    mlp = 0.0
    for layer in ("gate_up_proj", "act_fn", "down_proj"):
        fixed, slope = made.DENSE_US[layer]
        mlp += fixed + slope * tokens
    layer_us = attention + 4.0 + block_us(tokens, reached(tokens)) - mlp
    return made.dense_us(tokens) + LAYERS * layer_us + made.sequence_us(1)


def test_an_engine_that_behaves_as_its_profile_has_no_error(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []
    for index, (prompt, output) in enumerate([(16, 4), (64, 3), (512, 5)]):
        steps = [expert_step_us(prompt, made.attention_us(prompt, 0, 0, 0))]
        steps += [
            expert_step_us(1, made.attention_us(0, 0, 1, prompt + token - 1))
            for token in range(1, output)
        ]
        requests.append(request(index, prompt, output, steps))
    folder = made.write_folder(tmp_path / "run", requests)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    dense_without_mlp(folder / "profile")
    moe_csv(folder / "profile")
    run = compare(folder, tmp_path)
    assert worst(run) < 1e-5
    assert any("tokens over experts at random" in note for note in run["settings"]["notes"])


def test_a_published_run_of_expert_parallel_devices(tmp_path: Path) -> None:
    requests = [request(index, 64, 3, [2000.0] * 3) for index in range(2)]
    cluster = made.cluster_of(degree=2, link_bw=16, link_latency=5000)
    folder = made.write_folder(tmp_path / "run", requests, degree=2, cluster=cluster)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    path = folder / "vllm_run" / "meta.json"
    meta = json.loads(path.read_text())
    meta["engine_kwargs"]["enable_expert_parallel"] = True
    path.write_text(json.dumps(meta))
    dense_without_mlp(folder / "profile")
    moe_csv(folder / "profile", ep=1)
    run = compare(folder, tmp_path)
    assert run["settings"]["engine"]["enable_expert_parallel"] is True
    alone = run["metrics"]["tpot"]["mean"]["sim_ns"]
    # With a table of that degree, whose blocks take ten times as long, steps are longer.
    moe_csv(folder / "profile", ep=2, scale=10.0)
    again = compare(folder, tmp_path / "again")
    assert again["metrics"]["tpot"]["mean"]["sim_ns"] > 1.2 * alone
