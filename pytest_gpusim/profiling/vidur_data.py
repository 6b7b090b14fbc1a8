"""Bundles from Vidur's own profiling tree: ``gpusim profile vidur DIR``.

The tree (``data/profiling`` of Vidur's repository) has one folder per device and model with
``mlp.csv`` and ``attention.csv``, one per network with collectives, and nowhere says under what it
was measured: model, device and dtype are the user's word, held against the tables' shape columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle import write_bundle
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    ATTENTION_KEYS,
    ATTENTION_OPERATORS,
    LAYER_OPERATORS,
    MLP,
    MLP_KEYS,
    OPTIONAL_LAYER_OPERATORS,
    OVERHEAD,
    STEP_OPERATORS,
    TP,
    time_column,
)
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.profiling.composition import coverage_of
from pytest_gpusim.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape
    from pytest_gpusim.registry import Registry

_SUFFIXES = (".csv", ".csv.gz", ".csv.xz")
_MLP_OPERATORS = (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS)
_CPU_TIMES = (
    "schedule_median",
    "sampler_e2e_median",
    "prepare_inputs_e2e_median",
    "process_model_outputs_median",
    "ray_comm_time_mean",
)
_NS = 1e6


class _Source:
    help = "Vidur's own profiling tree (compute/<device>/<model>/{mlp,attention}.csv)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIR", help="its data/profiling folder")
        parser.add_argument("--model", required=True, help="a known name, or a config.json")
        parser.add_argument(
            "--device", required=True, help="the folder below compute/, such as a100"
        )
        parser.add_argument("--profiled-as", metavar="NAME", help="the model's folder, if another")
        parser.add_argument("--network", metavar="NAME", help="the folder below network/")
        parser.add_argument(
            "--dtype", default="float16", help="default: float16, as Vidur profiles"
        )

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        shape = registry.model(arguments.model)
        tree = _tree(arguments.directory)
        folder = _model_folder(tree, arguments.device, arguments.profiled_as or shape.name)
        tables, notes = _tables(tree, folder, shape, arguments.device, arguments.network)
        mlp, attention = tables[MLP], tables[ATTENTION]
        assert mlp is not None
        assert attention is not None
        blocks = sorted({int(size) for size in attention["block_size"]})
        if len(blocks) > 1:
            raise InputError(
                folder / ATTENTION, "column block_size", f"has several sizes: {blocks}"
            )
        write_bundle(
            out,
            tables,
            {
                "model": shape.name,
                "model_shape": shape.to_json(),
                "hardware": arguments.device,
                "device_name": None,
                "engine": "vidur profiler",
                "engine_version": None,
                "engine_mode": "eager",
                "dtype": arguments.dtype,
                "block_size": blocks[0],
                "tensor_parallel_sizes": sorted({int(degree) for degree in mlp[TP]}),
                "source": "vidur",
                "coverage": coverage_of(tables),
                "repeatability": None,
                "notes": notes,
            },
        )


SOURCE = _Source()


def _tables(
    tree: Path, folder: Path, shape: ModelShape, device: str, network: str | None
) -> tuple[dict[str, pd.DataFrame | None], list[str]]:
    """The bundle's tables, and what must be said of them."""
    notes = ["what these times were measured under is the word of whoever named model and device"]
    mlp = _mlp(folder, shape)
    attention = _attention(folder, shape)
    degrees = {int(degree) for degree in mlp[TP]} & {int(degree) for degree in attention[TP]}
    if not degrees:
        raise InputError(folder, f"column {TP}", "mlp and attention share no degree")
    reduced, name = None, _network(tree, device, network)
    if name is not None:
        reduced = _all_reduce(name, degrees)
        notes.append(f"all-reduces of network {name.name}")
    covered = {1} if reduced is None else {1, *(int(degree) for degree in reduced[TP])}
    without = sorted(degrees - covered)
    if without:
        notes.append(f"degrees {without} are left out: no all-reduce times; give --network")
    degrees &= covered
    notes.append("no final norm, LM head and sampler in these profiles: they are not counted")
    if shape.qk_norm and time_column("qk_norm") not in mlp:
        notes.append("no norms of queries and keys in this profile: they are not counted")
    tables: dict[str, pd.DataFrame | None] = {
        MLP: mlp[mlp[TP].isin(degrees)],
        ATTENTION: attention[attention[TP].isin(degrees)],
        ALL_REDUCE: None if reduced is None else reduced[reduced[TP].isin(degrees)],
        OVERHEAD: _overhead(tree, shape.name, int(mlp["num_tokens"].max())),
    }
    reduced = tables[ALL_REDUCE]
    if reduced is not None and reduced.empty:
        tables[ALL_REDUCE] = None
    return tables, notes


def _mlp(folder: Path, shape: ModelShape) -> pd.DataFrame:
    path = _file(folder, "mlp")
    times = [time_column(operator) for operator in _MLP_OPERATORS]
    frame = read_table(
        path,
        required=MLP_KEYS,
        integers=[key for key in MLP_KEYS if key != "use_gated_mlp"],
        numbers=times,
        nullable=times,
    )
    expected = {
        "n_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
        "n_embd": shape.hidden_size,
        "n_expanded_embd": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
    }
    frame = _of_shape(path, frame, expected, shape)
    for operator in LAYER_OPERATORS:
        if time_column(operator) not in frame:
            frame[time_column(operator)] = 0.0
    known = [column for column in times if column in frame]
    merged = frame.groupby([*MLP_KEYS])[known].median().reset_index()
    merged["head_dim"] = shape.head_dim
    return merged.fillna(dict.fromkeys(known, 0.0))


def _attention(folder: Path, shape: ModelShape) -> pd.DataFrame:
    path = _file(folder, "attention")
    times = [time_column(operator) for operator in ATTENTION_OPERATORS]
    frame = read_table(
        path,
        required=ATTENTION_KEYS,
        integers=[*(key for key in ATTENTION_KEYS if key != "is_prefill"), "head_dim"],
        numbers=times,
        nullable=times,
    )
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
    for column in times:
        if column not in frame:
            frame[column] = float("nan")
    backends = frame.get("attention_backend")
    merged = frame.groupby([*ATTENTION_KEYS])[times].median().reset_index()
    merged["head_dim"] = shape.head_dim
    merged["attention_backend"] = "unknown" if backends is None else str(backends.iloc[0])
    return merged


def _all_reduce(folder: Path, degrees: set[int]) -> pd.DataFrame:
    path = _file(folder, "all_reduce", "allreduce")
    time = time_column("all_reduce")
    frame = read_table(
        path,
        required=["num_workers", "size", time],
        integers=["num_workers", "size", "devices_per_node"],
        numbers=[time],
    )
    if "collective" in frame:
        frame = frame[frame["collective"] == "all_reduce"]
    if "devices_per_node" in frame:  # all of them on one node
        frame = frame[frame["devices_per_node"] == frame["num_workers"]]
    frame = frame[frame["num_workers"].isin(degrees)]
    rows = frame.groupby(["num_workers", "size"])[time].median().reset_index()
    rows["time_ns"] = (rows[time] * _NS).round().astype("int64")
    rows = rows.rename(columns={"num_workers": TP, "size": "size_bytes"})
    return rows[[TP, "size_bytes", "time_ns"]]


def _overhead(tree: Path, model: str, max_tokens: int) -> pd.DataFrame | None:
    """Engine time per iteration, from ``cpu_overheads.csv`` where the tree has one of the model."""
    import pandas as pd

    for path in sorted(
        path for suffix in _SUFFIXES for path in tree.rglob(f"cpu_overheads{suffix}")
    ):
        frame = pd.read_csv(path)
        columns = [column for column in _CPU_TIMES if column in frame]
        if "batch_size" not in frame or not columns:
            continue
        if "model_name" in frame:
            frame = frame[frame["model_name"] == model]
        if "tensor_parallel_degree" in frame:
            frame = frame[frame["tensor_parallel_degree"] == 1]
        if frame.empty:
            continue
        total = frame.set_index("batch_size")[columns].sum(axis=1).groupby(level=0).median()
        rows = [
            {"num_prefill_tokens": tokens, "num_sequences": int(batch), "time_ns": round(ms * _NS)}
            for tokens in (0, max_tokens)
            for batch, ms in total.items()
        ]
        return pd.DataFrame(rows)
    return None


def _of_shape(
    path: Path, frame: pd.DataFrame, expected: dict[str, int], shape: ModelShape
) -> pd.DataFrame:
    """The rows of the model's shape; names the first column that no row agrees in."""
    for column, value in expected.items():
        rows = frame[frame[column] == value]
        if rows.empty:
            found = sorted({int(each) for each in frame[column]})
            raise InputError(
                path, f"column {column}", f"is {found}, {shape.name} has {value}: another model"
            )
        frame = rows
    return frame


def _tree(directory: Path) -> Path:
    for tree in (directory, directory / "profiling", directory / "data" / "profiling"):
        if (tree / "compute").is_dir():
            return tree
    raise InputError(
        directory, "", "has no compute folder", "give the data/profiling folder of Vidur's tree"
    )


def _model_folder(tree: Path, device: str, model: str) -> Path:
    devices = sorted(path.name for path in (tree / "compute").iterdir() if path.is_dir())
    if device not in devices:
        raise UsageError(
            f"--device {device}: {tree / 'compute'} has {', '.join(devices) or 'none'}"
        )
    folder = tree / "compute" / device / model
    if not folder.is_dir():
        known = sorted(
            str(path.parent.relative_to(tree / "compute" / device))
            for path in (tree / "compute" / device).rglob("mlp.csv*")
        )
        raise UsageError(
            f"{tree / 'compute' / device}: no profile of {model}, only of "
            f"{', '.join(known) or 'no model'}; name its folder with --profiled-as"
        )
    return folder


def _network(tree: Path, device: str, network: str | None) -> Path | None:
    known = sorted(path for path in (tree / "network").glob("*") if path.is_dir())
    if network is not None:
        folder = tree / "network" / network
        if folder not in known:
            names = ", ".join(path.name for path in known) or "none"
            raise UsageError(f"--network {network}: {tree / 'network'} has {names}")
        return folder
    mine = [path for path in known if path.name.startswith(device)]
    return mine[0] if len(mine) == 1 else None


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        for suffix in _SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise InputError(folder, "", f"no {names[0]}.csv")
