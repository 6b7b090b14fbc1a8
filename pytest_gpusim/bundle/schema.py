"""The bundle contract: files, columns and metadata of a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.skew import COLUMNS as SKEW_COLUMNS
from pytest_gpusim.bundle.skew import SkewFit

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import EngineSettings, ModelShape

MLP, ATTENTION, META = "mlp.csv", "attention.csv", "profile_meta.json"
PER_SEQUENCE, OVERHEAD, MIXED_ATTENTION = "per_sequence.csv", "overhead.csv", "mixed_attention.csv"
SKEW_FIT, ALL_REDUCE, SEND_RECV = "skew_fit.csv", "all_reduce.csv", "send_recv.csv"
MOE, FRONTEND = "moe.csv", "frontend.csv"
TABLES = (
    MLP,
    ATTENTION,
    PER_SEQUENCE,
    OVERHEAD,
    MIXED_ATTENTION,
    SKEW_FIT,
    ALL_REDUCE,
    SEND_RECV,
    MOE,
    FRONTEND,
)
"""All tables, in the order in which the bundle's digest covers them."""
LATER_TABLES = (MOE, FRONTEND)
"""Those among them that came later: the digest covers them only where they are there."""

TP, EP = "num_tensor_parallel_workers", "num_expert_parallel_workers"
MLP_KEYS = (
    "num_tokens",
    TP,
    "n_head",
    "n_kv_head",
    "n_embd",
    "n_expanded_embd",
    "vocab_size",
    "use_gated_mlp",
)
ATTENTION_KEYS = (
    "batch_size",
    "prefill_chunk_size",
    "kv_cache_size",
    "is_prefill",
    "n_embd",
    "n_q_head",
    "n_kv_head",
    "block_size",
    TP,
    "max_model_len",
)
LAYER_OPERATORS = (
    "input_layernorm",
    "attn_pre_proj",
    "attn_rope",
    "attn_post_proj",
    "post_attention_layernorm",
    "mlp_up_proj",
    "mlp_act",
    "mlp_down_proj",
    "add",
)
"""Operators of ``mlp.csv`` that run once per layer; Vidur requires each of these columns."""
MLP_OPERATORS = ("mlp_up_proj", "mlp_act", "mlp_down_proj")
"""Those of them that a layer with experts has not; ``moe.csv`` stands for it."""
OPTIONAL_LAYER_OPERATORS = ("qk_norm",)
STEP_OPERATORS = ("emb", "final_layernorm")
"""Operators of ``mlp.csv`` that run once per step; Vidur's own profiles have no final norm."""
ATTENTION_OPERATORS = (
    "attn_input_reshape",
    "attn_kv_cache_save",
    "attn_prefill",
    "attn_decode",
    "attn_output_reshape",
)
SEQUENCE_OPERATORS = ("lm_head", "sampler")
SMALL_TABLES = {
    PER_SEQUENCE: ("operator", "sequences", "time_ns"),
    OVERHEAD: ("num_prefill_tokens", "num_sequences", "time_ns"),
    MIXED_ATTENTION: ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_ns"),
    SKEW_FIT: SKEW_COLUMNS,
    ALL_REDUCE: (TP, "size_bytes", "time_ns"),
    SEND_RECV: ("size_bytes", "time_ns"),
    MOE: (TP, EP, "num_tokens", "time_ns"),
    FRONTEND: ("boundary", "num_prompt_tokens", "time_ns"),
}
META_KEYS = (
    "schema_version",
    "model",
    "model_shape",
    "hardware",
    "device_name",
    "engine",
    "engine_version",
    "engine_mode",
    "dtype",
    "block_size",
    "tensor_parallel_sizes",
    "source",
    "coverage",
    "repeatability",
    "created_at",
    "tool_version",
    "digest",
)


def time_column(operator: str) -> str:
    """The column of an operator's median time, in ms."""
    return f"time_stats.{operator}.median"


def constant_engine_time(time_ns: int) -> pd.DataFrame:
    """``overhead.csv`` of an engine whose time per iteration is the same in every step.

    Its four points span every step that there can be, so none lies outside.
    """
    import pandas as pd

    steps = [(tokens, sequences) for tokens in (0, 1 << 20) for sequences in (1, 1 << 16)]
    rows = [(*step, time_ns) for step in steps]
    return pd.DataFrame(rows, columns=list(SMALL_TABLES[OVERHEAD]))


@dataclass
class Bundle:
    """A profile as read: tables of operator times, and metadata that says of what model and device.

    ``mlp`` and ``attention`` have times in ms (Vidur's columns), the other tables in ns.
    """

    path: Path
    meta: dict[str, Any]
    mlp: pd.DataFrame
    attention: pd.DataFrame
    per_sequence: pd.DataFrame | None = None
    overhead: pd.DataFrame | None = None
    mixed_attention: pd.DataFrame | None = None
    skew_fit: pd.DataFrame | None = None
    all_reduce: pd.DataFrame | None = None
    send_recv: pd.DataFrame | None = None
    moe: pd.DataFrame | None = None
    frontend: pd.DataFrame | None = None

    @property
    def digest(self) -> str:
        """Sha256 over the digests of the tables."""
        return str(self.meta["digest"])

    @property
    def model_shape(self) -> ModelShape:
        """The shape that was profiled."""
        from pytest_gpusim.deployment import ModelShape

        return ModelShape.from_json(self.meta["model_shape"], self.path / META)

    @property
    def engine_settings(self) -> EngineSettings:
        """The engine settings that the profile was made under, as far as it states them."""
        from pytest_gpusim.deployment import EngineSettings

        stated = dict(self.meta.get("engine_settings") or {})
        for key in ("engine_version", "dtype", "block_size"):
            if self.meta.get(key) is not None:
                stated.setdefault(key, self.meta[key])
        return EngineSettings.from_mapping(stated, self.path / META, strict=False)

    def with_engine_time(self, time_ns: int) -> Bundle:
        """The bundle with the same engine time in every step, stated and not measured."""
        return replace(
            self,
            overhead=constant_engine_time(time_ns),
            meta={**self.meta, "engine_time": {"time_ns": time_ns, "source": "stated"}},
        )

    @property
    def skew(self) -> SkewFit | None:
        """How decode batches of unequal contexts are priced; None where the profile does not say.

        Built anew on each access: keep it.
        """
        return SkewFit.from_table(self.skew_fit, self.meta.get("skew_fit"))
