"""Broken bundles, planted one by one: each must be named precisely, with what mends it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.errors import InputError
from tests.bundle_checks.planting import (
    Plant,
    drop_meta,
    edit,
    failures,
    remove,
    reseal,
    rewrite,
    scale_cell,
    scale_mixed,
    set_cell,
    set_meta,
)

UP, PREFILL, DECODE = (
    "time_stats.mlp_up_proj.median",
    "time_stats.attn_prefill.median",
    "time_stats.attn_decode.median",
)
NORM, EMBEDDING = "time_stats.input_layernorm.median", "time_stats.emb.median"
BROKEN: dict[str, tuple[Plant, str, str]] = {
    "no metadata": (remove("profile_meta.json"), "files", r"bundle: no profile_meta\.json; make"),
    "no mlp table": (remove("mlp.csv"), "files", r"no mlp\.csv"),
    "no attention table": (remove("attention.csv"), "files", r"no attention\.csv"),
    "metadata is not JSON": (
        lambda path: (path / "profile_meta.json").write_text("{'model': 1}"),
        "metadata",
        r"profile_meta\.json: line 1: not JSON",
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
    "no model": (set_meta(model=None), "metadata", r"profile_meta\.json: model is None"),
    "no hardware": (set_meta(hardware=None), "metadata", r"hardware is None, expected a name"),
    "no dtype": (set_meta(dtype=None), "metadata", r"dtype is None, expected a dtype"),
    "a dtype that is none": (set_meta(dtype="float33"), "metadata", r"dtype is 'float33'"),
    "no engine mode": (
        set_meta(engine_mode=None),
        "metadata",
        r"engine_mode is None, expected 'eager' or 'compiled'",
    ),
    "a degree that is no list": (
        set_meta(tensor_parallel_sizes=1),
        "metadata",
        r"profile_meta\.json: tensor_parallel_sizes: expected a list of positive integers, found 1",
    ),
    "degrees in words": (
        set_meta(tensor_parallel_sizes=["1"]),
        "metadata",
        r"tensor_parallel_sizes: expected a list of positive integers, found \['1'\]",
    ),
    "settings that are no object": (
        set_meta(engine_settings="x"),
        "metadata",
        r"engine_settings: expected an object, found 'x'",
    ),
    "names that are no list": (
        set_meta(calibrated_on="run-1"),
        "metadata",
        r"calibrated_on: expected a list of texts, found 'run-1'",
    ),
    "a calibration without its width": (
        set_meta(calibration={"parameters": [{"name": "engine_time", "time_ns": 5}]}),
        "metadata",
        r"profile_meta\.json: calibration, parameters\[0\], low_ns: is missing",
    ),
    "a calibration that draws nothing": (
        set_meta(
            calibration={
                "profile_bias": 0.1,
                "joint": {"names": ["profile"], "mean": [0], "covariance": [[0]]},
            }
        ),
        "metadata",
        r"calibration, joint, covariance: the variance of profile is not above 0",
    ),
    "a calibration of another shape": (
        set_meta(
            calibration={
                "profile_bias": 0.1,
                "joint": {"names": ["profile"], "mean": [0], "covariance": [[1, 2]]},
            }
        ),
        "metadata",
        r"covariance: expected 1 rows of 1 numbers",
    ),
    "a setting in words": (
        set_meta(engine_settings={"max_num_seqs": "x"}),
        "metadata",
        r"profile_meta\.json: engine_settings: max_num_seqs: expected a valid int, found 'x'",
    ),
    "settings that are not modelled": (
        set_meta(engine_settings={"kv_cache_dtype": "fp8_e5m2"}),
        "metadata",
        r"kv_cache_dtype='fp8_e5m2': quantized KV cache of this dtype is not modelled",
    ),
    "a shape that is no object": (
        set_meta(model_shape=[1]),
        "metadata",
        r"model_shape: expected an object, found \[1\]",
    ),
    "half a shape": (
        set_meta(model_shape={"name": "tiny/model"}),
        "metadata",
        r"model_shape: the key 'architecture' is missing",
    ),
    "a block size in words": (
        set_meta(block_size="16"),
        "metadata",
        r"block_size: expected a positive integer, found '16'",
    ),
    "the shape of another model under a known name": (
        set_meta(model="Qwen/Qwen3-0.6B"),
        "match",
        r"model_shape\.num_layers: the bundle is of 2, Qwen/Qwen3-0\.6B has 28",
    ),
    "no head_dim": (
        edit("attention.csv", lambda f: f.drop(columns="head_dim")),
        "shape",
        r"attention\.csv: column head_dim is missing, tiny/model has 16",
    ),
    "an MLP without a gate": (
        edit("mlp.csv", lambda f: f.assign(use_gated_mlp=False)),
        "shape",
        r"mlp\.csv: line 2, column use_gated_mlp is False, tiny/model has a gated MLP",
    ),
    "a dropped column under an old digest": (
        edit("mlp.csv", lambda f: f.drop(columns=NORM)),
        "tables",
        r"mlp\.csv: column time_stats\.input_layernorm\.median: is missing",
    ),
    "an operator in no time": (
        edit("mlp.csv", lambda f: f.assign(**{EMBEDDING: 0.0})),
        "times",
        r"mlp\.csv: column time_stats\.emb\.median is zero throughout",
    ),
    "a norm in no time, once": (
        set_cell("mlp.csv", 5, NORM, 0),
        "outliers",
        r"mlp\.csv: input_layernorm \(degree 1\) by tokens is 0 at 32, beside",
    ),
    "an all-reduce in no time": (
        set_cell("all_reduce.csv", 1, "time_ns", 0),
        "times",
        r"all_reduce\.csv: line 3, column time_ns: expected a positive time",
    ),
    "a wild last product": (
        scale_cell("mlp.csv", 11, UP, 20),
        "outliers",
        r"mlp\.csv: mlp_up_proj \(degree 1\) by tokens is \S+ at 2048, beside \S+ at 1024;",
    ),
    "a last product that costs nothing": (
        scale_cell("mlp.csv", 11, UP, 1 / 20),
        "outliers",
        r"mlp\.csv: mlp_up_proj \(degree 1\) by tokens is \S+ at 2048",
    ),
    "a wild first product": (
        scale_cell("mlp.csv", 0, UP, 20),
        "outliers",
        r"mlp\.csv: mlp_up_proj \(degree 1\) by tokens is \S+ at 1, beside \S+ at 2;",
    ),
    "a first product that costs nothing": (
        scale_cell("mlp.csv", 0, UP, 1 / 20),
        "outliers",
        r"mlp\.csv: mlp_up_proj \(degree 1\) by tokens is \S+ at 1, beside \S+ at 2;",
    ),
    "a wild norm": (
        scale_cell("mlp.csv", 6, NORM, 20),
        "outliers",
        r"mlp\.csv: input_layernorm \(degree 1\) by tokens is \S+ at 64",
    ),
    "a wild decode at the longest context": (
        scale_cell("attention.csv", 77, DECODE, 20),
        "outliers",
        r"attention\.csv: attn_decode \(degree 1, batch_size 1\) by kv_cache_size is \S+ at 4096",
    ),
    "a wild point of the joint grid": (
        scale_mixed(16, 256, 16, 256, factor=20),
        "outliers",
        r"mixed_attention\.csv: mixed attention \(prefill_chunk 16, n_decode 16, kv_decode 256\) "
        r"by kv_prefill is \S+ at 256, beside \S+ at 0 and \S+ at 4096",
    ),
    "a joint grid whose longest chunk is cheap": (
        scale_mixed(2048, 0, 0, 0, factor=1 / 20),
        "monotone",
        r"mixed_attention\.csv: prefill \(kv_prefill 0\) by prefill_chunk takes \S+ at 256 and "
        r"\S+ at 2048",
    ),
    "a wild engine time": (
        scale_cell("overhead.csv", 12, "time_ns", 20),
        "outliers",
        r"overhead\.csv: engine time \(num_sequences 8\) by num_prefill_tokens is \S+ at 64",
    ),
    "a wild last engine time": (
        scale_cell("overhead.csv", 8, "time_ns", 20),
        "outliers",
        r"overhead\.csv: engine time .* by num_sequences is \S+ at 256, beside \S+ at 128",
    ),
    "a wild all-reduce": (
        scale_cell("all_reduce.csv", 2, "time_ns", 8000),
        "outliers",
        r"all_reduce\.csv: all-reduce \(degree 2\) by size_bytes is \S+ at",
    ),
    "a wild sampler": (
        scale_cell("per_sequence.csv", 17, "time_ns", 20),
        "outliers",
        r"per_sequence\.csv: sampler by sequences is \S+ at 256, beside",
    ),
}
"""Name -> (how, the check that fails, what it says)."""

COMMAND = "make it again with 'gpusim profile vllm --model tiny/model --hardware cpu --engine FILE'"
UNKNOWN = "gpusim profile vllm --model MODEL --hardware HARDWARE'"
ELSE = {
    "no metadata": UNKNOWN,
    "metadata is not JSON": UNKNOWN,
    "newer schema": "upgrade pytest-gpusim",
    "no model": "gpusim profile vllm --model MODEL --hardware cpu --engine FILE'",
    "no hardware": "gpusim profile vllm --model tiny/model --hardware HARDWARE --engine FILE'",
    "the shape of another model under a known name": "profile what is asked with 'gpusim profile "
    "vllm --model Qwen/Qwen3-0.6B --hardware cpu --engine FILE'",
}
"""What mends it, where that is not `COMMAND`."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_fault_is_named(sound: Path, tmp_path: Path, name: str) -> None:
    plant, check, words = BROKEN[name]
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    plant(path)
    if "old digest" not in name:
        reseal(path)
    found = failures(path)
    assert check in found, found
    assert re.search(words, found[check]), found[check]
    assert found[check].endswith(ELSE.get(name, COMMAND)), found[check]
    assert str(path) in found[check]


def test_engine_time_below_the_noise_of_a_step_is_not_wild(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    rewrite(path, "overhead.csv", lambda table: table.assign(time_ns=table["time_ns"] // 1000))
    scale_cell("overhead.csv", 12, "time_ns", 20)(path)
    reseal(path)
    assert "outliers" not in failures(path)
    rewrite(path, "mlp.csv", lambda table: table.apply(_shortened))
    rewrite(path, "per_sequence.csv", lambda t: t.assign(time_ns=t["time_ns"] // 1000))
    reseal(path)
    assert "engine time (num_sequences 8)" in failures(path)["outliers"]


def _shortened(column: pd.Series) -> pd.Series:
    return column / 1000 if str(column.name).startswith("time_stats.") else column


@pytest.mark.parametrize(
    ("meta", "command"),
    [
        ({"engine_settings": None}, "vllm --model tiny/model --hardware cpu"),
        ({"quick": True}, "vllm --model tiny/model --hardware cpu --engine FILE --quick"),
        (
            {
                "source": "aiconfigurator",
                "dtype": "bfloat16",
                "system": "a100_sxm",
                "tensor_parallel_sizes": [2],
            },
            "aiconfigurator --system a100_sxm --model tiny/model --tensor-parallel-size 2",
        ),
        (
            {
                "source": "aiconfigurator",
                "dtype": "bfloat16",
                "block_size": 64,
                "tensor_parallel_sizes": [1],
            },
            "aiconfigurator --system SYSTEM --model tiny/model --block-size 64",
        ),
        (
            {"source": "llmservingsim", "tensor_parallel_sizes": [1]},
            "llmservingsim DIR --model tiny/model --hardware cpu",
        ),
        (
            {"source": "llmservingsim", "tensor_parallel_sizes": [4]},
            "llmservingsim DIR --model tiny/model --hardware cpu --tensor-parallel-size 4 "
            "--cluster FILE",
        ),
        (
            {"source": "vidur", "hardware": "a100", "dtype": "bfloat16"},
            "vidur DIR --model tiny/model --device a100 --dtype bfloat16 --network NAME",
        ),
        ({"source": "elsewhere"}, "elsewhere"),
    ],
)
def test_the_command_is_that_of_the_source(sound, tmp_path, meta, command):
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    (path / "mlp.csv").unlink()
    set_meta(**meta)(path)
    assert failures(path)["files"].endswith(f"'gpusim profile {command}'")


def test_more_than_twenty_faults_are_planted():
    assert len(BROKEN) > 20


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (
            edit("mlp.csv", lambda f: f.drop(columns=UP)),
            r"mlp\.csv: column \S+up_proj\S+: is missing",
        ),
        (
            set_cell("per_sequence.csv", 1, "time_ns", -5),
            r"per_sequence\.csv: line 3, column time_ns: expected a number that is not negative",
        ),
        (set_cell("attention.csv", 3, "batch_size", "many"), "line 5, column batch_size"),
        (scale_cell("mlp.csv", 0, UP, 1.01), r"profile_meta\.json: digest: is .* changed"),
    ],
)
def test_reading_a_broken_bundle_raises_its_first_fault(sound, tmp_path, plant, words):
    path = tmp_path / "bundle"
    shutil.copytree(sound, path)
    plant(path)  # the digest is an old one, too: what is wrong in the tables is said first
    with pytest.raises(InputError, match=words) as raised:
        read_bundle(path)
    assert str(raised.value).endswith(COMMAND)
