"""Layers of experts from LLMServingSim's ``moe.csv``: tokens, activated experts, us of one layer.

A row is a whole block, gate included, measured on one device with the routing forced to so many
distinct experts. How many a step's tokens reach is not in the table: they are taken as drawn at
random by each token (`Experts.expected_active`), which is that project's own default, ``BALANCED``
(``docs/simulator/moe-expert-routing.md``). A trained gate reaches fewer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import EP, TP
from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.profile_folder import ProfileFiles
from pytest_gpusim.tables import find_table, read_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

NAME = "moe.csv"
DISTRIBUTION = "tokens over experts at random, each expert as likely as any other"
# Every batch up to here has a row of its own: the experts that are reached grow fastest there.
_EACH_UP_TO = 64
_STEP = 1.1


class _Line:
    """Linear between points and beyond both ends; never below zero.

    A single point takes the slope of another line there: one token reaches one number of experts.
    """

    def __init__(
        self, xs: Sequence[float], ys: Sequence[float], alike: _Line | None = None
    ) -> None:
        if len(xs) == 1:
            rise = alike.at(xs[0] + 1) - alike.at(xs[0]) if alike is not None else 0.0
            xs, ys = [xs[0], xs[0] + 1], [ys[0], ys[0] + rise]
        self.xs, self.ys = xs, ys

    def at(self, x: float) -> float:
        xs, ys = self.xs, self.ys
        right = min(max(bisect_right(xs, x), 1), len(xs) - 1)
        slope = (ys[right] - ys[right - 1]) / (xs[right] - xs[right - 1])
        return max(0.0, ys[right] + slope * (x - xs[right]))


class _Block:
    """The time of one block in us, by tokens and activated experts, on a grid that may be ragged.

    Fewer experts than any row has go on along the line of the rows: their weights are not read.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        medians = rows.groupby(["tokens", "activated_experts"])["time_us"].median()
        self.tokens = sorted(int(tokens) for tokens in medians.index.levels[0])
        self._lines: list[_Line] = []
        above: _Line | None = None
        for tokens in reversed(self.tokens):
            part = medians.loc[tokens]
            above = _Line([float(x) for x in part.index], part.tolist(), above)
            self._lines.insert(0, above)

    def us(self, tokens: float, activated: float) -> float:
        tokens = max(tokens, self.tokens[0])
        right = min(bisect_right(self.tokens, tokens), len(self.tokens) - 1)
        left = max(right - 1, 0)
        near = [self._lines[place].at(activated) for place in (left, right)]
        return _Line([self.tokens[left], self.tokens[right]], near).at(tokens) if right else near[0]


def read_experts(
    files: ProfileFiles, shape: ModelShape, expert_parallel: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the bundle's ``moe.csv`` for the profile's degree, and what is to be known of them.

    A device that holds 1/n of each expert, or every n-th expert whole, reads as many weights and
    computes as many products as one device does for 1/n of the tokens and of the experts they
    reach. So the table of one device gives both; a table of that expert-parallel degree
    (column ``ep``) goes first.

    Raises:
        InputError: There is no such table, or it has no rows of one device.
    """
    import pandas as pd

    experts, workers = shape.experts, files.tensor_parallel
    assert experts is not None
    path = _path(files, shape)
    frame = _read(path)
    degree = workers if expert_parallel else 1
    notes = [f"experts: {DISTRIBUTION}"]
    own = frame[frame["ep"] == workers] if expert_parallel else frame[:0]
    share = 1 if len(own) else workers
    rows = own if len(own) else frame[frame["ep"] == 1]
    if rows.empty:
        raise InputError(path, "column ep", "has no rows of one device (1)")
    if share > 1:
        notes.append(
            f"experts: {NAME} is of one device; of {workers}, each is taken to do 1/{workers} of "
            "the work"
        )
    block = _Block(rows)
    tokens = _sizes([count * share for count in block.tokens])
    times = [
        block.us(count / share, experts.expected_active(count) / workers) * 1e3 for count in tokens
    ]
    table = pd.DataFrame({"num_tokens": tokens, "time_ns": [round(time) for time in times]})
    table[TP], table[EP] = workers, degree
    return table[[TP, EP, "num_tokens", "time_ns"]], notes


def _path(files: ProfileFiles, shape: ModelShape) -> Path:
    for folder in (files.tables, *files.siblings, files.meta_path.parent):
        path = find_table(folder, NAME)
        if path is not None:
            return path
    raise InputError(files.tables, "", f"no {NAME}, and {shape.name} has experts")


def _read(path: Path) -> pd.DataFrame:
    columns = ["tokens", "activated_experts", "time_us"]
    frame = read_table(path, required=columns, numbers=[*columns, "ep"])
    if "ep" not in frame.columns:
        frame = frame.assign(ep=1)
    frame = frame[(frame["tokens"] > 0) & (frame["activated_experts"] > 0)]
    if frame.empty:
        raise InputError(path, "", "has no times")
    return frame


def _sizes(measured: Sequence[int]) -> list[int]:
    """Batches from 1 to the largest measured one, ever further apart, the measured ones too."""
    last = measured[-1]
    sizes = list(range(1, min(last, _EACH_UP_TO) + 1))
    while sizes[-1] < last:
        sizes.append(min(last, int(sizes[-1] * _STEP) + 1))
    return sorted({*sizes, *measured})
