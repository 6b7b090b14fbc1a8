"""How well a bundle's points predict each other: the error that interpolation itself brings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import NamedTuple

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.serving.attention_grids import Table
from pytest_gpusim.serving.steptime import StepTimeModel
from pytest_gpusim.serving.steptime_operators import (
    OperatorTables,
    operator_tables,
)

Whole = Callable[[tuple[float, ...], float], float]


class LeaveOutError(NamedTuple):
    """Relative errors of points that were predicted from their neighbours.

    Engine time is what operators leave of a step, and may be zero: its errors are relative to the
    step without attention.

    Attributes:
        points: How many were; a point counts once per axis on which it has two neighbours.
        mean: Mean of the absolute errors, as a fraction.
        p90: Their 90th percentile (nearest rank).
        worst: The largest.
    """

    points: int
    mean: float
    p90: float
    worst: float


def leave_out_error(
    bundle: Bundle, tensor_parallel_size: int | None = None
) -> dict[str, LeaveOutError]:
    """Per operator, the error at interior profiled points when each is left out in turn.

    A point is predicted linearly from its two neighbours along an axis, all other coordinates
    equal. Operators without such a point are absent.

    Args:
        bundle: The profile.
        tensor_parallel_size: Rows of this size; None: the smallest that was profiled.
    """
    tp = tensor_parallel_size or min(bundle.meta["tensor_parallel_sizes"] or [1])
    tables = operator_tables(bundle, bundle.model_shape, tp)
    settings = EngineSettings(tensor_parallel_size=tp)
    whole = _step(StepTimeModel(bundle, bundle.model_shape, settings))
    found: dict[str, LeaveOutError] = {}
    for name, table in _named(tables):
        errors = sorted(_errors(table, whole if name == "overhead" else _itself))
        if errors:
            rank = -(-9 * len(errors) // 10) - 1
            found[name] = LeaveOutError(len(errors), fmean(errors), errors[rank], errors[-1])
    return found


def leave_out_rows(bundle: Bundle) -> list[dict[str, str | int | float]]:
    """`leave_out_error` as rows of a table: operator, points, mean, p90, worst; the worst first."""
    rows: list[dict[str, str | int | float]] = [
        {"operator": name, **error._asdict()} for name, error in leave_out_error(bundle).items()
    ]
    return sorted(rows, key=lambda row: -float(row["p90"]))


def _named(tables: OperatorTables) -> Iterator[tuple[str, Table]]:
    for name, (_, table) in tables.by_tokens.items():
        yield name, table
    yield from tables.by_sequences.items()
    for name, found in (
        ("attn_prefill", tables.prefill),
        ("attn_decode", tables.decode),
        ("attn_mixed", tables.mixed),
        ("overhead", tables.overhead),
        ("all_reduce", tables.all_reduce),
    ):
        if found is not None:
            yield name, found


def _itself(_: tuple[float, ...], time: float) -> float:
    return time


def _step(model: StepTimeModel) -> Whole:
    """The time of a step without attention, from its prefill tokens, sequences and engine time."""

    def step(place: tuple[float, ...], engine_time: float) -> float:
        prefill, sequences = map(int, place)
        tokens = prefill + sequences - bool(prefill)
        return engine_time + model.time_without_attention(tokens, sequences)

    return step


def _errors(table: Table, whole: Whole) -> Iterator[float]:
    for axis in range(len(table[0][0])):
        lines: dict[tuple[float, ...], list[tuple[float, float]]] = defaultdict(list)
        for point, time in zip(*table, strict=True):
            lines[point[:axis] + point[axis + 1 :]].append((point[axis], time))
        for rest, line in lines.items():
            line.sort()
            for (x0, y0), (x, y), (x1, y1) in zip(line, line[1:], line[2:], strict=False):
                of = whole((*rest[:axis], x, *rest[axis:]), y)
                if of > 0:
                    yield abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) / of
