"""The tables of Vidur's profiling tree, held against a model's shape and made ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ATTENTION_KEYS,
    ATTENTION_OPERATORS,
    LAYER_OPERATORS,
    MLP_KEYS,
    OPTIONAL_LAYER_OPERATORS,
    STEP_OPERATORS,
    TP,
    time_column,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

    from pytest_gpusim.deployment import ModelShape

SUFFIXES = (".csv", ".csv.gz", ".csv.xz")
_MLP_OPERATORS = (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS)
_CPU_TIMES = (
    "schedule_median",
    "sampler_e2e_median",
    "prepare_inputs_e2e_median",
    "process_model_outputs_median",
    "ray_comm_time_mean",
)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_NS = 1e6


def mlp_table(folder: Path, shape: ModelShape) -> pd.DataFrame:
    """``mlp.csv`` of the model's shape, each point once."""
    path = required_file(folder, "mlp")
    times = [time_column(operator) for operator in _MLP_OPERATORS]
    frame = read_table(
        path,
        required=MLP_KEYS,
        integers=[key for key in MLP_KEYS if key != "use_gated_mlp"],
        numbers=times,
        nullable=times,
    )
    frame["use_gated_mlp"] = _truths(path, frame["use_gated_mlp"])
    expected = {
        "n_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
        "n_embd": shape.hidden_size,
        "n_expanded_embd": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "use_gated_mlp": True,  # as every model that the project knows has it
    }
    frame = _of_shape(path, frame, expected, shape)
    for operator in LAYER_OPERATORS:
        if time_column(operator) not in frame:
            frame[time_column(operator)] = 0.0
    known = [column for column in times if column in frame]
    merged = frame.groupby([*MLP_KEYS])[known].median().reset_index()
    merged["head_dim"] = shape.head_dim
    return merged.fillna(dict.fromkeys(known, 0.0))


def attention_table(folder: Path, shape: ModelShape) -> pd.DataFrame:
    """``attention.csv`` of the model's shape, each point once."""
    path = required_file(folder, "attention")
    times = [time_column(operator) for operator in ATTENTION_OPERATORS]
    frame = read_table(
        path,
        required=ATTENTION_KEYS,
        integers=[*(key for key in ATTENTION_KEYS if key != "is_prefill"), "head_dim"],
        numbers=times,
        nullable=times,
    )
    frame["is_prefill"] = _truths(path, frame["is_prefill"])
    measured = shape.hidden_size // shape.num_q_heads
    if "head_dim" not in frame and measured != shape.head_dim:
        raise InputError(
            path,
            "column head_dim",
            f"is missing, and Vidur takes n_embd / n_q_head = {measured}; {shape.name} has "
            f"{shape.head_dim}",
            f"profile it: 'gpusim profile vllm --model {shape.name}'",
        )
    expected = {
        "n_embd": shape.hidden_size,
        "n_q_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
    }
    if "head_dim" in frame:
        expected["head_dim"] = shape.head_dim
    frame = _of_shape(path, frame, expected, shape)
    sizes = sorted({int(size) for size in frame["block_size"]})
    if len(sizes) > 1:
        raise InputError(path, "column block_size", f"has several sizes: {sizes}")
    for column in times:
        if column not in frame:
            frame[column] = float("nan")
    backends = frame.get("attention_backend")
    merged = frame.groupby([*ATTENTION_KEYS])[times].median().reset_index()
    merged["head_dim"] = shape.head_dim
    merged["attention_backend"] = "unknown" if backends is None else str(backends.iloc[0])
    return merged


def all_reduce_table(folder: Path, degrees: Collection[int]) -> pd.DataFrame:
    """All-reduces within one node, of the degrees that are there."""
    frame = _collectives(required_file(folder, "all_reduce", "allreduce"), "all_reduce")
    if "devices_per_node" in frame:  # all of them on one node
        frame = frame[frame["devices_per_node"] == frame["num_workers"]]
    frame = frame[frame["num_workers"].isin(degrees)]
    rows = _medians(frame, ["num_workers", "size"], "all_reduce")
    return rows.rename(columns={"num_workers": TP})[[TP, "size_bytes", "time_ns"]]


def send_recv_table(folder: Path) -> pd.DataFrame | None:
    """Transfers between two devices of one node; None where the network has none."""
    path = find_file(folder, "send_recv")
    if path is None:
        return None
    frame = _collectives(path, "send_recv")
    if "devices_per_node" in frame:  # as Vidur chooses them
        frame = frame[frame["devices_per_node"] == 2]
    rows = _medians(frame, ["size"], "send_recv")
    return rows[["size_bytes", "time_ns"]] if len(rows) else None


def overhead_table(
    path: Path, models: Collection[str], degree: int, max_tokens: int
) -> pd.DataFrame | None:
    """Engine time per iteration, or None where the file has none of the model at the degree."""
    import pandas as pd

    frame = read_table(
        path,
        required=["batch_size"],
        integers=["batch_size", "tensor_parallel_degree"],
        numbers=_CPU_TIMES,
    )
    columns = [column for column in _CPU_TIMES if column in frame]
    if not columns:
        raise InputError(path, f"column {_CPU_TIMES[0]}", "is missing, and so are the other times")
    if "model_name" in frame:
        frame = frame[frame["model_name"].isin(models)]
    if "tensor_parallel_degree" in frame:
        frame = frame[frame["tensor_parallel_degree"] == degree]
    if frame.empty:
        return None
    total = frame.set_index("batch_size")[columns].sum(axis=1).groupby(level=0).median()
    rows = [
        {"num_prefill_tokens": tokens, "num_sequences": int(batch), "time_ns": round(ms * _NS)}
        for tokens in (0, max_tokens)
        for batch, ms in total.items()
    ]
    return pd.DataFrame(rows)


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of the names that is there, plain or packed."""
    for name in names:
        for suffix in SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    return None


def required_file(folder: Path, *names: str) -> Path:
    """`find_file`, which must find one."""
    found = find_file(folder, *names)
    if found is None:
        raise InputError(folder, "", f"no {names[0]}.csv")
    return found


def _collectives(path: Path, operation: str) -> pd.DataFrame:
    time = time_column(operation)
    frame = read_table(
        path,
        required=["num_workers", "size", time] if operation == "all_reduce" else ["size", time],
        integers=["num_workers", "size", "devices_per_node"],
        numbers=[time],
    )
    return frame[frame["collective"] == operation] if "collective" in frame else frame


def _medians(frame: pd.DataFrame, keys: list[str], operation: str) -> pd.DataFrame:
    time = time_column(operation)
    rows = frame.groupby(keys)[time].median().reset_index()
    rows["time_ns"] = (rows[time] * _NS).round().astype("int64")
    return rows.rename(columns={"size": "size_bytes"})


def _truths(path: Path, cells: pd.Series) -> pd.Series:
    known = cells.astype(str).str.strip().str.lower().map(_TRUTHS)
    if known.isna().any():
        found = str(cells[known.isna()].iloc[0])
        raise InputError(path, f"column {cells.name}", f"expected True or False, found {found!r}")
    return known.astype(bool)


def _of_shape(
    path: Path, frame: pd.DataFrame, expected: dict[str, int], shape: ModelShape
) -> pd.DataFrame:
    """The rows of the model's shape; names the first column that no row agrees in."""
    for column, value in expected.items():
        rows = frame[frame[column] == value]
        if rows.empty:
            found = sorted(set(frame[column].tolist()))
            raise InputError(
                path, f"column {column}", f"is {found}, {shape.name} has {value}: another model"
            )
        frame = rows
    return frame
