"""Token rows by time: the same order whether they fit into memory or are merged in parts."""

from __future__ import annotations

import random
from operator import itemgetter
from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.packing import by_time


def rows_of(count: int, width: int) -> list[tuple[int | None, ...]]:
    """Packed rows in any order, many of one time, some token ids unknown."""
    stream = random.Random(count)
    rows = [
        (stream.randrange(5), number, stream.randrange(4), number, stream.choice([None, 7]))
        for number in range(count)
    ]
    return [row[:width] for row in rows]


@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_parts_on_disk_give_the_order_of_a_sort(tmp_path: Path, count: int, width: int) -> None:
    rows = rows_of(count, width)
    expected = [list(row) for row in sorted(rows, key=itemgetter(0, 3, 2))]
    for part_rows in (8, 1000):
        found = list(by_time(iter(rows), width, tmp_path / "scratch", part_rows=part_rows))
        assert found == expected
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", [0.5, "1", None, 2**63])
def test_a_cell_that_is_no_whole_number_is_refused(tmp_path: Path, cell: object) -> None:
    rows = [*rows_of(20, 4), (0, cell, 0, 0)]
    with pytest.raises(InputError, match="expected whole numbers"):
        list(by_time(rows, 4, tmp_path / "scratch", part_rows=8))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
