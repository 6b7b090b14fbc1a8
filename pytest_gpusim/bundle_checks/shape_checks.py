"""Checks of what a bundle's tables are of: shape columns, block size, tensor-parallel degrees.

Each returns what is wrong, one line per finding, naming file, line and column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import ALL_REDUCE, ATTENTION, META, MLP, TP, Bundle
from pytest_gpusim.tables import line_of

if TYPE_CHECKING:
    from pytest_gpusim.deployment import ModelShape


def shape_findings(bundle: Bundle, shape: ModelShape) -> list[str]:
    """Shape columns that are not those of ``shape``."""
    expected = {
        "n_head": shape.num_q_heads,
        "n_q_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
        "n_embd": shape.hidden_size,
        "n_expanded_embd": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "head_dim": shape.head_dim,
    }
    found = []
    if "head_dim" not in bundle.attention.columns:
        found.append(f"{ATTENTION}: column head_dim is missing, {shape.name} has {shape.head_dim}")
    for name, frame in ((MLP, bundle.mlp), (ATTENTION, bundle.attention)):
        for column, value in expected.items():
            if column not in frame.columns:
                continue
            numbers = frame[column].astype("float64")
            wrong = (numbers != value).to_numpy()
            if wrong.any():
                position = int(wrong.argmax())
                found.append(
                    f"{name}: {line_of(bundle.path / name, position)}, column {column} is "
                    f"{numbers.iloc[position]:g}, {shape.name} has {value}"
                )
    # Every dense decoder that is modelled has a gate beside its up projection.
    gated = (
        bundle.mlp["use_gated_mlp"].astype(str).str.strip().str.lower().isin(["true", "1", "1.0"])
    )
    if not gated.all():
        position = int((~gated).to_numpy().argmax())
        found.append(
            f"{MLP}: {line_of(bundle.path / MLP, position)}, column use_gated_mlp is "
            f"{bundle.mlp['use_gated_mlp'].iloc[position]}, {shape.name} has a gated MLP"
        )
    return found


def block_size_findings(bundle: Bundle) -> list[str]:
    """Attention rows of another block size than the metadata's."""
    stated = bundle.meta["block_size"]
    if not isinstance(stated, int) or stated < 1:
        return [f"{META}: block_size is {stated!r}, expected a positive integer"]
    others = sorted(set(bundle.attention["block_size"].astype(int)) - {stated})
    if not others:
        return []
    return [f"{ATTENTION}: column block_size has {others}, {META} {stated}"]


def tensor_parallel_findings(bundle: Bundle) -> list[str]:
    """Degrees that metadata and tables do not share; all-reduce times that are missing."""
    stated = bundle.meta["tensor_parallel_sizes"]
    if not isinstance(stated, list) or not stated:
        return [f"{META}: tensor_parallel_sizes is {stated!r}, expected a list"]
    found = []
    tables = [(MLP, bundle.mlp), (ATTENTION, bundle.attention)]
    if bundle.all_reduce is not None:
        tables.append((ALL_REDUCE, bundle.all_reduce))
    for name, frame in tables:
        sizes = {int(size) for size in frame[TP].unique()}
        needed = {size for size in stated if size > 1} if name == ALL_REDUCE else set(stated)
        for size in sorted(needed - sizes):
            found.append(f"{name}: has no rows of tensor-parallel degree {size}")
        for size in sorted(sizes - set(stated)):
            found.append(f"{name}: has degree {size}, {META} names {stated}")
    if max(stated) > 1 and bundle.all_reduce is None:
        found.append(f"{ALL_REDUCE}: is missing, and there is degree {max(stated)}")
    return found
