"""Finding and reading the files of an LLMServingSim profile; times there are in us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.profiling.skew_labels import default_alpha, skew_table
from pytest_gpusim.tables import find_table, read_table

if TYPE_CHECKING:
    import pandas as pd

# Their layer -> our operators. Their times are per call, and ``layernorm`` is called twice a layer;
# ``qk_norm`` is both norms of a layer together.
_DENSE = {
    "embedding": ("emb",),
    "layernorm": ("input_layernorm", "post_attention_layernorm"),
    "qkv_proj": ("attn_pre_proj",),
    "qk_norm": ("qk_norm",),
    "rotary_emb": ("attn_rope",),
    "o_proj": ("attn_post_proj",),
    "gate_up_proj": ("mlp_up_proj",),
    "act_fn": ("mlp_act",),
    "down_proj": ("mlp_down_proj",),
    "final_layernorm": ("final_layernorm",),
}
_OPTIONAL = {"qk_norm"}
_DEFAULT_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_US_NS, _US_MS = 1000.0, 1e-3


@dataclass(frozen=True)
class ProfileFiles:
    """Where a profile's files are. ``tables`` holds the CSVs of the degree that is asked for."""

    tables: Path
    meta_path: Path
    meta: Mapping[str, Any]
    tensor_parallel: int

    def text(self, key: str) -> str | None:
        """An entry of ``meta.yaml`` as text; None where it is absent."""
        value = self.meta.get(key)
        return None if value is None else str(value)


def find_profile(directory: Path, tensor_parallel: int | None = None) -> ProfileFiles:
    """Find the tables for a tensor-parallel degree below ``directory``.

    Sharded profiles keep one folder per degree; which is which is told by ``tp_degrees`` and by the
    time of one token in ``gate_up_proj``, which reads 1/degree of the weights.
    """
    directory = Path(directory)
    fix = "give the folder that holds dense.csv"
    if not directory.is_dir():
        raise InputError(directory, "", "no such directory", fix)
    meta_path = next(iter(sorted(directory.rglob("meta.yaml"), key=_depth)), None)
    meta = _read_yaml(meta_path) if meta_path is not None else {}
    folders = sorted({path.parent for path in directory.rglob("dense.csv*")}, key=_depth)
    if not folders:
        raise InputError(directory, "", "no dense.csv in it or below", fix)
    degrees = sorted(int(degree) for degree in meta.get("tp_degrees") or [])
    path = meta_path if meta_path is not None else folders[0] / "dense.csv"
    if tensor_parallel is not None and degrees and tensor_parallel not in degrees:
        raise InputError(path, "tp_degrees", f"is {degrees}, asked for is {tensor_parallel}")
    if len(folders) == 1:
        if tensor_parallel is None and len(degrees) > 1:
            raise UsageError(
                f"{path}: tp_degrees is {degrees} and there is one set of tables; say which it is "
                "with --tensor-parallel-size"
            )
        return ProfileFiles(folders[0], path, meta, tensor_parallel or (degrees or [1])[0])
    if len(degrees) != len(folders):
        raise InputError(
            path, "tp_degrees", f"names {len(degrees)} degrees, {len(folders)} folders have tables"
        )
    folders.sort(key=_one_token_us, reverse=True)
    wanted = tensor_parallel or degrees[0]
    return ProfileFiles(folders[degrees.index(wanted)], path, meta, wanted)


def read_dense(
    directory: Path, shape: ModelShape
) -> tuple[dict[str, list[float]], list[int], list[str]]:
    """Times in ms by our operators, the token counts that they are at, and the layers left out."""
    path = _table(directory, "dense.csv")
    frame = read_table(
        path, required=["layer", "tokens", "time_us"], integers=["tokens"], numbers=["time_us"]
    )
    wide = frame.pivot_table(index="tokens", columns="layer", values="time_us", aggfunc="median")
    times: dict[str, list[float]] = {}
    for layer, operators in _DENSE.items():
        if layer in wide.columns:
            series = wide[layer].interpolate("index", limit_direction="both")
            times.update(dict.fromkeys(operators, (series * _US_MS).tolist()))
        elif layer not in _OPTIONAL or shape.qk_norm:
            raise InputError(
                path, "column layer", f"has no {layer}; known are {', '.join(wide.columns)}"
            )
    left_out = sorted(set(wide.columns) - set(_DENSE))
    return times, [int(count) for count in wide.index], left_out


def read_per_sequence(directory: Path) -> pd.DataFrame:
    """Rows of the bundle's ``per_sequence.csv``."""
    path = _table(directory, "per_sequence.csv")
    frame = read_table(
        path,
        required=["layer", "sequences", "time_us"],
        integers=["sequences"],
        numbers=["time_us"],
    )
    for layer in ("lm_head", "sampler"):
        if not (frame["layer"] == layer).any():
            raise InputError(path, "column layer", f"has no {layer}")
    rows = frame[frame["layer"].isin(["lm_head", "sampler"])].copy()
    rows["time_ns"] = (rows["time_us"] * _US_NS).round().astype("int64")
    return rows.rename(columns={"layer": "operator"})[["operator", "sequences", "time_ns"]]


def read_joint_attention(directory: Path) -> pd.DataFrame:
    """The joint grid, with ``time_ns`` and ``time_ms``."""
    path = _table(directory, "attention.csv")
    axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    frame = read_table(
        path,
        required=["prefill_chunk", "n_decode", "kv_decode", "time_us"],
        numbers=[*axes, "prefill_key", "time_us", "decode_q_len"],
    )
    if "layer" in frame.columns:
        frame = frame[frame["layer"] == "attention"]
    if "decode_q_len" in frame.columns:
        frame = frame[frame["decode_q_len"] == 1]
    if "kv_prefill" not in frame.columns:
        if "prefill_key" not in frame.columns:
            raise InputError(path, "column kv_prefill", "is missing")
        # The mean key length of a chunk's queries: the context and half of the chunk itself.
        frame = frame.assign(kv_prefill=frame["prefill_key"] - frame["prefill_chunk"] / 2)
    if frame.empty:
        raise InputError(path, "", "has no rows of the layer attention")
    frame = frame.groupby(axes)["time_us"].median().reset_index()
    frame["time_ns"] = (frame["time_us"] * _US_NS).round().astype("int64")
    frame["time_ms"] = frame["time_us"] * _US_MS
    return frame.astype(dict.fromkeys(axes, "int64"))[[*axes, "time_ns", "time_ms"]]


def read_skew(files: ProfileFiles) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """The skew fit and its metadata entry; no table unless ``skew_fit.enabled``."""
    fit = files.meta.get("skew_fit") or {}
    if not fit.get("enabled"):
        return None, {"enabled": False}
    import pandas as pd

    default = default_alpha(fit, files.tensor_parallel)
    path = find_table(files.tables, "skew_fit.csv")
    if path is None:
        inline = pd.DataFrame({"alpha": pd.Series(dtype=float)})
        return skew_table(inline, fit, files.meta_path), {"enabled": True, "default": default}
    raw = pd.read_csv(path)
    return skew_table(raw, fit, path), {"enabled": True, "default": default}


def profile_dtype(meta: Mapping[str, Any], shape: ModelShape) -> str:
    """The dtype that was profiled, by the engine's arguments or the variant's name."""
    effective = meta.get("engine_effective") or {}
    stated = str(effective.get("dtype") or meta.get("variant") or "").split("-")[0]
    found = _DEFAULT_DTYPES.get(stated, stated.removeprefix("torch."))
    return found if found in _DEFAULT_DTYPES.values() else shape.torch_dtype


def _table(directory: Path, name: str) -> Path:
    path = find_table(directory, name)
    if path is None:
        raise InputError(directory, "", f"no {name}: not a complete LLMServingSim profile")
    return path


def _one_token_us(directory: Path) -> float:
    frame = read_table(
        _table(directory, "dense.csv"),
        required=["layer", "tokens", "time_us"],
        numbers=["tokens", "time_us"],
    )
    rows = frame[frame["layer"] == "gate_up_proj"]
    if rows.empty:
        raise InputError(directory / "dense.csv", "column layer", "has no gate_up_proj")
    return float(rows.sort_values("tokens")["time_us"].iloc[0])


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(path, "", f"not YAML: {error}") from None
    if not isinstance(document, dict):
        raise InputError(path, "", "expected a mapping")
    return document


def _depth(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)
