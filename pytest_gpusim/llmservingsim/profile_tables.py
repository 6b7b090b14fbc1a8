"""Reading the tables of an LLMServingSim profile; times there are in us."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.identity import known_dtype
from pytest_gpusim.llmservingsim.profile_folder import DENSE, ProfileFiles, mapping
from pytest_gpusim.llmservingsim.skew import default_alpha, skew_table
from pytest_gpusim.tables import find_table, read_table

if TYPE_CHECKING:
    import pandas as pd

# Their layer -> our operators. Their times are per call, and ``layernorm`` is called twice a layer;
# of ``qk_norm``, see `_head_norms`.
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
_MLP = {"gate_up_proj", "act_fn", "down_proj"}
# Not split over GPUs by weights: where a degree's table lacks one, another degree's will do.
_SHARED = {"embedding", "layernorm", "qk_norm", "rotary_emb", "act_fn", "final_layernorm"}
# The same kernel at the same width.
_SAME = {"layernorm": "final_layernorm", "final_layernorm": "layernorm"}
# At one token both norms of the heads are launches and little else, as is the norm of a layer.
_TWO_KERNELS = 1.25
_US_NS, _US_MS = 1000.0, 1e-3


class DenseTimes(NamedTuple):
    """``dense.csv`` in ms by our operators, at ``tokens``; what was left out or taken elsewhere."""

    times: dict[str, list[float]]
    tokens: list[int]
    notes: list[str]


def read_dense(files: ProfileFiles, shape: ModelShape) -> DenseTimes:
    """The layers of a step without attention, head and sampler.

    Args:
        files: The profile.
        shape: The model that it must be of.

    Raises:
        InputError: A layer of the model is not in the table, nor in that of another degree.
    """
    path = _table(files.tables, DENSE)
    wide = _dense(path)
    times: dict[str, list[float]] = {}
    notes: list[str] = []
    for layer, operators in _DENSE.items():
        if layer in _OPTIONAL and not shape.qk_norm:
            continue
        if layer in _MLP and not shape.num_dense_layers:
            continue
        series = wide.get(layer)
        if series is None and layer in _SHARED:
            series, source = _from_elsewhere(layer, wide, files)
            notes += [f"{layer} is not in {files.tables.name}; {source}"] if source else []
        if series is None:
            known = ", ".join(str(column) for column in wide.columns)
            raise InputError(path, "column layer", f"has no {layer}; known are {known}")
        if layer == "qk_norm":
            series, words = _head_norms(series, wide, files)
            notes += [words] if words else []
        filled = series.interpolate("index", limit_direction="both")
        times.update(dict.fromkeys(operators, (filled * _US_MS).tolist()))
    left_out = sorted({str(c) for c in wide.columns} - set(_DENSE))
    if "qk_norm" in wide.columns and not shape.qk_norm:
        left_out.append("qk_norm")
    if left_out:
        notes.append(f"layers that are not modelled, left out: {', '.join(left_out)}")
    return DenseTimes(times, [int(count) for count in wide.index], notes)


def _head_norms(
    series: pd.Series, wide: pd.DataFrame, files: ProfileFiles
) -> tuple[pd.Series, str]:
    """Both norms of a layer on one GPU, which holds 1/degree of the heads; and what was made of it.

    LLMServingSim's profiler once gave the mean of the two calls, and copied one GPU's times to
    every degree; since then it gives their sum, at each degree its own (its ``hooks/timings.py``
    and ``models/qwen3.yaml`` tell of both). Two kernels cannot be done as soon as the single norm
    of a layer, which tells a mean; another degree with the very same times tells a copy.
    """
    degree, smallest = files.tensor_parallel, series.first_valid_index()
    single = wide["layernorm"].get(smallest) if "layernorm" in wide else None
    if single is not None and series[smallest] < _TWO_KERNELS * single:
        words = (
            f"qk_norm is the mean of two norms of all heads: taken twice, for 1/{degree} of them"
        )
        return series * (2 / degree), words
    for folder in files.siblings if degree > 1 else ():
        other = _dense(_table(folder, DENSE)).get("qk_norm")
        if other is not None and other.equals(series):
            words = f"qk_norm is that of {folder.name}, of all heads: divided by {degree}"
            return series / degree, words
    return series, ""


def _dense(path: Path) -> pd.DataFrame:
    """Median us by tokens (rows) and layer (columns)."""
    frame = read_table(
        path,
        required=["layer", "tokens", "time_us"],
        integers=["tokens"],
        numbers=["time_us"],
        nullable=["time_us"],
    )
    frame = frame.assign(layer=frame["layer"].str.strip())
    wide = frame.pivot_table(index="tokens", columns="layer", values="time_us", aggfunc="median")
    if wide.empty:
        raise InputError(path, "", "has no times")
    return wide


def _from_elsewhere(
    layer: str, wide: pd.DataFrame, files: ProfileFiles
) -> tuple[pd.Series | None, str]:
    """A layer's times at the sizes of ``wide``, from another degree's table or an equal layer.

    The source is given in words.
    """
    for folder in files.siblings:
        other = _dense(_table(folder, DENSE)).get(layer)
        if other is not None:
            places = wide.index.union(other.index)
            filled = other.reindex(places).interpolate("index", limit_direction="both")
            return filled[wide.index], f"taken from {folder.name}"
    stand_in = _SAME.get(layer)
    if stand_in in wide.columns:
        return wide[stand_in], f"taken as {stand_in}"
    return None, ""


def read_per_sequence(files: ProfileFiles) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the bundle's ``per_sequence.csv``, and what was taken from elsewhere."""
    import pandas as pd

    notes = []

    path = _table(files.tables, "per_sequence.csv")
    frame = _per_sequence(path)
    if not (frame["layer"] == "lm_head").any():
        raise InputError(path, "column layer", "has no lm_head")
    if not (frame["layer"] == "sampler").any():
        for folder in files.siblings:
            other = _per_sequence(_table(folder, "per_sequence.csv"))
            found = other[other["layer"] == "sampler"]
            if len(found):
                notes.append(f"sampler is not in {files.tables.name}; taken from {folder.name}")
                frame = pd.concat([frame, found], ignore_index=True)
                break
        else:
            raise InputError(path, "column layer", "has no sampler")
    rows = frame[frame["layer"].isin(["lm_head", "sampler"])].copy()
    rows["time_ns"] = (rows["time_us"] * _US_NS).round().astype("int64")
    return rows.rename(columns={"layer": "operator"})[["operator", "sequences", "time_ns"]], notes


def _per_sequence(path: Path) -> pd.DataFrame:
    frame = read_table(
        path,
        required=["layer", "sequences", "time_us"],
        integers=["sequences"],
        numbers=["time_us"],
    )
    return frame.assign(layer=frame["layer"].str.strip())


def read_joint_attention(directory: Path) -> pd.DataFrame:
    """The joint grid, with ``time_ns`` and ``time_ms``. Empty cells of an axis are zeros."""
    path = _table(directory, "attention.csv")
    axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    columns = [*axes, "prefill_key", "time_us", "decode_q_len"]
    frame = read_table(
        path,
        required=["prefill_chunk", "n_decode", "kv_decode", "time_us"],
        numbers=columns,
        nullable=columns,
    )
    frame = frame[frame["time_us"].notna()]
    frame = frame.fillna({name: 0.0 for name in columns if name in frame.columns})
    if "layer" in frame.columns:
        frame = frame[frame["layer"].str.strip() == "attention"]
    if "decode_q_len" in frame.columns:
        # Rows without decodes carry whatever, or nothing, there.
        frame = frame[(frame["n_decode"] == 0) | frame["decode_q_len"].isin([0, 1])]
    if "kv_prefill" not in frame.columns:
        if "prefill_key" not in frame.columns:
            raise InputError(path, "column kv_prefill", "is missing")
        # The mean key length of a chunk's queries: the context and half of the chunk itself.
        context = (frame["prefill_key"] - frame["prefill_chunk"] / 2).clip(lower=0)
        frame = frame.assign(kv_prefill=context)
    # Contexts of nothing say nothing, and would make one point of a plane several.
    for tokens, keys in (("prefill_chunk", "kv_prefill"), ("n_decode", "kv_decode")):
        frame[keys] = frame[keys].where(frame[tokens] > 0, 0.0)
    frame = frame[(frame["prefill_chunk"] > 0) | (frame["n_decode"] > 0)]
    if frame.empty:
        raise InputError(path, "", "has no rows of the layer attention")
    frame = frame.groupby(axes)["time_us"].median().reset_index()
    frame["time_ns"] = (frame["time_us"] * _US_NS).round().astype("int64")
    frame["time_ms"] = frame["time_us"] * _US_MS
    return frame.astype(dict.fromkeys(axes, "int64"))[[*axes, "time_ns", "time_ms"]]


def read_overhead(files: ProfileFiles) -> pd.DataFrame | None:
    """Engine time per iteration, where whoever made the profile states it (the bundle's table)."""
    for folder in (files.tables, files.meta_path.parent):
        path = find_table(folder, "overhead.csv")
        if path is not None:
            columns = ["num_prefill_tokens", "num_sequences", "time_ns"]
            table = read_table(path, required=columns, numbers=columns, signed=["time_ns"])
            return table[columns]
    return None


class SkewFit(NamedTuple):
    """The bundle's ``skew_fit.csv``, its metadata entry, and what could not be used."""

    table: pd.DataFrame | None
    meta: dict[str, Any]
    notes: list[str]


def read_skew(files: ProfileFiles) -> SkewFit:
    """The skew fit; no table unless ``skew_fit.enabled``."""
    stated = files.meta.get("skew_fit")
    fit = stated if isinstance(stated, Mapping) else {"enabled": stated}
    if not fit.get("enabled") or str(fit["enabled"]).lower() in ("false", "no", "off"):
        return SkewFit(None, {"enabled": False}, [])
    import pandas as pd

    default = default_alpha(fit, files.tensor_parallel)
    found = (
        find_table(folder, "skew_fit.csv") for folder in (files.tables, files.meta_path.parent)
    )
    path = next((each for each in found if each is not None), None)
    meta = {"enabled": True, "default": default}
    if path is None:
        raw = pd.DataFrame({"alpha": pd.Series(dtype=float)})
        table, _ = skew_table(raw, fit, files.meta_path)
        words = "skew_fit is enabled and there is no skew_fit.csv"
        return SkewFit(table, meta, [f"{words}: alpha is {default:g} throughout"])
    table, notes = skew_table(read_table(path, required=["alpha"]), fit, path)
    return SkewFit(table, meta, notes)


def profile_dtype(meta: Mapping[str, Any], shape: ModelShape) -> str:
    """The dtype that was profiled, by the engine's arguments or the variant's name."""
    stated = (mapping(meta.get("engine_effective")).get("dtype"), meta.get("variant"))
    known = (known_dtype(str(name)) for name in stated if name)
    return next((dtype for dtype in known if dtype), shape.torch_dtype)


def _table(directory: Path, name: str) -> Path:
    path = find_table(directory, name)
    if path is None:
        raise InputError(directory, "", f"no {name}: not a complete LLMServingSim profile")
    return path
