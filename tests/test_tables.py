"""What the CSV reader takes, and how it names what it does not."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import find_table, integer_chunks, medians, read_table


def read(path: Path) -> pd.DataFrame:
    return read_table(
        path,
        required=["id", "time", "share"],
        integers=["id", "time", "delta"],
        numbers=["share"],
        nullable=["time"],
        signed=["delta"],
        fix="make it again",
    )


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time,share,delta\n9007199254740993,,0.5,-3\n2,9007199254740993,1e-3,4\n")
    frame = read(path)
    assert frame["id"].tolist() == [9007199254740993, 2]
    assert frame["time"].isna().tolist() == [True, False]
    assert frame["time"].iloc[1] == 9007199254740993
    assert frame["share"].tolist() == [0.5, 0.001]
    assert frame["delta"].tolist() == [-3, 4]


def test_a_point_in_a_column_costs_the_others_no_digit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time,share\n1.0,,1\n1700000000000000001,2.0,1\n")
    assert read(path)["id"].tolist() == [1, 1700000000000000001]


@pytest.mark.parametrize("cells", ["1,2,3,4", "1,,3,4", "1.0,2,3,4"])
def test_what_was_read_can_be_changed(tmp_path: Path, cells: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,time,share,delta\n{cells}\n{cells}\n")
    frame = read(path)
    frame.loc[np.array([True, False]), ["id", "time", "share", "delta"]] = 7
    assert frame.loc[0].tolist() == [7, 7, 7, 7]
    for column in ("id", "delta", "share"):
        frame.loc[np.array([False, True]), column] = np.array([9])
    assert frame.loc[1, ["id", "share", "delta"]].tolist() == [9, 9, 9]


def test_order_spaces_and_unknown_columns_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('share , note,time,id\n1,"two\nlines",5,7.0\n')
    frame = read(path)
    assert frame[["id", "time", "share"]].to_numpy().tolist() == [[7, 5, 1.0]]


def test_a_column_may_end_in_a_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time,share,id.1,v.0\n1,2,3,4,5\n")
    assert [*read(path).columns] == ["id", "time", "share", "id.1", "v.0"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_tables_are_found_and_read(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / f"t.csv{suffix}").write_bytes(pack(b"id,time,share\n1,2,3\n"))
    path = find_table(tmp_path, "t.csv")
    assert path is not None
    assert read(path)["time"].tolist() == [2]
    assert find_table(tmp_path, "absent.csv") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,time,share\n1,2,3\n1.5,2,3\n", "line 3, column id: expected a whole number, found"),
        ("id,time,share\n1,2,3\n\n\nx,2,3\n", "line 5, column id: .* found 'x'"),
        ('id,note,time,share\n1,"a\nb",2,3\n-1,c,2,3\n', "line 4, column id: .*not negative"),
        ("id,time,share\n1,2,nan\n", "line 2, column share: expected a finite number, found 'nan'"),
        ("id,time,share\n1,2,inf\n", "line 2, column share: expected a finite number, found 'inf'"),
        ("id,time,share\n1,nan,3\n", "line 2, column time: expected a whole number, found 'nan'"),
        ("id,time,share\n,2,3\n", "line 2, column id: expected a whole number, found nothing"),
        ("id,time,share\n9223372036854775808,2,3\n", "line 2, column id: expected a whole"),
        ("id,time,share\n99999999999999999999999,2,3\n", "line 2, column id: expected a whole"),
        ("id,time,share\n1,-2,3\n", "line 2, column time: .*not negative, found '-2'"),
        ("id,time,share\n1,2,1e16\n", "line 2, column share: expected a number below 9,007,199"),
        ("id,time\n1,2\n", "column share: is missing"),
        ("id,time,share\ntrue,2,3\n", "line 2, column id: expected a whole number, found 'true'"),
        ("id,time,share\n1,,3\n1,FALSE,3\n", "line 3, column time: expected .*found 'FALSE'"),
        ("id,time,share\n1,2,True\n", "line 2, column share: expected .*found 'True'"),
        ("id,time,share,id\n1,2,3,4\n", "column id: is there twice"),
        ("id,time,share, share\n1,2,3,4\n", "column share: is there twice"),
        ("id,time,share\n1,2,3\n1,2,3,4\n", "not a CSV: .*line 3"),
        ("id,time,share\n1,2,3,4\n1,2,3,4\n", "rows are longer than the header"),
        ("", "is empty"),
    ],
)
def test_a_bad_cell_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; make it again")
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"id,time,share\n\xff,1,2\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path / "binary.csv")
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = tmp_path / f"packed.csv{suffix}"
        whole = pack(b"id,time,share\n1,2,3\n")
        for broken in (whole[:-9], whole[:9], b"id,time,share\n1,2,3\n", whole[:20] + whole[24:]):
            path.write_bytes(broken)
            with pytest.raises(InputError, match="cannot be read: "):
                read(path)


def test_medians_are_those_of_pandas_groups() -> None:
    rows = [
        (2, 1, 5.0),
        (1, 3, 1.0),
        (1, 3, 4.0),
        (1, 2, None),
        (2, 1, 6.0),
        (2, 1, 9.0),
        (1, 1, 7),
    ]
    frame = pd.DataFrame(rows, columns=["a", "b", "time"]).astype({"a": "Int64"})
    points, values = medians(frame, ["a", "b"], "time")
    expected = frame[frame["time"].notna()].groupby(["a", "b"])["time"].median()
    assert [tuple(point) for point in points.tolist()] == list(expected.index)
    assert values.tolist() == expected.tolist() == [7.0, 2.5, 6.0]
    assert len(medians(frame.assign(time=float("nan")), ["a"], "time")[1]) == 0


def test_pieces_of_a_table_hold_no_words(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,time\n1,true\n0,false\n")
    with pytest.raises(ValueError, match="only its text tells"):
        list(integer_chunks(path, ("id", "time"), (), 10))
    path.write_text("id,time\n1,1\n0,0\n")
    assert sum(map(len, integer_chunks(path, ("id", "time"), (), 10))) == 2
