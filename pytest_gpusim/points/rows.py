"""A table of measured operating points: one closed-loop load and its latencies a row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.errors import InputError
from pytest_gpusim.texts import open_text

COLUMNS = (
    "model",
    "hardware",
    "precision",
    "vllm_version",
    "tensor_parallel",
    "moe_tensor_parallel",
    "expert_parallel",
    "data_parallel",
    "isl",
    "osl",
    "concurrency",
    "ttft_ms",
    "tpot_ms",
)
_COUNTS = ("tensor_parallel", "isl", "osl", "concurrency")
_OPTIONAL_COUNTS = ("moe_tensor_parallel", "expert_parallel", "data_parallel")
_TIMES = ("ttft_ms", "tpot_ms")


@dataclass(frozen=True)
class Point:
    """One row.

    Attributes:
        row: The texts of its columns, as they stand.
        where: File and line.
        precision: Of the weights; empty: the checkpoint's own.
        vllm_version: Empty where nobody states it.
        moe_tensor_parallel, expert_parallel, data_parallel: 1 where nothing stands.
        isl, osl: Tokens of a prompt and of an answer.
        concurrency: Clients.
    """

    row: dict[str, str]
    where: str
    model: str
    hardware: str
    precision: str
    vllm_version: str
    tensor_parallel: int
    moe_tensor_parallel: int
    expert_parallel: int
    data_parallel: int
    isl: int
    osl: int
    concurrency: int
    ttft_ms: float
    tpot_ms: float

    @property
    def configuration(self) -> tuple[str, str, str, str, int]:
        """Release, model, hardware, precision and degree; what a fit leaves out together."""
        return (
            self.vllm_version,
            self.model,
            self.hardware,
            self.precision,
            self.tensor_parallel,
        )


def read_points(path: Path) -> list[Point]:
    """Read a table of points.

    Raises:
        InputError: A column is missing, or a value is not what its column holds; names the line.
    """
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        names = list(reader.fieldnames or ())
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise InputError(
                path, "line 1", f"the column {missing[0]!r} is missing", f"needed are {COLUMNS}"
            )
        twice = [name for name in COLUMNS if names.count(name) > 1]
        if twice:
            raise InputError(path, "line 1", f"the column {twice[0]!r} is there twice")
        points = [_point(path, reader.line_num, row) for row in reader]
    if not points:
        raise InputError(path, "", "holds no points")
    seen: dict[tuple[str, ...], Point] = {}
    for point in points:
        first = seen.setdefault(tuple(point.row.values()), point)
        if first is not point:  # it would count twice in every mean
            where, before = (each.where.removeprefix(f"{path}: ") for each in (point, first))
            raise InputError(path, where, f"is the point of {before} again")
    return points


def _point(path: Path, line: int, row: dict[str, str]) -> Point:
    texts = {name: (row.get(name) or "").strip() for name in COLUMNS}
    where = f"line {line}"

    def refuse(column: str, expected: str) -> InputError:
        place = f"{where}, column {column}"
        return InputError(path, place, f"expected {expected}, found {texts[column]!r}")

    for name in ("model", "hardware"):
        if not texts[name]:
            raise refuse(name, "a name")
    counts = {}
    for name in (*_COUNTS, *_OPTIONAL_COUNTS):
        text = texts[name] or ("1" if name in _OPTIONAL_COUNTS else "")
        if not text.isdecimal() or len(text) > 9 or int(text) < 1:
            raise refuse(name, "a positive integer")
        counts[name] = int(text)
    times = {}
    for name in _TIMES:
        try:
            times[name] = float(texts[name])
        except ValueError:
            raise refuse(name, "a time in ms") from None
        if not 0 < times[name] < 1e9:
            raise refuse(name, "a positive time in ms")
    named = {name: texts[name] for name in ("model", "hardware", "precision", "vllm_version")}
    return Point(row=texts, where=f"{path}: {where}", **named, **counts, **times)  # type: ignore[arg-type]
