"""The grids that attention is priced from: prefill alone, decodes alone, both in one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.bundle.schema import ATTENTION, MIXED_ATTENTION, time_column
from pytest_gpusim.errors import InputError
from pytest_gpusim.serving.interpolation import Ignoring, Interpolant, Point, Surface, ragged_grid

Table = tuple[list[Point], list[float]]
"""Points and the median time in ns at each, in order of the points."""


@dataclass(frozen=True)
class AttentionGrids:
    """Points by kind, as `attention_grids` picks them.

    Attributes:
        prefill: (chunk tokens, context).
        decode: (sequences, mean context).
        both: (prefill tokens, prefill context, sequences, mean decode context); None where each
            kind has a kernel of its own.
        prefill_table: The file of ``prefill``.
        decode_table: The file of ``decode``.
    """

    prefill: Table
    decode: Table
    both: Table | None
    prefill_table: str
    decode_table: str

    @property
    def joint_prefill(self) -> bool:
        """Whether all chunks of a step without decodes are priced as one.

        A joint grid with a plane of prefill alone measured them so.
        """
        return self.prefill_table == MIXED_ATTENTION

    @property
    def joint(self) -> bool:
        """Whether all chunks of any step are priced as one."""
        return self.both is not None or self.joint_prefill

    @property
    def closed_below(self) -> bool:
        """Whether the joint grid has decodes without prefill, which close it below."""
        return self.decode_table == MIXED_ATTENTION

    def mixed_interpolant(self) -> Interpolant | None:
        """The joint grid of both kinds; None where there is none.

        Without prefill tokens their context plays no role, so the plane of decodes alone closes the
        grid below its smallest chunk.
        """
        if self.both is None:
            return None
        chunks = sorted({point[0] for point in self.both[0]})
        nodes: list[Interpolant] = []
        for chunk in chunks:
            inner = [(p[1:], t) for p, t in zip(*self.both, strict=True) if p[0] == chunk]
            nodes.append(ragged_grid(*zip(*inner, strict=True)))
        if self.closed_below:
            chunks, nodes = [0.0, *chunks], [Ignoring(ragged_grid(*self.decode)), *nodes]
        return Surface(chunks, nodes)


def attention_grids(
    prefill: Table | None, decode: Table | None, mixed: Table | None, path: Path
) -> AttentionGrids:
    """Pick the grids: the joint one's where it has points of a kind, else ``attention.csv``'s.

    Args:
        prefill: (chunk tokens, context), from ``attention.csv``.
        decode: (sequences, context), from ``attention.csv``.
        mixed: (prefill tokens, prefill context, sequences, mean decode context), where any of the
            counts may be 0, from ``mixed_attention.csv``.
        path: The bundle, for messages.

    Raises:
        InputError: Prefill or decode has no times, or has several at one point.
    """
    alone: Table = ([], [])
    decoding: Table = ([], [])
    both: Table = ([], [])
    for point, time in zip(*(mixed or both), strict=True):
        tokens, context, sequences, decode_context = point
        if not sequences:
            _append(alone, (tokens, context), time)
        elif not tokens:
            _append(decoding, (sequences, decode_context), time)
        else:
            _append(both, point, time)
    for kind, (points, _) in (("prefill", alone), ("decodes", decoding)):
        if len(set(points)) < len(points):
            problem = f"has rows of the same {kind} that differ in the context of none"
            raise InputError(path / MIXED_ATTENTION, "", problem, "let that context be 0")
    return AttentionGrids(
        alone if alone[0] else _required(prefill, "attn_prefill", path),
        decoding if decoding[0] else _required(decode, "attn_decode", path),
        both if both[0] else None,
        MIXED_ATTENTION if alone[0] else ATTENTION,
        MIXED_ATTENTION if decoding[0] else ATTENTION,
    )


def _required(table: Table | None, operator: str, path: Path) -> Table:
    if table is None:
        fix = "make the bundle again with 'gpusim profile'"
        where = f"column {time_column(operator)}"
        raise InputError(path / ATTENTION, where, "has no times", fix)
    return table


def _append(table: Table, point: Point, time: float) -> None:
    table[0].append(point)
    table[1].append(time)
